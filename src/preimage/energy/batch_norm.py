"""The statistics that a network's own batch normalisation has kept of its training images, as a prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..representations.base import Representation, Wrapped, features_of
from .losses import Loss
from .objectives import OBJECTIVES, Given, Objective
from .styles import length

_KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def normalisations(module: nn.Module | None) -> list[Any]:
    """Return the batch normalisations in a module that have kept statistics of their training images; none for None.

    >>> len(normalisations(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4, track_running_stats=False))))
    1
    """
    return [] if module is None else [m for m in module.modules() if isinstance(m, _KINDS) and m.running_mean is not None]


class BatchNormInputs(Wrapped):
    """Means and variances over the places of what each batch normalisation on the way to a layer is given: (B, 2 ΣC).

    inner: the layer. Each sample has its own. Raises InputError where there is none that has kept statistics.
    """

    def __init__(self, inner: Representation) -> None:
        super().__init__(inner, name=f"normalisations up to {inner.name}", receptive_field=None)
        self._all = normalisations(inner.module)
        self.layers: list[Any] = []  # those that ran in the last pass, in their order
        if not self._all:
            raise InputError(
                f"{inner.name} has no batch normalisation with statistics before it, as DeepInversion needs: take another method."
            )

    def __call__(self, x: Tensor) -> Tensor:
        found: list[Tensor] = []
        self.layers = []

        def keep(layer: nn.Module, given: tuple[Any, ...]) -> None:
            places = given[0].flatten(2) if given[0].dim() > 2 else given[0].unsqueeze(2)
            found.extend((places.mean(dim=2), places.var(dim=2, correction=0)))
            self.layers.append(layer)

        handles = [m.register_forward_pre_hook(keep) for m in self._all]
        try:
            self.inner(x)
        finally:
            for handle in handles:
                handle.remove()
        if not found:
            raise InputError(f"No batch normalisation runs before {self.inner.name}: take a later layer, or another method.")
        return torch.cat(found, dim=1)


@dataclass(frozen=True)
class NormsOfParts(Loss):
    """Sum of the distances of the parts of a vector: Σ_l ‖Φ_l − Φ0_l‖. sizes: of the parts. An end of 1e-12 keeps its slope at zero.

    >>> NormsOfParts((2, 1))(torch.tensor([[3.0, 4.0, 2.0]]), torch.zeros(1, 3))
    tensor([7.])
    """

    sizes: tuple[int, ...]

    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        parts = torch.split(features - target, list(self.sizes), dim=1)
        values = torch.stack([length(p) for p in parts]).sum(dim=0)
        return values if scale is None else values / scale


@OBJECTIVES.register("batch-norm-statistics", examples=[])
@dataclass(frozen=True)
class BatchNormStatistics(Objective):
    r"""Have the statistics of the training images: :math:`\sum_l \|\mu_l - \hat\mu_l\| + \sum_l \|\sigma_l^2 - \hat\sigma_l^2\|`.

    μ, σ²: mean and variance of each channel over the places of what the l-th batch normalisation on the way to the layer is given; hats:
    what it has kept from training. Yin et al. 2020, Eq. (4), who take them over a batch of images; here each image has its own, so that
    samples stay apart. A network without batch normalisation is refused.
    """

    def takes_divisor(self) -> bool:
        return False

    def bind(self, given: Given) -> tuple[Loss, Representation, Tensor]:
        inner = given.representation(self.of)
        phi = BatchNormInputs(inner)
        features_of(phi, given.like.new_zeros(1, given.phi.space.count, *given.size))
        kept = [(layer.running_mean, layer.running_var) for layer in phi.layers]
        target = torch.cat([t for pair in kept for t in pair]).detach().to(given.like)[None]
        return NormsOfParts(tuple(len(t) for pair in kept for t in pair)), phi, target
