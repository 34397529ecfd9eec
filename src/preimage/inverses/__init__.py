"""Learned inverses of representations: fitted once on photographs, then an image for any features at once."""

from __future__ import annotations

from .fit import fit_inverse
from .kinds import Layerwise, Linear, Upconv
from .known import inverse_of, shipped_inverse
from .layerwise import LayerwiseInverse
from .learned import LearnedInverse
from .linear import LinearInverse
from .nearby import Nearby
from .photographs import free_photographs
from .reading import load_inverse
from .start import start_from_inverse
from .upconv import UpconvInverse

__all__ = [
    "Layerwise",
    "LayerwiseInverse",
    "LearnedInverse",
    "Linear",
    "LinearInverse",
    "Nearby",
    "Upconv",
    "UpconvInverse",
    "fit_inverse",
    "free_photographs",
    "inverse_of",
    "load_inverse",
    "shipped_inverse",
    "start_from_inverse",
]
