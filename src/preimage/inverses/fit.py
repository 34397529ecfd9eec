"""Fit an inverse: ridge regression in closed form from streaming sums, in bounded memory, resumable, the same for the same seed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..pixels.images import ImageLike, check_file
from ..plain import to_plain
from ..ranges import checked
from ..representations.base import Representation, RepresentationLike, as_representation
from ..solvers.compute import memory_limit
from .collages import Collages
from .fitting import HELD_CROPS, Checkpoint, canvas_of, fit_bar, fit_session, held_out_numbers
from .grid import Pair, find_grid
from .kinds import KINDS, Layerwise, Linear, Upconv, kind_of
from .layerwise import earlier_layers, fit_layerwise
from .learned import LearnedInverse, identity, probe
from .linear import LinearInverse
from .photographs import Crops, digest, gather, split
from .regression import FIRST_CROPS, Regression, rank_for
from .train import CROPS as TRAINING_CROPS
from .train import of_pairs, train_upconv

REVISION = 1  # of what a fit gives: raised when it changes
CROPS = 200


def fit_inverse(
    phi: RepresentationLike,
    images: ImageLike | Sequence[ImageLike] | None = None,
    *,
    kind: str | Linear | Upconv | Layerwise = "linear",
    size: int | Pair | None = None,
    crops: int | None = None,
    held_out: float = 0.25,
    seed: int = 0,
    max_memory: int | str = "2GB",
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> LearnedInverse:
    """Fit an inverse of a representation: a map from its features to the image, learned from photographs.

    Features are taken of random crops (40 to 100 % of a photograph, mirrored or not; of collages of them too where the kind says so),
    a few at a time, and never kept. A linear
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
    kind : "linear", "upconv", "layerwise", `Linear`, `Upconv` or `Layerwise`
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
        A `LinearInverse`, an `UpconvInverse` or a `LayerwiseInverse`.

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
    crops = checked("crops", (TRAINING_CROPS if isinstance(how, Upconv) else CROPS) if crops is None else crops)
    checked("seed", seed)
    if checkpoint is not None:
        check_file(checkpoint)
    photographs = gather(images)
    parts = split(len(photographs), held_out)
    canvas = canvas_of(phi, size)
    memory = memory_limit(max_memory, torch.device("cpu")) or 0
    about = identity(phi) | {"photographs": len(photographs), "photographs_sha256": digest(photographs), "free": images is None}
    about |= {"size": list(canvas), "preimage": __version__}
    settings = to_plain(how, KINDS)
    about["settings"] = {"kind": settings.pop("name"), "crops": crops, "held_out": held_out, "seed": seed} | settings
    learned, held = ([photographs[k] for k in which] for which in parts)
    from_what = Collages if how.collages else Crops  # the numbers and the choices are of crops of photographs as they are
    fitted = [from_what(learned, phi.space, canvas, seed), Crops(held, phi.space, canvas, seed + 1)]
    kept = None if checkpoint is None else Path(checkpoint)
    if isinstance(how, Upconv):
        if of_pairs(phi):
            about["settings"]["feature_loss"] = 0.0
            how = replace(how, feature_loss=0.0)
        with fit_bar(phi.name, min(FIRST_CROPS, crops) + crops // how.batch * how.batch, progress) as tick:
            final: LearnedInverse = train_upconv(phi, (fitted[0], fitted[1]), crops, how, _listed(about), memory, kept, tick)
    elif isinstance(how, Layerwise):
        steps = len(earlier_layers(phi, how.through)) + 1
        length = steps * (min(FIRST_CROPS, crops) + crops + max(HELD_CROPS, crops // 10))
        with fit_bar(phi.name, length, progress) as tick:
            final = fit_layerwise(phi, (fitted[0], fitted[1]), crops, how, _listed(about), memory, kept, tick)
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
    rank = rank_for(how.rank, shape[0], how.kernel, outputs, memory)
    about = about | {"cells": list(shape[1:]), "settings": about["settings"] | {"rank": rank}}
    counts = (crops, max(HELD_CROPS, crops // 10))
    checkpoint = None if kept is None else Checkpoint(kept, about)
    with torch.no_grad(), fit_session(phi), fit_bar(phi.name, min(FIRST_CROPS, crops) + sum(counts), progress) as tick:
        pass_ = Regression(phi, grid, shape, rank, how.kernel, phi.space.count, checkpoint, tick)
        pass_.learn_channels(fitted[0], min(FIRST_CROPS, crops))
        sums = [pass_.learn(f, count, n) for n, (f, count) in enumerate(zip(fitted, counts, strict=True))]
        best = pass_.choose(sums, how.strengths)
        seen = probe(phi, (about["size"][0], about["size"][1]))
        numbers = held_out_numbers(pass_.inverse(sums[0], best, seen, about), phi, fitted[1])
        return pass_.inverse(sums[0].merge(sums[1]), best, seen, about | {"chosen": asdict(best), "held_out": numbers})


def _listed(about: dict[str, Any]) -> dict[str, Any]:
    """Tuples as lists, as a file gives them back."""
    found: dict[str, Any] = json.loads(json.dumps(about))
    return found
