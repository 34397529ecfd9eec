"""What each operation of torch does to the pixels that elements depend on: one rule for each kind of operation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .reach import Atom, Layout, Reach, compact, gathered, hull, mixed, only_tag, plain, tagged, tags, taken


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


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def keep(rule: Rule) -> Rule:
        _RULES.update(dict.fromkeys(names, rule))
        return rule

    return keep


@_rule(
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
    layout = [atoms if atoms and _length(atoms) == n else [(n, None)] for atoms, n in zip(layout, shape, strict=True)]
    ends = [hull([r.ends[axis] for _, r in parts]) for axis in (0, 1)]
    rows, cols = (e.reshape(2, *[1] * (len(shape) + 1 - e.ndim), *e.shape[1:]) for e in ends)
    grid = next((r for _, r in parts if tags(r.layout)), parts[0][1])
    return tagged(replace(grid, ends=(rows, cols), layout=layout))


@_rule("copy")
def _copy(call: Call) -> Reach:
    """What is written takes the place of all that was there."""
    target, source = call.a["self"], call.a["src"]
    found = call.known(source)
    return call.first.nothing(plain(target.shape)) if found is None else joined([(source, found)], target.shape)


@_rule(
    "new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided", "zeros_like", "ones_like", "full_like", "empty_like",
    "rand_like", "randn_like", "randint_like",
)  # fmt: skip
def _made(call: Call) -> Reach:
    """Of the shape of what depends on the image, and of nothing else of it."""
    return call.first.nothing(plain(call.outs[0].shape))


@_rule("fill", "zero", "uniform", "normal", "bernoulli", "random", "exponential")
def _overwritten(call: Call) -> Reach:
    value = call.a.get("value")
    found = call.known(value) if isinstance(value, Tensor) else None
    return call.first.nothing(call.first.layout) if found is None else joined([(value, found)], call.outs[0].shape)  # type: ignore[list-item]


# --- windows


@_rule("convolution", "_convolution", "convolution_overrideable", "cudnn_convolution", "mkldnn_convolution", "_slow_conv2d_forward")
def _convolution(call: Call) -> Reach | None:
    a, out = call.a, call.outs[0]
    if len(call.inputs) > 1:
        return None
    k = out.ndim - 2
    tensor, reach = call.inputs[0], call.first
    weight = a["weight"].shape
    stride, padding, dilation = (_each(a.get(name, default), k) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1)))
    groups = a.get("groups", 1)
    reach = _channels(reach, out.shape[1], groups)
    for j in range(k):
        n, m, d = tensor.shape[2 + j], out.shape[2 + j], 2 + j
        taps = torch.arange(weight[2 + j], device="cpu") * dilation[j]
        o = torch.arange(m, device="cpu").view(-1, 1)
        if a.get("transposed"):  # o = i·stride − padding + tap
            reached = o + padding[j] - taps
            index, valid = reached.div(stride[j], rounding_mode="floor"), reached % stride[j] == 0
            reach = _moved(reach, d, n, index, Fraction(1, stride[j]), valid)
        else:
            reach = _moved(reach, d, n, o * stride[j] - padding[j] + taps, Fraction(stride[j]))
    return reach


def _channels(reach: Reach, out: int, groups: int) -> Reach:
    """Channels joined within groups."""
    layout: Layout = [[(out, None)] if d == 1 else atoms for d, atoms in enumerate(reach.layout)]
    if groups == 1:
        return replace(mixed(reach, [1]), layout=layout)
    return reach.each(lambda e: _in_groups(e, groups, out), layout)


def _in_groups(ends: Tensor, groups: int, out: int) -> Tensor:
    """Joined within groups of channels, which become `out` channels."""
    return (
        ends
        if ends.shape[2] == 1
        else ends.reshape(*ends.shape[:2], groups, -1, *ends.shape[3:]).amin(dim=3).repeat_interleave(out // groups, dim=2)
    )


def _moved(reach: Reach, d: int, length: int, index: Tensor, step: Fraction, valid: Tensor | None = None) -> Reach:
    """After element o along a dimension was made of the elements index[o, :], `step` units further for each o."""
    axis = only_tag(reach.layout[d])
    layout = [[(len(index), axis)] if i == d else atoms for i, atoms in enumerate(reach.layout)]
    out = replace(gathered(reach, d, length, index, valid), layout=layout)
    return out.stepped(axis, step) if axis is not None else tagged(out)


@_rule(
    "max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "mkldnn_max_pool2d", "mkldnn_max_pool3d",
)  # fmt: skip
def _pool(call: Call) -> Reach:
    a, tensor, reach, out = call.a, call.inputs[0], call.first, call.outs[0]
    k = int(call.func.overloadpacket.__name__.partition("pool")[2][0])
    kernel = _each(a["kernel_size"], k)
    stride, padding, dilation = _each(a.get("stride") or kernel, k), _each(a.get("padding", 0), k), _each(a.get("dilation", 1), k)
    for j in range(k):
        d = out.ndim - k + j
        taps = torch.arange(kernel[j], device="cpu") * dilation[j]
        o = torch.arange(out.shape[d], device="cpu").view(-1, 1)
        reach = _moved(reach, d, tensor.shape[d], o * stride[j] - padding[j] + taps, Fraction(stride[j]))
    return reach


@_rule(
    "_adaptive_avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool3d", "mkldnn_adaptive_avg_pool2d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d",
)  # fmt: skip
def _adaptive(call: Call) -> Reach:
    """Output o is made of inputs floor(o·n/m) to ceil((o + 1)·n/m) - 1; of all of them, nothing of the grid is left."""
    tensor, reach, out = call.inputs[0], call.first, call.outs[0]
    k = len(call.a["output_size"])
    for d in range(out.ndim - k, out.ndim):
        n, m = tensor.shape[d], out.shape[d]
        if m == 1:
            layout: Layout = [[(1, None)] if i == d and n > 1 else atoms for i, atoms in enumerate(reach.layout)]
            reach = replace(mixed(reach, [d]), layout=layout)
            continue
        first = [o * n // m for o in range(m)]
        ends = [-(-(o + 1) * n // m) - 1 for o in range(m)]
        most = max(e - f for f, e in zip(first, ends, strict=True)) + 1
        index = torch.tensor([[min(f + t, e) for t in range(most)] for f, e in zip(first, ends, strict=True)], device="cpu")
        reach = _moved(reach, d, n, index, Fraction(n, m))
    return reach


@_rule(*[
    f"{prefix}upsample_{mode}{suffix}"
    for prefix in ("", "_")
    for mode in ("nearest1d", "nearest2d", "nearest3d", "nearest_exact1d", "nearest_exact2d", "nearest_exact3d", "linear1d", "bilinear2d",
                 "bicubic2d", "trilinear3d", "lanczos2d")
    for suffix in ("", "_aa")
])  # fmt: skip
def _upsample(call: Call) -> Reach | None:
    """The weights of each dimension are what the operation makes of single ones."""
    a, tensor, reach, out = call.a, call.inputs[0], call.first, call.outs[0]
    if a.get("scale_factors") is not None:
        return None
    k = out.ndim - 2
    scales = [name for name in a if name.startswith("scales")]
    for j in range(k):
        n, m = tensor.shape[2 + j], out.shape[2 + j]
        beside = (j + 1) % k  # the single ones lie side by side along another dimension, of which the size stays
        shape = [n if i in (j, beside) else 1 for i in range(k)] if k > 1 else [n]
        one = torch.eye(n, dtype=torch.float64, device="cpu").view(1 if k > 1 else n, 1, *shape)
        shape[j] = m
        own = {name: None if i != j else a[name] for i, name in enumerate(scales)}
        weights = (
            call.func(**{**a, **own, next(iter(a)): one, "output_size": shape}).squeeze().view([m, n] if k > 1 and j < beside else [n, m])
        )
        weights = (weights if k > 1 and j < beside else weights.T).abs()  # (m, n)
        used = weights > 1e-6 * weights.amax(dim=1, keepdim=True)
        first = used.int().argmax(dim=1)
        last = n - 1 - used.flip(1).int().argmax(dim=1)
        taps = torch.arange(int((last - first).max()) + 1, device="cpu")
        index = torch.minimum(first.view(-1, 1) + taps, last.view(-1, 1))
        reach = _moved(reach, 2 + j, n, index, Fraction(n, m), used.gather(1, index))
    return reach


@_rule("constant_pad_nd")
def _pad(call: Call) -> Reach:
    tensor, reach = call.inputs[0], call.first
    pads = list(call.a["pad"])
    for j in range(len(pads) // 2):
        d = tensor.ndim - 1 - j
        index = torch.arange(-pads[2 * j], tensor.shape[d] + pads[2 * j + 1], device="cpu")
        moved = taken(reach, d, tensor.shape[d], index, outside="nothing")
        layout = [[(len(index), only_tag(atoms))] if i == d else atoms for i, atoms in enumerate(reach.layout)]
        reach = tagged(replace(moved, layout=layout))
    return reach


@_rule(*[f"{kind}_pad{k}d" for kind in ("reflection", "replication") for k in (1, 2, 3)])
def _mirrored(call: Call) -> Reach:
    """Borders that are pixels again: the operation itself moves the intervals."""
    return _transported(call, [[(n, only_tag(atoms))] for atoms, n in zip(call.first.layout, call.outs[0].shape, strict=True)])


@_rule("im2col")
def _unfold(call: Call) -> Reach:
    a, tensor, reach, out = call.a, call.inputs[0], call.first, call.outs[0]
    kernel, dilation, padding, stride = (tuple(_each(a[name], 2)) for name in ("kernel_size", "dilation", "padding", "stride"))
    h, w = tensor.shape[2:]
    axes = [only_tag(atoms) for atoms in reach.layout[2:]]
    for d, n, p in ((2, h, padding[0]), (3, w, padding[1])):
        reach = taken(reach, d, n, torch.arange(-p, n + p, device="cpu"))
    shape = (2, *tensor.shape[:2], h + 2 * padding[0], w + 2 * padding[1])
    found = reach.each(lambda e: torch.stack([F.unfold(end, kernel, dilation, 0, stride) for end in e.expand(shape)]))
    rows = (h + 2 * padding[0] - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    places: list[Atom] = [(rows, axes[0]), (out.shape[2] // rows, axes[1])]
    for axis, step in zip(axes, stride, strict=True):
        found = found if axis is None else found.stepped(axis, Fraction(step))
    return found.like(found.ends, [[(out.shape[0], None)], [(out.shape[1], None)], places])


@_rule("col2im")
def _fold(call: Call) -> Reach:
    """Sums of patches: an element is made of whatever is laid upon it."""
    a, tensor, reach, out = call.a, call.inputs[0], call.first, call.outs[0]
    kernel, dilation, padding, stride = (tuple(_each(a[name], 2)) for name in ("kernel_size", "dilation", "padding", "stride"))
    b, c, h, w = out.shape
    spots = torch.arange(1, h * w + 1, dtype=torch.float32, device="cpu").view(1, 1, h, w)  # 0 is padding
    to = F.unfold(spots, kernel, dilation, padding, stride).long().flatten()

    def lay(ends: Tensor) -> Tensor:
        patches = ends.expand(2, *tensor.shape).reshape(2, b, c, -1)
        sums = patches.new_full((2, b, c, h * w + 1), math.inf).scatter_reduce(3, to.expand_as(patches), patches, "amin")
        return sums[..., 1:].reshape(2, b, c, h, w)

    return reach.like(reach.each(lay).ends, plain(out.shape))


# --- elements joined along dimensions


@_rule(
    "mean", "sum", "nansum", "amax", "amin", "max", "min", "aminmax", "argmax", "argmin", "var_mean", "std_mean", "var", "std",
    "logsumexp", "linalg_vector_norm", "norm", "prod", "median", "nanmedian", "any", "all", "count_nonzero",
)  # fmt: skip
def _reduce(call: Call) -> list[Reach]:
    tensor, reach = call.inputs[0], call.first
    given = call.a.get("dim")
    dims = list(range(tensor.ndim)) if given is None or given == [] else [d % tensor.ndim for d in _each(given, 1)]
    kept: Layout = [[(1, None)] if i in dims else x for i, x in enumerate(reach.layout)]
    out = replace(mixed(reach, dims), layout=kept)
    less = out.each(lambda e: e.squeeze([d + 1 for d in dims]), [x for d, x in enumerate(kept) if d not in dims])
    return [out if o.ndim == tensor.ndim else less for o in call.outs]


@_rule("_softmax", "softmax", "_log_softmax", "log_softmax", "_safe_softmax", "sort", "topk", "argsort", "_fft_r2c", "_fft_c2r", "_fft_c2c")
def _along(call: Call) -> Reach:
    tensor, reach = call.inputs[0], call.first
    dims = [d % tensor.ndim for d in _each(call.a.get("dim", -1), 1)]
    layout: Layout = [x if _length(x) == n else [(n, None)] for x, n in zip(reach.layout, call.outs[0].shape, strict=True)]
    return replace(mixed(reach, dims), layout=layout)


@_rule("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp")
def _up_to_here(call: Call) -> Reach:
    tensor, reach = call.inputs[0], call.first
    d = call.a["dim"] % tensor.ndim
    return reach.each(lambda e: e.cummin(dim=d + 1).values)


@_rule("native_layer_norm", "layer_norm", "rms_norm", "_fused_rms_norm")
def _layer_norm(call: Call) -> Reach:
    tensor, reach = call.inputs[0], call.first
    return mixed(reach, list(range(tensor.ndim - len(call.a["normalized_shape"]), tensor.ndim)))


@_rule(
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit_functional",
    "_batch_norm_with_update", "_batch_norm_no_update", "cudnn_batch_norm", "batch_norm",
)  # fmt: skip
def _batch_norm(call: Call) -> Reach:
    """By statistics that were kept: element by element; by those of the map itself: everything of the channel."""
    reach = call.first
    own = call.a.get("training", "with_update" in call.func.overloadpacket.__name__)
    return mixed(reach, [d for d in range(call.inputs[0].ndim) if d != 1]) if own else reach


@_rule("native_group_norm")
def _group_norm(call: Call) -> Reach:
    tensor, reach = call.inputs[0], call.first
    groups = int(call.a["group"])
    return mixed(reach, list(range(2, tensor.ndim))).each(lambda e: _in_groups(e, groups, tensor.shape[1]))


@_rule("mm", "addmm", "bmm", "baddbmm", "linear", "matmul")
def _product(call: Call) -> Reach | None:
    """out[…, i, j] is made of row i of the left and column j of the right."""
    a, out = call.a, call.outs[0]
    pairs = (("mat1", "mat2"), ("batch1", "batch2"), ("input", "weight"), ("self", "mat2"), ("self", "other"))
    names = next(pair for pair in pairs if pair[0] in a and pair[1] in a)
    (left, left_reach), (right, right_reach) = call.of(names[0]), call.of(names[1])
    if names[1] == "weight":
        if call.known(right) is not None:
            return None
        right, right_reach = right.T, call.first.nothing(plain(right.T.shape))
    if left.ndim < 2 or right.ndim < 2 or left.ndim != out.ndim:
        return None
    rows = replace(mixed(left_reach, [left.ndim - 1]), layout=[*left_reach.layout[:-1], [(1, None)]])
    last: list[Atom] = [(right.shape[-1], None)] if tags(rows.layout) else right_reach.layout[-1]
    columns = replace(mixed(right_reach, [right.ndim - 2]), layout=[*right_reach.layout[:-2], [(1, None)], last])
    parts = [(left[..., :1], rows), (right[..., :1, :], columns)]
    bias = a.get("bias") if names[1] == "weight" else a.get("self") if names[0] != "self" else None
    if isinstance(bias, Tensor) and (found := call.known(bias)) is not None:
        parts.append((bias, found))
    known = [(t, r) for t, r in parts if r.seen]
    return joined(known, out.shape) if known else None


@_rule(
    "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention", "_scaled_dot_product_fused_attention_overrideable", "_native_multi_head_attention",
)  # fmt: skip
def _attention(call: Call) -> Sequence[Reach] | None:
    """Each query sees itself, all keys and all values of its head."""
    query, reach = call.of("query")
    parts = [(query, mixed(reach, [query.ndim - 1]))]
    for name in ("key", "value"):
        tensor, found = call.of(name)
        seen = replace(mixed(found, [tensor.ndim - 2, tensor.ndim - 1]), layout=plain([*tensor.shape[:-2], 1, 1]))
        parts.append((tensor[..., :1, :1], seen))
    if any(call.known(call.a[name]) is None for name in ("query", "key", "value")):
        return None
    out = joined(parts, query.shape)
    return [out if o.shape == query.shape else out.whole(plain(o.shape)) for o in call.outs]


@_rule("_transformer_encoder_layer_fwd")
def _encoder_layer(call: Call) -> Reach:
    return mixed(call.first, [1, 2])


# --- elements that go elsewhere


@_rule("permute", "transpose", "t", "movedim", "swapaxes", "numpy_T")
def _permute(call: Call) -> Reach:
    reach, ndim = call.first, call.inputs[0].ndim
    order = list(range(ndim))
    if "dims" in call.a:
        order = [d % ndim for d in call.a["dims"]]
    elif ndim >= 2:
        i, j = call.a.get("dim0", 0) % ndim, call.a.get("dim1", 1) % ndim
        order[i], order[j] = order[j], order[i]
    return reach.each(lambda e: e.permute(0, *[d + 1 for d in order]), [reach.layout[d] for d in order])


@_rule("view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "flatten", "_reshape_alias", "unflatten")
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


@_rule("expand")
def _expand(call: Call) -> Reach:
    tensor, reach, shape = call.inputs[0], call.first, call.outs[0].shape
    new = len(shape) - tensor.ndim
    old: Layout = [atoms if _length(atoms) == n else [(n, None)] for atoms, n in zip(reach.layout, shape[new:], strict=True)]
    return reach.each(lambda e: e.reshape(2, *[1] * new, *e.shape[1:]), [*plain(shape[:new]), *old])


@_rule("slice")
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


@_rule("select")
def _select(call: Call) -> Reach:
    tensor, reach = call.inputs[0], call.first
    d = call.a["dim"] % tensor.ndim
    return _without(_picked(reach, d, tensor.shape[d], torch.tensor([call.a["index"] % tensor.shape[d]], device="cpu")), d)


def _without(reach: Reach, d: int) -> Reach:
    return reach.each(lambda e: e.squeeze(d + 1), [x for i, x in enumerate(reach.layout) if i != d])


@_rule("split", "split_with_sizes", "chunk", "unbind", "unsafe_split", "unsafe_chunk", "unsafe_split_with_sizes", "tensor_split")
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


@_rule("cat", "stack")
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


@_rule("pixel_shuffle")
def _shuffle(call: Call) -> Reach:
    return _regridded(call, Fraction(1, call.a["upscale_factor"]))


@_rule("pixel_unshuffle")
def _unshuffle(call: Call) -> Reach:
    return _regridded(call, Fraction(call.a["downscale_factor"]))


def _regridded(call: Call, step: Fraction) -> Reach:
    """Channels that become rows and columns, or the other way."""
    layout = [[(n, only_tag(atoms))] for atoms, n in zip(call.first.layout, call.outs[0].shape, strict=True)]
    reach = _transported(call, layout)
    for axis in set(tags(layout)):
        reach = reach.stepped(axis, step)
    return reach


@_rule("glu")
def _glu(call: Call) -> Reach:
    tensor, reach, out = call.inputs[0], call.first, call.outs[0]
    d = call.a.get("dim", -1) % tensor.ndim
    halves = [_picked(reach, d, tensor.shape[d], torch.arange(n, n + out.shape[d], device="cpu")) for n in (0, out.shape[d])]
    return replace(halves[0], ends=(hull([h.ends[0] for h in halves]), hull([h.ends[1] for h in halves])))


@_rule(
    "flip", "roll", "index_select", "index", "gather", "take_along_dim", "repeat", "repeat_interleave", "unfold", "diagonal", "tile",
    "channel_shuffle", "rot90", "native_channel_shuffle",
    "slice_scatter", "select_scatter", "index_copy", "index_fill", "scatter", "index_put",
    "_index_put_impl",
)  # fmt: skip
def _transport(call: Call) -> Reach | None:
    """An operation that moves elements moves their intervals; which places, must not depend on the image."""
    tensor = call.inputs[0]
    if call.a.get("accumulate") or call.a.get("reduce") is not None or not all(_is_value(t) for t in call.inputs):
        return None
    if any(t.is_meta and not _is_value(t) for t in tensors_of(call.a)):
        return None
    out = call.outs[0]
    same = tensor.ndim == out.ndim
    layout: Layout = [
        x if same and _length(x) == n else [(n, None)]
        for x, n in zip(call.first.layout if same else plain(out.shape), out.shape, strict=True)
    ]
    return _transported(call, layout)


def _transported(call: Call, layout: Layout) -> Reach:
    def filled(value: Any, axis: int, end: int) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(filled(v, axis, end) for v in value)
        if not isinstance(value, Tensor):
            return value
        if not _is_value(value):
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


def tensors_of(value: Any) -> list[Tensor]:
    """All tensors in nested arguments or results."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in tensors_of(v)] if isinstance(value, (list, tuple)) else []


def _is_value(tensor: Tensor) -> bool:
    """Whether it holds values, and no places or flags."""
    return tensor.is_floating_point() or tensor.is_complex()


def _length(atoms: Sequence[tuple[int, int | None]]) -> int:
    return math.prod(size for size, _ in atoms)


def _each(value: Any, count: int) -> list[int]:
    """One number for each dimension, as torch's functions take them."""
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    return values * count if len(values) == 1 else values
