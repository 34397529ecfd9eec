"""The regression behind linear inverses: sums over crops, resumable, the choice of its size and strength, and its solution."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..representations.base import Representation, device_of, features_of
from .fitting import Checkpoint
from .grid import Grid, like_of
from .learned import rounded
from .linear import LinearInverse, framed, reduced
from .photographs import Crops
from .sums import Sums

RANK = 128
FIRST_CROPS = 48  # from which the channels' combinations come
WHITENING = 1e-2  # of the mean variance of a channel, added before the channels' directions are compared
BAND = 2**26  # bytes of neighbourhoods that are held at once
EVERY = 20  # crops between checkpoints


@dataclass(frozen=True)
class Choice:
    """What the photographs held out have chosen: combinations of channels, cells along a side, and λ."""

    rank: int
    kernel: int
    strength: float


def _itself(x: Tensor) -> Tensor:
    return x


@dataclass
class Regression:
    """The sums over crops of a regression from neighbourhoods of cells to what lies under a cell, and their solution.

    phi: gives the map to learn from, of `shape` (C, h, w). grid: where a cell lies in what is learned. shown: what is learned of a crop,
    the crop itself or an earlier layer's features (1, channels, H, W). name: of its sums in the checkpoint. tick: is called with how many
    crops are done.
    """

    phi: Representation
    grid: Grid
    shape: tuple[int, int, int]
    rank: int
    kernel: int
    channels: int
    kept: Checkpoint | None
    tick: Callable[[int], Any]
    shown: Callable[[Tensor], Tensor] = _itself
    name: str = ""

    @property
    def device(self) -> torch.device:
        """Where the sums are: with the weights, but where there is no float64."""
        device = device_of(self.phi)
        return torch.device("cpu") if device.type == "mps" else device

    def learn_channels(self, crops: Crops, count: int) -> None:
        """Find each channel's mean and the combinations of channels that tell most about the patch under a cell."""
        patch = self.channels * math.prod(self.grid.side)
        sums, done = self._resumed(f"{self.name}channels", self.shape[0], patch)
        for n in range(done, count):
            x = crops[n]
            f, wanted = self._features(x), self.shown(x)
            for rows in self._bands(self.shape[0] + patch):
                sums.add(f[0, :, rows].flatten(1), self.grid.cut(wanted, self.shape[1:], rows)[0].to(f))
            self._keep(f"{self.name}channels", sums, n + 1, count)
        self.mean = (sums.x / sums.n).float()
        self.projection = directions(*sums.covariances(), self.rank).float()

    def learn(self, crops: Crops, count: int, part: int) -> Sums:
        """The sums of neighbourhoods and patches over the crops."""
        patch = self.channels * math.prod(self.grid.side)
        sums, done = self._resumed(f"{self.name}part{part}", self.rank * self.kernel**2, patch)
        for n in range(done, count):
            x = crops[n]
            f, wanted = self._features(x), self.shown(x)
            z = framed(reduced(f, self.mean.to(f), self.projection.to(f)), self.kernel)
            for rows in self._bands(self.rank * self.kernel**2 + patch):
                band = z[:, :, rows.start : rows.stop + self.kernel - 1]
                sums.add(F.unfold(band, self.kernel)[0], self.grid.cut(wanted, self.shape[1:], rows)[0].to(f))
            self._keep(f"{self.name}part{part}", sums, n + 1, count)
        return sums

    def choose(self, sums: Sequence[Sums], strengths: Sequence[float]) -> Choice:
        """The regression on the first sums that errs least on the second: which λ, and how much of the neighbourhoods it uses.

        Smaller neighbourhoods and fewer combinations of channels are parts of the same sums, so that no crop is looked at again.
        """
        sizes = [(self.rank, self.kernel), *((max(1, self.rank // n), k) for n, k in ((2, self.kernel), (4, self.kernel), (1, 1), (4, 1)))]
        errors: dict[Choice, float] = {}
        for rank, kernel in dict.fromkeys(sizes):
            fitted, held = (s.of_inputs(self._inputs(rank, kernel)) for s in sums)
            errors |= {Choice(rank, kernel, s): held.error(*fitted.solve(s)) for s in strengths}
        return min(errors, key=lambda choice: errors[choice])

    def inverse(self, sums: Sums, choice: Choice, seen: Tensor, about: dict[str, Any]) -> LinearInverse:
        """The regression as convolution weights, rounded as they will be kept in a file. seen: its probe."""
        weights, offsets = sums.of_inputs(self._inputs(choice.rank, choice.kernel)).solve(choice.strength)
        shaped = rounded(weights).view(-1, choice.rank, choice.kernel, choice.kernel)
        projection = self.projection[: choice.rank].contiguous()
        mean, projection, shaped, offsets = (t.cpu() for t in (self.mean, projection, shaped, offsets.float()))
        return LinearInverse(self.grid, mean, projection, shaped, offsets, seen, about)

    def _inputs(self, rank: int, kernel: int) -> Tensor:
        """Which inputs of the sums are of the first combinations of channels and of the innermost cells."""
        border = (self.kernel - kernel) // 2
        every = torch.arange(self.rank * self.kernel**2).view(self.rank, self.kernel, self.kernel)
        return every[:rank, border : border + kernel, border : border + kernel].flatten()

    def _features(self, x: Tensor) -> Tensor:
        f = features_of(self.phi, x.to(like_of(self.phi))).to(self.device)
        return f if f.dtype == torch.float64 else f.float()

    def _bands(self, values: int) -> Iterator[slice]:
        """Rows of the map, as many at once as their neighbourhoods and patches take BAND bytes."""
        h, w = self.shape[1:]
        step = max(1, BAND // (4 * values * w))
        return (slice(k, min(k + step, h)) for k in range(0, h, step))

    def _resumed(self, name: str, inputs: int, outputs: int) -> tuple[Sums, int]:
        sums, done = Sums.none(inputs, outputs, self.device), 0
        if self.kept is not None and (found := self.kept.read(name)) is not None:
            sums, done = Sums.from_tensors(found[0]).to(self.device), found[1]
        self.tick(done)
        return sums, done

    def _keep(self, name: str, sums: Sums, done: int, count: int) -> None:
        self.tick(1)
        if self.kept is not None and (done % EVERY == 0 or done == count):
            self.kept.write(name, sums.tensors(), done)


def directions(xx: Tensor, xy: Tensor, rank: int) -> Tensor:
    """Combinations (r, C) of channels that tell most about the outputs, each of variance 1, uncorrelated; the strongest first.

    xx (C, C), xy (C, P): covariances. They are the singular vectors of the whitened cross-covariance (reduced-rank regression).
    For all of C channels it is a change of coordinates, in which the ridge then counts what tells much less than what tells little.
    """
    values, vectors = torch.linalg.eigh(xx)
    level = values.clamp(min=0) + WHITENING * values.clamp(min=0).mean().clamp(min=1e-30)
    white = vectors * level.rsqrt() @ vectors.T
    cross = white @ xy
    _, chosen = torch.linalg.eigh(cross @ cross.T)
    found = (white @ chosen.flip(1)[:, :rank]).T
    scale = ((found @ xx) * found).sum(dim=1).clamp(min=1e-30).sqrt()
    out: Tensor = found / scale.unsqueeze(1)
    return out


def rank_for(rank: int | None, channels: int, kernel: int, outputs: int, memory: int) -> int:
    """How many combinations of channels. Raises InputError for more than there are, or than fit into the memory."""

    def fits(r: int) -> bool:
        inputs = r * kernel**2
        return 8 * (5 * inputs**2 + 6 * inputs * outputs) + 4 * BAND <= memory

    if rank is not None:
        if rank > channels:
            raise InputError(f"rank is at most the number of channels, {channels}; got {rank}.")
        if not fits(rank):
            raise InputError(f"A rank of {rank} with {kernel}x{kernel} cells does not fit into max_memory: take less, or give more.")
        return rank
    found = next((r for r in range(min(RANK, channels), 0, -1) if fits(r)), 0)
    if not found:
        raise InputError(f"Nothing fits into max_memory of {memory:,} bytes for patches of {outputs} values: give more.")
    return found
