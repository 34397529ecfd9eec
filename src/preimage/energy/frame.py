"""Histograms of what filters answer: FRAME's description of a texture."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import InputError, whole
from ..plain import FILE
from ..representations.base import Representation
from ..representations.filters import FilterBank
from .losses import LOSSES, Loss
from .objectives import OBJECTIVES, Given, Objective, picture_features
from .styles import channels_of


@LOSSES.register("histograms", examples=[{}, {"bins": 4}])
@dataclass(frozen=True)
class Histograms(Loss):
    r"""Have the histogram of every channel: the mean over channels and bins of :math:`(F_k - F_{0,k})^2`, F the histograms' running sums.

    features, target: (B, C, H, W), or tokens (B, T, D), of any number of places -> (B,). The bins' centres are evenly spread
    over the target's values of a channel and half of that range on either side. A value counts for the two bins around it, the more the
    nearer, so that there is a slope; running sums have one also where histograms do not overlap. A value beyond the bins also counts with
    the square of how far, over the widest channel's range, so that none is lost there. It does not see where anything is.

    bins : int, default 32
        How many; at least 2.

    Source: the histograms are those of Zhu, Wu, Mumford 1998 (FRAME), which samples from the field that has them; the distance of their
    running sums is Cramér's and von Mises'.

    >>> x = torch.rand(1, 3, 4, 4)
    >>> bool(Histograms()(x.flip(-1), x) < 1e-10), bool(Histograms()(x + 1, x) > 0.01)
    (True, True)
    """

    bins: int = 32
    same_shape = False  # of another size is no matter

    def __post_init__(self) -> None:
        whole("bins", self.bins, 2)

    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        own, other = self._pair(features, target)
        low, width, widest = self._range(other)
        beyond = self._beyond(own, low, width) / widest
        apart = self._sums((own - low) / width) - self._sums((other - low) / width)
        values = apart.square().mean(dim=(1, 2)) + beyond.square().mean(dim=(1, 2))
        return values if scale is None else values / scale

    def differentiate(self, features: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return values and gradients without a graph over all bins: a value moves the one sum between its two bins."""
        own, other = self._pair(features, target)
        low, width, widest = self._range(other)
        beyond = self._beyond(own, low, width) / widest
        apart = self._sums((own - low) / width) - self._sums((other - low) / width)
        bin = ((own - low) / width).floor()
        inside = (bin >= 0) & (bin < self.bins - 1)
        moved = torch.gather(apart, 2, bin.clamp(0, self.bins - 2).long()) * inside / (width * (self.bins - 1))
        slope = (beyond / widest - moved) * (2.0 / (scale.view(-1, 1, 1) * own.shape[1] * own.shape[2]))
        values = (apart.square().mean(dim=(1, 2)) + beyond.square().mean(dim=(1, 2))) / scale
        return values, (slope.mT if features.dim() == 3 else slope).reshape(features.shape)

    @staticmethod
    def _pair(features: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        own, other = channels_of(features), channels_of(target)
        if own.shape[1] != other.shape[1]:
            raise InputError(f"Histograms of {own.shape[1]} channels cannot be matched with those of {other.shape[1]}: take one layer.")
        return own, other.expand(len(own), -1, -1)

    def _range(self, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first bin's centre and the distance to the next (B, C, 1), and the widest channel's range (B, 1, 1).

        A channel that varies less than a hundredth of the widest has the bins of one that does so.
        """
        low, high = target.amin(dim=2, keepdim=True), target.amax(dim=2, keepdim=True)
        widest = (high - low).amax(dim=1, keepdim=True)
        widest = torch.where(widest > 0, widest, 1.0)
        span = torch.maximum(high - low, 0.01 * widest)
        return (low + high) / 2 - span, 2 * span / (self.bins - 1), widest

    def _beyond(self, values: Tensor, low: Tensor, width: Tensor) -> Tensor:
        """How far values are below the first bin's centre (negative) or above the last one's."""
        high = low + width * (self.bins - 1)
        return (values - high).clamp(min=0) - (low - values).clamp(min=0)

    def _sums(self, positions: Tensor) -> Tensor:
        """The share of values in the first k + 1 bins, (B, C, bins - 1); in all of them it is 1."""
        return torch.stack([(k + 1 - positions).clamp(0, 1).mean(dim=2) for k in range(self.bins - 1)], dim=2)


@OBJECTIVES.register("filter-histograms", examples=[{}, {"waves": (2.0, 4.0), "bins": 8}])
@dataclass(frozen=True)
class FilterHistograms(Objective):
    """Have the texture of an image as FRAME describes it: the histograms of what filters answer. The network is not asked.

    image : path or None
        Whose texture; default the task's own image.
    waves, directions : as of `FilterBank`
        The Gabor filters' wavelengths in pixels, and how many directions.
    bins : as of `Histograms`
    """

    image: str | None = field(default=None, metadata=FILE)
    waves: tuple[float, ...] = (2.0, 4.0, 8.0, 12.0)
    directions: int = 4
    bins: int = 32

    @property
    def losses(self) -> tuple[str, ...]:
        return ("histograms",)

    def takes_divisor(self) -> bool:
        return False

    def bind(self, given: Given) -> tuple[Loss, Representation, Tensor]:
        if self.of is not None:
            raise InputError("Filters see the pixels and no layer: leave of= out.")
        phi = given.prepare(FilterBank(given.phi.space, waves=self.waves, directions=self.directions))
        return Histograms(self.bins), phi, picture_features(given, phi, self.image, "To match histograms of filters")
