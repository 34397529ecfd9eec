"""Diversity: a restart is pushed away from the images of those before it, which are given to it; samples of one run never meet."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..representations.base import Representation, features_of
from .losses import LOSSES, Loss
from .objectives import OBJECTIVES, Given, Objective
from .styles import channels_of, gram_of

_LEAST = 1e-12  # of a norm, so that features of zero are like nothing


@LOSSES.register("likeness")
@dataclass(frozen=True)
class Likeness(Loss):
    r"""Likeness of texture: :math:`\mathrm{mean}_j \langle G, G_j\rangle / (\|G\|\|G_j\|)`, :math:`G = F F^\top / n`; 1 for the same.

    features: (B, C, H, W), or tokens (B, T, D). target: one or n of them a sample, (1 or B, [n,] C, H, W) -> (B,); 0 where n is 0. Olah,
    Mordvintsev, Schubert, Feature Visualization, Distill 2017 take it between all images of a batch; here the others are given.

    >>> x = torch.rand(1, 3, 4, 4)
    >>> round(Likeness()(x, torch.stack([x, x.flip(-1)], dim=1)).item(), 3), Likeness()(x, x[:, None][:, :0]).item()
    (1.0, 0.0)
    """

    same_shape = False

    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        if target.numel() == 0:
            return (features * 0).flatten(1).sum(dim=1)
        target = target[:, None] if target.dim() == features.dim() else target
        own = _unit(gram_of(channels_of(features))[:, None])
        with torch.no_grad():
            others = _unit(_apart(gram_of(channels_of(target.flatten(0, 1))), target))
        values = (own * others).sum(dim=2).mean(dim=1)
        return values if scale is None else values / scale


def _apart(x: Tensor, like: Tensor) -> Tensor:
    """(B·n, ...) -> (B, n, ...), as in `like`."""
    return x.reshape(*like.shape[:2], *x.shape[1:])


def _unit(grams: Tensor) -> Tensor:
    """(B, n, C, C) -> (B, n, C·C) of norm 1."""
    flat = grams.flatten(2)
    return flat / flat.square().sum(dim=2, keepdim=True).clamp(min=_LEAST**2).sqrt()


@OBJECTIVES.register("diversity", examples=[{}, {"weight": 0.5}])
@dataclass(frozen=True)
class Diversity(Objective):
    """Be unlike the earlier restarts of the same request, in texture: the mean of cos(G, G_j) over their Gram matrices G_j.

    Restarts then run one after the other, each given the images before it; the first is as without it. It stands beside another
    objective, as `Activate() + 0.5 * Diversity("fire9")`. Source: Olah, Mordvintsev, Schubert, Feature Visualization, Distill 2017.
    """

    sequential = True

    @property
    def losses(self) -> tuple[str, ...]:
        return ("likeness",)

    def takes_divisor(self) -> bool:
        return False

    def bind(self, given: Given) -> tuple[Loss, Representation, Tensor]:
        phi = given.representation(self.of)
        if given.earlier is None or given.earlier.shape[1] == 0:
            return Likeness(), phi, given.like.new_zeros(1, 0)
        return Likeness(), phi, _apart(features_of(phi, given.earlier.flatten(0, 1)), given.earlier)
