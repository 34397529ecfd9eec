"""Rules of operations that join elements along dimensions: sums, normalisation, products, attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from .reach import Atom, Layout, Reach, mixed, plain, tags
from .reach_rules import Call, each_of, in_groups, joined, length_of, rule


@rule(
    "mean", "sum", "nansum", "amax", "amin", "max", "min", "aminmax", "argmax", "argmin", "var_mean", "std_mean", "var", "std",
    "logsumexp", "linalg_vector_norm", "norm", "prod", "median", "nanmedian", "any", "all", "count_nonzero",
)  # fmt: skip
def _reduce(call: Call) -> list[Reach]:
    tensor, reach = call.inputs[0], call.first
    given = call.a.get("dim")
    dims = list(range(tensor.ndim)) if given is None or given == [] else [d % tensor.ndim for d in each_of(given, 1)]
    kept: Layout = [[(1, None)] if i in dims else x for i, x in enumerate(reach.layout)]
    out = replace(mixed(reach, dims), layout=kept)
    less = out.each(lambda e: e.squeeze([d + 1 for d in dims]), [x for d, x in enumerate(kept) if d not in dims])
    return [out if o.ndim == tensor.ndim else less for o in call.outs]


@rule("_softmax", "softmax", "_log_softmax", "log_softmax", "_safe_softmax", "sort", "topk", "argsort", "_fft_r2c", "_fft_c2r", "_fft_c2c")
def _along(call: Call) -> Reach:
    tensor, reach = call.inputs[0], call.first
    dims = [d % tensor.ndim for d in each_of(call.a.get("dim", -1), 1)]
    layout: Layout = [x if length_of(x) == n else [(n, None)] for x, n in zip(reach.layout, call.outs[0].shape, strict=True)]
    return replace(mixed(reach, dims), layout=layout)


@rule("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp")
def _up_to_here(call: Call) -> Reach:
    tensor, reach = call.inputs[0], call.first
    d = call.a["dim"] % tensor.ndim
    return reach.each(lambda e: e.cummin(dim=d + 1).values)


@rule("native_layer_norm", "layer_norm", "rms_norm", "_fused_rms_norm")
def _layer_norm(call: Call) -> Reach:
    tensor, reach = call.inputs[0], call.first
    return mixed(reach, list(range(tensor.ndim - len(call.a["normalized_shape"]), tensor.ndim)))


@rule(
    "native_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit_functional",
    "_batch_norm_with_update", "_batch_norm_no_update", "cudnn_batch_norm", "batch_norm",
)  # fmt: skip
def _batch_norm(call: Call) -> Reach:
    """By statistics that were kept: element by element; by those of the map itself: everything of the channel."""
    reach = call.first
    own = call.a.get("training", "with_update" in call.func.overloadpacket.__name__)
    return mixed(reach, [d for d in range(call.inputs[0].ndim) if d != 1]) if own else reach


@rule("native_group_norm")
def _group_norm(call: Call) -> Reach:
    tensor, reach = call.inputs[0], call.first
    groups = int(call.a["group"])
    return mixed(reach, list(range(2, tensor.ndim))).each(lambda e: in_groups(e, groups, tensor.shape[1]))


@rule("mm", "addmm", "bmm", "baddbmm", "linear", "matmul")
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


@rule(
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


@rule("_transformer_encoder_layer_fwd")
def _encoder_layer(call: Call) -> Reach:
    return mixed(call.first, [1, 2])
