"""A class by its score alone, or by its probability, wherever in the image it is seen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..representations.base import Representation
from .losses import LOSSES, InnerProduct, Loss
from .margin import Margin
from .objectives import OBJECTIVES, Given, Objective


@LOSSES.register("log-probability")
@dataclass(frozen=True)
class LogProbability(Loss):
    r"""A class against all others: :math:`-\log\text{softmax}(l)_c`, l the mean of each channel over its map.

    features, target: (B, C[, h, w]) -> (B,). The target is above 0 in the channel wanted and 0 in all others, and may have another number
    of places than the features; where several are wanted their probabilities are added. Give scores before any softmax. Unlike
    `CrossEntropy`, whose every place has a softmax of its own, the whole image has one.

    >>> LogProbability()(torch.zeros(1, 4), torch.tensor([[0.0, 1.0, 0.0, 0.0]])).exp()
    tensor([4.])
    """

    same_shape = False  # the means over the maps are compared

    def scale(self, target: Tensor) -> Tensor:
        wanted = target.flatten(1)
        if bool((wanted < 0).any()) or not bool((wanted > 0).any(dim=1).all()):
            raise InputError("A probability is of a class: the target is above 0 for it, and 0 for all others; a direction has none.")
        return super().scale(target)

    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        scores = features.flatten(2).mean(dim=2) if features.dim() > 2 else features
        wanted = (target.flatten(2).sum(dim=2) if target.dim() > 2 else target) > 0
        if scores.dim() != 2 or scores.shape[1] < 2:
            raise InputError(f"A probability is of one among several channels; got features of shape {tuple(features.shape)}.")
        logs = torch.log_softmax(scores, dim=1).masked_fill(~wanted, -torch.inf)
        values = -torch.logsumexp(logs, dim=1)
        return values if scale is None else values / scale


@OBJECTIVES.register("score")
@dataclass(frozen=True)
class Score(Objective):
    """Excite what the task was asked for, a class by its score before any ReLU or softmax: −l_c/Z, l the mean over the map.

    Any other unit is excited as it is, −⟨Φ(x), e⟩/Z at the centre of its map. Z : number above 0
    """

    Z: float = 1.0

    @property
    def losses(self) -> tuple[str, ...]:
        return "margin", "inner-product"

    def takes_divisor(self) -> bool:
        return False

    def bind(self, given: Given) -> tuple[Loss, Representation, Tensor]:
        if given.main is None or self.of is not None:
            raise InputError("Score is about what the task was asked for: leave of= out, or take activate:unit=….")
        if given.scores is not None and _is_class(given.main[1]):
            return Margin(share=0.0, Z=self.Z), given.scores, given.main[1]
        return InnerProduct(self.Z), given.representation(None), given.main[1]


@OBJECTIVES.register("probability")
@dataclass(frozen=True)
class Probability(Objective):
    """Make the class that the task was asked for probable: −log softmax(l)_c, l the scores' means over the map."""

    @property
    def losses(self) -> tuple[str, ...]:
        return ("log-probability",)

    def takes_divisor(self) -> bool:
        return False

    def bind(self, given: Given) -> tuple[Loss, Representation, Tensor]:
        if given.main is None or self.of is not None:
            raise InputError("Probability is about the class that the task was asked for: leave of= out.")
        return LogProbability(), given.scores or given.representation(None), given.main[1]


def _is_class(target: Tensor) -> bool:
    """Whether each sample wants one channel."""
    channels = target.flatten(2).abs().sum(dim=2) if target.dim() > 2 else target
    return bool(((channels > 0).sum(dim=1) == 1).all() and (target >= 0).all())
