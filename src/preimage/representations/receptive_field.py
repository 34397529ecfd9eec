"""Receptive field and stride of every tensor of a forward pass, by following the operations that really run.

Each operation maps what is known of its inputs (`reach.Reach`: the pixels that every element depends on) to that of its output
(`reach_rules`), so branching graphs come out right without tracing. What an operation that is not known gives may depend on
everything; where following itself fails, nothing is said of what comes after.
"""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

from . import reach_joins, reach_moves, reach_windows  # noqa: F401  # their rules
from .reach import Axis, Reach, places, plain
from .reach import Layout as Layout
from .reach import Number as Number
from .reach_rules import Call, after, tensors_of

Interval = tuple[int, int]  # the first and the last pixel


def paper_jitter(stride: float) -> int:
    """Return the paper's amount of jitter for a stride, max(round(stride / 4), 1), halves rounded up as MATLAB does.

    >>> [paper_jitter(s) for s in (1, 2, 4, 6, 8, 16, 32)]
    [1, 1, 1, 2, 2, 4, 8]
    """
    return max(math.floor(stride / 4 + 0.5), 1)


@dataclass(frozen=True)
class Span:
    """Along one image axis: unit i depends on pixels start + i·stride .. start + i·stride + size - 1 (0-based) at most.

    Pixels below 0 or beyond the image are padding. Of grids that are not quite regular (upsampled ones) size is that of the
    intervals' hull. whole: depends on all of the axis (start and size then mean nothing). units: the exact interval of every unit
    along the axis, None for one that depends on nothing or on all; empty where none was kept.
    """

    start: Number = 0
    size: Number = 1
    stride: Number = 1
    whole: bool = False
    units: tuple[Interval | None, ...] = field(default=(), compare=False, repr=False)

    @property
    def largest(self) -> Number:
        """Pixels that one unit depends on: the most of any in the middle half of the map (at the border padding may change it)."""
        found = [last - first + 1 for interval in middle(self.units) if interval is not None for first, last in [interval]]
        return max(found, default=self.size)

    def extent(self, first: int, count: int = 1) -> tuple[Number, Number]:
        """From where to where (the end not included) units first .. first + count - 1 see."""
        known = [u for u in self.units[first : first + count] if u is not None]
        if known:
            return min(u[0] for u in known), max(u[1] for u in known) + 1
        return self.start + first * self.stride, self.start + (first + count - 1) * self.stride + self.size


@dataclass(frozen=True)
class Field:
    """The spans along rows and columns, and the layout of the tensor."""

    rows: Span
    cols: Span
    layout: Layout

    def span(self, axis: Axis) -> Span:
        return self.cols if axis else self.rows


class Dispatched:
    """The method that a mode is called by, apart from it: PyTorch wraps a mode's own one, so that its first call imports the compiler.

    Where that is loaded already, it is kept away as PyTorch would.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        noted: Callable[..., Any] = type(self).call
        if "torch._dynamo" in sys.modules:
            noted = _uncompiled(noted)
        return noted(self, func, args, kwargs or {})

    def call(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run an operation, and note what is to be known of its output."""
        raise NotImplementedError


class Follow(Dispatched, TorchDispatchMode):
    """While entered, gives every tensor computed from `image` (B, C, H, W) its field: ``follow.field(tensor)``."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reaches = WeakTensorKeyDictionary()  # tensor -> Reach, or _LOST where following it failed
        self._sharing: dict[Any, list[Any]] = {}  # storage -> weak references to the tensors that views have made of it
        self._reaches[image] = Reach.of_image(image.shape)

    def field(self, tensor: Tensor) -> Field | None:
        """None where the tensor does not depend on the image, and where nothing is known of it."""
        found = self._known(tensor)
        if not isinstance(found, Reach) or not found.seen:
            return None
        try:
            return Field(_span(found, tensor.shape, 0), _span(found, tensor.shape, 1), found.layout)
        except Exception:  # a fault here must not end a pass that is none of its business
            return None

    def _known(self, tensor: Tensor) -> Any:
        return self._reaches.get(tensor)  # type: ignore[no-untyped-call]

    def call(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run an operation, and note what its output sees."""
        out = func(*args, **kwargs)
        try:
            self._note(func, args, kwargs, out)
        except Exception:  # whatever the rules meet in somebody's network: nothing is known of what came out
            for tensor in tensors_of(out):
                self._reaches[tensor] = _LOST
        return out

    def _note(self, func: Any, args: Any, kwargs: dict[str, Any], out: Any) -> None:
        outs = [t for t in tensors_of(out) if t.numel()]
        given = tensors_of((args, kwargs))
        inputs = [t for t in given if self._known(t) is not None]
        views = any(r.alias_info is not None for r in func._schema.returns)
        if views and given and not isinstance(given[0], torch.nn.Parameter):
            self._remember_views([*given, *outs])
        if not inputs or not outs:
            return
        written = views and any(a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments)
        if any(self._known(t) is _LOST for t in inputs):
            for tensor in outs:
                self._reaches[tensor] = _LOST
            return
        named = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)} | kwargs
        named |= {a.name: a.default_value for a in func._schema.arguments if a.name not in named and a.has_default_value()}
        for tensor, reach in zip(outs, after(Call(func, named, self._known, inputs, outs)), strict=True):
            self._set(tensor, reach)
            if written:
                self._tell_views(tensor, reach)

    def _remember_views(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            sharing = self._sharing.setdefault(_storage(tensor), [])
            sharing[:] = [r for r in sharing if r() is not None]
            if not any(r() is tensor for r in sharing):
                sharing.append(weakref.ref(tensor))

    def _tell_views(self, written: Tensor, reach: Reach) -> None:
        """What was written into a view (or into what has views) is seen by all tensors of the same memory."""
        others = [t for r in self._sharing.get(_storage(written), []) if (t := r()) is not None and t is not written]
        size = written.untyped_storage().nbytes() // written.element_size()
        for other in others:
            old = self._known(other)
            if old is _LOST or other.element_size() != written.element_size():
                self._reaches[other] = _LOST
                continue
            layout = _layout_like(reach, other.shape) if old is None else old.layout
            ends = [_written(size, None if old is None else old.ends[k], other, reach.ends[k], written) for k in (0, 1)]
            self._set(other, (reach if old is None else old).like((ends[0], ends[1]), layout))

    def _set(self, tensor: Tensor, reach: Reach) -> None:
        """Keep what is known of a tensor; nothing of one that does not depend on the image, or no longer."""
        if reach.seen:
            self._reaches[tensor] = reach
        elif tensor in self._reaches:
            del self._reaches[tensor]


_LOST = object()


@cache
def _uncompiled(call: Callable[..., Any]) -> Callable[..., Any]:
    found: Callable[..., Any] = torch.compiler.disable(call)  # type: ignore[no-untyped-call]
    return found


def _storage(tensor: Tensor) -> Any:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def _written(size: int, old: Tensor | None, other: Tensor, new: Tensor, written: Tensor) -> Tensor:
    """The ends of a tensor in a storage of `size` numbers after another tensor that lies there was written."""
    memory = torch.full((2, size), math.inf, dtype=torch.float32, device="cpu")

    def part(tensor: Tensor) -> Tensor:
        return memory.as_strided((2, *tensor.shape), (size, *tensor.stride()), tensor.storage_offset())

    if old is not None:
        part(other).copy_(old.expand(2, *other.shape))
    part(written).copy_(new.expand(2, *written.shape))
    return part(other).clone()


def _layout_like(reach: Reach, shape: Sequence[int]) -> Layout:
    """The layout of a tensor into a part of which another was written."""
    if len(reach.layout) != len(shape):
        return plain(shape)
    return [[(n, atoms[0][1] if len(atoms) == 1 else None)] for atoms, n in zip(reach.layout, shape, strict=True)]


def _span(reach: Reach, shape: Sequence[int], axis: Axis) -> Span:
    ends = _ends(reach, shape, axis)  # (2, n): first pixel and −last pixel of each unit
    stride = reach.strides[axis]
    units = tuple((int(a), -int(b)) if math.isfinite(a) and math.isfinite(b) else None for a, b in ends.T.tolist())
    if any(a == -math.inf for a in middle(ends[0].tolist())) or not any(middle(units)):
        return Span(stride=whole_number(stride), whole=True)
    step, parts = stride.numerator, stride.denominator  # whole numbers of 1/parts pixels
    known = [(i * step, *u) for i, u in enumerate(middle(units), start=len(units) // 4) if u is not None]
    start = Fraction(min(first * parts - shift for shift, first, _ in known), parts)
    end = Fraction(max((last + 1) * parts - shift for shift, _, last in known), parts)
    return Span(whole_number(start), whole_number(end - start), whole_number(stride), units=units)


def _ends(reach: Reach, shape: Sequence[int], axis: Axis) -> Tensor:
    own = reach.ends[axis]
    d = places(reach.layout).get(axis)
    if d is None:
        return own.flatten(1).amin(dim=1, keepdim=True)
    own = own.movedim(d + 1, 1).flatten(2).amin(dim=2)  # (2, n) or (2, 1)
    atoms = reach.layout[d]
    if len(atoms) > 1:
        at = next(i for i, (_, tag) in enumerate(atoms) if tag == axis)
        return own.expand(2, shape[d]).reshape(2, *[n for n, _ in atoms]).movedim(at + 1, 1).flatten(2).amin(dim=2)
    return own.expand(2, shape[d])


def whole_number(value: Number) -> Number:
    """A whole number as an int.

    >>> whole_number(Fraction(4, 2)), whole_number(Fraction(1, 2))
    (2, Fraction(1, 2))
    """
    return int(value) if value.denominator == 1 else value


def middle(units: Sequence[Any]) -> Sequence[Any]:
    """The middle half, of at least one.

    >>> middle("abcdefgh"), middle("ab"), middle("a")
    ('cdef', 'ab', 'a')
    """
    near = len(units) // 4
    return units[near : len(units) - near]
