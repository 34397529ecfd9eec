"""Which pixels every element of a tensor depends on, as intervals that operations join, move and widen.

For each element and each image axis two numbers are kept: the first pixel and minus the last. So the smallest interval that holds
several others is their minimum. +inf says that nothing of the image matters (the neutral element), −inf that all of the axis does.
Dimensions along which nothing differs have length 1, so that a network's maps cost next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

Number = int | Fraction
Axis = int  # 0: image rows, 1: image columns
Atom = tuple[int, Axis | None]  # a length, and the image axis that it runs along
Ends = tuple[Tensor, Tensor]
Layout = list[list[Atom]]  # for each dimension of the tensor, what it is made of, slowest first


@dataclass(frozen=True)
class Reach:
    """What is known of one tensor.

    ends: for rows and for columns (2, ...) as said above, one dimension for each of the tensor's, of its length or 1.
    layout: which dimensions run along the image's rows and columns. strides: pixels from one unit of the last grid to the next, along
    rows and along columns. periods: after how many units the intervals repeat, shifted; 1 but for what is upsampled.
    """

    ends: Ends
    layout: Layout
    strides: tuple[Number, Number] = (1, 1)
    periods: tuple[int, int] = (1, 1)

    @staticmethod
    def of_image(shape: Sequence[int]) -> Reach:
        """Of (B, C, H, W): each pixel sees itself."""
        b, c, h, w = shape
        rows = torch.arange(h, dtype=torch.float32, device="cpu").view(1, 1, h, 1)
        cols = torch.arange(w, dtype=torch.float32, device="cpu").view(1, 1, 1, w)
        layout: Layout = [[(b, None)], [(c, None)], [(h, 0)], [(w, 1)]]
        return Reach((torch.stack([rows, -rows]), torch.stack([cols, -cols])), layout)

    def like(self, ends: Ends, layout: Layout) -> Reach:
        """With the same strides."""
        return tagged(replace(self, ends=(compact(ends[0]), compact(ends[1])), layout=layout))

    def each(self, change: Callable[[Tensor], Tensor], layout: Layout | None = None) -> Reach:
        """The same done to the ends of both axes."""
        return replace(self, ends=(change(self.ends[0]), change(self.ends[1])), layout=self.layout if layout is None else layout)

    def whole(self, layout: Layout | None = None) -> Reach:
        """All elements depend on everything."""
        return self._alike(-math.inf, self.layout if layout is None else layout)

    def nothing(self, layout: Layout) -> Reach:
        """No element depends on the image."""
        return self._alike(math.inf, layout)

    @property
    def seen(self) -> bool:
        """Whether any element depends on the image."""
        return any(bool((e < math.inf).any()) for e in self.ends)

    def _alike(self, value: float, layout: Layout) -> Reach:
        return self.each(lambda e: e.new_full((2, *[1] * len(layout)), value), layout)

    def stepped(self, axis: Axis, step: Fraction) -> Reach:
        """With `step` units where there was one, along an image axis."""
        stride = self.strides[axis] * step
        period = self.periods[axis]
        period = step.denominator * (period // math.gcd(period, step.numerator))
        strides, periods = list(self.strides), list(self.periods)
        strides[axis], periods[axis] = stride, period
        return replace(self, strides=(strides[0], strides[1]), periods=(periods[0], periods[1]))


def plain(shape: Sequence[int]) -> Layout:
    """A layout of which no dimension runs along the image."""
    return [[(n, None)] for n in shape]


def tags(layout: Layout, dims: Iterable[int] | None = None) -> list[Axis]:
    """The image axes that run along these dimensions, or along any."""
    return [tag for d in (range(len(layout)) if dims is None else dims) for _, tag in layout[d] if tag is not None]


def places(layout: Layout) -> dict[Axis, int]:
    """Axis -> the dimension that it runs along."""
    return {tag: d for d, atoms in enumerate(layout) for _, tag in atoms if tag is not None}


def only_tag(atoms: list[Atom]) -> Axis | None:
    """The axis that a dimension runs along, if it runs along nothing else."""
    return atoms[0][1] if len(atoms) == 1 else None


def compact(ends: Tensor) -> Tensor:
    """The same with length 1 wherever nothing differs along a dimension."""
    for d in range(1, ends.ndim):
        if ends.shape[d] > 1:
            first = ends.narrow(d, 0, 1)
            if bool((ends == first).all()):
                ends = first
    return ends


def hull(parts: Sequence[Tensor]) -> Tensor:
    """The intervals that hold those of all parts, with broadcasting (aligned at the last dimension)."""
    ndim = max(p.ndim for p in parts)
    parts = [p if p.ndim == ndim else p.reshape(2, *[1] * (ndim - p.ndim), *p.shape[1:]) for p in parts]
    out = parts[0]
    for p in parts[1:]:
        out = torch.minimum(out, p)
    return out


def mixed(reach: Reach, dims: Sequence[int]) -> Reach:
    """After elements were joined along dimensions, which keep length 1 here.

    Where that joins all of the grid along an image axis, as a mean over the map does, nothing of that axis is left: −inf.
    """
    found = places(reach.layout)
    along = set(tags(reach.layout, dims))
    ends = [_mixed(e, dims, None if axis not in found else axis in along) for axis, e in enumerate(reach.ends)]
    return replace(reach, ends=(ends[0], ends[1]))


def _mixed(before: Tensor, dims: Sequence[int], grid: bool | None) -> Tensor:
    """grid: whether the image axis runs along one of the dimensions; None where that is not known."""
    over = [d + 1 for d in dims if before.shape[d + 1] > 1]
    if not over:
        return before
    after = before.amin(dim=over, keepdim=True)
    if grid is False or not bool(((before != after) & before.isfinite()).any()):
        return after
    everything = before.flatten(1).amin(dim=1).view(2, *[1] * (before.ndim - 1))
    covered = (after == everything).all(dim=0)
    return torch.where(covered, -math.inf, after) if grid or bool(covered.all()) else after


def taken(reach: Reach, dim: int, length: int, index: Tensor, outside: str = "edge") -> Reach:
    """The elements at places `index` (any shape, flattened) along a dimension of this length; the layout is not changed.

    Places below 0 or beyond the end go on as the grid does where an image axis runs along the dimension, as padding is counted
    in receptive fields; elsewhere they are the "edge" again, or "nothing".
    """
    index = index.flatten()
    axis = only_tag(reach.layout[dim])
    beyond = (index < 0) | (index >= length)
    out = []
    for own, ends in enumerate(reach.ends):
        alike = ends.shape[dim + 1] == 1
        empty = outside == "nothing" and axis is None and bool(beyond.any())
        if alike and not empty and not (axis == own and length == 1):
            out.append(ends)
            continue
        ends = ends.expand(*ends.shape[: dim + 1], length, *ends.shape[dim + 2 :])
        shape = [1] * ends.ndim
        shape[dim + 1] = len(index)
        if axis == own and bool(beyond.any()):
            source, before, after = _beyond(reach, own, length, index)
            shift = torch.stack([before, -after]).view(2, *shape[1:])
            ends = torch.where(_goes_on(reach, own, ends, dim, index), ends.index_select(dim + 1, source) + shift, math.inf)
        else:
            ends = ends.index_select(dim + 1, index.clamp(0, length - 1))
        out.append(torch.where(beyond.view(shape), math.inf, ends) if empty else ends)
    return replace(reach, ends=(out[0], out[1]))


def _beyond(reach: Reach, axis: Axis, length: int, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For places on a grid that goes on past its ends: which unit stands for each, and by how many pixels its interval is moved."""
    stride, period = reach.strides[axis], reach.periods[axis]
    shift = stride * period
    sources, first, last = [], [], []
    for i in index.tolist():
        if 0 <= i < length:
            source, low, high = i, Fraction(0), Fraction(0)
        elif length >= period and shift.denominator == 1:
            source = i % period if i < 0 else length - period + (i - length + period) % period
            low = high = Fraction((i - source) // period * shift)
        else:
            source = min(max(i, 0), length - 1)
            low = high = Fraction((i - source) * stride)
        sources.append(source)
        first.append(float(math.floor(low)))
        last.append(float(math.ceil(high)))
    place = {"dtype": torch.float32, "device": "cpu"}
    return torch.tensor(sources, device="cpu"), torch.tensor(first, **place), torch.tensor(last, **place)  # type: ignore[arg-type]


def _goes_on(reach: Reach, axis: Axis, ends: Tensor, dim: int, index: Tensor) -> Tensor:
    """Whether the grid is regular where places beyond its ends would go on from it; what was turned round or stitched is not."""
    length, period = ends.shape[dim + 1], reach.periods[axis]
    shift = float(reach.strides[axis] * period)
    beyond = (index < 0) | (index >= length)
    if length < 2 * period:
        return torch.ones(*[1] * ends.ndim, dtype=torch.bool, device="cpu")
    near = torch.where(index < 0, index % period, length - 2 * period + (index - length + period) % period).clamp(0, length - period - 1)
    moved = ends.index_select(dim + 1, near + period) - ends.index_select(dim + 1, near)
    regular = (moved[0] == shift) & (moved[1] == -shift)
    return regular | ~beyond.view(*[1] * dim, -1, *[1] * (ends.ndim - dim - 2))


def gathered(reach: Reach, dim: int, length: int, index: Tensor, valid: Tensor | None = None) -> Reach:
    """After element o of a dimension was made of the elements index[o, :]; of those that are `valid`. The layout is not changed."""

    def join(ends: Tensor) -> Tensor:
        if ends.shape[dim + 1] != index.numel():
            return ends
        ends = ends.reshape(*ends.shape[: dim + 1], *index.shape, *ends.shape[dim + 2 :])
        if valid is not None:
            ends = torch.where(valid.view(*[1] * (dim + 1), *valid.shape, *[1] * (ends.ndim - dim - 3)), ends, math.inf)
        return ends.amin(dim=dim + 2)

    return taken(reach, dim, length, index).each(join)


def tagged(reach: Reach) -> Reach:
    """With every image axis found again that the operations hid, where it runs along one dimension and nothing else."""
    for axis in (0, 1):
        if axis in tags(reach.layout):
            continue
        own = reach.ends[axis]
        varying = _varying(own)
        if len(varying) != 1 or only_tag(reach.layout[varying[0]]) is not None or varying[0] in _varying(reach.ends[1 - axis]):
            continue
        d = varying[0]
        found = _regular(own.movedim(d + 1, 1).flatten(2).amin(dim=2))
        if found is not None and len(reach.layout[d]) == 1:
            layout: Layout = [[(own.shape[d + 1], axis)] if i == d else atoms for i, atoms in enumerate(reach.layout)]
            strides, periods = list(reach.strides), list(reach.periods)
            strides[axis], periods[axis] = found
            reach = replace(reach, layout=layout, strides=(strides[0], strides[1]), periods=(periods[0], periods[1]))
    return reach


def _varying(ends: Tensor) -> list[int]:
    return [d for d in range(ends.ndim - 1) if ends.shape[d + 1] > 1 and not bool((ends == ends.narrow(d + 1, 0, 1)).all())]


def _regular(ends: Tensor) -> tuple[Number, int] | None:
    """(stride, period) of intervals (2, n) that repeat themselves, shifted forwards."""
    n = ends.shape[1]
    if not bool(ends.isfinite().all()):
        return None
    for period in range(1, n // 2 + 1):
        moved = ends[:, period:] - ends[:, :-period]
        shift = float(moved[0, 0])
        if shift > 0 and bool((moved[0] == shift).all()) and bool((moved[1] == -shift).all()):
            return Fraction(int(shift), period), period
    return None
