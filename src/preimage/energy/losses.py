"""What is asked of features, as formulas: each ℓ(Φ, Φ0) takes features and a target and gives one number a sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

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

    @abstractmethod
    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        """Return the values, (B,). scale: what `scale(target)` gave, where it is known already."""

    def scale(self, target: Tensor) -> Tensor:
        """Return the divisor of each sample, (B,); 1 where the formula has none."""
        return torch.ones(len(target), dtype=target.dtype, device=target.device)

    def differentiate(self, features: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values (B,) and their gradients in the features (B, ...)."""
        with torch.enable_grad():
            leaf = features.detach().requires_grad_()
            values = self(leaf, target, scale)
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


def masked(mask: Tensor | None, features: Tensor) -> Tensor:
    """Return the features times the mask, itself where there is none."""
    return features if mask is None else features * mask.to(features)


def _sum(values: Tensor) -> Tensor:
    """Over all but the samples, (B, ...) -> (B,), in whatever order the memory has."""
    return values.sum(dim=tuple(range(1, values.dim()))) if values.dim() > 1 else values


def _column(weights: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, ...), to multiply (B, ...)."""
    return weights.view(-1, *[1] * (like.dim() - 1))


LossLike = Any  # a Loss, or a function (features, target) -> (B,)
