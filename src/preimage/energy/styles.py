"""Losses of statistics: how channels go together, how strong each is and how much it varies, wherever that is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from .losses import LOSSES, Loss


@LOSSES.register("gram", examples=[{}, {"normalise": False}])
@dataclass(frozen=True)
class GramMatrix(Loss):
    r"""Texture: :math:`\|G-G_0\|_F^2 / \|G_0\|_F^2`, :math:`G = F F^\top / n`, F the channels at n places (Gatys, Ecker, Bethge 2015).

    features, target: (B, C, H, W), or tokens (B, T, D) with n = T -> (B,). It does not see where anything is. normalise=False: the
    original's :math:`\|FF^\top - F_0F_0^\top\|_F^2 / (4 C^2 n^2)`. A target that is zero raises InputError.

    >>> x = torch.rand(1, 3, 4, 4)
    >>> bool(GramMatrix()(x.flip(-1), x) < 1e-10)
    True
    """

    normalise: bool = True
    same_shape = False  # of another size is no matter

    def scale(self, target: Tensor) -> Tensor:
        channels = channels_of(target)
        if not self.normalise:
            return super().scale(target) * (4.0 * channels.shape[1] ** 2)
        scale = gram_of(channels).square().sum(dim=(1, 2))
        _check_above_zero(scale)
        return scale

    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        scale = self.scale(target) if scale is None else scale
        own, other = _pair(features, target)
        return (gram_of(own) - gram_of(other)).square().sum(dim=(1, 2)) / scale

    def differentiate(self, features: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        channels, other = _pair(features, target)
        apart = gram_of(channels) - gram_of(other)
        slope = torch.bmm(apart.expand(len(channels), -1, -1), channels) * (4.0 / (channels.shape[2] * scale)).view(-1, 1, 1)
        return apart.square().sum(dim=(1, 2)) / scale, _places(slope, features)


@LOSSES.register("mean-deviation")
@dataclass(frozen=True)
class MeanDeviation(Loss):
    r"""Strength and contrast of channels: :math:`(\|\mu-\mu_0\|^2 + \|\sigma-\sigma_0\|^2) / (\|\mu_0\|^2 + \|\sigma_0\|^2)`.

    features, target: (B, C, H, W), or tokens (B, T, D) -> (B,); μ, σ: mean and standard deviation of each channel over the places. A
    variance under 1e-12 counts as that. For statistics of many images: `with_statistics` gives a target that has them. A
    target that is zero raises InputError. Source: Huang, Belongie 2017 (AdaIN's style loss, not normalised there).

    >>> x = torch.rand(1, 3, 4, 4)
    >>> bool(MeanDeviation()(x.flip(-1), x) < 1e-10)
    True
    """

    same_shape = False  # of another size is no matter

    def scale(self, target: Tensor) -> Tensor:
        mean, deviation, _ = _statistics(channels_of(target))
        scale = (mean.square() + deviation.square()).sum(dim=1)
        _check_above_zero(scale - 1.001e-12 * mean.shape[1])
        return scale

    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        scale = self.scale(target) if scale is None else scale
        means, deviations = self._apart(features, target)[:2]
        return (means.square() + deviations.square()).sum(dim=1) / scale

    def differentiate(self, features: Tensor, target: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        means, deviations, deviation, centred = self._apart(features, target)
        each = (2.0 / (centred.shape[2] * scale)).view(-1, 1, 1)
        pull = torch.where(deviation > FLAT, deviations / deviation, 0.0)
        slope = (means.unsqueeze(2) + pull.unsqueeze(2) * centred) * each
        return (means.square() + deviations.square()).sum(dim=1) / scale, _places(slope, features)

    @staticmethod
    def _apart(features: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Differences of means and deviations; the deviations; features less their means."""
        own, other = _pair(features, target)
        mean, deviation, centred = _statistics(own)
        mean0, deviation0, _ = _statistics(other)
        return mean - mean0, deviation - deviation0, deviation, centred


@LOSSES.register("mean-deviation-norms")
@dataclass(frozen=True)
class MeanDeviationNorms(Loss):
    r"""Strength and contrast of channels, not squared: :math:`\|\mu-\mu_0\|/\|\mu_0\| + \|\sigma-\sigma_0\|/\|\sigma_0\|`.

    As `MeanDeviation`, but what is nearly right pulls as strongly as what is far off. Where ‖μ₀‖ is less than a tenth of ‖σ₀‖, that
    tenth stands for it: means can be zero, as after a linear layer on centred features. The slope at a distance of zero is zero.
    Source: Yin et al. 2020, Eq. (4), who take the variance instead of the deviation and do not divide.

    >>> x = torch.tensor([[[[1.0, 3.0]], [[2.0, 2.0]]]])  # means 2 and 2, deviations 1 and 0
    >>> MeanDeviationNorms()(2 * x, x)
    tensor([2.])
    """

    same_shape = False  # of another size is no matter

    def scale(self, target: Tensor) -> Tensor:
        mean, deviation, _ = _statistics(channels_of(target))
        _check_above_zero(deviation.norm(dim=1) - 1.001 * FLAT * mean.shape[1] ** 0.5)
        return torch.ones_like(mean[:, 0])

    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        own, other = _pair(features, target)
        mean, deviation, _ = _statistics(own)
        mean0, deviation0, _ = _statistics(other)
        size = deviation0.norm(dim=1)
        value: Tensor = length(mean - mean0) / mean0.norm(dim=1).clamp(min=0.1 * size) + length(deviation - deviation0) / size
        return value if scale is None else value / scale


FLAT = 1e-6  # the least standard deviation


def with_statistics(mean: Tensor, deviation: Tensor, size: tuple[int, int]) -> Tensor:
    """Return features (1, C, H, W) whose channels have these means and standard deviations (C,) exactly, as a target of `MeanDeviation`.

    Raises InputError for a map of one place, which has no deviation, and for numbers that do not go together.

    >>> target = with_statistics(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.5]), (3, 3))
    >>> target.mean(dim=(2, 3)), target.std(dim=(2, 3), correction=0)
    (tensor([[1., 2.]]), tensor([[3.0000, 0.5000]]))
    """
    places = size[0] * size[1]
    if mean.dim() != 1 or mean.shape != deviation.shape or bool((deviation < 0).any()):
        raise InputError(f"Statistics are a mean and a deviation of at least 0 a channel; got shapes {mean.shape} and {deviation.shape}.")
    if places < 2:
        raise InputError("A map of one place has no standard deviation: give a larger one.")
    signs = torch.ones(places, dtype=mean.dtype, device=mean.device)
    signs[1::2] = -1
    if places % 2:
        signs[-1] = 0
        signs *= (places / (places - 1)) ** 0.5
    return (mean[:, None] + deviation[:, None] * signs).view(1, len(mean), *size)


def channels_of(features: Tensor) -> Tensor:
    """(B, C, H, W) or tokens (B, T, D) -> (B, C, n), channels and places."""
    if features.dim() == 3:
        return features.mT
    if features.dim() != 4:
        raise InputError(
            f"Statistics of channels need maps (B, C, H, W) or tokens (B, T, D); got features of shape {tuple(features.shape)}."
        )
    return features.flatten(2)


def _pair(features: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Channels of both. Raises InputError where they are not of one network's layer."""
    own, other = channels_of(features), channels_of(target)
    if own.shape[1] != other.shape[1]:
        raise InputError(f"Statistics of {own.shape[1]} channels cannot be matched with those of {other.shape[1]}: take one layer.")
    return own, other


def _places(channels: Tensor, like: Tensor) -> Tensor:
    """The other way of `channels_of`."""
    return channels.mT if like.dim() == 3 else channels.reshape(like.shape)


def gram_of(channels: Tensor) -> Tensor:
    return torch.bmm(channels, channels.mT) / channels.shape[2]


def _statistics(channels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and standard deviation of each channel (B, C), and the channels less their means."""
    mean = channels.mean(dim=2)
    centred = channels - mean.unsqueeze(2)
    return mean, centred.square().mean(dim=2).clamp(min=FLAT**2).sqrt(), centred


def length(x: Tensor) -> Tensor:
    """Return the norm of each row of (B, C); an end of 1e-12 keeps its slope at zero.

    >>> length(torch.tensor([[3.0, 4.0]]))
    tensor([5.])
    """
    norm: Tensor = x.square().sum(dim=1).clamp(min=1e-24).sqrt()
    return norm


def _check_above_zero(scale: Tensor) -> None:
    if not bool((scale > 0).all()):
        raise InputError("The target features are all zero: they have no statistics to match. Choose another layer or another image.")
