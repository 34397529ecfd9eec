"""Images from SIFT keypoints by the patches of others: each part against a plain writing, and small images whole."""

from __future__ import annotations

import numpy as np
import pytest

from preimage.errors import InputError
from preimage.methods import weinzaepfel2011

skimage = pytest.importorskip("skimage", reason="needs the extra shallow")


def blobs(seed=0, side=64):
    """Smooth noise with things of several sizes."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    x = sum(s * gaussian_filter(rng.normal(size=(side, side)), s, mode="wrap") for s in (1.5, 3.0, 6.0))
    return (127 + 100 * x / np.abs(x).max()).astype(np.float32)


def test_a_region_turned_with_its_picture_shows_the_same():
    x = blobs()
    one, two = weinzaepfel2011.keypoints(x), weinzaepfel2011.keypoints(np.rot90(x).copy())
    there = np.stack([63 - one.places[:, 1], one.places[:, 0]], axis=1)  # where rot90 brings each
    apart = np.abs(there[:, None] - two.places[None]).sum(axis=2) + np.abs(one.scales[:, None] - two.scales[None])
    pairs = [(i, int(row.argmin())) for i, row in enumerate(apart) if row.min() < 0.3]
    patches = weinzaepfel2011.seen(x, one), weinzaepfel2011.seen(np.rot90(x).copy(), two)
    inner = slice(8, 25)
    alike = [np.corrcoef(patches[0][i][inner, inner].ravel(), patches[1][j][inner, inner].ravel())[0, 1] for i, j in pairs]
    assert len(pairs) >= 5 and np.median(alike) > 0.95, (len(pairs), alike)


def test_an_image_comes_back_from_its_own_patches_better_than_from_others_and_joins_without_seams():
    x, other = blobs(1), blobs(2)
    keys = weinzaepfel2011.keypoints(x)
    found, by_others = (weinzaepfel2011.reconstruct(keys, x.shape, weinzaepfel2011.Patches.of([p]))[0, 0].numpy() for p in (x, other))
    alike = [np.corrcoef(x.ravel(), y.ravel())[0, 1] for y in (found, by_others)]
    assert alike[0] > 0.8 and alike[0] > alike[1], alike


def test_joining_is_where_no_place_is_pulled_by_its_neighbours_or_its_patch():
    rng = np.random.default_rng(0)
    levels, owner = rng.uniform(0, 255, (6, 7)), rng.integers(-1, 2, (6, 7))
    found = weinzaepfel2011.joined(levels, owner)
    for r, c in np.ndindex(6, 7):
        around = [(r + a, c + b) for a, b in ((0, 1), (1, 0), (0, -1), (-1, 0)) if 0 <= r + a < 6 and 0 <= c + b < 7]
        pulls = [found[r, c] - found[q] - (levels[r, c] - levels[q] if owner[r, c] == owner[q] >= 0 else 0.0) for q in around]
        assert abs(sum(pulls) + (0.01 * (found[r, c] - levels[r, c]) if owner[r, c] >= 0 else 0.0)) < 1e-8
    one = weinzaepfel2011.joined(levels, np.zeros((6, 7)))
    np.testing.assert_allclose(one, levels)  # of one patch nothing is changed


def test_no_photographs_and_no_keypoints_are_said():
    assert len(weinzaepfel2011.keypoints(np.full((32, 32), 90.0))) == 0
    with pytest.raises(InputError, match="give some"):
        weinzaepfel2011.Patches.of([])
    with pytest.raises(InputError, match="no keypoint"):
        weinzaepfel2011.Patches.of([np.full((32, 32), 90.0)])
