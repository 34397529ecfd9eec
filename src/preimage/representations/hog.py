"""Histograms of oriented gradients, as VLFeat computes them (UoCTTI variant) or as the paper's network does."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError, whole
from ..pixels.pixelspace import PixelSpace
from . import gradients
from .base import Representation, check_pixels
from .gradients import Axis
from .receptive_field import Number

CLAMP = 0.2
EPS_VLFEAT = 1e-4  # added to the square of a block's norm, on differences that are not halved
EPS_PAPER = 1e-6  # least norm of a block, on halved differences


class HOG(nn.Module, Representation):
    r"""HOG of Felzenszwalb et al. (TPAMI 2010): :math:`\Phi` of the paper's Table 2, "HOG" and (bilinear=True) "HOGb".

    x: grey (B, 1, H, W), levels 0–255 -> (B, C, h, w), C = 3·orientations, 27 by default; h = floor((H + floor(cell/2)) / cell),
    w likewise. Channels 0–17 are directed: channel k is the direction πk/orientations of atan2(gy, gx), y down, x right.
    18–26 are the same without the sign of the gradient. texture=True adds four (27–30): 18^(-1/2) times the sum of the
    undirected bins under the normalisation of the block above left, above right, below left, below right.
    directed=False leaves out the first 18: what is dark and what is light does not count, as for Dalal and Triggs 2005.

    cell: side of a cell in pixels. orientations: number of undirected directions. bilinear: a gradient is shared between the
    two nearest directions; otherwise it goes to the nearest (of two as near, the first), and Φ has jumps.
    border: "vlfeat", as `vl_hog`: no gradients on the outermost pixels, border cells repeated around the grid, the norm of a
    block √(n² + 1e-4). "paper", as the network of the original experiments: the image lies on a black ground (its edge is a
    gradient), blocks that stick out are left out, max(n, 1e-6) on halved differences, floor(H / cell) cells.

    space: grey pixels of any size, mean 128, so that pre-images lie in the middle of the range though HOG does not know brightness;
    with border="paper", whose ground is black, 0 as in the original. stride: the cell. receptive_field: side of what one feature
    sees, in pixels.
    jitter: 1, the paper's choice for HOG and dense SIFT (its rule for networks would say 2 at a cell of 8).
    No parameters and no state; it computes in the type and on the device of x, which must be float32 or float64.
    Raises InputError for wrong settings, and at a call for another shape or type or an image without room for the cells.

    >>> phi = HOG(cell=8)
    >>> phi(torch.zeros(2, 1, 64, 100)).shape, phi.stride, phi.receptive_field
    (torch.Size([2, 27, 8, 13]), 8, 34)
    >>> edge = 255.0 * (torch.arange(32.0) > 15).expand(1, 1, 32, 32)
    >>> phi(edge)[0, :, 2, 2].nonzero().flatten().tolist()
    [0, 18]
    """

    jitter = 1
    fast_rate = 8.0  # of the solver "fast": better than its own 14 on 20 photographs after 100 evaluations (docs/shallow.md)

    def __init__(
        self,
        cell: int = 8,
        orientations: int = 9,
        bilinear: bool = False,
        texture: bool = False,
        border: Literal["vlfeat", "paper"] = "vlfeat",
        directed: bool = True,
    ) -> None:
        super().__init__()
        self.cell = whole("cell", cell, 1)
        self.orientations = whole("orientations", orientations, 2)
        if border not in ("vlfeat", "paper"):
            raise InputError(f"border is 'vlfeat' or 'paper'; got {border!r}")
        self.bilinear, self.texture, self.border, self.directed = bool(bilinear), bool(texture), border, bool(directed)
        middle = 0.0 if border == "paper" else gradients.MIDDLE
        self.space = PixelSpace(size=None, channels="grey", scale=255.0, mean=(middle,))
        self.name = ("hogb" if bilinear else "hog") + ("" if directed else "-undirected")
        self.stride: Number = cell
        # three cells, the outer two by half a tent, and one more pixel each way for the gradient
        self.receptive_field: Number | None = 2 * cell + 2 * cell - cell % 2 + 2

    @property
    def channels(self) -> int:
        """Length of one cell's descriptor."""
        return (3 if self.directed else 1) * self.orientations + (4 if self.texture else 0)

    def extra_repr(self) -> str:
        kind = f"cell={self.cell}, orientations={self.orientations}, bilinear={self.bilinear}, texture={self.texture}"
        return f"{kind}, border={self.border!r}" + ("" if self.directed else ", directed=False")

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) grey levels -> (B, channels, h, w)."""
        check_pixels(self, brightness=self.border == "paper")  # whose ground is black
        return self._normalised(self._histograms(gradients.grey_planes(x, self._least(), "HOG")))

    def _least(self) -> tuple[int, int]:
        """vl_hog asks for four pixels and one cell; the network's blocks are two cells wide."""
        side = 2 * self.cell if self.border == "paper" else max(4, self.cell - self.cell // 2)
        return side, side

    def _histograms(self, x: Tensor) -> Tensor:
        """(B, H, W) -> (B, 2·orientations, h, w)."""
        paper = self.border == "paper"
        extra = 0 if paper else self.cell // 2
        rows, columns = (self._axis(side, (side + extra) // self.cell, x) for side in x.shape[1:])
        gx, gy = gradients.differences(F.pad(x, (1, 1, 1, 1)) / 2 if paper else x)
        count = 2 * self.orientations
        if self.bilinear:
            slots, weights = gradients.linear_orientations(gx, gy, count)
            return gradients.fold_slots(gradients.pool(weights, slots, count, rows, columns))
        slots = nearest_orientation(gx.detach(), gy.detach(), self.orientations)
        return gradients.pool(gradients.modulus(gx, gy).unsqueeze(0), slots, count, rows, columns)[0]

    def _axis(self, side: int, cells: int, x: Tensor) -> Axis:
        start = 0 if self.border == "paper" else 1
        return gradients.axis(side - 2 * start, self.cell, (self.cell - 1) / 2, cells, start, False, x.dtype, x.device)

    def _normalised(self, directed: Tensor) -> Tensor:
        """Each cell under the norms of the four 2x2 blocks it lies in, clamped, and their mean times two: (B, C, h, w)."""
        n = self.orientations
        undirected = directed[:, :n] + directed[:, n:]
        histogram = torch.cat((directed, undirected), dim=1) if self.directed else undirected
        energy = undirected.square().sum(dim=1, keepdim=True)
        if self.border == "vlfeat":
            factor = (_blocks(F.pad(energy, (1, 1, 1, 1), mode="replicate")) + EPS_VLFEAT).rsqrt()
        else:
            factor = F.pad(_blocks(energy).clamp(min=EPS_PAPER**2).rsqrt(), (1, 1, 1, 1))
        height, width = directed.shape[2:]
        corners = [(0, 0), (0, 1), (1, 0), (1, 1)]
        parts = [(histogram * factor[:, :, i : i + height, j : j + width]).clamp(max=CLAMP) for i, j in corners]
        features = (parts[0] + parts[1] + parts[2] + parts[3]) / 2
        if not self.texture:
            return features
        sums = [part[:, -n:].sum(dim=1, keepdim=True) / math.sqrt(18.0) for part in parts]  # 18 for any n, as vl_hog
        return torch.cat((features, *sums), dim=1)


def nearest_orientation(gx: Tensor, gy: Tensor, n: int) -> Tensor:
    """The directed bin 0..2n-1 of each gradient, (B, H, W) int64, by vl_hog's arithmetic and tie rule.

    The gradient is projected on the n undirected directions in the same order of operations, the first of equal projections
    wins (vertical gradients lie between two directions if n is odd), then the sign of the gradient decides.

    >>> nearest_orientation(torch.tensor([[[1.0, -1.0, 0.0, 0.0]]]), torch.tensor([[[0.0, 0.0, 1.0, -1.0]]]), 9)
    tensor([[[ 0,  9,  4, 13]]])
    """
    best = gx.abs()
    bins = torch.zeros_like(best, dtype=torch.uint8 if n < 128 else torch.int64)
    mirrored: list[Tensor] = []  # the scores of n - k share their products with those of k
    for k in range(1, n):
        if 2 * k <= n:
            along, across = gx * _cosine(k, n), gy * _cosine(n - 2 * k, 2 * n)
            score = (along + across).abs_()
            if 2 * k < n:
                mirrored.append(across.sub_(along).abs_())
        else:
            score = mirrored.pop()
        bins = torch.maximum(bins, (score > best).to(bins.dtype) * k)  # k rises; far faster than masked_fill
        best = torch.maximum(best, score)
    # the winner lies within π/2n of the gradient or of its opposite, so one component has the sign for certain
    horizontal = bins == 0
    negative = (horizontal & (gx < 0)) | (~horizontal & (gy < 0))
    return (bins + negative.to(bins.dtype) * n).long()


@lru_cache(maxsize=1024)
def _cosine(k: int, n: int) -> float:
    """cos(πk/n); with n - 2k over 2n, the sine of πk/n."""
    return math.cos(math.pi * k / n)


def _blocks(energy: Tensor) -> Tensor:
    """Sums over 2x2 cells: (B, 1, h, w) -> (B, 1, h-1, w-1)."""
    pairs = energy[..., :-1] + energy[..., 1:]
    return pairs[:, :, :-1] + pairs[:, :, 1:]
