"""Learned inverses of representations: fitted once on photographs, then an image for any features in one convolution."""

from __future__ import annotations

from .fit import fit_inverse
from .known import inverse_of, shipped_inverse
from .linear import LinearInverse, load_inverse
from .nearby import Nearby
from .photographs import free_photographs
from .start import start_from_inverse

__all__ = [
    "LinearInverse",
    "Nearby",
    "fit_inverse",
    "free_photographs",
    "inverse_of",
    "load_inverse",
    "shipped_inverse",
    "start_from_inverse",
]
