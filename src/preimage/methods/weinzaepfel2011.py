"""An image from its SIFT keypoints and descriptors, by the patches of other photographs: Weinzaepfel, Jégou, Pérez, CVPR 2011.

Source: P. Weinzaepfel, H. Jégou, P. Pérez, Reconstructing an image from its local descriptors, CVPR 2011.

What differs: scikit-image's SIFT, whose regions are discs, in place of affine ones; grey in place of colours; some photographs in place
of thousands; and where the original pastes patch after patch, each by a Poisson equation with what is there as its edge, one equation
is solved for the whole image, with the gradients of the smallest patch at each place (`SHARE` keeps its levels near the patches').

This is no recipe: nothing is minimised over Φ, and of the image only places, sizes, turns and descriptors are known.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, missing_extra
from ..pixels.images import ImageLike, to_grey
from ..pixels.reading import read_image

RADIUS = 6.0  # of a region, in scales: half of SIFT's 4 bins of 3 scales each
SIDE = 33  # pixels of a kept patch
SHARE = 0.01  # weight of the patches' levels beside their gradients
DOUBLED = 0.25  # pixels: scikit-image looks at the image of twice the size, and takes half of a place there for the place
MIDDLE = 128.0  # the level of an image of no keypoints


@dataclass(frozen=True)
class Keypoints:
    """Regions of an image with their descriptors.

    places : (N, 2), row and column; scales : (N,), in pixels; turns : (N,), radians; descriptors : (N, 128), from 0 to 255
    """

    places: np.ndarray
    scales: np.ndarray
    turns: np.ndarray
    descriptors: np.ndarray

    def __len__(self) -> int:
        return len(self.scales)


@dataclass(frozen=True)
class Patches:
    """Descriptors of regions of photographs, (N, 128), and what is seen there, (N, 33, 33) in levels, all of one size and not turned."""

    descriptors: np.ndarray
    patches: np.ndarray

    @staticmethod
    def of(photographs: Sequence[ImageLike | os.PathLike[str]]) -> Patches:
        """Return the patches of photographs, of which the image to find should be none.

        Raises InputError where there are no photographs, or no keypoint in any, and MissingExtra without scikit-image.
        """
        if not len(photographs):
            raise InputError("Patches are taken from photographs: give some.")
        found = []
        for photograph in photographs:
            levels = _grey(photograph)
            keys = keypoints(levels)
            found.append((keys.descriptors, seen(levels, keys)))
        descriptors, patches = (np.concatenate(part) for part in zip(*found, strict=True))
        if not len(patches):
            raise InputError("There is no keypoint in these photographs: give larger ones, or others.")
        return Patches(descriptors, patches)


def keypoints(image: ImageLike | np.ndarray) -> Keypoints:
    """Return the SIFT keypoints of an image, by scikit-image at its defaults; none where it finds none.

    image : path, or array (H, W[, C]) of levels 0–255

    Raises MissingExtra without scikit-image.
    """
    try:
        from skimage.feature import SIFT
    except ImportError:
        raise missing_extra("SIFT keypoints", "shallow") from None
    make: Any = SIFT
    sift = make()
    try:
        sift.detect_and_extract(_grey(image) / 255)
    except RuntimeError:  # what scikit-image says where there is no keypoint
        return Keypoints(np.zeros((0, 2)), np.zeros(0), np.zeros(0), np.zeros((0, 128), np.uint8))
    return Keypoints(sift.positions - DOUBLED, sift.sigmas.astype(float), sift.orientations.astype(float), sift.descriptors)


def seen(levels: np.ndarray, keys: Keypoints) -> np.ndarray:
    """Return what is seen in each region, (N, 33, 33), brought to one size and turned back; beyond the edge its pixels are repeated."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    blurs: dict[int, np.ndarray] = {}
    found = np.zeros((len(keys), SIDE, SIDE), np.float32)
    line = np.linspace(-RADIUS, RADIUS, SIDE)
    down, right = np.meshgrid(line, line, indexing="ij")
    for k, (place, scale, turn) in enumerate(zip(keys.places, keys.scales, keys.turns, strict=True)):
        step = scale * 2 * RADIUS / (SIDE - 1)  # pixels from one to the next: blurred first where that is above 1, to the half octave
        level = max(0, round(2 * math.log2(max(step, 1e-6))))
        if level not in blurs:
            blurs[level] = levels if level == 0 else gaussian_filter(levels, 0.5 * math.sqrt(2.0**level - 1))
        rows, columns = _turned(down, right, turn)
        found[k] = map_coordinates(blurs[level], (place[0] + scale * rows, place[1] + scale * columns), order=1, mode="nearest")
    return found


def reconstruct(keys: Keypoints, size: tuple[int, int], patches: Patches) -> Tensor:
    """Return an image that might have these keypoints: the most alike patches at their places, joined without seams.

    Parameters
    ----------
    keys : Keypoints
        All that is known of the image.
    size : (height, width)
        In pixels.
    patches : Patches
        Of other photographs.

    Returns
    -------
    tensor (1, 1, H, W)
        In grey levels 0–255. Where there is no keypoint it is smooth.

    References
    ----------
    Weinzaepfel, Jégou, Pérez 2011, Sect. 3

    Examples
    --------
    >>> nothing = Keypoints(np.zeros((0, 2)), np.zeros(0), np.zeros(0), np.zeros((0, 128)))
    >>> reconstruct(nothing, (8, 8), Patches(np.zeros((1, 128)), np.zeros((1, 33, 33)))).unique()
    tensor([128.])
    """
    from scipy.ndimage import map_coordinates

    levels, owner = np.full(size, MIDDLE), np.full(size, -1)
    likest = nearest(keys.descriptors, patches.descriptors)
    for k in np.argsort(-keys.scales, kind="stable"):  # smaller regions, which show more, come on top
        window, rows, columns = _window(size, keys.places[k], RADIUS * keys.scales[k])
        down, right = _turned(rows / keys.scales[k], columns / keys.scales[k], -keys.turns[k])
        at = [(SIDE - 1) * (0.5 + part / (2 * RADIUS)) for part in (down, right)]
        inside = np.hypot(down, right) <= RADIUS
        levels[window] = np.where(inside, map_coordinates(patches.patches[likest[k]], at, order=1, mode="nearest"), levels[window])
        owner[window] = np.where(inside, k, owner[window])
    return torch.from_numpy(joined(levels, owner)).float().clamp(0, 255)[None, None]


def joined(levels: np.ndarray, owner: np.ndarray) -> np.ndarray:
    r"""Return the image f (H, W) of the patches' gradients without seams.

    It minimises :math:`\sum_{pq} (f_p - f_q - v_{pq})^2 + 0.01 \sum_{p\text{ owned}} (f_p - l_p)^2` over neighbours p and q, where
    :math:`v_{pq} = l_p - l_q` within a patch and 0 between two, and where there is none.

    levels : (H, W), l; owner : (H, W), the number of the patch at each place, -1 for none
    """
    from scipy.sparse import coo_array, diags_array
    from scipy.sparse.linalg import spsolve

    if not (owner >= 0).any():
        return levels.astype(float)
    number = np.arange(levels.size).reshape(levels.shape)
    pairs = np.concatenate(
        [np.stack([number[:-1].ravel(), number[1:].ravel()]), np.stack([number[:, :-1].ravel(), number[:, 1:].ravel()])], 1
    )
    whose, level = owner.ravel(), levels.ravel().astype(float)
    wanted = np.where((whose[pairs[0]] == whose[pairs[1]]) & (whose[pairs[0]] >= 0), level[pairs[0]] - level[pairs[1]], 0.0)
    edges, ones = np.arange(pairs.shape[1]), np.ones(pairs.shape[1])
    apart = coo_array((np.concatenate([ones, -ones]), (np.tile(edges, 2), pairs.ravel())), shape=(len(edges), levels.size)).tocsr()
    share = SHARE * (whose >= 0)
    found: np.ndarray = spsolve((apart.T @ apart + diags_array(share)).tocsc(), apart.T @ wanted + share * level)
    return found.reshape(levels.shape)


def nearest(descriptors: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return which of others (M, D) is nearest to each descriptor (N, D)."""
    if not len(descriptors):
        return np.zeros(0, int)
    own, other = (torch.from_numpy(np.asarray(d, np.float32)) for d in (descriptors, others))
    return torch.cat([torch.cdist(own[k : k + 512], other).argmin(dim=1) for k in range(0, len(own), 512)]).numpy()


def _window(size: tuple[int, int], place: np.ndarray, radius: float) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray]:
    """The part of an image within a radius of a place, and how far below it and right of it each of its pixels is."""
    spans = [slice(max(0, math.floor(p - radius)), max(0, min(n, math.ceil(p + radius) + 1))) for p, n in zip(place, size, strict=True)]
    rows, columns = np.meshgrid(*(np.arange(s.start, s.stop) - p for s, p in zip(spans, place, strict=True)), indexing="ij")
    return (spans[0], spans[1]), rows, columns


def _turned(down: np.ndarray, right: np.ndarray, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Places in a region's own frame, brought to the image's (or back, by the opposite turn)."""
    return math.cos(turn) * down - math.sin(turn) * right, math.sin(turn) * down + math.cos(turn) * right


def _grey(image: ImageLike | os.PathLike[str]) -> np.ndarray:
    """Levels (H, W)."""
    levels = np.asarray(image if isinstance(image, np.ndarray) else read_image(image), float)
    return levels if levels.ndim == 2 else np.asarray(to_grey(levels.astype(np.float32)), float)
