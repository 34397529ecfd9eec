"""A network that is one chain of layers, as Caffe's and MatConvNet's classic ones are: each layer a description that builds its module."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pair = tuple[int, int]  # rows, columns
Pads = tuple[int, int, int, int]  # top, bottom, left, right, as MatConvNet orders them


class Step(Protocol):
    """One layer of a chain. name: what its paper or file calls it."""

    @property
    def name(self) -> str: ...

    def build(self) -> nn.Module:
        """The module; parameters are not initialised."""


class Chain(nn.Module):
    """(B, C, H, W) -> scores (B, classes) where the last layer's map has one position, as on an image of the network's own size;
    else the map (B, classes, h, w). Each layer is a child under its name; its own output is always a map.

    >>> steps = [Conv("conv1", 3, 8, (3, 3)), ReLU("relu1"), Pool("pool1", "max", (2, 2), (2, 2))]
    >>> chain = Chain(steps)
    >>> [name for name, _ in chain.named_children()], tuple(chain(torch.zeros(2, 3, 4, 4)).shape)
    (['conv1', 'relu1', 'pool1'], (2, 8))
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__()
        for step in steps:
            self.add_module(step.name, step.build())

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x.flatten(1) if x.shape[2:] == (1, 1) else x


def initialise(module: nn.Module) -> nn.Module:
    """He et al. (2015) for every convolution, from torch's global generator: responses neither die nor explode behind ReLUs."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.reset_parameters()
    return module


def map_size(step: Step, size: Pair) -> Pair:
    """(rows, columns) of a layer's output for an input of this size; below 1 where its window does not fit.

    >>> map_size(Pool("pool1", "max", (3, 3), (2, 2), (0, 1, 0, 1)), (26, 27))
    (13, 13)
    """
    if not isinstance(step, (Conv, Pool)):
        return size
    dilation = step.dilation if isinstance(step, Conv) else (1, 1)
    top, bottom, left, right = step.pads
    padded = (size[0] + top + bottom, size[1] + left + right)
    rows, columns = ((n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(padded, step.kernel, step.stride, dilation, strict=True))
    return rows, columns


def differences(wanted: Sequence[Step], found: Sequence[Step], size: Pair) -> list[str]:
    """In words, what is different in a chain that should be another, for images of this size.

    >>> differences([Conv("conv1", 3, 8, (3, 3))], [Conv("conv1", 3, 9, (3, 3)), ReLU("relu1")], (8, 8))
    ["unexpected layer 'relu1'", "outputs of 'conv1' is 9 instead of 8"]
    """
    ours, theirs = ({s.name: s for s in chain if not isinstance(s, Dropout)} for chain in (wanted, found))
    wrong = [f"missing layer {n!r}" for n in ours if n not in theirs] + [f"unexpected layer {n!r}" for n in theirs if n not in ours]
    if not wrong and list(ours) != list(theirs):
        wrong.append(f"the layers come as {', '.join(theirs)}")
    sides = {id(s): out for chain in (wanted, found) for s, out in _sizes(chain, size)}
    for name, a in ours.items():
        b = theirs.get(name, a)
        if type(a) is not type(b):
            wrong.append(f"{name!r} is {type(b).__name__} instead of {type(a).__name__}")
            continue
        for f in fields(a):  # type: ignore[arg-type]
            old, new = getattr(a, f.name), getattr(b, f.name)
            same_map = f.name == "pads" and old[::2] == new[::2] and sides[id(a)] == sides[id(b)]
            close = isinstance(old, float) and math.isclose(old, new, rel_tol=1e-5)  # numbers were kept in single precision
            if old != new and not same_map and not close:
                wrong.append(f"{f.name} of {name!r} is {new} instead of {old}")
    return wrong


@dataclass(frozen=True)
class Conv:
    """A convolution (as everywhere, a correlation) with a bias."""

    name: str
    inputs: int
    outputs: int
    kernel: Pair
    stride: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    groups: int = 1
    dilation: Pair = (1, 1)

    @property
    def even(self) -> bool:
        return self.pads[0] == self.pads[1] and self.pads[2] == self.pads[3]

    @property
    def inside(self) -> str:
        """Where the weights are in a chain."""
        return self.name if self.even else f"{self.name}.conv"

    def build(self) -> nn.Module:
        top, bottom, left, right = self.pads
        conv: nn.Module = nn.utils.skip_init(  # type: ignore[no-untyped-call]  # no initialisation here: that of a fully connected layer takes seconds
            nn.Conv2d,
            self.inputs,
            self.outputs,
            self.kernel,
            self.stride,
            (top, left) if self.even else 0,
            self.dilation,
            self.groups,
        )
        return conv if self.even else nn.Sequential(OrderedDict(pad=nn.ZeroPad2d((left, right, top, bottom)), conv=conv))


@dataclass(frozen=True)
class Pool:
    """Max or average pooling. Padding never wins a maximum and never counts in an average.

    pads (0, stride-1, 0, stride-1) are Caffe's rule, that the last window may hang over the edge: torch's ceil_mode.
    """

    name: str
    method: str
    kernel: Pair
    stride: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)

    def build(self) -> nn.Module:
        if self.method == "avg":
            return AveragePool(self.kernel, self.stride, self.pads)
        (kh, kw), (sh, sw), (top, bottom, left, right) = self.kernel, self.stride, self.pads
        if (top, bottom, left, right) == (0, sh - 1, 0, sw - 1):
            return nn.MaxPool2d(self.kernel, self.stride, ceil_mode=True)
        if top == bottom and left == right and 2 * top <= kh and 2 * left <= kw:  # torch takes no more
            return nn.MaxPool2d(self.kernel, self.stride, (top, left))
        return MaxPool(self.kernel, self.stride, self.pads)


@dataclass(frozen=True)
class Norm:
    r"""Local response normalisation, :math:`y_k = x_k (\kappa + \alpha' \sum_{j=k-m}^{k+n} x_j^2)^{-\beta}` over the `size` channels
    around k: m = ⌊(size-1)/2⌋ before it and the rest after it. alpha is α', for each square; Caffe's and torch's is size·α'.
    """

    name: str
    size: int
    kappa: float
    alpha: float
    beta: float

    def build(self) -> nn.Module:
        return CrossChannelNorm(self.size, self.kappa, self.alpha, self.beta)


@dataclass(frozen=True)
class ReLU:
    name: str
    leak: float = 0.0

    def build(self) -> nn.Module:
        return nn.LeakyReLU(self.leak) if self.leak else nn.ReLU()


@dataclass(frozen=True)
class Sigmoid:
    name: str

    def build(self) -> nn.Module:
        return nn.Sigmoid()


@dataclass(frozen=True)
class Dropout:
    name: str
    rate: float = 0.5

    def build(self) -> nn.Module:
        return nn.Dropout(self.rate)


@dataclass(frozen=True)
class BatchNorm:
    name: str
    channels: int

    def build(self) -> nn.Module:
        return nn.BatchNorm2d(self.channels, eps=0.0)


@dataclass(frozen=True)
class Softmax:
    """Over the channels, at each position."""

    name: str

    def build(self) -> nn.Module:
        return nn.Softmax(dim=1)


class CrossChannelNorm(nn.Module):
    """See `Norm`. (B, C, H, W) -> the same. Shifted sums: twice as fast on a CPU as torch's, and even sizes as in MatConvNet.

    >>> x = torch.randn(1, 8, 2, 2)
    >>> torch.allclose(CrossChannelNorm(5, 1.0, 2e-5, 0.75)(x), nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0)(x))
    True
    """

    def __init__(self, size: int, kappa: float, alpha: float, beta: float) -> None:
        super().__init__()
        self.size, self.kappa, self.alpha, self.beta = size, kappa, alpha, beta

    def extra_repr(self) -> str:
        return f"size={self.size}, kappa={self.kappa:g}, alpha={self.alpha:g}, beta={self.beta:g}"

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        before = min((self.size - 1) // 2, channels - 1)
        after = min(self.size - 1 - (self.size - 1) // 2, channels - 1)
        squares = F.pad(x.square(), (0, 0, 0, 0, before, after))
        total = squares[:, :channels]
        for k in range(1, before + after + 1):
            total = total + squares[:, k : k + channels]
        return x * (self.kappa + self.alpha * total).pow(-self.beta)


class _Windows(nn.Module):
    """Pooling with padding of its own on each side."""

    def __init__(self, kernel: Pair, stride: Pair, pads: Pads) -> None:
        super().__init__()
        self.kernel, self.stride, self.pads = kernel, stride, pads

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}, stride={self.stride}, pads={self.pads}"

    def padded(self, x: Tensor, value: float) -> Tensor:
        top, bottom, left, right = self.pads
        return F.pad(x, (left, right, top, bottom), value=value)


class MaxPool(_Windows):
    """The largest value in each window; padding never is."""

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(self.padded(x, -torch.inf), self.kernel, self.stride)


class AveragePool(_Windows):
    """The mean over the part of each window that lies on the map."""

    def forward(self, x: Tensor) -> Tensor:
        total, count = (
            F.avg_pool2d(self.padded(t, 0.0), self.kernel, self.stride, divisor_override=1) for t in (x, torch.ones_like(x[:1, :1]))
        )
        return total / count


def _sizes(chain: Sequence[Step], size: Pair) -> list[tuple[Step, Pair]]:
    out = []
    for step in chain:
        size = map_size(step, size)
        out.append((step, size))
    return out
