"""One class against those most like it: the margin, which images of a class need so that other networks tell it from its relatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, whole
from ..representations.base import Representation
from ..representations.units import unit_targets
from .losses import LOSSES, Loss
from .objectives import OBJECTIVES, Given, Objective


@LOSSES.register("margin", examples=[{}, {"share": 1.0, "rivals": 1}])
@dataclass(frozen=True)
class Margin(Loss):
    r"""A class against its rivals: :math:`-\left(l_c - s \cdot \frac1k \sum_{r \in R_k} l_r\right) / Z`, R_k the k largest others.

    features, target: (B, C[, h, w]) -> (B,). l is the mean of each channel over its map; the target is 1 in the channel wanted and 0 in
    all others (over a map, 1 in sum), and may have another number of places than the features. Which channels are rivals is found anew
    for each image. Give scores before any ReLU or softmax: those have no slope left where a rival is off or the class is certain.

    Parameters
    ----------
    share : float, default 0.5
        The rivals' weight s; 0 is the score alone.
    rivals : int, default 10
        How many, k; at most all others.
    Z : float, default 20
        The divisor.

    Raises
    ------
    InputError
        For a negative share, no rivals, a divisor that is not above 0, or features of one channel.

    Examples
    --------
    >>> Margin(share=0.5, rivals=2, Z=1.0)(torch.tensor([[7.0, 4.0, 2.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
    tensor([-5.5000])
    """

    share: float = 0.5
    rivals: int = 10
    Z: float = 20.0
    same_shape = False  # the means over the maps are compared
    revision = 2

    def __post_init__(self) -> None:
        whole("rivals", self.rivals, 1)
        if not (0 <= self.share < float("inf") and 0 < self.Z < float("inf")):
            raise InputError(f"A margin has a share of at least 0 and a divisor Z above 0; got share {self.share}, Z {self.Z}.")

    def scale(self, target: Tensor) -> Tensor:
        return torch.full((len(target),), self.Z, dtype=target.dtype, device=target.device)

    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        scores, wanted = _pooled(features.flatten(2).mean(dim=2) if features.dim() > 2 else features, target)
        return -margin(scores, wanted, self.share, self.rivals) / (self.scale(target) if scale is None else scale)


def margin(scores: Tensor, weights: Tensor, share: float, rivals: int) -> Tensor:
    """Return by how much the scores (B, C) with weights are above the largest of the others, of which the mean counts by its share: (B,).

    >>> margin(torch.tensor([[7.0, 4.0, 2.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.0, 0.0]]), 0.5, 2)
    tensor([5.5000])
    """
    others = scores.masked_fill(weights > 0, -torch.inf)
    best = others.topk(min(rivals, scores.shape[1] - 1), dim=1).values
    found = torch.isfinite(best)  # fewer where several channels have a weight, none where all have
    mean = torch.where(found, best, 0.0).sum(dim=1) / found.sum(dim=1).clamp(min=1)
    return (scores * weights).sum(dim=1) - share * mean


def _pooled(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The scores (B, C) and the target as ones and zeros (B, C)."""
    wanted = target.flatten(2).sum(dim=2) if target.dim() > 2 else target
    if scores.dim() != 2 or scores.shape[1] < 2:
        raise InputError(f"A margin is between channels; got features of shape {tuple(scores.shape)}.")
    return scores, (wanted > 0).to(scores).expand_as(scores)


@OBJECTIVES.register("distinguish", examples=[{"unit": 1}])
@dataclass(frozen=True)
class Distinguish(Objective):
    """Excite a class more than those most like it: `Margin` of the means over the map.

    unit : number, class name or None
        The class; default what the task was asked for, by the scores of its network before any ReLU where the network says which these are.
    share, rivals, Z : as of `Margin`.
    """

    unit: Any = None
    share: float = 0.5
    rivals: int = 10
    Z: float = 20.0

    @property
    def losses(self) -> tuple[str, ...]:
        return ("margin",)

    def takes_divisor(self) -> bool:
        return False

    def bind(self, given: Given) -> tuple[Loss, Representation, Tensor]:
        phi = given.representation(self.of)
        loss = Margin(self.share, self.rivals, self.Z)
        if self.unit is not None:
            return loss, phi, unit_targets(phi, [self.unit], given.size, True, given.like)[0]
        if given.main is None or self.of is not None:
            raise InputError("Distinguish needs a unit=…, as its representation is not the task's own.")
        return loss, given.scores or phi, given.main[1]
