"""What each operation of torch does to the pixels that elements depend on: one rule for each kind of operation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from .reach import Layout, Reach, hull, plain, tagged, tags


@dataclass(frozen=True)
class Call:
    """One call of an operation.

    func: it. a: its arguments by name. known: tells what is known of a tensor, None if it does not depend on the image.
    inputs: the tensors that do, in order. outs: the tensors that came of it.
    """

    func: Any
    a: dict[str, Any]
    known: Callable[[Tensor], Reach | None]
    inputs: list[Tensor]
    outs: list[Tensor]

    @property
    def first(self) -> Reach:
        """What is known of the first tensor that depends on the image."""
        found = self.known(self.inputs[0])
        assert found is not None
        return found

    def of(self, name: str) -> tuple[Tensor, Reach]:
        """An argument and its reach; one that does not depend on the image sees nothing."""
        tensor: Tensor = self.a[name]
        found = self.known(tensor)
        return tensor, self.first.nothing(plain(tensor.shape)) if found is None else found


Rule = Callable[[Call], "Reach | Sequence[Reach] | None"]  # of all outputs, or of each; None: not known
_RULES: dict[str, Rule] = {}


def after(call: Call) -> list[Reach]:
    """What is known of each output. What no rule knows may depend on everything; whatever a rule raises goes on."""
    rule = _RULES.get(call.func.overloadpacket.__name__) or _RULES.get(call.func.overloadpacket.__name__.removesuffix("_"))
    if rule is None and torch.Tag.pointwise in call.func.tags:
        rule = _pointwise
    found = None if rule is None else rule(call)
    each = [found] * len(call.outs) if found is None or isinstance(found, Reach) else list(found)
    return [r if r is not None and _fits(r, out) else _unknown(call, out) for r, out in zip(each, call.outs, strict=True)]


def _fits(reach: Reach, out: Tensor) -> bool:
    return all(e.ndim == out.ndim + 1 and all(n in (1, m) for n, m in zip(e.shape[1:], out.shape, strict=True)) for e in reach.ends)


def _unknown(call: Call, out: Tensor) -> Reach:
    """A tensor of the same shape is still taken for the same grid."""
    tensor, reach = call.inputs[0], call.first
    kept = tensor.ndim == out.ndim and tensor.shape[2:] == out.shape[2:]
    return reach.whole(None if kept else plain(out.shape))


def rule(*names: str) -> Callable[[Rule], Rule]:
    def keep(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names, rule))
        return rule

    return keep


@rule(
    "detach", "alias", "_to_copy", "contiguous", "native_dropout", "dropout", "lift_fresh", "lift", "hardswish", "hardsigmoid",
    "_prelu_kernel", "prelu", "log_sigmoid_forward", "rrelu_with_noise", "rrelu", "where", "clamp", "masked_fill", "tril", "triu",
)  # fmt: skip
def _pointwise(call: Call) -> Reach:
    """Element by element, with broadcasting."""
    return joined([(t, r) for t in call.inputs if (r := call.known(t)) is not None], call.outs[0].shape)


def joined(parts: Sequence[tuple[Tensor, Reach]], shape: Sequence[int]) -> Reach:
    """Of tensors that meet element by element; their grid is that of the first that has one."""
    layout: Layout = [[] for _ in shape]
    for tensor, reach in parts:
        for d, atoms in enumerate(reach.layout, start=len(shape) - tensor.ndim):
            new = [tag for _, tag in atoms if tag is not None]
            if new and not any(tag is not None for _, tag in layout[d]) and not set(new) & set(tags(layout)):
                layout[d] = atoms
    layout = [atoms if atoms and length_of(atoms) == n else [(n, None)] for atoms, n in zip(layout, shape, strict=True)]
    ends = [hull([r.ends[axis] for _, r in parts]) for axis in (0, 1)]
    rows, cols = (e.reshape(2, *[1] * (len(shape) + 1 - e.ndim), *e.shape[1:]) for e in ends)
    grid = next((r for _, r in parts if tags(r.layout)), parts[0][1])
    return tagged(replace(grid, ends=(rows, cols), layout=layout))


@rule("copy")
def _copy(call: Call) -> Reach:
    """What is written takes the place of all that was there."""
    target, source = call.a["self"], call.a["src"]
    found = call.known(source)
    return call.first.nothing(plain(target.shape)) if found is None else joined([(source, found)], target.shape)


@rule(
    "new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided", "zeros_like", "ones_like", "full_like", "empty_like",
    "rand_like", "randn_like", "randint_like",
)  # fmt: skip
def _made(call: Call) -> Reach:
    """Of the shape of what depends on the image, and of nothing else of it."""
    return call.first.nothing(plain(call.outs[0].shape))


@rule("fill", "zero", "uniform", "normal", "bernoulli", "random", "exponential")
def _overwritten(call: Call) -> Reach:
    value = call.a.get("value")
    found = call.known(value) if isinstance(value, Tensor) else None
    return call.first.nothing(call.first.layout) if found is None else joined([(value, found)], call.outs[0].shape)  # type: ignore[list-item]


def tensors_of(value: Any) -> list[Tensor]:
    """All tensors in nested arguments or results."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in tensors_of(v)] if isinstance(value, (list, tuple)) else []


def is_value(tensor: Tensor) -> bool:
    """Whether it holds values, and no places or flags."""
    return tensor.is_floating_point() or tensor.is_complex()


def length_of(atoms: Sequence[tuple[int, int | None]]) -> int:
    return math.prod(size for size, _ in atoms)


def each_of(value: Any, count: int) -> list[int]:
    """One number for each dimension, as torch's functions take them."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * count if len(values) == 1 else values


def transported(call: Call, layout: Layout) -> Reach:
    def filled(value: Any, axis: int, end: int) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(filled(v, axis, end) for v in value)
        if not isinstance(value, Tensor):
            return value
        if not is_value(value):
            return value.cpu()
        known = call.known(value)
        if known is None:
            return torch.full(value.shape, math.inf, dtype=torch.float32, device="cpu")
        return known.ends[axis][end].expand(value.shape).clone(memory_format=torch.contiguous_format)

    def moved(axis: int) -> Tensor:
        both = []
        for end in (0, 1):
            arguments = {name: filled(value, axis, end) for name, value in call.a.items()}
            if isinstance(arguments.get("value"), (int, float)):
                arguments["value"] = math.inf
            both.append(call.func(**arguments))
        return torch.stack(both)

    return call.first.like((moved(0), moved(1)), layout)


def in_groups(ends: Tensor, groups: int, out: int) -> Tensor:
    """Joined within groups of channels, which become `out` channels."""
    return (
        ends
        if ends.shape[2] == 1
        else ends.reshape(*ends.shape[:2], groups, -1, *ends.shape[3:]).amin(dim=3).repeat_interleave(out // groups, dim=2)
    )
