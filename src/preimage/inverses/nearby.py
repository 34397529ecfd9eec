"""A regularizer that keeps an image near a given one, as an inverse's answer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..energy.regularizers import REGULARIZERS, Regularizer
from ..errors import InputError


@REGULARIZERS.register("nearby", examples=[{}, {"weight": 0.5, "B": 40.0}])
@dataclass(frozen=True)
class Nearby(Regularizer):
    r"""Distance to a given image :math:`R(x) = \frac{w}{HWB^2}\sum_{uvk}(x_{uvk} - a_{uvk})^2`.

    x: (B, C, H, W) grey levels less the mean -> (B,), no unit; H·W is the size of x itself, jitter border included, as for
    `AlphaNorm`: a pixel at the colour distance B from that of the image counts w.

    Parameters
    ----------
    weight : float, default 1
        w, at least 0.
    B : float, default 80
        A typical colour norm in grey levels.
    to : "mean" (default) or "start"
        What a is where no image is given: the mean colour, or what the task begins with. The ‖r‖ of Szegedy et al. 2014 is such a
        distance, not squared; Hamblin et al. 2024 measure it in features.
    image : tensor (B, C, H, W) or (1, C, H, W), optional
        a, one for each sample or one for all, of the size of the canvas. Not part of equality.

    >>> near = Nearby(weight=2.0, image=torch.full((1, 1, 4, 4), 80.0))
    >>> near(torch.zeros(2, 1, 4, 4))
    tensor([2., 2.])
    """

    weight: float = 1.0
    B: float = 80.0
    to: str = "mean"
    image: Tensor | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise InputError(f"weight is a number of at least 0; got {self.weight!r}.")
        if not self.B > 0:
            raise InputError(f"B is a number above 0; got {self.B!r}.")
        if self.to not in ("mean", "start"):
            raise InputError(f'to is "mean" or "start"; got {self.to!r}.')
        if self.image is not None and (self.image.ndim != 4 or not bool(torch.isfinite(self.image).all())):
            raise InputError(f"image is a tensor (B, C, H, W) of finite values; got shape {tuple(self.image.shape)}.")

    def __call__(self, x: Tensor) -> Tensor:
        return self._apart(x).square().sum(dim=(1, 2, 3)) * self._each(x)

    def add_gradient(self, x: Tensor, gradient: Tensor) -> Tensor:
        """See `Differentiated`: the formula and its derivative."""
        apart = self._apart(x)
        gradient.add_(apart, alpha=2 * self._each(x))
        return apart.square().sum(dim=(1, 2, 3)) * self._each(x)

    def part(self, samples: slice) -> Nearby:
        """The regularizer of some of the samples."""
        return self if self.image is None or len(self.image) == 1 else replace(self, image=self.image[samples])

    def begin(self, x: Tensor) -> Nearby:
        """Return the regularizer of a run that begins with these canvases."""
        return self if self.to != "start" or self.image is not None else replace(self, image=x.detach())

    def _each(self, x: Tensor) -> float:
        return self.weight / (self.B**2 * x.shape[-2] * x.shape[-1])

    def _apart(self, x: Tensor) -> Tensor:
        if self.image is None:
            if self.to == "start":
                raise InputError('Nearby(to="start") is about what a task begins with: give an image, or use it in a task.')
            return x
        if self.to == "start" and self.image.shape[2:] != x.shape[2:]:  # a still view shows the middle of the canvas
            top, left = ((a - b) // 2 for a, b in zip(self.image.shape[2:], x.shape[2:], strict=True))
            return x - self.image[..., top : top + x.shape[2], left : left + x.shape[3]].to(x)
        if self.image.shape[1:] != x.shape[1:] or len(self.image) not in (1, len(x)):
            raise InputError(f"Nearby has an image of shape {tuple(self.image.shape)} and is asked about {tuple(x.shape)}: give one of it.")
        return x - self.image.to(x)
