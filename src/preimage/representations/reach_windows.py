"""Rules of windows that move over an image: convolutions, pooling, resampling, borders, patches."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from .reach import Atom, Layout, Reach, gathered, mixed, only_tag, plain, tagged, taken
from .reach_rules import Call, each_of, in_groups, rule, transported


@rule("convolution", "_convolution", "convolution_overrideable", "cudnn_convolution", "mkldnn_convolution", "_slow_conv2d_forward")
def _convolution(call: Call) -> Reach | None:
    a, out = call.a, call.outs[0]
    if len(call.inputs) > 1:
        return None
    k = out.ndim - 2
    tensor, reach = call.inputs[0], call.first
    weight = a["weight"].shape
    stride, padding, dilation = (each_of(a.get(name, default), k) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1)))
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
    return reach.each(lambda e: in_groups(e, groups, out), layout)


def _moved(reach: Reach, d: int, length: int, index: Tensor, step: Fraction, valid: Tensor | None = None) -> Reach:
    """After element o along a dimension was made of the elements index[o, :], `step` units further for each o."""
    axis = only_tag(reach.layout[d])
    layout = [[(len(index), axis)] if i == d else atoms for i, atoms in enumerate(reach.layout)]
    out = replace(gathered(reach, d, length, index, valid), layout=layout)
    return out.stepped(axis, step) if axis is not None else tagged(out)


@rule(
    "max_pool1d", "max_pool2d", "max_pool3d", "max_pool1d_with_indices", "max_pool2d_with_indices", "max_pool3d_with_indices",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "mkldnn_max_pool2d", "mkldnn_max_pool3d",
)  # fmt: skip
def _pool(call: Call) -> Reach:
    a, tensor, reach, out = call.a, call.inputs[0], call.first, call.outs[0]
    k = int(call.func.overloadpacket.__name__.partition("pool")[2][0])
    kernel = each_of(a["kernel_size"], k)
    stride, padding, dilation = each_of(a.get("stride") or kernel, k), each_of(a.get("padding", 0), k), each_of(a.get("dilation", 1), k)
    for j in range(k):
        d = out.ndim - k + j
        taps = torch.arange(kernel[j], device="cpu") * dilation[j]
        o = torch.arange(out.shape[d], device="cpu").view(-1, 1)
        reach = _moved(reach, d, tensor.shape[d], o * stride[j] - padding[j] + taps, Fraction(stride[j]))
    return reach


@rule(
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


@rule(*[
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


@rule("constant_pad_nd")
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


@rule(*[f"{kind}_pad{k}d" for kind in ("reflection", "replication") for k in (1, 2, 3)])
def _mirrored(call: Call) -> Reach:
    """Borders that are pixels again: the operation itself moves the intervals."""
    return transported(call, [[(n, only_tag(atoms))] for atoms, n in zip(call.first.layout, call.outs[0].shape, strict=True)])


@rule("im2col")
def _unfold(call: Call) -> Reach:
    a, tensor, reach, out = call.a, call.inputs[0], call.first, call.outs[0]
    kernel, dilation, padding, stride = (tuple(each_of(a[name], 2)) for name in ("kernel_size", "dilation", "padding", "stride"))
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


@rule("col2im")
def _fold(call: Call) -> Reach:
    """Sums of patches: an element is made of whatever is laid upon it."""
    a, tensor, reach, out = call.a, call.inputs[0], call.first, call.outs[0]
    kernel, dilation, padding, stride = (tuple(each_of(a[name], 2)) for name in ("kernel_size", "dilation", "padding", "stride"))
    b, c, h, w = out.shape
    spots = torch.arange(1, h * w + 1, dtype=torch.float32, device="cpu").view(1, 1, h, w)  # 0 is padding
    to = F.unfold(spots, kernel, dilation, padding, stride).long().flatten()

    def lay(ends: Tensor) -> Tensor:
        patches = ends.expand(2, *tensor.shape).reshape(2, b, c, -1)
        sums = patches.new_full((2, b, c, h * w + 1), math.inf).scatter_reduce(3, to.expand_as(patches), patches, "amin")
        return sums[..., 1:].reshape(2, b, c, h, w)

    return reach.like(reach.each(lay).ends, plain(out.shape))
