"""BRIEF: which of two smoothed pixels is brighter, for pairs at random places, as scikit-image draws them."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, whole
from .binary import BinaryDescriptor, Keypoints
from .receptive_field import Number


class BRIEF(BinaryDescriptor):
    r"""Binary robust independent elementary features (Calonder, Lepetit, Strecha, Fua, ECCV 2010), with a soft comparison.

    x: grey (B, 1, H, W), levels 0–255 -> (B, bits, h, w), a descriptor every `step` pixels as far as its patch is inside the image;
    with keypoints (B, bits, keypoints). Feature p is tanh((x_σ(second place) − x_σ(first place))/T), x_σ the image smoothed by a
    Gaussian: near 1 where scikit-image's bit is set, near −1 where it is not.

    Parameters
    ----------
    bits : int, default 256
        Pairs of places.
    patch : int, default 49
        Side of the square in which places lie, in pixels (the paper: 33).
    mode : "normal" or "uniform"
        How places are drawn: with a standard deviation of patch/5 about the centre (the paper's G II), or evenly (its G I).
    sigma : float, default 1
        Standard deviation of the smoothing, in pixels (the paper: 2).
    seed : int, default 1
        Of the places; scikit-image's `rng`.
    step, keypoints, temperature : as in `BinaryDescriptor`; default a grid of 8 pixels and 8 grey levels

    Defaults are scikit-image's. A change of all levels by the same amount changes nothing; the negative has the opposite features.
    space: grey pixels of any size, mean 128. jitter: 1. No parameters; float32 or float64, on the device of x.
    Raises InputError for wrong settings and images.

    >>> phi = BRIEF()
    >>> phi(torch.rand(2, 1, 64, 80) * 255).shape, phi.stride, phi.receptive_field
    (torch.Size([2, 256, 2, 4]), 8, 57)
    """

    def __init__(
        self,
        bits: int = 256,
        patch: int = 49,
        mode: Literal["normal", "uniform"] = "normal",
        sigma: float = 1.0,
        seed: int = 1,
        step: int = 8,
        keypoints: Keypoints | None = None,
        temperature: float = 8.0,
    ) -> None:
        super().__init__("brief", step, keypoints, temperature)
        if not 0 < sigma < math.inf:
            raise InputError(f"sigma is a standard deviation in pixels, above 0; got {sigma!r}.")
        self.pairs, self.patch, self.mode, self.sigma = whole("bits", bits, 1), whole("patch", patch, 5), mode, float(sigma)
        self.seed = whole("seed", seed, 0)
        self.radius = self.patch // 2
        self.tests = torch.from_numpy(_tests(self.pairs, self.patch, mode, self.seed))
        self.receptive_field: Number | None = 2 * (self.radius + _reach(self.sigma)) + 1

    def extra_repr(self) -> str:
        return (
            f"bits={self.pairs}, patch={self.patch}, mode={self.mode!r}, sigma={self.sigma:g}, seed={self.seed}, step={self.step}, "
            f"temperature={self.temperature:g}"
        )

    def _differences(self, planes: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        height, width = planes.shape[1:]
        down, across = (torch.from_numpy(_smoothing(n, self.sigma)).to(planes) for n in (height, width))
        smooth = (down @ planes @ across.mT).flatten(1)
        offsets = self.tests.to(planes.device)
        at = (rows + offsets[:, :, 0, None]) * width + columns + offsets[:, :, 1, None]  # (2, bits, n)
        first, second = smooth[:, at.flatten()].view(len(planes), 2, self.pairs, len(rows)).unbind(1)
        return second - first


@lru_cache(maxsize=16)
def _tests(bits: int, patch: int, mode: str, seed: int) -> np.ndarray:
    """(2, bits, 2) int64: row and column of the first and the second place, drawn in scikit-image's order."""
    draw = np.random.default_rng(seed)
    low, high = -(patch - 2) // 2, patch // 2
    if mode == "uniform":
        return draw.integers(low, high + 1, (bits * 2, 2)).reshape(2, bits, 2)
    if mode != "normal":
        raise InputError(f"mode is 'normal' or 'uniform'; got {mode!r}.")
    drawn = (patch / 5 * draw.standard_normal(bits * 8)).astype(np.int64)  # towards 0
    return drawn[(drawn > low) & (drawn < high)][: bits * 4].reshape(2, bits, 2)


def _reach(sigma: float) -> int:
    """Where SciPy's Gaussian filter ends: at four standard deviations."""
    return int(4 * sigma + 0.5)


@lru_cache(maxsize=16)
def _smoothing(side: int, sigma: float) -> np.ndarray:
    """(side, side): a Gaussian filter along one axis, the image mirrored at its edge, as SciPy's mode "reflect"."""
    reach = _reach(sigma)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    places = np.mod(np.arange(side)[:, None] + np.arange(-reach, reach + 1), 2 * side)
    matrix = np.zeros((side, side))
    np.add.at(matrix, (np.arange(side)[:, None], np.minimum(places, 2 * side - 1 - places)), weights)
    return matrix
