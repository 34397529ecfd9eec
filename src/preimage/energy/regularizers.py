"""What makes a pre-image natural: bounded range, bounded variation, and a bound on each pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..registry import Registry


class Regularizer(Protocol):
    """x canonical (B, C, H, W) -> (B,), no unit; differentiable; sample b depends on x[b] alone.

    A class of your own need not be a subclass; where it is one, type checkers know a dictionary of several as what it is.
    One that also has `add_gradient` (see `Differentiated`) saves the energy the graph of its derivative.
    """

    def __call__(self, x: Tensor) -> Tensor: ...


@runtime_checkable
class Differentiated(Protocol):
    """A regularizer that knows its derivative and so needs no graph."""

    def add_gradient(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Values at x (B, C, H, W) -> (B,); adds their gradients to `gradient` (B, C, H, W), in place."""


@runtime_checkable
class OfSamples(Protocol):
    """A regularizer that holds something of each sample, as an image that it is to be near: it gives that of some of the samples."""

    def part(self, samples: slice) -> Regularizer: ...


@runtime_checkable
class OfStart(Protocol):
    """A regularizer that speaks of the image which a run begins with, and is told by the task what that is."""

    def begin(self, x: Tensor) -> Regularizer: ...


def add_gradient(regularizer: Regularizer, x: Tensor, gradient: Tensor) -> Tensor:
    """Values (B,) of any regularizer, whose gradients at x are added to `gradient`, in place; in closed form where it has one."""
    if isinstance(regularizer, Differentiated):
        return regularizer.add_gradient(x, gradient)
    leaf = x.detach().requires_grad_()
    values = regularizer(leaf)
    gradient += torch.autograd.grad(values.sum(), leaf)[0]
    return values.detach()


REGULARIZERS: Registry[type] = Registry("regularizer", see="docs/parts.md")


@REGULARIZERS.register("alpha-norm", examples=[{"alpha": 6.0}, {"alpha": 1.0}, {"alpha": 3.0, "B": 40.0}])
@dataclass(frozen=True)
class AlphaNorm(Regularizer):
    r"""Bounded range :math:`R_\alpha(x) = \frac{1}{HWB^\alpha}\sum_{uv}(\sum_k x_{uvk}^2)^{\alpha/2}`, IJCV Sect. 3.3.

    x: (B, C, H, W) grey levels less the mean -> (B,). B is a typical colour norm in grey levels: a pixel of norm B counts 1; it is one
    of colours (and of grey pictures, as in the paper's), and of N other channels B·√(N/3).
    H·W is the size of x itself, jitter border included, as in nnpreimage.m. Below alpha = 2 pixels of norm under 1e-6 count 0.
    Raises InputError unless alpha >= 1 and B > 0.

    >>> AlphaNorm()(torch.full((2, 1, 8, 8), 80.0))
    tensor([1., 1.])
    """

    alpha: float = 6.0
    B: float = 80.0

    def __post_init__(self) -> None:
        _at_least("alpha", self.alpha, 1.0)
        check_positive("B", self.B)

    def __call__(self, x: Tensor) -> Tensor:
        return _power(self._square(x), self.alpha / 2, self._floor).mean(dim=(1, 2))

    def add_gradient(self, x: Tensor, gradient: Tensor) -> Tensor:
        """See `Differentiated`: the formula and its derivative."""
        square = self._square(x)
        slope = _slope(square, self.alpha / 2, self._floor)
        values = square.mul_(slope).mean(dim=(1, 2)) / (self.alpha / 2)
        gradient.addcmul_(x, slope.mul_(2 / (self.B**2 * colours(x) * slope[0].numel())).unsqueeze(1))
        return values

    def _square(self, x: Tensor) -> Tensor:
        return squared_norm(x).squeeze(1).div_(self.B**2 * colours(x))

    @property
    def _floor(self) -> float:
        return 1e-12 / self.B**2


@REGULARIZERS.register("tv-beta", examples=[{"beta": 1.0}, {"beta": 1.5}, {"beta": 2.0}, {"beta": 3.0, "V": 5.0}])
@dataclass(frozen=True)
class TVBeta(Regularizer):
    r"""Bounded variation :math:`R_{TV^\beta}(x) = \frac{1}{HWV^\beta}\sum_{uvk}(\Delta_v^2+\Delta_h^2)^{\beta/2}`, IJCV Sect. 3.3.

    x: (B, C, H, W) grey levels -> (B,). V is a typical gradient norm in grey levels a pixel; each channel by itself; the last
    row and column have no outgoing difference, as in layers/tv.m. Where beta < 2 the derivative is unbounded at a flat pixel:
    tv.m floors a factor of it, here differences under 1e-6 grey levels count as 0 (the values differ by less than 1e-6).
    Raises InputError unless beta >= 1 and V > 0.

    >>> TVBeta()(torch.full((2, 3, 8, 8), 40.0))
    tensor([0., 0.])
    """

    beta: float = 2.0
    V: float = 80.0 / 6.5

    def __post_init__(self) -> None:
        _at_least("beta", self.beta, 1.0)
        check_positive("V", self.V)

    def __call__(self, x: Tensor) -> Tensor:
        dv, dh = torch.diff(x, dim=2), torch.diff(x, dim=3)
        if self.beta == 2:
            return (_square_sum(dv) + _square_sum(dh)) / (self.V**2 * _pixels(x))
        return _power(_joined(dv, dh) / self.V**2, self.beta / 2, self._floor).sum(dim=(1, 2, 3)) / _pixels(x)

    def add_gradient(self, x: Tensor, gradient: Tensor) -> Tensor:
        """See `Differentiated`: the formula and its derivative."""
        each = 2 / (self.V**2 * _pixels(x))
        if self.beta == 2:
            values = torch.zeros_like(x[:, 0, 0, 0])
            for axis in (2, 3):
                d = torch.diff(x, dim=axis)
                values += _square_sum(d)
                _add_back(gradient, d, axis, each)
            return values / (self.V**2 * _pixels(x))
        dv, dh = torch.diff(x, dim=2), torch.diff(x, dim=3)
        square = _joined(dv, dh).div_(self.V**2)
        slope = _slope(square, self.beta / 2, self._floor)
        _add_back(gradient, dv.mul_(slope[..., :-1, :]), 2, each)
        _add_back(gradient, dh.mul_(slope[..., :-1]), 3, each)
        return _power(square, self.beta / 2, self._floor).sum(dim=(1, 2, 3)) / _pixels(x)

    @property
    def _floor(self) -> float:
        return 1e-12 / self.V**2


@dataclass(frozen=True)
class PixelBall:
    r"""The bound :math:`\|x(u,v)\|_2 \le B_+` on every pixel's colour norm, by projection after each step (IJCV Sect. 3.3).

    radius: B₊ in grey levels, the paper's 160; infinity for no bound. x (B, C, H, W) -> the same shape. Of N channels that are
    neither colours nor grey it is B₊·√(N/3).

    >>> PixelBall(160)(torch.full((1, 1, 1, 2), 300.0)).round()
    tensor([[[[160., 160.]]]])
    """

    radius: float = 160.0

    def __post_init__(self) -> None:
        check_positive("radius", self.radius)

    def __call__(self, x: Tensor) -> Tensor:
        if math.isinf(self.radius):
            return x
        radius = self.radius * math.sqrt(colours(x))
        return x * (radius / squared_norm(x).sqrt().clamp(min=radius))


def colours(x: Tensor) -> float:
    """How many times the three channels of a colour x (B, C, H, W) has; 1 for grey, whose B and bound the paper left as they are.

    >>> colours(torch.zeros(1, 3, 2, 2)), colours(torch.zeros(1, 12, 2, 2))
    (1.0, 4.0)
    """
    return 1.0 if x.shape[1] in (1, 3) else x.shape[1] / 3


def squared_norm(x: Tensor) -> Tensor:
    """Of each pixel's colour: (B, C, H, W) -> (B, 1, H, W). For few channels some whole-image sums are faster than one over channels.

    >>> squared_norm(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)).item()
    25.0
    """
    if x.shape[1] > 4:
        return x.square().sum(dim=1, keepdim=True)
    out = x[:, :1].square()
    for k in range(1, x.shape[1]):
        out.addcmul_(x[:, k : k + 1], x[:, k : k + 1])
    return out


def _pixels(x: Tensor) -> float:
    """H·W; of N channels that are no colours as many times more as N is three, so that the sum over k weighs as that over colours."""
    return x.shape[-2] * x.shape[-1] * colours(x)


def _square_sum(x: Tensor) -> Tensor:
    return x.square().sum(dim=(1, 2, 3))


def _add_back(gradient: Tensor, differences: Tensor, axis: int, weight: float) -> None:
    """Add the adjoint of `torch.diff` along an axis times a weight."""
    n = differences.shape[axis]
    gradient.narrow(axis, 1, n).add_(differences, alpha=weight)
    gradient.narrow(axis, 0, n).sub_(differences, alpha=weight)


def _joined(dv: Tensor, dh: Tensor) -> Tensor:
    """Squared length of each pixel's gradient; the last row and column have no outgoing difference."""
    return F.pad(dv.square(), (0, 0, 0, 1)) + F.pad(dh.square(), (0, 1))


def _power(square: Tensor, exponent: float, floor: float) -> Tensor:
    """square ** exponent; below exponent 1, where the derivative is infinite at 0, values up to the floor give 0."""
    if exponent == 1:
        return square
    if exponent > 1:
        return square.pow(exponent)
    return torch.where(square > floor, square.clamp(min=floor).pow(exponent), 0.0)


def _slope(square: Tensor, exponent: float, floor: float) -> Tensor:
    """The derivative of `_power`."""
    if exponent == 1:
        return torch.ones_like(square)
    if exponent > 1:
        return square.pow(exponent - 1).mul_(exponent)
    return torch.where(square > floor, square.clamp(min=floor).pow(exponent - 1) * exponent, 0.0)


def _at_least(name: str, value: float, least: float) -> None:
    if not (math.isfinite(value) and value >= least):
        raise InputError(f"{name} is a number of at least {least:g}; got {value!r}")


def check_positive(name: str, value: float) -> None:
    """Raise InputError unless a setting is above 0."""
    if not value > 0:
        raise InputError(f"{name} is a number above 0; got {value!r}")
