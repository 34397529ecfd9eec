"""Where in the image the cells of a map of features lie: found once, then pixels are cut into patches and patches blended into pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..representations.base import Representation, features_of
from ..representations.cnn import Layer
from ..representations.pairs import Pairs
from ..representations.receptive_field import Span
from ..representations.release import Protected

Pair = tuple[int, int]


@dataclass(frozen=True)
class Grid:
    """The patch of cell (i, j) has side[0] x side[1] pixels and begins at row origin[0] + i·stride[0], column origin[1] + j·stride[1].

    Patches may overlap (side above stride) and reach beyond the image. A side is at least the stride, so that no pixel is left out.

    >>> grid = Grid(stride=(4, 4), origin=(-2, -2), side=(8, 8))
    >>> x = torch.rand(1, 3, 16, 16)
    >>> torch.allclose(grid.blend(grid.cut(x, (4, 4)), (4, 4), (16, 16)), x, atol=1e-6)
    True
    """

    stride: Pair
    origin: Pair
    side: Pair

    def __post_init__(self) -> None:
        if min(self.stride) < 1 or any(a < b for a, b in zip(self.side, self.stride, strict=True)):
            raise InputError(f"The patches of a grid are at least as large as its stride of at least 1 pixel; got {self}.")

    def cut(self, x: Tensor, cells: Pair, rows: slice | None = None) -> Tensor:
        """Images (B, C, H, W) -> the patches of a map of h x w cells (B, C·side·side, h·w); beyond the image its edge is repeated.

        rows: of these rows of cells only.
        """
        first, last = (0, cells[0]) if rows is None else (rows.start, rows.stop)
        top, left = self.origin[0] + first * self.stride[0], self.origin[1]
        height, width = (last - first - 1) * self.stride[0] + self.side[0], (cells[1] - 1) * self.stride[1] + self.side[1]
        return F.unfold(_window(x, top, left, height, width), self.side, stride=self.stride)

    def blend(self, patches: Tensor, cells: Pair, size: Pair) -> Tensor:
        """Patches (B, C·side·side, h·w) -> images (B, C, H, W): the mean under a window that falls off to a patch's border.

        Pixels that no patch covers repeat the nearest one that is covered.
        """
        window = torch.outer(*(_hump(side, stride) for side, stride in zip(self.side, self.stride, strict=True)))
        window = window.flatten().to(patches)
        channels = patches.shape[1] // len(window)
        height, width = ((n - 1) * s + p for n, s, p in zip(cells, self.stride, self.side, strict=True))
        total = F.fold(patches * window.repeat(channels).view(1, -1, 1), (height, width), self.side, stride=self.stride)
        weight = F.fold(window.view(1, -1, 1).expand(1, -1, cells[0] * cells[1]), (height, width), self.side, stride=self.stride)
        return self.place(total / weight, size)

    def place(self, canvas: Tensor, size: Pair) -> Tensor:
        """Pixels (B, C, h, w), the first where the patch of cell (0, 0) begins -> images of a size; the edge is repeated."""
        return _window(canvas, -self.origin[0], -self.origin[1], *size)


def find_grid(phi: Representation, size: Pair, overlap: int, shape: tuple[int, ...] | None = None) -> tuple[Grid, tuple[int, int, int]]:
    """The grid of a representation for images of a size, and the shape (C, h, w) of their features.

    A network's layer says where its cells lie, also where its features are released through a protection; of anything else a test image's
    gradients tell, and of pairs of images and features nothing but their numbers of rows and columns. Where cells see all of the image, as
    the patches of a transformer, each belongs to the pixels of its own place. overlap: side of a patch in strides. shape: of the features,
    where it is known; else a pass tells it.
    Raises InputError for features that are no map of at least 2 x 2 cells and for strides that are no whole number of pixels.
    """
    noise = torch.randn(1, phi.space.count, *size, generator=torch.Generator().manual_seed(0)).to(like_of(phi)) * 40
    if shape is None:
        with phi.session():
            shape = tuple(features_of(phi, noise).shape[1:])
    if len(shape) != 3 or min(shape[1:]) < 2:
        hint = " Name the patches of a transformer as LAYER:grid." if len(shape) == 2 else ""
        raise InputError(
            f"{phi.name} gives features of shape {shape} for {size[0]}x{size[1]} pixels; an inverse is fitted to a map of channels, rows "
            f"and columns of at least 2x2 cells: choose a layer before they become global, or fit an up-convolutional one "
            f'(kind="upconv").{hint}'
        )
    while isinstance(phi, Protected):
        phi = phi.inner
    field = phi.info.field if isinstance(phi, Layer) else None
    if isinstance(phi, Pairs):
        axes = [_by_count(pixels, cells) for pixels, cells in zip(size, shape[1:], strict=True)]
    elif field is not None:
        tags = [{tag for _, tag in atoms if tag is not None} for atoms in field.layout]
        if tags[1:] in ([{0}, {1}, set()], [{0}, set(), {1}]):
            raise InputError(f"{phi.name} gives rows and columns before the channels, {shape}: name it {phi.name}:grid.")
        axes = [_of_span(span) for span in (field.rows, field.cols)]
        if isinstance(phi, Layer) and field.rows.whole:  # a part's stride counts merged patches, its field's does not
            axes = [(s * round(float(phi.stride) / max(a[0] for a in axes)), None) for s, _ in axes]
    else:
        axes = _by_gradients(phi, noise, shape)
    strides, origins, sides = [], [], []
    for stride, centre in axes:
        if stride != int(stride) or stride < 1:
            raise InputError(f"The cells of {phi.name} are {float(stride):g} pixels apart; an inverse needs a whole number of at least 1.")
        side = overlap * int(stride)
        middle = (int(stride) - 1) / 2 if centre is None else centre
        strides.append(int(stride))
        sides.append(side)
        origins.append(math.floor(middle - (side - 1) / 2))
    return Grid((strides[0], strides[1]), (origins[0], origins[1]), (sides[0], sides[1])), (shape[0], shape[1], shape[2])


def like_of(phi: Representation) -> Tensor:
    """A tensor of the type and on the device of a representation's weights; float32 on the CPU where there are none."""
    tensors: Iterator[Tensor] = iter(()) if phi.module is None else chain(phi.module.parameters(), phi.module.buffers())
    return next((t.detach().flatten()[:0] for t in tensors if t.is_floating_point()), torch.zeros(0))


def _of_span(span: Span) -> tuple[float, float | None]:
    """Stride, and the middle of what cell 0 sees; None where it sees everything."""
    return float(span.stride), None if span.whole else float(span.start) + (float(span.size) - 1) / 2


def _by_count(pixels: int, cells: int) -> tuple[float, float | None]:
    """Stride and middle of cell 0 where only the numbers are known: the map lies in the middle of the image, as most networks' do."""
    stride = max(1, round(pixels / cells))
    return float(stride), (pixels - 1 - (cells - 1) * stride) / 2


def _by_gradients(phi: Representation, noise: Tensor, shape: tuple[int, ...]) -> list[tuple[float, float | None]]:
    """Stride and middle of cell 0 along rows and columns, from which pixels two neighbouring cells answer to."""
    h, w = shape[1:]
    middles = []
    for step in (0, 1):
        leaf = noise.clone().requires_grad_()
        with phi.session():
            cell = phi(leaf)[0, :, h // 2 - 1 + step, w // 2 - 1 + step]
        (gradient,) = torch.autograd.grad(cell.square().sum(), leaf)
        seen = gradient[0].abs().amax(dim=0) > 0
        spans = [seen.any(dim=1).nonzero().flatten(), seen.any(dim=0).nonzero().flatten()]
        if not all(len(s) for s in spans):
            raise InputError(f"A cell in the middle of {phi.name} does not answer to the image: there is no gradient to find its place by.")
        middles.append([(float(s[0] + s[-1]) / 2, len(s)) for s in spans])
    found: list[tuple[float, float | None]] = []
    for axis, (cells, pixels) in enumerate(zip((h, w), noise.shape[2:], strict=True)):
        (first, reach), (second, _) = middles[0][axis], middles[1][axis]
        if reach >= pixels - 1:
            found.append((float(pixels // cells), None))
        else:
            found.append((second - first, first - (cells // 2 - 1) * (second - first)))
    return found


def _hump(side: int, stride: int) -> Tensor:
    """The weight of each pixel along a patch: a raised cosine, whose shifted copies add up to a constant; flat without overlap."""
    if side == stride:
        return torch.ones(side, dtype=torch.float64)
    return torch.sin(torch.pi * (torch.arange(side, dtype=torch.float64) + 0.5) / side).square()


def _window(x: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    """The part of images that begins at (top, left); beyond them their edge is repeated."""
    rows = torch.arange(top, top + height, device=x.device).clamp(0, x.shape[2] - 1)
    columns = torch.arange(left, left + width, device=x.device).clamp(0, x.shape[3] - 1)
    return x.index_select(2, rows).index_select(3, columns)
