"""Rules of operations that put elements elsewhere: shapes, slices, parts, shuffles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import torch
from torch import Tensor

from .reach import Layout, Reach, compact, hull, only_tag, plain, tagged, tags, taken
from .reach_rules import Call, is_value, length_of, rule, tensors_of, transported


@rule("permute", "transpose", "t", "movedim", "swapaxes", "numpy_T")
def _permute(call: Call) -> Reach:
    reach, ndim = call.first, call.inputs[0].ndim
    order = list(range(ndim))
    if "dims" in call.a:
        order = [d % ndim for d in call.a["dims"]]
    elif ndim >= 2:
        i, j = call.a.get("dim0", 0) % ndim, call.a.get("dim1", 1) % ndim
        order[i], order[j] = order[j], order[i]
    return reach.each(lambda e: e.permute(0, *[d + 1 for d in order]), [reach.layout[d] for d in order])


@rule("view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "flatten", "_reshape_alias", "unflatten")
def _reshape(call: Call) -> Reach | None:
    tensor, reach, shape = call.inputs[0], call.first, call.outs[0].shape
    if call.func.overloadpacket.__name__ == "view" and "dtype" in call.a:
        return None
    layout = _relaid(reach.layout, shape)
    blocks = list(zip(*_blocks(tensor.shape, shape), strict=True))

    def view(ends: Tensor) -> Tensor:
        sizes, kept = [], []
        for dims, into in blocks:  # only what is split or merged is written out in full
            alike = all(ends.shape[d + 1] == 1 for d in dims)
            sizes += [1 if alike else tensor.shape[d] for d in dims]
            kept += [1 if alike else shape[d] for d in into]
        return ends.expand(2, *sizes).reshape(2, *kept)

    return reach.like(reach.each(view).ends, plain(shape) if layout is None else layout)


def _blocks(old: Sequence[int], new: Sequence[int]) -> tuple[list[list[int]], list[list[int]]]:
    """The finest parts of two shapes of one number of elements that have equal numbers of elements, in order."""
    left: list[list[int]] = []
    right: list[list[int]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        a, b = list(range(i, min(i + 1, len(old)))), list(range(j, min(j + 1, len(new))))
        i, j = i + len(a), j + len(b)
        while (p := math.prod(old[d] for d in a)) != (q := math.prod(new[d] for d in b)):
            if p < q:
                a, i = [*a, i], i + 1
            else:
                b, j = [*b, j], j + 1
        left.append(a)
        right.append(b)
    return left, right


def _relaid(layout: Layout, shape: Sequence[int]) -> Layout | None:
    """The layout after a view of this shape; an axis that is cut into pieces is lost. None where lengths do not divide."""
    atoms = [atom for dim in layout for atom in dim if atom[0] != 1]
    out: Layout = []
    for n in shape:
        dim = []
        while n > 1:
            size, tag = atoms.pop(0)
            if n % size == 0:
                dim.append((size, tag))
                n //= size
            elif size % n == 0:
                dim.append((n, None))
                atoms.insert(0, (size // n, None))
                n = 1
            else:
                return None
        out.append(dim or [(1, None)])
    return out


@rule("expand")
def _expand(call: Call) -> Reach:
    tensor, reach, shape = call.inputs[0], call.first, call.outs[0].shape
    new = len(shape) - tensor.ndim
    old: Layout = [atoms if length_of(atoms) == n else [(n, None)] for atoms, n in zip(reach.layout, shape[new:], strict=True)]
    return reach.each(lambda e: e.reshape(2, *[1] * new, *e.shape[1:]), [*plain(shape[:new]), *old])


@rule("slice")
def _slice(call: Call) -> Reach:
    tensor, reach, n = call.inputs[0], call.first, call.outs[0].shape
    d, start, step = call.a["dim"] % tensor.ndim, call.a.get("start") or 0, call.a.get("step") or 1
    start = max(start + tensor.shape[d], 0) if start < 0 else min(start, tensor.shape[d])
    return _picked(reach, d, tensor.shape[d], torch.arange(start, start + step * n[d], step, device="cpu"), step)


def _picked(reach: Reach, d: int, length: int, index: Tensor, step: int = 1) -> Reach:
    """Some elements of a dimension, every step-th."""
    if len(index) == length and step == 1:
        return reach
    axis = only_tag(reach.layout[d])
    out = taken(reach, d, length, index).each(compact, [[(len(index), axis)] if i == d else x for i, x in enumerate(reach.layout)])
    return tagged(out) if axis is None else out.stepped(axis, Fraction(step))


@rule("select")
def _select(call: Call) -> Reach:
    tensor, reach = call.inputs[0], call.first
    d = call.a["dim"] % tensor.ndim
    return _without(_picked(reach, d, tensor.shape[d], torch.tensor([call.a["index"] % tensor.shape[d]], device="cpu")), d)


def _without(reach: Reach, d: int) -> Reach:
    return reach.each(lambda e: e.squeeze(d + 1), [x for i, x in enumerate(reach.layout) if i != d])


@rule("split", "split_with_sizes", "chunk", "unbind", "unsafe_split", "unsafe_chunk", "unsafe_split_with_sizes", "tensor_split")
def _split(call: Call) -> list[Reach]:
    tensor, reach = call.inputs[0], call.first
    d = call.a.get("dim", 0) % tensor.ndim
    found, at = [], 0
    for out in call.outs:
        n = out.shape[d] if out.ndim == tensor.ndim else 1
        part = _picked(reach, d, tensor.shape[d], torch.arange(at, at + n, device="cpu"))
        found.append(part if out.ndim == tensor.ndim else _without(part, d))
        at += n
    return found


@rule("cat", "stack")
def _cat(call: Call) -> Reach:
    shape = call.outs[0].shape
    d = call.a.get("dim", 0) % len(shape)
    stacked = call.func.overloadpacket.__name__ == "stack"
    parts: list[tuple[Tensor, Reach]] = []
    for tensor in call.a["tensors"]:
        reach = call.known(tensor)
        if tensor.numel() == 0:
            continue
        reach = call.first.nothing(plain(tensor.shape)) if reach is None else reach
        if stacked:
            reach = reach.each(lambda e: e.unsqueeze(d + 1), [*reach.layout[:d], [(1, None)], *reach.layout[d:]])
            tensor = tensor.unsqueeze(d)
        parts.append((tensor, reach))

    def along(axis: int) -> Tensor:
        own = [(t.shape[d], r.ends[axis]) for t, r in parts]
        others = [max(e.shape[i + 1] for _, e in own) for i in range(len(shape))]
        return torch.cat([e.expand(2, *others[:d], n, *others[d + 1 :]) for n, e in own], dim=d + 1)

    grid = next((r for _, r in parts if tags(r.layout)), call.first)
    layout: Layout = [[(n, None)] if i == d else x for i, (x, n) in enumerate(zip(grid.layout, shape, strict=True))]
    return grid.like((along(0), along(1)), layout)


@rule("pixel_shuffle")
def _shuffle(call: Call) -> Reach:
    return _regridded(call, Fraction(1, call.a["upscale_factor"]))


@rule("pixel_unshuffle")
def _unshuffle(call: Call) -> Reach:
    return _regridded(call, Fraction(call.a["downscale_factor"]))


def _regridded(call: Call, step: Fraction) -> Reach:
    """Channels that become rows and columns, or the other way."""
    layout = [[(n, only_tag(atoms))] for atoms, n in zip(call.first.layout, call.outs[0].shape, strict=True)]
    reach = transported(call, layout)
    for axis in set(tags(layout)):
        reach = reach.stepped(axis, step)
    return reach


@rule("glu")
def _glu(call: Call) -> Reach:
    tensor, reach, out = call.inputs[0], call.first, call.outs[0]
    d = call.a.get("dim", -1) % tensor.ndim
    halves = [_picked(reach, d, tensor.shape[d], torch.arange(n, n + out.shape[d], device="cpu")) for n in (0, out.shape[d])]
    return replace(halves[0], ends=(hull([h.ends[0] for h in halves]), hull([h.ends[1] for h in halves])))


@rule(
    "flip", "roll", "index_select", "index", "gather", "take_along_dim", "repeat", "repeat_interleave", "unfold", "diagonal", "tile",
    "channel_shuffle", "rot90", "native_channel_shuffle",
    "slice_scatter", "select_scatter", "index_copy", "index_fill", "scatter", "index_put",
    "_index_put_impl",
)  # fmt: skip
def _transport(call: Call) -> Reach | None:
    """An operation that moves elements moves their intervals; which places, must not depend on the image."""
    tensor = call.inputs[0]
    if call.a.get("accumulate") or call.a.get("reduce") is not None or not all(is_value(t) for t in call.inputs):
        return None
    if any(t.is_meta and not is_value(t) for t in tensors_of(call.a)):
        return None
    out = call.outs[0]
    same = tensor.ndim == out.ndim
    layout: Layout = [
        x if same and length_of(x) == n else [(n, None)]
        for x, n in zip(call.first.layout if same else plain(out.shape), out.shape, strict=True)
    ]
    return transported(call, layout)
