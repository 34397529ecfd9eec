"""Statistics of the channels of one layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from .accumulators import BINS, HIGHEST, Histogram, Moments, Strongest, by_channel, channel_axis

_CHUNK = 2**22  # values that are counted at once


class LayerStatistics:
    """Statistics of the C channels of one layer; every tensor is (C,), float64, on the CPU.

    name, dotted: the layer's names. shape: of its output for one image. For (C, H, W) a channel is a map, for (T, D) one feature of
    all tokens, for (C,) one number. count: values in each channel, images times places.
    """

    def __init__(self, name: str, dotted: str, shape: tuple[int, ...], moments: Moments, histogram: Histogram, best: Strongest) -> None:
        self.name, self.dotted, self.shape = name, dotted, shape
        self._moments, self._histogram, self._best = moments, histogram, best

    @staticmethod
    def none(name: str, dotted: str, shape: tuple[int, ...], top: int, device: torch.device | str = "cpu") -> LayerStatistics:
        """Of no image yet; `top` images a channel will be kept."""
        channels = by_channel(torch.empty(1, *shape, device="meta")).shape[1]
        parts = Moments.none(channels, device), Histogram.none(channels, device), Strongest.none(channels, top, device)
        return LayerStatistics(name, dotted, shape, *parts)

    def __repr__(self) -> str:
        return f"LayerStatistics({self.name!r}, {self.channels} channels x {self.count} values, max {self.max.max().item():.4g})"

    @property
    def channels(self) -> int:
        """C."""
        return len(self._moments.mean)

    @property
    def count(self) -> int:
        return self._moments.count

    @property
    def max(self) -> Tensor:
        """The largest value over places and images: the M of the paper's Z."""
        return self._moments.high

    @property
    def min(self) -> Tensor:
        """The least value."""
        return self._moments.low

    @property
    def mean(self) -> Tensor:
        return self._moments.mean

    @property
    def std(self) -> Tensor:
        """Of all values, not the original's mean over batches of a deviation of deviations (get_neuron_stats.m)."""
        return self._moments.std

    @property
    def firing(self) -> Tensor:
        """The part of the values that are above 0."""
        return self._moments.above.double() / self.count

    def quantile(self, q: float) -> Tensor:
        """The least value that the part q of the values do not exceed: within 3.2 % of itself, or of 0 by max|value|/3800.

        0 and 1 give the exact least and largest. Raises InputError for a q outside 0..1.
        """
        return self._histogram.quantile(q).clamp(self.min, self.max) if 0 < q < 1 else self._ends(q)

    def share_below(self, channel: int, value: float) -> float:
        """The part of a channel's values that are smaller than `value`, exact to the bin of a histogram: within 3.2 % of the value.

        0 for a value at or below the least, 1 for one above the largest.
        """
        if not value > self.min[channel].item():
            return 0.0
        return 1.0 if value > self.max[channel].item() else self._histogram.below(channel, value)

    def histogram(self, bins: int) -> Tensor:
        """How many of each channel's values are in each of so many equal parts between its least and its largest, (C, bins)."""
        middles, counts = self._histogram.middles(), self._histogram.counts
        span = (self.max - self.min).clamp(min=1e-300)[:, None]
        at = ((middles - self.min[:, None]) / span * bins).long().clamp(0, bins - 1)
        return torch.zeros(self.channels, bins, dtype=torch.int64).scatter_add_(1, at, counts)

    def channel_of(self, indices: Sequence[int]) -> int:
        """The channel of a unit that is given as (channel,) or by all its indices in the layer's shape."""
        return indices[0] if len(indices) == 1 else indices[channel_axis(self.shape)]

    def merge(self, other: LayerStatistics, offset: int) -> LayerStatistics:
        """Of both sets of images; the other's images are numbered on from `offset`."""
        moved = torch.where(other._best.images < 0, other._best.images, other._best.images + offset)
        theirs = Strongest(other._best.values, moved, other._best.places)
        parts = self._moments.merge(other._moments), self._histogram.merge(other._histogram), self._best.merge(theirs)
        return LayerStatistics(self.name, self.dotted, self.shape, *parts)

    def add(self, features: Tensor, images: Tensor) -> None:
        """Count the features (B, …) of the images with these numbers (B,). Raises InputError if they hold NaN or infinite values."""
        for k in range(0, len(features), step := max(1, _CHUNK // max(features[0].numel(), 1))):
            part = by_channel(features[k : k + step]).float()
            values = part.transpose(0, 1).reshape(self.channels, -1)
            moments = Moments.of(values)
            if not bool(torch.isfinite(moments.mean).all()):
                raise InputError(f"The features of {self.name} hold NaN or infinite values: look at the weights and the layer.")
            self._moments = self._moments.merge(moments)
            self._histogram.add(values)
            self._best = self._best.merge(Strongest.of(part, images[k : k + step].to(part.device)))

    def to(self, device: torch.device | str) -> LayerStatistics:
        """The same on another device."""
        parts: list[Any] = [self._moments, self._histogram, self._best]
        moved = [replace(p, **{k: v.to(device) for k, v in vars(p).items() if isinstance(v, Tensor)}) for p in parts]
        return LayerStatistics(self.name, self.dotted, self.shape, *moved)

    def strongest(self) -> Strongest:
        """The numbers of the images that excite each channel most, (C, K)."""
        return self._best

    def tensors(self) -> dict[str, Tensor]:
        """Everything as tensors, for a file; `from_tensors` reads them back."""
        moments = {k: getattr(self._moments, k) for k in ("mean", "squares", "low", "high", "above")}
        best = {k: getattr(self._best, k) for k in ("values", "images", "places")}
        counts = self._histogram.counts
        small = torch.int32 if not counts.numel() or int(counts.max()) < 2**31 else torch.int64
        named = {**moments, **best, "top": self._histogram.top, "counts": counts.to(small)}
        return {f"{k}:{self.name}": t.cpu().contiguous() for k, t in named.items()}

    @staticmethod
    def from_tensors(name: str, dotted: str, shape: tuple[int, ...], count: int, found: Mapping[str, Tensor]) -> LayerStatistics:
        """Raises InputError for tensors that do not belong together, KeyError for one that is missing."""
        values = found[f"values:{name}"]
        channels = by_channel(torch.empty(1, *shape, device="meta")).shape[1]
        if values.ndim != 2 or len(values) != channels:  # before anything of a size that the file dictates is made
            raise InputError(f"{name} has {channels} channels by its shape, and values of {tuple(values.shape)}.")
        empty = LayerStatistics.none(name, dotted, shape, values.shape[1])
        part = {}
        for key, wanted in empty.tensors().items():
            tensor = found[key]
            if tensor.shape != wanted.shape or (
                tensor.dtype != wanted.dtype and not (key.startswith("counts:") and tensor.dtype == torch.int64)
            ):
                raise InputError(f"{key} is {tuple(tensor.shape)}, {tensor.dtype}; wanted {tuple(wanted.shape)}, {wanted.dtype}.")
            part[key.partition(":")[0]] = tensor
        counts = part["counts"].long()
        if bool((counts < 0).any()) or bool((counts.sum(dim=1) != count).any()):
            raise InputError(f"The counts of {name} do not add up to {count}.")
        sound = all(bool(part[k].isfinite().all()) for k in ("mean", "squares", "low", "high"))
        if not sound or int(part["top"].min()) < BINS or int(part["top"].max()) > HIGHEST:
            raise InputError(f"The statistics of {name} hold values that no features have.")
        places = math.prod(shape) // channels
        if part["places"].numel() and not -1 <= int(part["places"].min()) <= int(part["places"].max()) < places:
            raise InputError(f"A place in {name} is not in its map of {places} places.")
        moments = Moments(count, *(part[k] for k in ("mean", "squares", "low", "high", "above")))
        best = Strongest(*(part[k] for k in ("values", "images", "places")))
        return LayerStatistics(name, dotted, shape, moments, Histogram(part["top"], counts), best)

    def _ends(self, q: float) -> Tensor:
        if q not in (0, 1):
            raise InputError(f"A quantile is a part of all, from 0 to 1; got {q!r}.")
        return self.max if q else self.min
