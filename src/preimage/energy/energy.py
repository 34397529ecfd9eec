"""The one energy: E(x) = C·ℓ(Φ(jitter(x)), Φ0) + Σ regularizers, per sample and per term."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..errors import InputError, first_line
from .regularizers import AlphaNorm, Jitter, Regularizer, TVBeta, add_gradient


class Loss(Protocol):
    """ℓ(Φ, Φ0): features and target (B, ...) -> (B,). `scale(target)` is the divisor, which the energy computes once.

    One that also has `differentiate` (see `DifferentiatedLoss`) saves the energy the graph of its derivative.
    """

    def scale(self, target: Tensor) -> Tensor: ...

    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor: ...


@runtime_checkable
class DifferentiatedLoss(Protocol):
    """A loss that knows its derivative: features, target (B, ...), scale (B,) -> values (B,), gradients in the features (B, ...)."""

    def differentiate(self, features: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]: ...


@runtime_checkable
class OfSamples(Protocol):
    """A regularizer that holds something of each sample, as an image that it is to be near: it gives that of some of the samples."""

    def part(self, samples: slice) -> Regularizer: ...


@dataclass(frozen=True)
class Euclidean:
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
            return torch.ones(len(target), dtype=target.dtype, device=target.device)
        scale = _masked(self.mask, target).reshape(len(target), -1).square().sum(dim=1)
        if not bool((scale > 0).all()):
            raise InputError(
                "The target features are all zero under the mask: there is nothing to invert. "
                "Choose another layer, another mask, or another image."
            )
        return scale

    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        scale = self.scale(target) if scale is None else scale
        return _sum(_masked(self.mask, features - target).square()) / scale

    def differentiate(self, features: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Values (B,) and gradients in the features (B, ...)."""
        apart = _masked(self.mask, features - target)
        values = _sum(apart.square()) / scale
        return values, _masked(self.mask, apart.mul_(_column(2.0 / scale, apart)))


@dataclass(frozen=True)
class InnerProduct:
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
            scale = _masked(self.mask, target).reshape(len(target), -1).square().sum(dim=1)
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
        return -_sum(_masked(self.mask, features) * target) / scale

    def differentiate(self, features: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Values (B,) and gradients in the features (B, ...)."""
        gradient = (_masked(self.mask, target) * _column(-1.0 / scale, target)).expand_as(features)
        return _sum(features * gradient), gradient


class Energy:
    r"""E(x) = C·ℓ(Φ(x), Φ0) + R_α(x) + R_TVβ(x): a function from canonical images to a dict of (B,) terms.

    phi: representation, canonical (B, C, H, W) -> (B, ...). phi0: the target features, one a sample or one for all (1, ...).
    C: weight of the loss, above 0. regularizers: by name; their values are added as they are. quick: what stands for phi where
    gradients are taken, as one in a lower precision.
    "loss" includes C. Sample b of every term depends on x[b] alone.

    >>> energy = Energy(Euclidean(), lambda x: 2 * x, torch.full((1, 1, 2, 2), 8.0), C=10.0)
    >>> {k: v.tolist() for k, v in energy(torch.full((2, 1, 2, 2), 4.0)).items()}["loss"]
    [0.0, 0.0]
    """

    def __init__(
        self,
        loss: Loss,
        phi: Callable[[Tensor], Tensor],
        phi0: Tensor,
        C: float = 100.0,
        regularizers: Mapping[str, Regularizer] | None = None,
        quick: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        if not (C > 0 and math.isfinite(C)):
            raise InputError(f"C is the weight of the loss, a number above 0; got {C!r}. The paper uses 1 to 300, and 100 by default.")
        self.loss, self.phi, self.phi0, self.C, self.quick = loss, phi, phi0, float(C), quick
        paper: dict[str, Regularizer] = {"alpha-norm": AlphaNorm(), "tv-beta": TVBeta()}
        self.regularizers = paper if regularizers is None else dict(regularizers)
        if taken := {"loss", "total"} & set(self.regularizers):
            raise InputError(f"A regularizer cannot be called {sorted(taken)}: the energy has these names itself.")
        self._weight = self.C / loss.scale(phi0)
        self._one = torch.ones((), dtype=self._weight.dtype, device=self._weight.device)

    @property
    def terms(self) -> tuple[str, ...]:
        """The names of the terms in their order: "loss", then the regularizers."""
        return "loss", *self.regularizers

    def __call__(self, x: Tensor, jitter: Jitter | None = None, offsets: Sequence[tuple[int, int]] = ()) -> dict[str, Tensor]:
        """Terms at x. With a jitter, Φ sees the windows at `offsets` and the regularizers see all of x."""
        loss = self._loss(x if jitter is None else jitter(x, offsets))
        return {"loss": loss} | {name: regularizer(x) for name, regularizer in self.regularizers.items()}

    def differentiate(
        self, x: Tensor, jitter: Jitter | None = None, offsets: Sequence[tuple[int, int]] = ()
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Terms as `__call__` gives them, the gradient of their sum (B, C, H, W), and the loss's part of it, in Φ's window of x.

        Only Φ, the loss and regularizers that do not know their derivative have a graph, which ends with the call.
        """
        window = (x if jitter is None else jitter(x, offsets)).detach().requires_grad_()
        loss, seen = self._differentiate_loss(window)
        if jitter is None:
            gradient = seen.clone(memory_format=torch.contiguous_format)
        else:
            gradient = torch.zeros_like(x)
            jitter.add(gradient, seen, offsets)
        terms = {"loss": loss} | {name: add_gradient(regularizer, x, gradient) for name, regularizer in self.regularizers.items()}
        return terms, gradient, seen

    def part(self, samples: slice) -> Energy:
        """The energy of some of the samples."""
        out = copy.copy(self)
        out.regularizers = {n: r.part(samples) if isinstance(r, OfSamples) else r for n, r in self.regularizers.items()}
        if len(self.phi0) > 1:
            out.phi0, out._weight = self.phi0[samples], self._weight[samples]
        return out

    def _loss(self, window: Tensor) -> Tensor:
        return self.loss(self._features(window, self.phi), self.phi0, self._one) * self._weight

    def _differentiate_loss(self, window: Tensor) -> tuple[Tensor, Tensor]:
        """C·ℓ (B,) and its gradient in the window; without a graph of ℓ where ℓ knows its derivative."""
        features = self._features(window, self.quick or self.phi)
        if isinstance(self.loss, DifferentiatedLoss):
            with torch.no_grad():
                values, slope = self.loss.differentiate(features, self.phi0, (1.0 / self._weight).expand(len(features)))
        else:
            leaf = features.detach().requires_grad_()
            values = self.loss(leaf, self.phi0, self._one) * self._weight
            (slope,) = torch.autograd.grad(values.sum(), leaf)
        try:
            (seen,) = torch.autograd.grad(features, window, slope)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # whatever autograd says of a graph that does not lead back to the image
            raise InputError(
                f"{self.phi!r} has no derivative in the image that can be taken ({first_line(error)}). Take out what cuts the way "
                "(detach, torch.no_grad, reentrant checkpoints, writing in place), or take an earlier layer."
            ) from error
        return values.detach(), seen

    def _features(self, window: Tensor, phi: Callable[[Tensor], Tensor]) -> Tensor:
        """Φ(window), checked against the target, which takes its memory format."""
        features = phi(window)
        if features.shape[1:] != self.phi0.shape[1:]:
            raise InputError(
                f"Φ(x) has shape {tuple(features.shape[1:])} and the target {tuple(self.phi0.shape[1:])}: "
                "the canvas and the target do not belong together."
            )
        if features.dim() == 4 and features.stride()[1] == 1 and self.phi0.stride()[1] != 1:
            self.phi0 = self.phi0.contiguous(memory_format=torch.channels_last)
        return features


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """The sum of the terms, (B,)."""
    return torch.stack(list(terms.values())).sum(dim=0)


def _masked(mask: Tensor | None, features: Tensor) -> Tensor:
    return features if mask is None else features * mask.to(features)


def _sum(values: Tensor) -> Tensor:
    """Over all but the samples, (B, ...) -> (B,), in whatever order the memory has."""
    return values.sum(dim=tuple(range(1, values.dim()))) if values.dim() > 1 else values


def _column(weights: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, ...), to multiply (B, ...)."""
    return weights.view(-1, *[1] * (like.dim() - 1))
