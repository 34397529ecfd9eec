"""What a unit is made of: the weights that write it, units that are written alike, and the units before it that speak for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..networks.network import Network
from ..pixels.pixelspace import PixelSpace
from ..representations.receptive_field import Dispatched
from ..representations.sessions import evaluating
from .hooks import HookedOutput, choose_outputs, run_hooked

# operations whose channel k is made of channel k of what they take, and of nothing else of it
_KEEP = {
    "relu", "relu_", "leaky_relu", "leaky_relu_", "elu", "elu_", "silu", "silu_", "gelu", "hardtanh", "hardtanh_", "hardswish",
    "hardswish_", "hardsigmoid", "sigmoid", "tanh", "softplus", "clamp", "clamp_", "clamp_min", "clamp_min_", "add", "add_", "sub",
    "sub_", "mul", "mul_", "div", "div_", "max_pool2d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_max_pool2d", "mean",
    "native_batch_norm", "_native_batch_norm_legit_no_training", "native_layer_norm", "clone", "dropout", "native_dropout",
    "constant_pad_nd", "upsample_bilinear2d", "upsample_nearest2d", "_to_copy", "contiguous", "alias", "detach", "view", "_unsafe_view",
    "reshape", "squeeze", "unsqueeze", "flatten", "select", "slice",
}  # fmt: skip


@dataclass(frozen=True)
class Wiring:
    """The weights that write the C units of a layer, found by following one image through the network.

    weights: (C, D), of what each unit adds up; 0 where it takes nothing. groups: (C,), units of one number are written by one operation:
    the weights of others are not comparable. source: the layer whose S channels that operation reads, None where it is no layer that was
    asked for. by_channel: (C, S), each unit's weights to each channel of the source, summed over the kernel; None without a source.
    """

    weights: Tensor = field(repr=False)
    groups: Tensor = field(repr=False)
    source: str | None = None
    by_channel: Tensor | None = field(default=None, repr=False)

    def alike(self) -> Tensor:
        """(C, C) the cosine between the weights of each unit and those of every other; −2 for itself and for units of another operation."""
        unit = self.weights / self.weights.norm(dim=1, keepdim=True).clamp(min=1e-30)
        cosine: Tensor = unit @ unit.T
        cosine[self.groups[:, None] != self.groups] = -2.0
        cosine.fill_diagonal_(-2.0)
        return cosine


def find_wiring(network: Network | nn.Module, space: PixelSpace | None = None, layers: Sequence[str] | None = None) -> dict[str, Wiring]:
    """Find the weights that write the units of each layer; a layer of which they are not known is left out.

    Operations that keep channels apart (ReLUs, pooling, normalisation, the sum of a residual branch, of which the operation that ran last
    counts) are passed through, and concatenated channels are those of their parts.

    Parameters
    ----------
    network : Network, or any module together with its `space`
    space : PixelSpace
        Of a module.
    layers : names, optional
        Only these; the source of a layer is looked for among them.

    Returns
    -------
    dict of Wiring
        By the layers' names, in the order in which the network runs them.

    Examples
    --------
    >>> import preimage
    >>> found = find_wiring(preimage.load_network("squeezenet1_1", weights=None, size=64), layers=["fire9", "pool10"])
    >>> found["pool10"].source, found["pool10"].by_channel.shape  # a unit a class, by the classifier's weights
    ('fire9', torch.Size([1000, 512]))
    >>> found["fire9"].weights.shape, found["fire9"].groups.unique().tolist()  # 1 x 1 and 3 x 3 beside each other
    (torch.Size([512, 576]), [0, 1])
    """
    module = network.module if isinstance(network, Network) else network
    space = network.space if space is None and isinstance(network, Network) else space
    assert space is not None
    assert space.size is not None
    parameters = [*module.parameters(), *module.buffers()]
    like = next((t.detach().flatten()[:0] for t in parameters if t.is_floating_point()), torch.empty(0))
    found: dict[str, Wiring] = {}
    with torch.no_grad(), evaluating(module):
        hooked = choose_outputs(network, module, space, like, layers, 1)
        follow = _Follow({t.untyped_storage().data_ptr() for t in parameters})

        def take(output: HookedOutput, features: Tensor) -> None:
            trace = follow.of(features)
            if trace.parts and len(trace.weights()) == features.shape[2 if features.ndim == 3 else 1]:
                found[output.name] = trace.wiring()
            follow.name(features, output.name)

        with follow:
            run_hooked(module, space, like.new_zeros(1, space.count, *space.size), hooked, take)
    return found


@dataclass(frozen=True)
class _Part:
    """Channels that one operation wrote: its number in the pass, the weights (c, inputs, places), and the layer that it reads."""

    number: int
    weights: Tensor
    source: str | None


@dataclass(frozen=True)
class _Trace:
    """What is known of a tensor: along which axis its channels lie, what wrote them, and the layer that it still has the channels of."""

    axis: int
    parts: tuple[_Part, ...] = ()
    layer: tuple[str, int] | None = None

    @property
    def latest(self) -> int:
        return max((p.number for p in self.parts), default=-1)

    def weights(self) -> Tensor:
        rows = [p.weights.flatten(1) for p in self.parts]
        width = max(r.shape[1] for r in rows)
        return torch.cat([nn.functional.pad(r, (0, width - r.shape[1])) for r in rows])

    def wiring(self) -> Wiring:
        groups = torch.cat([torch.full((len(p.weights),), k) for k, p in enumerate(self.parts)])
        sources = {p.source for p in self.parts}
        source = sources.pop() if len(sources) == 1 else None
        sums = None if source is None else torch.cat([p.weights.sum(dim=2) for p in self.parts])
        return Wiring(self.weights(), groups, source, sums)


class _Follow(Dispatched, TorchDispatchMode):
    """Notes of each tensor of a pass what wrote its channels. stored: where the network's parameters lie."""

    def __init__(self, stored: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._stored, self._count = stored, 0
        self._named: set[int] = set()
        self._known: dict[int, tuple[Tensor, _Trace]] = {}  # the tensors are held, so that no other gets their id

    def of(self, x: Tensor) -> _Trace:
        return self._known[id(x)][1] if id(x) in self._known else _Trace(2 if x.ndim == 3 else 1)

    def name(self, x: Tensor, layer: str) -> None:
        """From here on this tensor's channels are those of a layer; what hands on the same tensor, as dropout, is not another."""
        trace = self.of(x)
        if id(x) in self._named:
            return
        self._named.add(id(x))
        self._known[id(x)] = x, _Trace(trace.axis, trace.parts, (layer, x.shape[2 if x.ndim == 3 else 1]))

    def call(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        """Run an operation, and note what its output's channels are written by."""
        out = func(*args, **kwargs)
        first = out[0] if isinstance(out, (tuple, list)) and out else out
        if isinstance(first, Tensor):
            found = self._after(func.overloadpacket.__name__, args, first)
            if args and first is args[0]:  # changed in place, as by a ReLU: other values than those that had the layer's name
                self._named.discard(id(first))
            if found is not None:
                self._known[id(first)] = first, found
        return out

    def _after(self, name: str, args: Any, out: Tensor) -> _Trace | None:
        if name == "convolution" and not args[6] and self._own(args[1]):
            return self._written(args[0], _dense(args[1], args[8]), 1)
        if name in ("addmm", "mm") and self._own(args[-1]):
            return self._written(args[-2], args[-1].T[:, :, None], 1)
        if name == "cat":
            return self._joined(args[0], args[1] if len(args) > 1 else 0)
        if name in ("transpose", "permute", "t"):
            return self._turned(name, args)
        return self._kept(args, out) if name in _KEEP else None

    def _own(self, weights: Any) -> bool:
        return isinstance(weights, Tensor) and weights.untyped_storage().data_ptr() in self._stored

    def _written(self, x: Tensor, weights: Tensor, axis: int) -> _Trace:
        """By an operation with weights (c, inputs, places) that reads x."""
        self._count += 1
        layer = self.of(x).layer
        weights = weights.detach().float().cpu()
        if layer is not None and weights.shape[1] % layer[1] == 0:
            weights = weights.reshape(len(weights), layer[1], -1)  # a flattened map has the places of a channel beside each other
        return _Trace(axis, (_Part(self._count, weights, None if layer is None or weights.shape[1] != layer[1] else layer[0]),))

    def _joined(self, tensors: Sequence[Tensor], dim: int) -> _Trace | None:
        traces = [self.of(t) for t in tensors]
        axis = traces[0].axis
        if dim % tensors[0].ndim != axis or any(not t.parts or t.axis != axis for t in traces):
            return None
        return _Trace(axis, tuple(p for t in traces for p in t.parts))

    def _turned(self, name: str, args: Any) -> _Trace | None:
        x, trace = args[0], self.of(args[0])
        order = list(range(x.ndim))
        if name == "permute":
            order = [d % x.ndim for d in args[1]]
        elif x.ndim > 1:
            a, b = (0, 1) if name == "t" else (args[1] % x.ndim, args[2] % x.ndim)
            order[a], order[b] = order[b], order[a]
        return _Trace(order.index(trace.axis), trace.parts, trace.layer) if trace.axis in order else None

    def _kept(self, args: Any, out: Tensor) -> _Trace | None:
        """Of the tensors of the output's own size the one that was written last; a factor or a mean of another size only if alone."""
        tensors = [a for a in args if isinstance(a, Tensor) and id(a) in self._known]
        same = [t for t in tensors if t.shape == out.shape] or tensors[:1]
        for x in sorted(same, key=lambda t: self.of(t).latest, reverse=True):
            trace = self.of(x)
            axis, channels = trace.axis, x.shape[trace.axis]
            if axis < out.ndim and out.shape[: axis + 1] == x.shape[: axis + 1]:
                return trace
            if axis == x.ndim - 1 and out.shape[-1] == channels:  # views of tokens, and one token of many
                return _Trace(out.ndim - 1, trace.parts, trace.layer)
            if trace.layer is not None and axis == 1 and out.ndim == 2 and out.shape[1] == math.prod(x.shape[1:]):
                return _Trace(1, (), trace.layer)  # a flattened map
        return None


def _dense(weights: Tensor, groups: int) -> Tensor:
    """Weights (c, inputs of a group, …) of a convolution as (c, inputs, places), 0 where a unit takes nothing."""
    rows = weights.flatten(2)
    if groups == 1:
        return rows
    c, width, places = rows.shape
    full = rows.new_zeros(c, groups * width, places)
    for g in range(groups):
        mine = slice(g * c // groups, (g + 1) * c // groups)
        full[mine, g * width : (g + 1) * width] = rows[mine]
    return full
