"""Local binary patterns with soft comparisons: scikit-image's codes at zero temperature, differentiable above it."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError, whole
from ..pixels.pixelspace import PixelSpace
from . import gradients
from .base import Representation, check_pixels
from .receptive_field import Number

Method = Literal["default", "nri_uniform", "uniform", "ror"]


class LBP(nn.Module, Representation):
    r"""Histograms of local binary patterns over square cells (Ojala et al., TPAMI 2002; Ahonen et al., TPAMI 2006).

    x: grey (B, 1, H, W), levels 0–255 -> (B, labels, h, w), h = floor(H / cell); each cell's histogram of labels sums to 1.
    A pixel's code has one bit for each of `points` neighbours on a circle of `radius` pixels: is the neighbour at least as
    bright? Neighbours between pixels are interpolated; the image lies on a ground of 0. Neighbour p is at the angle 2πp/points,
    counted anticlockwise from the right, and is bit p.

    temperature: grey levels T. A bit is σ((neighbour − centre)/T) instead of 0 or 1, and a pixel adds to each code the product
    of its bits, so that its shares sum to 1. T = 0 is the hard code, whose derivative is zero everywhere: it cannot be inverted.
    method: what codes share a label, as in scikit-image: "default", none, 2^points labels; "ror", those that are rotations of each
    other; "uniform", by their number of ones if they have at most two changes around the circle, all others together;
    "nri_uniform", each of those for itself, all others together (59 labels of 8 points).

    space: grey pixels of any size, mean 128 (so in an inversion the ground is mid-grey).
    stride: the cell. jitter: 1. No parameters; float32 or float64, on the device of x.
    Raises InputError for wrong settings and images.

    >>> phi = LBP(cell=16)
    >>> features = phi(torch.rand(2, 1, 40, 64) * 255)
    >>> features.shape, torch.allclose(features.sum(dim=1), torch.ones(()))
    (torch.Size([2, 59, 2, 4]), True)
    """

    jitter = 1

    def __init__(
        self,
        cell: int = 8,
        points: int = 8,
        radius: float = 1.0,
        method: Method = "nri_uniform",
        temperature: float = 8.0,
    ) -> None:
        super().__init__()
        self.cell = whole("cell", cell, 1)
        self.points = whole("points", points, 2)
        if points > 12:
            raise InputError(f"points is at most 12 (2^12 codes a cell); got {points}.")
        if not 0.5 <= radius < math.inf:
            raise InputError(f"radius is in pixels, at least 0.5; got {radius!r}")
        if not 0 <= temperature < math.inf:
            raise InputError(f"temperature is in grey levels, 0 or more; got {temperature!r}")
        self.radius, self.temperature, self.method = float(radius), float(temperature), method
        self.labels = int(code_labels(points, method).max()) + 1
        self.space = PixelSpace(size=None, channels="grey", scale=255.0, mean=(gradients.MIDDLE,))
        self.name = "lbp"
        self.stride: Number = cell
        self.receptive_field: Number | None = cell + 2 * math.ceil(radius)

    def extra_repr(self) -> str:
        return f"cell={self.cell}, points={self.points}, radius={self.radius:g}, method={self.method!r}, temperature={self.temperature:g}"

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) grey levels -> (B, labels, h, w)."""
        check_pixels(self)  # the ground around the image is of the mean level
        x = gradients.grey_planes(x, (self.cell, self.cell), "LBP")
        bits = self._bits(x)
        h, w = x.shape[1] // self.cell, x.shape[2] // self.cell
        bits = bits[:, :, : h * self.cell, : w * self.cell].reshape(len(x), self.points, h, self.cell, w, self.cell)
        bits = bits.permute(0, 2, 4, 1, 3, 5).reshape(len(x) * h * w, self.points, self.cell**2)
        # a code's share is a product over all bits: the sum over pixels is a matrix product of its two halves
        half = self.points // 2
        joint = _products(bits[:, half:]) @ _products(bits[:, :half]).mT / self.cell**2
        labels = torch.from_numpy(code_labels(self.points, self.method)).to(x.device)
        merged = joint.new_zeros(len(joint), self.labels).index_add(1, labels, joint.flatten(1))
        return merged.view(len(x), h, w, self.labels).permute(0, 3, 1, 2)

    def codes(self, x: Tensor) -> Tensor:
        """The hard label of every pixel, (B, 1, H, W) -> (B, H, W) int64: scikit-image's `local_binary_pattern`, ties included.

        >>> LBP().codes(torch.zeros(1, 1, 2, 2)).flatten().tolist() # black on black: every neighbour is as bright
        [57, 57, 57, 57]
        """
        x = gradients.grey_planes(x, (1, 1), "LBP").double()
        weights = 2 ** torch.arange(self.points, device=x.device).view(1, -1, 1, 1)
        codes = ((self._neighbours(x) - x.unsqueeze(1) >= 0) * weights).sum(dim=1)
        return torch.from_numpy(code_labels(self.points, self.method)).to(x.device)[codes]

    def _bits(self, x: Tensor) -> Tensor:
        """(B, H, W) -> (B, points, H, W) in 0..1."""
        if self.temperature == 0:
            return (self._neighbours(x.double()) - x.double().unsqueeze(1) >= 0).to(x.dtype)
        return torch.sigmoid((self._neighbours(x) - x.unsqueeze(1)) / self.temperature)

    def _neighbours(self, x: Tensor) -> Tensor:
        """(B, H, W) -> (B, points, H, W), with the interpolation of scikit-image in its order of operations."""
        beyond = math.ceil(self.radius) + 1
        padded = F.pad(x, (beyond,) * 4)

        def shifted(row: int, column: int) -> Tensor:
            return padded[:, beyond + row :, beyond + column :][:, : x.shape[1], : x.shape[2]]

        planes = []
        for p in range(self.points):
            angle = 2 * math.pi * p / self.points
            r, c = round(-self.radius * math.sin(angle), 5), round(self.radius * math.cos(angle), 5)
            top, left = math.floor(r), math.floor(c)
            # the fractions are taken of the position in the image, not of the shift: the last bit decides ties
            down, right = (torch.arange(n, dtype=torch.float64, device=x.device) + s for n, s in zip(x.shape[1:], (r, c), strict=True))
            down, right = (down - down.floor()).to(x.dtype).unsqueeze(1), (right - right.floor()).to(x.dtype)
            above = (1 - right) * shifted(top, left) + right * shifted(top, math.ceil(c))
            below = (1 - right) * shifted(math.ceil(r), left) + right * shifted(math.ceil(r), math.ceil(c))
            planes.append((1 - down) * above + down * below)
        return torch.stack(planes, dim=1)


@lru_cache(maxsize=32)
def code_labels(points: int, method: str) -> np.ndarray:
    """The label of each of the 2^points codes, (2^points,) int64; scikit-image's values, but 0, 1, 2, … for "ror".

    >>> [int(code_labels(8, m).max()) + 1 for m in ("default", "nri_uniform", "uniform", "ror")]
    [256, 59, 10, 36]
    """
    codes = np.arange(2**points)
    if method == "default":
        return codes
    bits = codes[:, None] >> np.arange(points) & 1
    if method == "ror":
        turned = (bits[:, (np.arange(points) + np.arange(points)[:, None]) % points] << np.arange(points)).sum(axis=2)
        return np.asarray(np.unique(turned.min(axis=1), return_inverse=True)[1])
    changes, ones = (bits != np.roll(bits, 1, axis=1)).sum(axis=1), bits.sum(axis=1)
    if method == "uniform":
        return np.asarray(np.where(changes <= 2, ones, points + 1))
    if method == "nri_uniform":
        return _positions(bits, ones, changes)
    raise InputError(f"method is 'default', 'nri_uniform', 'uniform' or 'ror'; got {method!r}")


def _positions(bits: np.ndarray, ones: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """A uniform code by its number of ones and where they begin; its label follows scikit-image's numbering."""
    points = bits.shape[1]
    labels = np.full(len(bits), points * (points - 1) + 2)
    for code in np.flatnonzero(changes <= 2):
        n = int(ones[code])
        if n in (0, points):
            labels[code] = 0 if n == 0 else points * (points - 1) + 1
            continue
        first_one, first_zero = int(bits[code].argmax()), int(bits[code].argmin())
        turns = n - first_zero if first_one == 0 else points - first_one
        labels[code] = 1 + (n - 1) * points + turns % points
    return labels


def _products(bits: Tensor) -> Tensor:
    """(N, k, pixels) -> (N, 2^k, pixels): for each code, the product of its bits and of the other bits' complements."""
    shares = torch.ones_like(bits[:, :1])
    for k in range(bits.shape[1]):  # bit k is the next higher digit
        bit = bits[:, k : k + 1]
        shares = torch.cat((shares * (1 - bit), shares * bit), dim=1)
    return shares
