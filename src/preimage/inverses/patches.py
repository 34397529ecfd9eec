"""Patches of photographs, and the mixture of Gaussians that a `PatchPrior` is of."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..bars import progress_bar
from ..energy.patches import LARGEST, PatchMixture
from ..errors import InputError, missing_extra, whole
from ..pixels.images import ImageLike, find_pictures, levels_of, read_image, resize, to_grey
from .photographs import free_photographs

SHORT = 256  # pixels of the short side to which a photograph is brought, so that its detail is that of a network's images
FLOOR = 1.0  # squared grey levels that are added to all variances: those of rounding are 1/12
ROUNDS = 100


def fit_patch_prior(
    images: str | os.PathLike[str] | Sequence[ImageLike] | None = None,
    *,
    side: int = 6,
    components: int = 10,
    patches: int = 20_000,
    seed: int = 0,
    progress: bool = False,
) -> PatchMixture:
    """Fit a mixture of Gaussians to small patches of photographs, for `PatchPrior(file=…)`.

    Parameters
    ----------
    images : folder, list of images, or None
        The photographs; default the ten of `free_photographs()`. Colours are made grey, and the short side 256
        pixels.
    side : int, default 6
        Of a patch, in pixels, 2 to 32.
    components : int, default 10
        How many Gaussians.
    patches : int, default 20,000
        How many are fitted to, as many of each photograph, drawn evenly over its places.
    seed : int, default 0
        Of the places and of the first guess; the same seed and photographs give the same mixture.
    progress : bool, default False
        A bar over the photographs.

    Returns
    -------
    PatchMixture
        Its `save` writes the file.

    Raises
    ------
    InputError : for numbers out of range, no photograph, one that is smaller than a patch, and patches that are all flat
    MissingExtra : without scikit-learn (extra `shallow`)

    Source: Zoran, Weiss, ICCV 2011, with 200 components of 8 x 8 pixels fitted to two million patches.

    >>> rng = np.random.default_rng(0)
    >>> found = fit_patch_prior([rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)], side=2, components=1, patches=400)
    >>> found.side, tuple(found.covariances.shape)
    (2, (1, 4, 4))
    """
    side, components, patches, seed = (
        whole("side", side, 2),
        whole("components", components, 1),
        whole("patches", patches, 1),
        whole("seed", seed, 0),
    )
    if side > LARGEST:
        raise InputError(f"side is at most {LARGEST} pixels; got {side}.")
    if patches < 2 * side**2 * components:
        raise InputError(f"{components} components of {side**2} pixels want at least {2 * side**2 * components} patches; got {patches}.")
    sources = _sources(images)
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
    except ImportError:
        raise missing_extra("Fitting needs scikit-learn", "shallow") from None
    digest, found = hashlib.sha256(), []
    each = -(-patches // len(sources))
    for number, source in enumerate(progress_bar(sources, desc="patches", unit="image", shown=progress)):
        read = levels_of(source, 3) if isinstance(source, np.ndarray) else read_image(source)
        levels = _brought(to_grey(np.asarray(read, np.float32)))
        if min(levels.shape) < side:
            raise InputError(f"A photograph of {levels.shape[0]} x {levels.shape[1]} pixels has no patch of {side} x {side}.")
        digest.update(np.ascontiguousarray(levels).tobytes())
        found.append(_drawn(levels, side, each, np.random.default_rng([seed, number])))
    drawn = np.concatenate(found)[:patches]
    drawn -= drawn.mean(axis=1, keepdims=True)
    if not drawn.any():
        raise InputError("All patches of these photographs are flat: there is nothing to fit.")
    mixture = GaussianMixture(components, reg_covar=FLOOR, random_state=seed % 2**32, max_iter=ROUNDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a hundred rounds are enough for a prior
        mixture.fit(drawn)
    about = {"photographs": len(sources), "sha256": digest.hexdigest(), "seed": seed, "patches": len(drawn)}
    # about 0: a patch and its negative are as likely
    moments = mixture.covariances_ + mixture.means_[:, :, None] * mixture.means_[:, None, :]
    return PatchMixture(torch.from_numpy(mixture.weights_).float(), torch.from_numpy(moments).float(), about)


def _sources(images: str | os.PathLike[str] | Sequence[ImageLike] | None) -> Sequence[Any]:
    if images is None:
        return free_photographs()
    if isinstance(images, (str, os.PathLike)):
        return find_pictures(images)
    if not images:
        raise InputError("There is no photograph to fit to.")
    return images


def _brought(levels: np.ndarray) -> np.ndarray:
    """Levels with a short side of at most SHORT pixels."""
    ratio = SHORT / min(levels.shape)
    return levels if ratio >= 1 else resize(levels, (round(levels.shape[0] * ratio), round(levels.shape[1] * ratio)))


def _drawn(levels: np.ndarray, side: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Patches at random places, (count, side²), in float64."""
    all_ = np.lib.stride_tricks.sliding_window_view(levels, (side, side))
    rows, columns = (rng.integers(0, n, count) for n in all_.shape[:2])
    return all_[rows, columns].reshape(count, side * side).astype(np.float64)
