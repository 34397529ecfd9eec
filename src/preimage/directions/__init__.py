"""Directions in a layer's channels: concepts from two sets of pictures, latents of a sparse autoencoder, factors of a layer, a text."""

from __future__ import annotations

from .autoencoder import Latents, SparseAutoencoder, load_autoencoder
from .concept import Concept, learn_concept
from .factors import factor_channels
from .text import ImageText, image_text

__all__ = [
    "Concept",
    "ImageText",
    "Latents",
    "SparseAutoencoder",
    "factor_channels",
    "image_text",
    "learn_concept",
    "load_autoencoder",
]
