"""Fit an inverse: ridge regression in closed form from streaming sums, in bounded memory, resumable, the same for the same seed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import __version__
from ..bars import progress_bar
from ..errors import InputError
from ..pixels.images import ImageLike, atomic_write, check_file
from ..ranges import checked
from ..registry import only_known
from ..representations.base import Representation, RepresentationLike, as_representation, device_of, features_of
from ..solvers.compute import memory_limit
from .grid import Grid, Pair, find_grid, like_of
from .linear import LinearInverse, framed, identity, probe, reduced
from .photographs import Crops, digest, gather, split
from .sums import Sums

if TYPE_CHECKING:
    from typing_extensions import Unpack

REVISION = 1  # of what a fit gives: raised when it changes
KERNEL, OVERLAP, RANK = 3, 2, 128
CROPS, HELD_CROPS, FIRST_CROPS = 200, 24, 48
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)  # λ, of the mean variance of an input
WHITENING = 1e-2  # of the mean variance of a channel, added before the channels' directions are compared
SIDE = 224  # of crops for representations of any size
BAND = 2**26  # bytes of neighbourhoods that are held at once
EVERY = 20  # crops between checkpoints


class LinearArguments(TypedDict, total=False):
    """What a linear map can be: how many cells it sees, how large its patches are, of which combinations of channels, how regular."""

    kernel: int
    overlap: int
    rank: int | None
    strengths: Sequence[float]


def fit_inverse(
    phi: RepresentationLike,
    images: ImageLike | Sequence[ImageLike] | None = None,
    *,
    kind: str = "linear",
    size: int | Pair | None = None,
    crops: int = CROPS,
    held_out: float = 0.25,
    seed: int = 0,
    max_memory: int | str = "2GB",
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **linear: Unpack[LinearArguments],
) -> LinearInverse:
    """Fit a linear inverse of a representation: from k x k cells of features to the patch of pixels under the middle one.

    Features are taken of random crops (40 to 100 % of a photograph, mirrored or not), one at a time, and only sums of their products
    are kept. From the first crops come each channel's mean and the `rank` combinations of channels that tell most about the pixels;
    from all of them the ridge regression, whose strength and size are chosen on the photographs held out. The result then also learns from
    those; `about["chosen"]` has what was chosen and `about["held_out"]` the numbers from before it did.

    Parameters
    ----------
    phi : representation
        One that gives a map of features: a network's layer, the `layer:grid` of a transformer, HOG, dense SIFT.
    images : files, folders, pictures, optional
        Photographs to learn from, at least four. By default the free ones that scikit-image, scikit-learn and matplotlib carry.
    kind : {"linear"}
        What to fit.
    size : int or (height, width), optional
        Of the crops; by default what phi takes, or 224.
    crops : int, default 200
        How many to fit on; a tenth of that, at least 24, of the photographs held out decides the strength.
    held_out : float, default 0.25
        The part of the photographs that chooses λ and gives the numbers: every fourth.
    seed : int, default 0
        Of the crops. The same call with the same number of threads gives the same bits.
    max_memory : int or str, default "2GB"
        For the sums and their solution, the network aside.
    checkpoint : path, optional
        A file for the state, written every 20 crops; the same call goes on from it, and removes it at the end.
    progress : bool, default True
        Show a bar with the time left.

    Other Parameters
    ----------------
    kernel : int, default 3
        k, odd; the photographs held out may choose 1.
    overlap : int, default 2
        Side of a patch in strides of the map.
    rank : int, optional
        Combinations of channels; by default 128, or all where there are fewer, or less where that would not fit into
        max_memory. The photographs held out may choose a half or a quarter of them.
    strengths : sequence of float
        λ to choose from, in mean variances of an input.

    Returns
    -------
    LinearInverse

    Raises
    ------
    InputError
        For features without a grid or with NaN, too few photographs, settings that cannot be used, and a foreign checkpoint.
    MissingExtra
        Without photographs where scikit-image or scikit-learn is not installed.

    References
    ----------
    Dosovitskiy & Brox, Inverting visual representations with convolutional networks, CVPR 2016, learn such maps with a network.

    Examples
    --------
    >>> import numpy as np, preimage
    >>> phi = preimage.from_callable(lambda x: torch.nn.functional.pixel_unshuffle(x, 4), preimage.PixelSpace(32, "grey"))
    >>> photographs = [np.random.default_rng(k).integers(0, 256, (40, 40), dtype=np.uint8) for k in range(4)]
    >>> inverse = fit_inverse(phi, photographs, crops=8, kernel=1, overlap=1, strengths=[1e-9], progress=False)
    >>> x = phi.space.encode(photographs[0])
    >>> bool((inverse(phi(x)) - x).abs().max() < 1)
    True
    """
    phi = as_representation(phi)
    if kind != "linear":
        raise InputError(f"kind is 'linear'; got {kind!r}.")
    only_known(linear, LinearArguments.__annotations__, "preimage.fit_inverse")
    kernel, overlap, rank = linear.get("kernel", KERNEL), linear.get("overlap", OVERLAP), linear.get("rank")
    strengths = linear.get("strengths", STRENGTHS)
    for name, value in (("crops", crops), ("kernel", kernel), ("overlap", overlap), ("seed", seed)):
        checked(name, value)
    if kernel % 2 == 0:
        raise InputError(f"kernel is an odd number of cells; got {kernel}.")
    if not strengths or not all(s > 0 for s in strengths):
        raise InputError(f"strengths are numbers above 0, at least one; got {strengths!r}.")
    if checkpoint is not None:
        check_file(checkpoint)
    photographs = gather(images)
    chosen, held = split(len(photographs), held_out)
    canvas = _canvas(phi, size)
    grid, shape = find_grid(phi, canvas, overlap)
    outputs = phi.space.count * grid.side[0] * grid.side[1]
    chosen_rank = _rank(rank, shape[0], kernel, outputs, memory_limit(max_memory, torch.device("cpu")) or 0)
    settings = {"kind": kind, "crops": crops, "kernel": kernel, "overlap": overlap, "strengths": list(strengths), "held_out": held_out}
    settings |= {"seed": seed, "rank": chosen_rank}
    about = identity(phi) | {"photographs": len(photographs), "photographs_sha256": digest(photographs), "free": images is None}
    about |= {"size": list(canvas), "cells": list(shape[1:]), "settings": settings, "preimage": __version__}
    about = json.loads(json.dumps(about))  # tuples as lists, as a file gives them back
    fitted = [Crops([photographs[k] for k in which], phi.space, canvas, seed + n) for n, which in enumerate((chosen, held))]
    counts = (crops, max(HELD_CROPS, crops // 10))
    kept = None if checkpoint is None else _Checkpoint(Path(checkpoint), about)
    with torch.no_grad(), phi.session(), _bar(phi.name, min(FIRST_CROPS, crops) + sum(counts), progress) as tick:
        pass_ = _Pass(phi, grid, shape, chosen_rank, kernel, kept, tick)
        pass_.learn_channels(fitted[0], min(FIRST_CROPS, crops))
        sums = [pass_.learn(f, count, n) for n, (f, count) in enumerate(zip(fitted, counts, strict=True))]
        best = pass_.choose(sums, strengths)
        numbers = _judge(pass_.inverse(sums[0], best, about), phi, fitted[1], HELD_CROPS)
        final = pass_.inverse(sums[0].merge(sums[1]), best, about | {"chosen": asdict(best), "held_out": numbers})
    if kept is not None:
        kept.path.unlink(missing_ok=True)
    return final


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
    kept: _Checkpoint | None
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
        half = weights.half()
        weights = (half if bool(torch.isfinite(half).all()) else weights).float()
        shaped = weights.view(-1, choice.rank, choice.kernel, choice.kernel)
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
            sums, done = found[0].to(self.device), found[1]
        self.tick(done)
        return sums, done

    def _keep(self, name: str, sums: Sums, done: int, count: int) -> None:
        self.tick(1)
        if self.kept is not None and (done % EVERY == 0 or done == count):
            self.kept.write(name, sums, done)


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


class _Checkpoint:
    """The state of a fit that has not ended: sums by name, and how many crops are in them; one file a name, each whole."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path, self.about = path, json.loads(json.dumps(about))
        self._found = self._load() if path.exists() else {}

    def read(self, name: str) -> tuple[Sums, int] | None:
        return self._found.get(name)

    def write(self, name: str, sums: Sums, done: int) -> None:
        from safetensors.torch import save

        self._found[name] = (sums, done)
        tensors = {k: t.cpu() for n, (s, _) in self._found.items() for k, t in s.tensors(n).items()}
        record = {"about": self.about, "done": {n: d for n, (_, d) in self._found.items()}}
        with atomic_write(self.path) as file:
            file.write(save(tensors, metadata={"preimage-inverse-checkpoint": json.dumps(record)}))

    def _load(self) -> dict[str, tuple[Sums, int]]:
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.path, framework="pt") as file:
                record = json.loads((file.metadata() or {})["preimage-inverse-checkpoint"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            found = {n: (Sums.from_tensors(n, tensors), int(done)) for n, done in record["done"].items()}
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise InputError(f"{str(self.path)!r} is no checkpoint of a fit ({error}). Name another file, or remove it.") from error
        differ = [k for k, v in self.about.items() if record["about"].get(k) != v]
        if differ:
            raise InputError(f"{str(self.path)!r} is of a fit with another {' and '.join(differ)}. Name another file, or remove it.")
        return found


def _judge(inverse: LinearInverse, phi: Representation, crops: Crops, count: int) -> dict[str, Any]:
    """Means over crops of photographs held out: PSNR in dB, and the normalised error of the features of the inverse's images."""
    psnr, error = [], []
    for n in range(count):
        x = crops[n].to(like_of(phi))
        f = features_of(phi, x)
        found = inverse(f, (x.shape[2], x.shape[3]))
        levels = phi.space.decode(found.to(x)).clamp(0.0, 255.0)
        psnr.append(10 * torch.log10(255.0**2 / (levels - phi.space.decode(x)).square().mean()).item())
        again = features_of(phi, levels - phi.space.mean_colour.to(x))
        error.append(((again - f).norm() / f.norm()).item())
    return {"crops": count, "psnr": sum(psnr) / count, "feature_error": sum(error) / count}


def _canvas(phi: Representation, size: int | Pair | None) -> Pair:
    if size is None:
        return phi.space.size or (SIDE, SIDE)
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(s, int) and s > 0 for s in sides):
        raise InputError(f"size is a whole number of pixels, or (height, width); got {size!r}.")
    return sides[0], sides[1]


def _rank(rank: int | None, channels: int, kernel: int, outputs: int, memory: int) -> int:
    """How many combinations of channels. Raises InputError for more than there are, or than fit into the memory."""

    def fits(r: int) -> bool:
        inputs = r * kernel**2
        return 8 * (5 * inputs**2 + 6 * inputs * outputs) + 4 * BAND <= memory

    if rank is not None:
        checked("rank", rank)
        if rank > channels:
            raise InputError(f"rank is at most the number of channels, {channels}; got {rank}.")
        if not fits(rank):
            raise InputError(f"A rank of {rank} with {kernel}x{kernel} cells does not fit into max_memory: take less, or give more.")
        return rank
    found = next((r for r in range(min(RANK, channels), 0, -1) if fits(r)), 0)
    if not found:
        raise InputError(f"Nothing fits into max_memory of {memory:,} bytes for patches of {outputs} values: give more.")
    return found


@contextmanager
def _bar(title: str, length: int, shown: bool) -> Iterator[Any]:

    with progress_bar(total=length, desc=f"inverse of {title}", unit="crop", shown=shown) as bar:
        yield bar.update
