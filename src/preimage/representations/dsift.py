"""Dense SIFT, as the paper's network or as VLFeat's `vl_dsift` with a flat window."""

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

BINS = 4  # along each side of a descriptor
DIRECTIONS = 8
CLAMP = 0.2
EPS_PAPER = 1e-6  # added to the square of a descriptor's norm
EPS_VLFEAT = float(np.finfo(np.float32).eps)  # added to the norm, in either precision


class DenseSIFT(nn.Module, Representation):
    r"""SIFT descriptors on a grid: :math:`\Phi` of the paper's Table 2, "DSIFT".

    x: grey (B, 1, H, W), levels 0–255 -> (B, 128, h, w). Channel 32·i + 8·j + t is row i and column j of the 4x4 bins and the
    direction 2πt/8 of atan2(gy, gx), y down, x right. A gradient is shared between two directions and four bins.

    bin: side of a bin in pixels (8 in the IJCV paper, 5 in the CVPR one). step: pixels between descriptors, 3·bin by default.
    form: "paper", as the network of the original experiments: tents of 2·bin pixels, a Gaussian over the bins, one
    normalisation with √(1e-6 + n²), clamp at 0.2; no gradients on the outermost pixels.
    "vlfeat", as `vl_dsift` with useFlatWindow: tents of 2·bin - 1 pixels, each bin weighed by the mean of the Gaussian over it,
    normalised, clamped and normalised again; one-sided differences on the outermost pixels, which are repeated outwards.
    (Times 512, floored, it is what vl_dsift's MATLAB and command-line users see. vl_dsift's own atan2 is coarse: to 0.012.)
    window: standard deviation of the Gaussian in bins; by default 1.5 (paper) or 2 (VLFeat's windowSize).
    margin: form "vlfeat" only, pixels from the edge of the image to the outermost bin centre (VLFeat's bounds), 0 by default.

    space: grey pixels of any size, mean 128, so that pre-images lie in the middle of the range: SIFT does not know brightness.
    stride: the step. receptive_field: side of what one descriptor sees, in pixels.
    jitter: 1, the paper's choice for HOG and dense SIFT. Pixels that the last descriptors do not reach are not seen at all.
    No parameters and no state; it computes in the type and on the device of x, which must be float32 or float64.
    Raises InputError for wrong settings, and at a call for another shape or type or an image without room for one descriptor.

    >>> phi = DenseSIFT(bin=8)
    >>> phi(torch.zeros(2, 1, 64, 100)).shape, phi.stride, phi.receptive_field
    (torch.Size([2, 128, 1, 3]), 24, 42)
    """

    jitter = 1
    fast_rate = 8.0  # of the solver "fast": better than its own 14 on 20 photographs after 100 evaluations (docs/shallow.md)

    def __init__(
        self,
        bin: int = 8,
        step: int | None = None,
        form: Literal["paper", "vlfeat"] = "paper",
        window: float | None = None,
        margin: int | None = None,
    ) -> None:
        super().__init__()
        self.bin = whole("bin", bin, 1)
        self.step = whole("step", 3 * bin if step is None else step, 1)
        if form not in ("paper", "vlfeat"):
            raise InputError(f"form is 'paper' or 'vlfeat'; got {form!r}")
        if margin is not None and form == "paper":
            raise InputError("margin belongs to form='vlfeat'; the paper's network starts where its first tent fits.")
        self.form = form
        self.window = float((1.5 if form == "paper" else 2.0) if window is None else window)
        if not 0 < self.window < math.inf:
            raise InputError(f"window is a standard deviation in bins, a number above 0; got {window!r}")
        self.margin = bin + 0.5 if form == "paper" else float(whole("margin", margin or 0, 0))
        self.space = PixelSpace(size=None, channels="grey", scale=255.0, mean=(gradients.MIDDLE,))
        self.name = "dsift"
        self.stride: Number = self.step
        self.receptive_field: Number | None = (BINS + 1) * bin + (2 if form == "paper" else 1)

    def extra_repr(self) -> str:
        return f"bin={self.bin}, step={self.step}, form={self.form!r}, window={self.window:g}, margin={self.margin:g}"

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) grey levels -> (B, 128, h, w)."""
        check_pixels(self, brightness=False)
        side = int(2 * self.margin) + (BINS - 1) * self.bin + 1
        x = gradients.grey_planes(x, (max(side, 2), max(side, 2)), "DenseSIFT")
        height, width = self.frames(x.shape[1]), self.frames(x.shape[2])
        spacing = math.gcd(self.step, self.bin)
        cells = self._cells(x, spacing, height, width)
        bins = F.unfold(cells, BINS, dilation=self.bin // spacing, stride=self.step // spacing)
        bins = bins.view(len(x), DIRECTIONS, BINS, BINS, height, width).permute(0, 2, 3, 1, 4, 5)
        bins = bins * _mask(self.form, self.bin, self.window, x.dtype, x.device).view(BINS, BINS, 1, 1, 1)
        return self._normalised(bins.reshape(len(x), BINS * BINS * DIRECTIONS, height, width))

    def frames(self, side: int) -> int:
        """Number of descriptors along a side of the image, in pixels."""
        return int(side - 1 - 2 * self.margin - (BINS - 1) * self.bin) // self.step + 1

    def _cells(self, x: Tensor, spacing: int, height: int, width: int) -> Tensor:
        """(B, H, W) -> the histograms at every place where a bin may lie, `spacing` pixels apart: (B, 8, rows, columns)."""
        flat = self.form == "vlfeat"
        gx, gy = _differences_to_the_edge(x) if flat else [g / 2 for g in gradients.differences(x)]
        slots, weights = gradients.linear_orientations(gx, gy, DIRECTIONS)
        start = 0 if flat else 1
        counts = [((n - 1) * self.step + (BINS - 1) * self.bin) // spacing + 1 for n in (height, width)]
        sides = gx.shape[1:]
        if spacing == self.bin:
            rows, columns = (
                gradients.axis(side, self.bin, self.margin, count, start, flat, x.dtype, x.device)
                for side, count in zip(sides, counts, strict=True)
            )
            return gradients.fold_slots(gradients.pool(weights, slots, DIRECTIONS, rows, columns))
        # bins of neighbouring descriptors overlap by more than half: a product with each axis' tents is shorter
        rise, run = (
            torch.as_tensor(gradients.tents(side, self.bin, self.margin, spacing, count, start, flat)).to(x)
            for side, count in zip(sides, counts, strict=True)
        )
        maps = x.new_zeros(2, len(x), DIRECTIONS, *sides).scatter(2, slots.expand(2, *slots.shape).unsqueeze(2), weights.unsqueeze(2))
        return rise @ gradients.fold_slots(maps) @ run.mT

    def _normalised(self, bins: Tensor) -> Tensor:
        if self.form == "paper":
            return (bins * (bins.square().sum(dim=1, keepdim=True) + EPS_PAPER).rsqrt()).clamp(max=CLAMP)
        return _unit(_unit(bins).clamp(max=CLAMP))


def _differences_to_the_edge(x: Tensor) -> tuple[Tensor, Tensor]:
    """(B, H, W) -> gx, gy (B, H, W): half the central difference, and the one-sided one on the outermost pixels."""
    gx, gy = gradients.differences(F.pad(x.unsqueeze(1), (1, 1, 1, 1), mode="replicate").squeeze(1))
    halves = []
    for side in (x.shape[2], x.shape[1]):
        half = x.new_full((side,), 0.5)
        half[0] = half[-1] = 1.0
        halves.append(half)
    return gx * halves[0], gy * halves[1].unsqueeze(1)


def _unit(bins: Tensor) -> Tensor:
    """Divided by the norm plus float32's epsilon, whatever the type, as vl_dsift does."""
    norm: Tensor = torch.linalg.vector_norm(bins, dim=1, keepdim=True)
    return bins / (norm + EPS_VLFEAT)


@lru_cache(maxsize=64)
def _mask(form: str, bin: int, window: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Weight of each bin, (4, 4): the Gaussian at its centre (paper) or its mean over the bin's 2·bin - 1 pixels (VLFeat)."""
    centres = np.arange(BINS) - (BINS - 1) / 2
    pixels = np.arange(1 - bin, bin) / bin if form == "vlfeat" else np.zeros(1)
    side = np.exp(-0.5 * ((pixels - centres[:, None]) / window) ** 2).mean(axis=1)
    with torch.inference_mode(False):  # kept for later calls, which may want gradients
        return torch.as_tensor(np.outer(side, side), dtype=dtype, device=device)
