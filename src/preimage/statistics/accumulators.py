"""Running statistics of many channels at once, in bounded memory, that can be merged: moments, quantiles, strongest images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError

OCTAVES, STEPS = 12, 16  # of a histogram: from a channel's largest magnitude down to its 4096th part, 16 bins from one power of two on
BINS = OCTAVES * STEPS
_SHIFT = 19  # a float32 has 23 bits of mantissa; what is left of its bits beyond 4 of them numbers its bin
HIGHEST = 0x7F7FFFFF >> _SHIFT  # the bin of the largest finite float32


def by_channel(features: Tensor) -> Tensor:
    """Features (B, …) -> (B, C, N): C channels with N values each in every image.

    (B, C) has C channels of one value, (B, C, H, W) its maps, (B, T, D) the D features of T tokens; more dimensions: the first is C.

    >>> by_channel(torch.zeros(2, 197, 768)).shape
    torch.Size([2, 768, 197])
    """
    if features.ndim == 3:
        return features.transpose(1, 2)
    return features.reshape(len(features), features.shape[1] if features.ndim > 1 else 1, -1)


def channel_axis(shape: tuple[int, ...]) -> int:
    """Which index of a unit, in features of this shape (without the batch), is its channel; see `by_channel`."""
    return 1 if len(shape) == 2 else 0


@dataclass(frozen=True)
class Moments:
    """Of `count` values in each of C channels, all (C,): mean, sum of squared deviations, least, largest, and how many are above 0.

    Merged by the formulas of Chan, Golub & LeVeque (1983), in float64: no sum of squares that cancels.
    """

    count: int
    mean: Tensor
    squares: Tensor
    low: Tensor
    high: Tensor
    above: Tensor

    @staticmethod
    def none(channels: int, device: torch.device | str = "cpu") -> Moments:
        zero = torch.zeros(channels, dtype=torch.float64, device=device)
        return Moments(0, zero, zero, zero + torch.inf, zero - torch.inf, zero.long())

    @staticmethod
    def of(values: Tensor) -> Moments:
        """Of (C, N).

        >>> Moments.of(torch.tensor([[1.0, 2.0, 3.0, -6.0]])).std
        tensor([3.5355], dtype=torch.float64)
        """
        exact = values.double()
        mean = exact.mean(dim=1)
        squares = (exact - mean[:, None]).square().sum(dim=1)
        return Moments(values.shape[1], mean, squares, exact.amin(dim=1), exact.amax(dim=1), (values > 0).sum(dim=1))

    @property
    def std(self) -> Tensor:
        """Of the values themselves (divided by their number, not by one less)."""
        return (self.squares / max(self.count, 1)).sqrt()

    def merge(self, other: Moments) -> Moments:
        """The moments of both sets of values together."""
        count = self.count + other.count
        part = other.count / max(count, 1)
        apart = other.mean - self.mean
        return Moments(
            count,
            self.mean + apart * part,
            self.squares + other.squares + apart.square() * (self.count * part),
            torch.minimum(self.low, other.low),
            torch.maximum(self.high, other.high),
            self.above + other.above,
        )


@dataclass
class Histogram:
    """How often each magnitude came, in C channels. Bins are at fixed places, so merging only adds whole numbers, in any order.

    A bin spans a 16th of the power of two that it lies in. A channel keeps the bins of the 12 powers of two below its largest
    magnitude, for either sign, and one for all that is closer to 0. top: (C,) the bin of the largest magnitude so far.
    counts: (C, 2·192 + 1), from the most negative bin to the most positive one.
    """

    top: Tensor
    counts: Tensor

    @staticmethod
    def none(channels: int, device: torch.device | str = "cpu") -> Histogram:
        top = torch.full((channels,), BINS, dtype=torch.int32, device=device)
        return Histogram(top, torch.zeros(channels, 2 * BINS + 1, dtype=torch.int64, device=device))

    def add(self, values: Tensor) -> None:
        """Count the values (C, N), float32, all finite."""
        channels, width = self.counts.shape
        bins = values.abs().view(torch.int32) >> _SHIFT
        self._raise(torch.maximum(self.top, bins.amax(dim=1)))
        step = (bins - (self.top[:, None] - BINS)).clamp_(min=0)
        row = torch.arange(channels, device=values.device, dtype=torch.int32)[:, None] * width + BINS
        found = torch.bincount((row + torch.where(values < 0, -step, step)).flatten(), minlength=channels * width)
        self.counts += found.view(channels, width)

    def merge(self, other: Histogram) -> Histogram:
        """The counts of both together."""
        mine, theirs = Histogram(self.top, self.counts.clone()), Histogram(other.top, other.counts.clone())
        top = torch.maximum(self.top, other.top)
        mine._raise(top)
        theirs._raise(top)
        return Histogram(top, mine.counts + theirs.counts)

    def quantile(self, q: float) -> Tensor:
        """(C,) the least value that at least the part q of the values do not exceed, to the middle of its bin.

        That is within 3.2 % of the value, or 0 for one of less than a 3800th of the channel's largest magnitude.

        >>> counted = Histogram.none(1)
        >>> counted.add(torch.arange(1.0, 1001.0)[None])
        >>> counted.quantile(0.9)
        tensor([912.], dtype=torch.float64)
        """
        if not 0.0 <= q <= 1.0:
            raise InputError(f"A quantile is a part of all, from 0 to 1; got {q!r}.")
        sums = self.counts.cumsum(dim=1)
        if not bool((sums[:, -1] > 0).all()):
            raise InputError("There is no quantile of no values.")
        rank = (sums[:, -1:].double() * q).ceil().clamp(min=1)
        step = (sums < rank).sum(dim=1) - BINS
        bins = (self.top - BINS + step.abs()).to(torch.int32)
        middle = ((bins << _SHIFT) + (1 << (_SHIFT - 1))).view(torch.float32).double()
        return step.sign() * middle

    def middles(self) -> Tensor:
        """(C, 2·192 + 1) the middle of each bin."""
        step = torch.arange(-BINS, BINS + 1)
        bins = (self.top[:, None] - BINS + step.abs()).to(torch.int32)
        return step.sign() * ((bins << _SHIFT) + (1 << (_SHIFT - 1))).view(torch.float32).double()

    def below(self, channel: int, value: float) -> float:
        """The part of a channel's values in bins below the one of `value`.

        >>> counted = Histogram.none(1)
        >>> counted.add(torch.arange(1.0, 1001.0)[None])
        >>> counted.below(0, 500.0)
        0.495
        """
        bins = int(torch.tensor(abs(value), dtype=torch.float32).view(torch.int32)) >> _SHIFT
        step = min(max(bins - int(self.top[channel]) + BINS, 0), BINS)
        row = self.counts[channel]
        return float(row[: BINS + (step if value >= 0 else -step)].sum()) / max(int(row.sum()), 1)

    def _raise(self, top: Tensor) -> None:
        """Move every channel's bins to a higher top; what falls below the smallest bin is counted with 0."""
        higher = top - self.top
        if bool((higher > 0).any()) and bool(self.counts.any()):
            step = torch.arange(-BINS, BINS + 1, device=top.device)
            moved = step.sign() * (step.abs() - higher[:, None]).clamp(min=0) + BINS
            self.counts = torch.zeros_like(self.counts).scatter_add_(1, moved, self.counts)
        self.top = top


@dataclass(frozen=True)
class Strongest:
    """The K images that excite each of C channels most, best first, all (C, K); equal ones by their number. None is image -1.

    values: the largest value in the image. images: its number. places: where in the map it is, the index of the flattened map.
    """

    values: Tensor
    images: Tensor
    places: Tensor

    @staticmethod
    def none(channels: int, k: int, device: torch.device | str = "cpu") -> Strongest:
        empty = torch.full((channels, k), -1, dtype=torch.int64, device=device)
        return Strongest(torch.full((channels, k), -torch.inf, device=device), empty, empty)

    @staticmethod
    def of(values: Tensor, images: Tensor) -> Strongest:
        """Of features (B, C, N) of the images with these numbers (B,); K is B."""
        best = values.max(dim=2)
        return Strongest(best.values.T.float(), images.expand(values.shape[1], -1), best.indices.T)

    def merge(self, other: Strongest) -> Strongest:
        """The K strongest of both, K as here."""
        values, images, places = (torch.cat(pair, dim=1) for pair in zip(_parts(self), _parts(other), strict=True))
        by_number = images.argsort(dim=1, stable=True)
        by_value = values.gather(1, by_number).argsort(dim=1, descending=True, stable=True)
        order = by_number.gather(1, by_value)[:, : self.values.shape[1]]
        return Strongest(values.gather(1, order), images.gather(1, order), places.gather(1, order))


def _parts(strongest: Strongest) -> tuple[Tensor, Tensor, Tensor]:
    return strongest.values, strongest.images, strongest.places
