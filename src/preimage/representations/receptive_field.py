"""Receptive field and stride of every tensor of a forward pass, by following the operations that really run.

Each tensor that depends on the image carries a `Field`: for image rows and columns, which of its dimensions runs along
them and the span of pixels that its element i depends on, ``start + i·stride .. start + i·stride + size - 1``. Every
operation maps the fields of its inputs to that of its output, so branching graphs come out right without tracing.
Where elements come to depend on the whole image (global pooling, attention, an operation that is not known here), the
span says so and keeps the stride of the grid that was left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

Number = int | Fraction
Axis = int  # 0: image rows, 1: image columns
Atom = tuple[int, Axis | None]  # a length, and the image axis that it runs along
Layout = list[list[Atom]]  # for each dimension of the tensor, what it is made of, slowest first


@dataclass(frozen=True)
class Span:
    """Along one image axis: element i depends on pixels start + i·stride .. start + i·stride + size - 1 (0-based).

    Pixels below 0 or beyond the image are padding. whole: depends on all of the axis (start and size then mean nothing).
    """

    start: Number = 0
    size: Number = 1
    stride: Number = 1
    whole: bool = False

    def window(self, kernel: Number, stride: Number, padding: Number, dilation: Number = 1) -> Span:
        """After a convolution or a pooling."""
        reach = dilation * (kernel - 1) * self.stride
        return replace(self, start=self.start - padding * self.stride, size=self.size + reach, stride=self.stride * stride)

    def union(self, other: Span) -> Span:
        """Of two tensors that meet element by element."""
        if self.whole or other.whole or self.stride != other.stride:
            grid = other if self.whole else self
            return Span(stride=grid.stride, whole=True)
        start = min(self.start, other.start)
        return replace(self, start=start, size=max(self.start + self.size, other.start + other.size) - start)


@dataclass(frozen=True)
class Field:
    """The spans along rows and columns, and the layout of the tensor."""

    rows: Span
    cols: Span
    layout: Layout

    def span(self, axis: Axis) -> Span:
        return self.cols if axis else self.rows

    def with_span(self, axis: Axis, span: Span) -> Field:
        return replace(self, cols=span) if axis else replace(self, rows=span)

    def whole(self, *axes: Axis) -> Field:
        """The same layout, but elements depend on all of these axes."""
        out = self
        for axis in axes:
            out = out.with_span(axis, Span(stride=self.span(axis).stride, whole=True))
        return out


class Follow(TorchDispatchMode):
    """While entered, gives every tensor computed from `image` (B, C, H, W) its field: ``follow.field(tensor)``."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._fields = WeakTensorKeyDictionary()
        b, c, h, w = image.shape
        self._fields[image] = Field(Span(), Span(), [[(b, None)], [(c, None)], [(h, 0)], [(w, 1)]])

    def field(self, tensor: Tensor) -> Field | None:
        """None where the tensor does not depend on the image."""
        found: Field | None = self._fields.get(tensor)  # type: ignore[no-untyped-call]
        return found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        inputs = [(t, f) for t in _tensors((args, kwargs)) if (f := self.field(t)) is not None]
        if inputs:
            rule = _RULES.get(func.overloadpacket.__name__)
            for tensor in _tensors(out):
                self._fields[tensor] = self._after(rule, func, args, kwargs or {}, inputs, tensor)
        return out

    def _after(self, rule: Rule | None, func: Any, args: Any, kwargs: Any, inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field:
        if rule is not None:
            arguments = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)} | kwargs
            arguments |= {a.name: a.default_value for a in func._schema.arguments if a.name not in arguments and a.has_default_value()}
            if (field := rule(arguments, inputs, out)) is not None:
                return field
        elif torch.Tag.pointwise in func.tags:
            return _pointwise(inputs, out)
        return _unknown(inputs, out)


Rule = Callable[[dict[str, Any], list[tuple[Tensor, Field]], Tensor], "Field | None"]
_RULES: dict[str, Rule] = {}


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def keep(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names, rule))
        return rule

    return keep


def _unknown(inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field:
    """Anything may depend on everything; a dimension that kept its place and length is still taken for the grid."""
    tensor, field = inputs[0]
    if tensor.shape[2:] == out.shape[2:] and tensor.ndim == out.ndim:
        return replace(field, layout=field.layout).whole(0, 1)
    return replace(field, layout=_plain(out.shape)).whole(0, 1)


@_rule(
    "clone",
    "detach",
    "alias",
    "_to_copy",
    "contiguous",
    "native_dropout",
    "dropout",
    "lift_fresh",
    "copy_",
    "native_batch_norm",
    "_native_batch_norm_legit_no_training",
    "cudnn_batch_norm",
    "batch_norm",
)
def _same(a: dict[str, Any], inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field | None:
    return _pointwise(inputs, out) if out.ndim == inputs[0][0].ndim else None


def _pointwise(inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field:
    """Element by element, with broadcasting; an axis that runs along different dimensions becomes whole."""
    layout: Layout = [[] for _ in out.shape]
    for tensor, field in inputs:
        for d, atoms in enumerate(field.layout, start=out.ndim - tensor.ndim):
            if any(tag is not None for _, tag in atoms) and not any(tag is not None for _, tag in layout[d]):
                layout[d] = atoms
    layout = [atoms or [(n, None)] for atoms, n in zip(layout, out.shape, strict=True)]
    places = _places(layout)
    result = replace(inputs[0][1], layout=layout)
    for axis in (0, 1):
        span: Span | None = None
        for tensor, field in inputs:
            here = field.span(axis)
            spot = _places(field.layout).get(axis)
            if spot is not None and spot + out.ndim - tensor.ndim != places.get(axis):
                here = replace(here, whole=True)
            if spot is None and axis in places:  # one element spread over the grid
                here = Span(stride=here.stride, whole=True)
            span = here if span is None else span.union(here)
        assert span is not None
        result = result.with_span(axis, span)
    return result if len(_places(layout)) == len(_tags(layout)) else result.whole(0, 1)


def _windowed(field: Field, out: Tensor, windows: Sequence[tuple[Number, Number, Number, Number]]) -> Field | None:
    """Convolution or pooling over the last len(windows) dimensions; (kernel, stride, padding, dilation) of each."""
    k = len(windows)
    if len(field.layout) != out.ndim:
        return None
    layout = [list(atoms) for atoms in field.layout]
    result = field
    for d, (kernel, stride, padding, dilation) in zip(range(out.ndim - k, out.ndim), windows, strict=True):
        atoms = field.layout[d]
        tags = [tag for _, tag in atoms if tag is not None]
        moves = (kernel, stride, padding) != (1, 1, 0)
        if len(atoms) == 1 and tags:
            result = result.with_span(tags[0], result.span(tags[0]).window(kernel, stride, padding, dilation))
            layout[d] = [(out.shape[d], tags[0])]
        elif moves:
            result = result.whole(*tags)
            layout[d] = [(out.shape[d], None)]
    for d in range(out.ndim - k):
        if out.shape[d] != _length(layout[d]):
            result = result.whole(*[tag for _, tag in layout[d] if tag is not None])
            layout[d] = [(out.shape[d], None)]
    return replace(result, layout=layout)


@_rule("convolution", "_convolution", "cudnn_convolution", "mkldnn_convolution")
def _convolution(a: dict[str, Any], inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field | None:
    k = out.ndim - 2
    kernel, stride = a["weight"].shape[2:], _each(a["stride"], k)
    padding, dilation = _each(a["padding"], k), _each(a["dilation"], k)
    if len(inputs) > 1:
        return None
    if not a.get("transposed"):
        return _windowed(inputs[0][1], out, list(zip(kernel, stride, padding, dilation, strict=True)))
    # output o gathers inputs i with o = i·s - p + d·t: a window of ceil-many inputs on a finer grid
    reach = [Fraction(d * (n - 1), s) + 1 for d, n, s in zip(dilation, kernel, stride, strict=True)]
    shift = [Fraction(d * (n - 1) - p, s) for d, n, s, p in zip(dilation, kernel, stride, padding, strict=True)]
    return _windowed(inputs[0][1], out, [(r, Fraction(1, s), q, 1) for r, s, q in zip(reach, stride, shift, strict=True)])


@_rule(
    "max_pool2d_with_indices",
    "max_pool2d",
    "avg_pool2d",
    "max_pool3d_with_indices",
    "avg_pool3d",
    "max_pool1d",
    "avg_pool1d",
    "mkldnn_max_pool2d",
)
def _pool(a: dict[str, Any], inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field | None:
    kernel = list(a["kernel_size"])
    k = len(kernel)
    stride = _each(a.get("stride") or kernel, k)
    windows = zip(kernel, stride, _each(a.get("padding", 0), k), _each(a.get("dilation", 1), k), strict=True)
    return _windowed(inputs[0][1], out, list(windows))


@_rule("_adaptive_avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d")
def _adaptive(a: dict[str, Any], inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field | None:
    tensor, field = inputs[0]
    windows: list[tuple[Number, Number, Number, Number]] = []
    for n, m in zip(tensor.shape[-2:], out.shape[-2:], strict=True):
        if n % m or (m == 1 and n > 1):
            return replace(field, layout=_plain(out.shape)).whole(0, 1)
        windows.append((n // m, n // m, 0, 1))
    return _windowed(field, out, windows)


@_rule(
    "upsample_nearest2d",
    "upsample_bilinear2d",
    "upsample_bicubic2d",
    "_upsample_nearest_exact2d",
    "_upsample_bilinear2d_aa",
)
def _upsample(a: dict[str, Any], inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field | None:
    tensor, field = inputs[0]
    windows: list[tuple[Number, Number, Number, Number]] = []
    for n, m in zip(tensor.shape[-2:], out.shape[-2:], strict=True):
        windows.append((3, Fraction(n, m), 1, 1))  # one neighbour on either side: bilinear's reach, and an upper bound of nearest's
    return _windowed(field, out, windows)


@_rule("constant_pad_nd", "reflection_pad2d", "replication_pad2d", "pad")
def _pad(a: dict[str, Any], inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field | None:
    pads = list(a.get("pad", a.get("padding")) or [])
    k = len(pads) // 2
    windows = [(1, 1, pads[2 * (k - 1 - i)], 1) for i in range(k)]
    return _windowed(inputs[0][1], out, windows)


@_rule("slice")
def _slice(a: dict[str, Any], inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field | None:
    tensor, field = inputs[0]
    d, start, step = a["dim"] % tensor.ndim, a.get("start") or 0, a.get("step") or 1
    start = max(start + tensor.shape[d], 0) if start < 0 else start
    if out.shape == tensor.shape:
        return field
    tags = [tag for _, tag in field.layout[d] if tag is not None]
    layout = [list(atoms) for atoms in field.layout]
    layout[d] = [(out.shape[d], None)]
    if len(field.layout[d]) == 1 and tags:
        layout[d] = [(out.shape[d], tags[0])]
        return replace(field.with_span(tags[0], field.span(tags[0]).window(1, step, -start)), layout=layout)
    return replace(field, layout=layout).whole(*tags)


@_rule("select")
def _select(a: dict[str, Any], inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field | None:
    tensor, field = inputs[0]
    d = a["dim"] % tensor.ndim
    index = a["index"] % tensor.shape[d]
    tags = [tag for _, tag in field.layout[d] if tag is not None]
    layout = [atoms for i, atoms in enumerate(field.layout) if i != d]
    if len(field.layout[d]) == 1 and tags:
        return replace(field.with_span(tags[0], field.span(tags[0]).window(1, 1, -index)), layout=layout)
    return replace(field, layout=layout).whole(*tags)


@_rule(
    "view",
    "_unsafe_view",
    "reshape",
    "squeeze",
    "unsqueeze",
    "flatten",
    "_reshape_alias",
    "squeeze_",
    "unsqueeze_",
    "unflatten",
)
def _reshape(a: dict[str, Any], inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field | None:
    _, field = inputs[0]
    atoms = [atom for dim in field.layout for atom in dim if atom[0] != 1]
    layout: Layout = []
    lost: list[Axis] = []
    for n in out.shape:
        dim: list[Atom] = []
        while n > 1:
            size, tag = atoms.pop(0)
            if n % size == 0:
                dim.append((size, tag))
                n //= size
            elif size % n == 0:
                dim.append((n, None))
                atoms.insert(0, (size // n, None))
                lost += [] if tag is None else [tag]
                n = 1
            else:
                return None
        layout.append(dim or [(1, None)])
    return replace(field, layout=layout).whole(*lost)


@_rule("permute", "transpose", "t", "transpose_", "t_", "movedim", "swapaxes")
def _permute(a: dict[str, Any], inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field | None:
    tensor, field = inputs[0]
    order = list(range(tensor.ndim))
    if "dims" in a:
        order = [d % tensor.ndim for d in a["dims"]]
    elif tensor.ndim >= 2:
        i, j = a.get("dim0", 0) % tensor.ndim, a.get("dim1", 1) % tensor.ndim
        order[i], order[j] = order[j], order[i]
    return replace(field, layout=[field.layout[d] for d in order])


@_rule("expand")
def _expand(a: dict[str, Any], inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field | None:
    tensor, field = inputs[0]
    new: Layout = [[(n, None)] for n in out.shape[: out.ndim - tensor.ndim]]
    old: Layout = [atoms if _length(atoms) == n else [(n, None)] for atoms, n in zip(field.layout, out.shape[len(new) :], strict=True)]
    return replace(field, layout=[*new, *old])


@_rule("cat")
def _cat(a: dict[str, Any], inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field | None:
    d = a.get("dim", 0) % out.ndim
    field = _pointwise(
        [(t, replace(f, layout=[[(1, None)] if i == d else x for i, x in enumerate(f.layout)])) for t, f in inputs],
        out.narrow(d, 0, 1),
    )
    tags = {tag for _, f in inputs for _, tag in f.layout[d] if tag is not None}
    return replace(field, layout=[[(out.shape[d], None)] if i == d else x for i, x in enumerate(field.layout)]).whole(*tags)


@_rule("split", "split_with_sizes", "chunk", "unbind")
def _split(a: dict[str, Any], inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field | None:
    tensor, field = inputs[0]
    d = a.get("dim", 0) % tensor.ndim
    if any(tag is not None for _, tag in field.layout[d]):
        return None
    kept: Layout = [x for i, x in enumerate(field.layout) if i != d]
    return replace(field, layout=kept if out.ndim < tensor.ndim else [*kept[:d], [(out.shape[d], None)], *kept[d:]])


@_rule("mean", "sum", "amax", "amin", "var_mean", "var", "std", "logsumexp", "linalg_vector_norm", "norm", "prod")
def _reduce(a: dict[str, Any], inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field | None:
    tensor, field = inputs[0]
    dims = a.get("dim")
    dims = list(range(tensor.ndim)) if dims is None or dims == [] else [d % tensor.ndim for d in _each(dims, 1)]
    tags = [tag for d in dims for _, tag in field.layout[d] if tag is not None]
    kept: Layout = [[(1, None)] if i in dims else x for i, x in enumerate(field.layout)]
    return replace(field, layout=kept if out.ndim == tensor.ndim else [x for i, x in enumerate(kept) if i not in dims]).whole(*tags)


@_rule("_softmax", "softmax", "_log_softmax", "log_softmax", "cumsum", "flip", "roll", "sort", "topk")
def _along(a: dict[str, Any], inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field | None:
    tensor, field = inputs[0]
    dims = [d % tensor.ndim for d in _each(a.get("dims", a.get("dim", -1)), 1)]
    tags = [tag for d in dims for _, tag in field.layout[d] if tag is not None]
    return field.whole(*tags) if out.shape == tensor.shape else None


@_rule("native_layer_norm", "layer_norm", "rms_norm")
def _layer_norm(a: dict[str, Any], inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field | None:
    tensor, field = inputs[0]
    if out.shape != tensor.shape:
        return None
    dims = range(tensor.ndim - len(a["normalized_shape"]), tensor.ndim)
    return field.whole(*[tag for d in dims for _, tag in field.layout[d] if tag is not None])


@_rule("mm", "addmm", "bmm", "baddbmm", "linear", "matmul")
def _product(a: dict[str, Any], inputs: list[tuple[Tensor, Field]], out: Tensor) -> Field | None:
    left = next(a[k] for k in ("mat1", "batch1", "input", "self") if k in a and not (k == "self" and ("mat1" in a or "batch1" in a)))
    if len(inputs) > 1 or left is not inputs[0][0] or left.ndim != out.ndim:
        return None
    field = inputs[0][1]
    tags = [tag for _, tag in field.layout[-1] if tag is not None]
    return replace(field, layout=[*field.layout[:-1], [(out.shape[-1], None)]]).whole(*tags)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in _tensors(v)] if isinstance(value, (list, tuple)) else []


def _places(layout: Layout) -> dict[Axis, int]:
    """Axis -> the dimension that it runs along."""
    return {tag: d for d, atoms in enumerate(layout) for _, tag in atoms if tag is not None}


def _tags(layout: Layout) -> list[Axis]:
    return [tag for atoms in layout for _, tag in atoms if tag is not None]


def _plain(shape: Sequence[int]) -> Layout:
    return [[(n, None)] for n in shape]


def _length(atoms: list[Atom]) -> int:
    length = 1
    for size, _ in atoms:
        length *= size
    return length


def _each(value: Any, count: int) -> list[int]:
    """One number for each dimension, as torch's functions take them."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * count if len(values) == 1 else values
