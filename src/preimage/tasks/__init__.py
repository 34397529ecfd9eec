"""The three tasks of the paper, and the result that they give."""

from .tasks import BOUND, CARICATURE_C, INVERT_C, MAXIMIZE_C, caricature, invert, maximize, own_stages

__all__ = ["BOUND", "CARICATURE_C", "INVERT_C", "MAXIMIZE_C", "caricature", "invert", "maximize", "own_stages"]
