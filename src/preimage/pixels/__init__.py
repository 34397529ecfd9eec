"""Pixels: reading pictures, and what a network's pixels are."""
