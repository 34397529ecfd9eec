"""What is asked of features, as formulas: each ℓ(Φ, Φ0) takes features and a target and gives one number a sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import InputError
from ..registry import Registry

LOSSES: Registry[type[Loss]] = Registry("loss", see="docs/parts.md")


class Loss(ABC):
    """ℓ(Φ, Φ0): features and target (B, ...) -> (B,); sample b depends on sample b alone.

    One formula is enough: `__call__`. `scale` is the divisor, of the target alone, which a term computes once; `differentiate` saves
    the graph of the derivative where the derivative is known. revision: raised when the values change, so that stores compute anew.
    """

    revision: int = 1
    same_shape: bool = True  # whether features and target must have the same shape

    @abstractmethod
    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        """Return the values, (B,). scale: what `scale(target)` gave, where it is known already."""

    def scale(self, target: Tensor) -> Tensor:
        """Return the divisor of each sample, (B,); 1 where the formula has none."""
        return torch.ones(len(target), dtype=target.dtype, device=target.device)

    def differentiate(self, features: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values (B,), over this scale, and their gradients in the features (B, ...)."""
        with torch.enable_grad():
            leaf = features.detach().requires_grad_()
            values = self(leaf, target, torch.ones_like(scale)) / scale
            (slope,) = torch.autograd.grad(values.sum(), leaf)
        return values.detach(), slope


@dataclass(frozen=True)
class LossFunction(Loss):
    """A function (features, target) -> (B,) as a loss; see `as_loss`."""

    function: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        values = self.function(features, target)
        if not isinstance(values, Tensor) or values.shape != (len(features),):
            got = f"a tensor of shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise InputError(f"A loss gives one number a sample, a tensor of shape ({len(features)},) here; got {got}.")
        return values


def as_loss(loss: Loss | Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """Take a loss, or any function of features and target (B, ...) that gives (B,), as a `Loss`.

    >>> as_loss(lambda features, target: (features - target).abs().flatten(1).mean(dim=1))(torch.ones(2, 3), torch.zeros(2, 3))
    tensor([1., 1.])
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, type) or not callable(loss):
        raise InputError(f"A loss is an instance of Loss or a function (features, target) -> (B,); got {loss!r}.")
    return LossFunction(loss)


@LOSSES.register("euclidean", examples=[{}, {"normalise": False}])
@dataclass(frozen=True)
class Euclidean(Loss):
    r"""Inversion: :math:`\|M\odot(\Phi-\Phi_0)\|^2 / \|M\odot\Phi_0\|^2`, IJCV Eq. (4); nnpreimage.m's `l2`.

    features, target: (B, ...) -> (B,). mask M: 0 and 1 (or weights), broadcastable to one sample's features; None is all ones.
    normalise=False leaves the divisor out. A target that is zero under the mask raises InputError.
    nnpreimage.m weighs by M and not by M²: the same for masks of 0 and 1, and here M is squared as the formula says.

    >>> Euclidean()(torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 0.0]]))
    tensor([1.7778])
    """

    mask: Tensor | None = field(default=None, compare=False)
    normalise: bool = True

    def scale(self, target: Tensor) -> Tensor:
        if not self.normalise:
            return super().scale(target)
        scale = masked(self.mask, target).reshape(len(target), -1).square().sum(dim=1)
        if not bool((scale > 0).all()):
            raise InputError(
                "The target features are all zero under the mask: there is nothing to invert. "
                "Choose another layer, another mask, or another image."
            )
        return scale

    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        scale = self.scale(target) if scale is None else scale
        return _sum(masked(self.mask, features - target).square()) / scale

    def differentiate(self, features: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        apart = masked(self.mask, features - target)
        values = _sum(apart.square()) / scale
        return values, masked(self.mask, apart.mul_(_column(2.0 / scale, apart)))


@LOSSES.register("inner-product", examples=[{}, {"Z": 2.0}])
@dataclass(frozen=True)
class InnerProduct(Loss):
    r"""Activation maximization and caricature: :math:`-\langle M\odot\Phi, \Phi_0\rangle / Z`, IJCV Eq. (5); nnpreimage.m `inner`.

    features, target: (B, ...) -> (B,). Z: the divisor, one number or one a sample (B,); None is ‖M⊙Φ0‖², the caricature's.
    mask as in `Euclidean`. Raises InputError if Z is not above 0.

    >>> InnerProduct(Z=2.0)(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 1.0]]))
    tensor([-2.])
    """

    Z: float | Tensor | None = 1.0
    mask: Tensor | None = field(default=None, compare=False)

    def scale(self, target: Tensor) -> Tensor:
        if self.Z is None:
            scale = masked(self.mask, target).reshape(len(target), -1).square().sum(dim=1)
        else:
            scale = torch.as_tensor(self.Z, dtype=target.dtype, device=target.device).expand(len(target))
        if not bool((scale > 0).all()):
            raise InputError(
                f"The divisor Z of the inner product is {scale.min().item():g}; it must be above 0. For a caricature "
                "this says that no unit of the target is active: choose another layer, mask or image."
            )
        return scale

    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        scale = self.scale(target) if scale is None else scale
        return -_sum(masked(self.mask, features) * target) / scale

    def differentiate(self, features: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        gradient = (masked(self.mask, target) * _column(-1.0 / scale, target)).expand_as(features)
        return _sum(features * gradient), gradient


@LOSSES.register("cosine")
@dataclass(frozen=True)
class Cosine(Loss):
    r"""The angle between features: :math:`1 - \langle\Phi, \Phi_0\rangle / (\|\Phi\|\|\Phi_0\|)`, all units of a sample together.

    features, target: (B, ...) -> (B,), from 0 (the same direction) to 2. It does not see how strong features are. Features
    shorter than 1e-6 of the target's count as of that length. A target that is zero raises InputError.
    Source: Olah et al. 2017 (lucid's `dot_compare` without its power) and dreamlens; LPIPS compares in the same way, place by place.

    >>> Cosine()(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))
    tensor([0., 1.])
    """

    def scale(self, target: Tensor) -> Tensor:
        _nonzero(target, "has no direction")
        return super().scale(target)

    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        aim, length, _ = self._lengths(features, target)
        values = 1.0 - _sum(features * aim) / length
        return values if scale is None else values / scale

    def differentiate(self, features: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        aim, length, above = self._lengths(features, target)
        cosine = _sum(features * aim) / length
        along = torch.where(above, cosine / length, 0.0)
        slope = (features * _column(along, features) - aim) * _column(1.0 / (length * scale), features)
        return (1.0 - cosine) / scale, slope

    @staticmethod
    def _lengths(features: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The target's direction, the features' length, and whether that is the features' own."""
        square, aim = _sum(features.square()), _sum(target.square())
        floor = 1e-12 * aim
        return target / _column(aim.sqrt(), target), torch.maximum(square, floor).sqrt(), square > floor


@LOSSES.register("squared-norm", examples=[{}, {"normalise": False}])
@dataclass(frozen=True)
class SquaredNorm(Loss):
    r"""Excite whatever is excited: :math:`-\|\Phi\|^2 / \|\Phi_0\|^2`, DeepDream's objective (Mordvintsev, Olah, Tyka 2015).

    features, target: (B, ...) -> (B,). The target is a scale alone: the features of the image that the run begins with.
    normalise=False leaves the divisor out, as the original, which works with gradients of length 1. A zero target raises InputError.

    >>> SquaredNorm()(torch.tensor([[3.0, 4.0]]), torch.tensor([[5.0, 0.0]]))
    tensor([-1.])
    """

    normalise: bool = True
    same_shape = False  # the target is a scale alone, also for features of a smaller view

    def scale(self, target: Tensor) -> Tensor:
        return _nonzero(target, "is no scale") if self.normalise else super().scale(target)

    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        scale = self.scale(target) if scale is None else scale
        return -_sum(features.square()) / scale

    def differentiate(self, features: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        return -_sum(features.square()) / scale, features * _column(-2.0 / scale, features)


@LOSSES.register("cross-entropy")
@dataclass(frozen=True)
class CrossEntropy(Loss):
    r"""Have a class rather than all others: :math:`-\sum_k p_k \log\text{softmax}(\Phi)_k`, :math:`p = \Phi_0 / \sum\Phi_0`.

    features: (B, K) or (B, K, H, W), classes along the second dimension; target: the same, 1 at the wanted unit (or several, or weights
    of at least 0), else 0 -> (B,). In a map each place has a softmax of its own. Unlike `InnerProduct` it also lowers the other classes.
    A target with no weight, or one below 0, raises InputError.

    >>> CrossEntropy()(torch.zeros(1, 4), torch.tensor([[0.0, 1.0, 0.0, 0.0]])).exp()
    tensor([4.])
    """

    def scale(self, target: Tensor) -> Tensor:
        scale = _sum(target)
        if bool((target < 0).any()) or not bool((scale > 0).all()):
            raise InputError(
                "The target of a cross-entropy is a weight for each class, 0 or above and not all 0, as 1 for a unit; "
                f"got values from {target.min().item():g} to {target.max().item():g}."
            )
        return scale

    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        scale = self.scale(target) if scale is None else scale
        return -_sum(torch.log_softmax(features, dim=1) * target) / scale

    def differentiate(self, features: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        logs = torch.log_softmax(features, dim=1)
        slope = logs.exp() * target.sum(dim=1, keepdim=True) - target
        return -_sum(logs * target) / scale, slope * _column(1.0 / scale, slope)


def masked(mask: Tensor | None, features: Tensor) -> Tensor:
    """Return the features times the mask, itself where there is none."""
    return features if mask is None else features * mask.to(features)


def _sum(values: Tensor) -> Tensor:
    """Over all but the samples, (B, ...) -> (B,), in whatever order the memory has."""
    return values.sum(dim=tuple(range(1, values.dim()))) if values.dim() > 1 else values


def _column(weights: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, ...), to multiply (B, ...)."""
    return weights.view(-1, *[1] * (like.dim() - 1))


def _nonzero(target: Tensor, otherwise: str) -> Tensor:
    """The squared norms of targets, (B,), none of them 0."""
    scale = _sum(target.square())
    if not bool((scale > 0).all()):
        raise InputError(f"The target features are all zero, which {otherwise}. Choose another layer or another image.")
    return scale
