"""Fit an inverse: ridge regression in closed form from streaming sums, in bounded memory, resumable, the same for the same seed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import __version__
from ..errors import InputError
from ..pixels.images import ImageLike, check_file
from ..plain import name_of
from ..ranges import checked
from ..representations.base import Representation, RepresentationLike, as_representation, device_of, features_of
from ..solvers.compute import memory_limit
from .fitting import HELD_CROPS, Checkpoint, canvas_of, fit_bar, held_out_numbers
from .grid import Grid, Pair, find_grid, like_of
from .kinds import KINDS, Linear, Upconv, kind_of
from .learned import LearnedInverse, identity, probe, rounded
from .linear import LinearInverse, framed, reduced
from .photographs import Crops, digest, gather, split
from .sums import Sums
from .train import CROPS as TRAINING_CROPS
from .train import of_pairs, train_upconv

REVISION = 1  # of what a fit gives: raised when it changes
RANK = 128
CROPS, FIRST_CROPS = 200, 48
WHITENING = 1e-2  # of the mean variance of a channel, added before the channels' directions are compared
BAND = 2**26  # bytes of neighbourhoods that are held at once
EVERY = 20  # crops between checkpoints


def fit_inverse(
    phi: RepresentationLike,
    images: ImageLike | Sequence[ImageLike] | None = None,
    *,
    kind: str | Linear | Upconv = "linear",
    size: int | Pair | None = None,
    crops: int | None = None,
    held_out: float = 0.25,
    seed: int = 0,
    max_memory: int | str = "2GB",
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> LearnedInverse:
    """Fit an inverse of a representation: a map from its features to the image, learned from photographs.

    Features are taken of random crops (40 to 100 % of a photograph, mirrored or not), a few at a time, and never kept. A linear
    inverse keeps sums of their products: from the first crops come each channel's mean and the `rank` combinations of channels that tell
    most about the pixels; from all of them the ridge regression, whose strength and size are chosen on the photographs held out, from
    which the result then learns too. An up-convolutional inverse is trained on the crops of the photographs that are not held out.
    `about["held_out"]` has the numbers on those that are, from before anything was learned from them.

    Parameters
    ----------
    phi : representation
        For a linear inverse one that gives a map of features: a network's layer, the `layer:grid` of a transformer, HOG, dense SIFT. For
        an up-convolutional one any.
    images : files, folders, pictures, optional
        Photographs to learn from, at least four. By default the free ones that scikit-image, scikit-learn and matplotlib carry.
    kind : "linear", "upconv", `Linear` or `Upconv`
        What to fit; with settings as `Linear(kernel=1)` or "linear:kernel=1".
    size : int or (height, width), optional
        Of the crops; by default what phi takes, or 224.
    crops : int, optional
        How many to learn from, by default 200 for a linear inverse and 4,000 for an up-convolutional one; a tenth of them, at
        least 24, of the photographs held out decides a regression's strength.
    held_out : float, default 0.25
        The part of the photographs that is held out: every fourth.
    seed : int, default 0
        Of the crops and first weights. The same call with the same number of threads gives the same bits.
    max_memory : int or str, default "2GB"
        For the sums and their solution, or the weights and what their training keeps; the network aside.
    checkpoint : path, optional
        A file for the state, written now and then; the same call goes on from it, and removes it at the end.
    progress : bool, default True
        Show a bar with the time left.

    Returns
    -------
    LearnedInverse
        A `LinearInverse` or an `UpconvInverse`.

    Raises
    ------
    InputError
        For features without a grid (linear) or with NaN, too few photographs, settings that cannot be used, and a foreign checkpoint.
    MissingExtra
        Without photographs where scikit-image or scikit-learn is not installed.

    References
    ----------
    Dosovitskiy & Brox, Inverting visual representations with convolutional networks, CVPR 2016.

    Examples
    --------
    >>> import numpy as np, preimage
    >>> phi = preimage.from_callable(lambda x: torch.nn.functional.pixel_unshuffle(x, 4), preimage.PixelSpace(32, "grey"))
    >>> photographs = [np.random.default_rng(k).integers(0, 256, (40, 40), dtype=np.uint8) for k in range(4)]
    >>> one = Linear(kernel=1, overlap=1, strengths=(1e-9,))
    >>> inverse = fit_inverse(phi, photographs, kind=one, crops=8, progress=False)
    >>> x = phi.space.encode(photographs[0])
    >>> bool((inverse(phi(x)) - x).abs().max() < 1)
    True
    """
    phi, how = as_representation(phi), kind_of(kind)
    crops = checked("crops", (CROPS if isinstance(how, Linear) else TRAINING_CROPS) if crops is None else crops)
    checked("seed", seed)
    if checkpoint is not None:
        check_file(checkpoint)
    photographs = gather(images)
    parts = split(len(photographs), held_out)
    canvas = canvas_of(phi, size)
    memory = memory_limit(max_memory, torch.device("cpu")) or 0
    about = identity(phi) | {"photographs": len(photographs), "photographs_sha256": digest(photographs), "free": images is None}
    about |= {"size": list(canvas), "preimage": __version__}
    about["settings"] = {"kind": name_of(how, KINDS), "crops": crops, "held_out": held_out, "seed": seed} | asdict(how)
    fitted = [Crops([photographs[k] for k in which], phi.space, canvas, seed + n) for n, which in enumerate(parts)]
    kept = None if checkpoint is None else Path(checkpoint)
    if isinstance(how, Upconv):
        if of_pairs(phi):
            about["settings"]["feature_loss"] = 0.0
            how = replace(how, feature_loss=0.0)
        with fit_bar(phi.name, min(FIRST_CROPS, crops) + crops // how.batch * how.batch, progress) as tick:
            final: LearnedInverse = train_upconv(phi, (fitted[0], fitted[1]), crops, how, _listed(about), memory, kept, tick)
    else:
        final = _regress(phi, (fitted[0], fitted[1]), crops, how, _listed(about), memory, kept, progress)
    if kept is not None:
        kept.unlink(missing_ok=True)
    return final


def _regress(
    phi: Representation,
    fitted: tuple[Crops, Crops],
    crops: int,
    how: Linear,
    about: dict[str, Any],
    memory: int,
    kept: Path | None,
    progress: bool,
) -> LinearInverse:
    """Fit a linear inverse; see `fit_inverse`."""
    grid, shape = find_grid(phi, (about["size"][0], about["size"][1]), how.overlap)
    outputs = phi.space.count * grid.side[0] * grid.side[1]
    rank = _rank(how.rank, shape[0], how.kernel, outputs, memory)
    about = about | {"cells": list(shape[1:]), "settings": about["settings"] | {"rank": rank}}
    counts = (crops, max(HELD_CROPS, crops // 10))
    checkpoint = None if kept is None else Checkpoint(kept, about)
    with torch.no_grad(), phi.session(), fit_bar(phi.name, min(FIRST_CROPS, crops) + sum(counts), progress) as tick:
        pass_ = _Pass(phi, grid, shape, rank, how.kernel, checkpoint, tick)
        pass_.learn_channels(fitted[0], min(FIRST_CROPS, crops))
        sums = [pass_.learn(f, count, n) for n, (f, count) in enumerate(zip(fitted, counts, strict=True))]
        best = pass_.choose(sums, how.strengths)
        numbers = held_out_numbers(pass_.inverse(sums[0], best, about), phi, fitted[1])
        return pass_.inverse(sums[0].merge(sums[1]), best, about | {"chosen": asdict(best), "held_out": numbers})


def _listed(about: dict[str, Any]) -> dict[str, Any]:
    """Tuples as lists, as a file gives them back."""
    found: dict[str, Any] = json.loads(json.dumps(about))
    return found


@dataclass(frozen=True)
class Choice:
    """What the photographs held out have chosen: combinations of channels, cells along a side, and λ."""

    rank: int
    kernel: int
    strength: float


@dataclass
class _Pass:
    """What the crops are counted with: the grid, the channels' statistics, and where to keep the state."""

    phi: Representation
    grid: Grid
    shape: tuple[int, int, int]
    rank: int
    kernel: int
    kept: Checkpoint | None
    tick: Any

    @property
    def device(self) -> torch.device:
        """Where the sums are: with the weights, but where there is no float64."""
        device = device_of(self.phi)
        return torch.device("cpu") if device.type == "mps" else device

    def learn_channels(self, crops: Crops, count: int) -> None:
        """Find each channel's mean and the combinations of channels that tell most about the patch under a cell."""
        patch = self.phi.space.count * self.grid.side[0] * self.grid.side[1]
        sums, done = self._resumed("channels", self.shape[0], patch)
        for n in range(done, count):
            x = crops[n]
            f = self._features(x)
            for rows in self._bands(self.shape[0] + patch):
                sums.add(f[0, :, rows].flatten(1), self.grid.cut(x, self.shape[1:], rows)[0].to(f))
            self._keep("channels", sums, n + 1, count)
        self.mean = (sums.x / sums.n).float()
        self.projection = directions(*sums.covariances(), self.rank).float()

    def learn(self, crops: Crops, count: int, part: int) -> Sums:
        """The sums of neighbourhoods and patches over the crops."""
        patch = self.phi.space.count * self.grid.side[0] * self.grid.side[1]
        sums, done = self._resumed(f"part{part}", self.rank * self.kernel**2, patch)
        for n in range(done, count):
            x = crops[n]
            f = self._features(x)
            z = framed(reduced(f, self.mean.to(f), self.projection.to(f)), self.kernel)
            for rows in self._bands(self.rank * self.kernel**2 + patch):
                band = z[:, :, rows.start : rows.stop + self.kernel - 1]
                sums.add(F.unfold(band, self.kernel)[0], self.grid.cut(x, self.shape[1:], rows)[0].to(f))
            self._keep(f"part{part}", sums, n + 1, count)
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

    def inverse(self, sums: Sums, choice: Choice, about: dict[str, Any]) -> LinearInverse:
        """The regression as convolution weights, rounded as they will be kept in a file."""
        weights, offsets = sums.of_inputs(self._inputs(choice.rank, choice.kernel)).solve(choice.strength)
        shaped = rounded(weights).view(-1, choice.rank, choice.kernel, choice.kernel)
        projection = self.projection[: choice.rank].contiguous()
        size = (about["size"][0], about["size"][1])
        mean, projection, shaped, offsets = (t.cpu() for t in (self.mean, projection, shaped, offsets.float()))
        return LinearInverse(self.grid, mean, projection, shaped, offsets, probe(self.phi, size), about)

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


def _rank(rank: int | None, channels: int, kernel: int, outputs: int, memory: int) -> int:
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
