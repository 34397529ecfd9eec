"""What an image shows of the features of a guide, wherever the guide has them: guided DeepDream."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import InputError
from ..plain import FILE
from ..representations.base import Representation
from .losses import LOSSES, Loss
from .objectives import OBJECTIVES, Given, Objective, picture_features
from .styles import channels_of


@LOSSES.register("guided")
@dataclass(frozen=True)
class Guided(Loss):
    r"""Excite at every place what the guide has most alike: :math:`-\text{mean}_i \max_j \langle f_i, g_j\rangle / \text{mean}_j |g_j|^2`.

    features f_i at n places, target g_j at m places, the guide's: (B, C, H, W), or tokens (B, T, D), of any number of places -> (B,). Which
    place of the guide is the most alike is found anew for each image, and the gradient at a place is the guide's features there.
    A target that is zero raises InputError.
    Source: the notebook of Mordvintsev, Olah, Tyka 2015 (`objective_guide`), which is not divided: it works with gradients of length 1.

    >>> f, g = torch.tensor([[[[3.0, 0.0]], [[0.0, 1.0]]]]), torch.tensor([[[[1.0, 0.0, 0.0]], [[0.0, 2.0, 1.0]]]])
    >>> Guided()(f, g)  # places (3, 0) and (0, 1) answer 3 and 2; the guide's squared norms are 1, 4 and 1
    tensor([-1.2500])
    """

    same_shape = False  # of another size is no matter

    def scale(self, target: Tensor) -> Tensor:
        scale = channels_of(target).square().sum(dim=1).mean(dim=1)
        if not bool((scale > 0).all()):
            raise InputError("The guide's features are all zero: there is nothing to look for. Choose another layer or another guide.")
        return scale

    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        scale = self.scale(target) if scale is None else scale
        own, guide = channels_of(features), channels_of(target)
        if own.shape[1] != guide.shape[1]:
            raise InputError(f"A guide of {guide.shape[1]} channels cannot guide {own.shape[1]}: take one layer.")
        alike = torch.bmm(own.mT, guide.expand(len(own), -1, -1))  # (B, n, m)
        return -alike.max(dim=2).values.mean(dim=1) / scale


@OBJECTIVES.register("guided-dream")
@dataclass(frozen=True)
class GuidedDream(Objective):
    """Excite what a guide shows, wherever the image has something like it (guided DeepDream: Mordvintsev, Olah, Tyka 2015).

    image : path or None
        The guide; default the task's own image.
    """

    image: str | None = field(default=None, metadata=FILE)

    @property
    def losses(self) -> tuple[str, ...]:
        return ("guided",)

    def takes_divisor(self) -> bool:
        return False

    def bind(self, given: Given) -> tuple[Loss, Representation, Tensor]:
        phi = given.representation(self.of)
        return Guided(), phi, picture_features(given, phi, self.image, "A guide")
