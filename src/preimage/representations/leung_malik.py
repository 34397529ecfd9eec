"""The filter bank of textons: Leung and Malik's 48 filters, on a grid."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError, whole
from . import gradients

FILTERS = 48
DIRECTIONS = 6
ELONGATION = 3.0
WEBER = 0.03  # the contrast from which answers are compressed, of levels 0 to 1 (Malik et al. 2001)


class LeungMalik(nn.Module):
    r"""Answers of the 48 filters of Leung and Malik (IJCV 2001), their length r compressed to log(1 + r/0.03) (Malik et al., IJCV 2001).

    x: grey (B, 1, H, W), levels 0–255 -> (B, 48, h, w), an answer every `step` pixels as far as the filters are inside the image.
    Filters 0 to 17 are first derivatives across a Gaussian three times as long as wide, of width √2, 2 and 2√2 pixels, in six
    directions each; 18 to 35 second derivatives; 36 to 39 and 40 to 43 Laplacians of Gaussians of √2, 2, 2√2, 4 pixels and of three
    times that; 44 to 47 Gaussians of the former. All have mean 0 and absolute sum 1 (Varma and Zisserman, IJCV 2005), so that
    brightness does not count.

    Parameters
    ----------
    step : int, default 4
        Pixels from one answer to the next.
    support : int, default 49
        Side of the filters, odd.

    Raises InputError for wrong settings and images.

    >>> LeungMalik()(torch.rand(2, 1, 64, 80) * 255).shape
    torch.Size([2, 48, 4, 8])
    """

    def __init__(self, step: int = 4, support: int = 49) -> None:
        super().__init__()
        self.step, self.support = whole("step", step, 1), whole("support", support, 3)
        if self.support % 2 == 0:
            raise InputError(f"support is an odd number of pixels; got {support}.")

    def extra_repr(self) -> str:
        return f"step={self.step}, support={self.support}"

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) grey levels -> (B, 48, h, w)."""
        planes = gradients.grey_planes(x, (self.support,) * 2, "LeungMalik")
        answers = F.conv2d(planes.unsqueeze(1) / 255, torch.from_numpy(leung_malik(self.support)).to(x).unsqueeze(1), stride=self.step)
        length = (answers.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()
        found: Tensor = answers * (torch.log1p(length / WEBER) / length)
        return found


@lru_cache(maxsize=8)
def leung_malik(support: int) -> np.ndarray:
    """Return the 48 filters, (48, support, support) float64, each of mean 0 and absolute sum 1."""
    y, x = np.mgrid[-(support // 2) : support // 2 + 1, -(support // 2) : support // 2 + 1].astype(np.float64)
    basic = [math.sqrt(2) ** k for k in (1, 2, 3, 4)]
    found = []
    for order in (1, 2):
        for sigma in basic[:3]:
            for k in range(DIRECTIONS):
                angle = math.pi * k / DIRECTIONS
                along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
                slope = -across / sigma**2 if order == 1 else (across**2 - sigma**2) / sigma**4
                found.append(slope * np.exp(-(across**2) / (2 * sigma**2) - along**2 / (2 * (ELONGATION * sigma) ** 2)))
    square = x**2 + y**2
    for sigma in (*basic, *(3 * s for s in basic)):
        found.append((square - 2 * sigma**2) / sigma**4 * np.exp(-square / (2 * sigma**2)))
    found += [np.exp(-square / (2 * sigma**2)) for sigma in basic]
    kernels = np.stack(found)
    kernels -= kernels.mean(axis=(1, 2), keepdims=True)
    return np.asarray(kernels / np.abs(kernels).sum(axis=(1, 2), keepdims=True))
