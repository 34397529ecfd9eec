"""Locality-constrained codes, sparse codes and super-vectors against scikit-learn and plain sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

import preimage
from preimage.errors import InputError
from preimage.representations.codes import LLC, SparseCodes
from preimage.representations.dsift import DenseSIFT
from preimage.representations.encodings import SuperVector
from preimage.representations.vocabulary import Vocabulary

SMALL = DenseSIFT(4, 4)


@pytest.fixture(scope="module")
def x(cat_levels: np.ndarray) -> Tensor:
    return torch.from_numpy(cat_levels.astype(np.float64))[None, None]


def rows(x: Tensor) -> np.ndarray:
    """Descriptors (n, 128) of one image."""
    return SMALL(x)[0].flatten(1).T.numpy()


def largest(codes: np.ndarray, side: int, grids: tuple[int, ...]) -> np.ndarray:
    """Codes (side², K) -> the largest of every region, at length 1."""
    maps, parts = codes.reshape(side, side, -1), []
    for g in grids:
        region = np.arange(side) * g // side
        parts += [maps[region == r][:, region == c].max(axis=(0, 1)) for r in range(g) for c in range(g)]
    found = np.concatenate(parts)
    return np.asarray(found / np.linalg.norm(found))


def test_locality_constrained_codes_solve_the_paper_s_problem(words: Vocabulary, x: Tensor) -> None:
    """By Lagrange's conditions, written as one system with the constraint, and by the authors' rule for the penalty."""
    d, b, k, penalty = rows(x), words.centres.double().numpy(), 4, 1e-3
    expected = np.zeros((len(d), len(b)))
    for i, row in enumerate(d):
        nearest = np.square(b - row).sum(axis=1).argsort()[:k]
        near = b[nearest]
        weight = penalty * np.square(near - row).sum()
        system = np.block([[2 * near @ near.T + 2 * weight * np.eye(k), np.ones((k, 1))], [np.ones((1, k)), np.zeros((1, 1))]])
        expected[i, nearest] = np.linalg.solve(system, np.append(2 * near @ row, 1))[:k]
    phi = LLC(words, k, penalty)
    assert np.abs(phi.codes(torch.from_numpy(d), words.centres.double()).numpy() - expected).max() < 1e-8
    side = SMALL(x).shape[-1]
    assert np.abs(phi(x)[0].numpy() - largest(expected, side, (1, 2, 4))).max() < 1e-8


def test_sparse_codes_are_scikit_learns(words: Vocabulary, x: Tensor) -> None:
    from sklearn.decomposition import sparse_encode

    d, v = rows(x), words.centres.double().numpy()
    v = v / np.linalg.norm(v, axis=1, keepdims=True)
    for penalty in (0.15,):
        expected = np.abs(sparse_encode(d, v, algorithm="lasso_lars", alpha=penalty, max_iter=1000))
        phi = SparseCodes(words, penalty, rounds=500)
        assert np.abs(phi.codes(torch.from_numpy(d), words.centres.double()).numpy() - expected).max() < 1e-4
        assert np.abs(phi(x)[0].numpy() - largest(expected, SMALL(x).shape[-1], (1, 2, 4))).max() < 1e-4
        assert 0 < (expected > 0).mean() < 0.6


@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_super_vectors_are_the_paper_s_sums(words: Vocabulary, x: Tensor, temperature: float) -> None:
    d, c = rows(x), words.centres.double().numpy()
    distances = np.square(d[:, None] - c).sum(axis=2)
    shares = np.exp(-(distances - distances.min(axis=1, keepdims=True)) / max(temperature, 1e-9))
    shares /= shares.sum(axis=1, keepdims=True)
    expected = []
    for k in range(len(c)):
        p = shares[:, k].mean()
        codes = np.concatenate((np.full((len(d), 1), 3.0), d - c[k]), axis=1) * shares[:, k : k + 1]
        expected.append(codes.sum(axis=0) / np.sqrt(p) / len(d) if p else np.zeros(129))
    found = SuperVector(words, temperature=temperature, constant=3.0)(x)[0].numpy()
    assert np.abs(found - np.concatenate(expected)).max() < 1e-5  # 1e-12 is added to p


def test_brightness_and_contrast_change_nothing_that_sift_does_not_see(words: Vocabulary, x: Tensor) -> None:
    for phi in (LLC(words), SparseCodes(words), SuperVector(words)):
        assert (phi(x + 20) - phi(x)).abs().max() < 1e-9
        assert (phi(0.5 * x) - phi(x)).norm() < 0.01 * phi(x).norm()


@pytest.mark.parametrize(("name", "reached"), [("llc", 0.2), ("scspm", 0.2), ("super-vector", 0.4)])
def test_each_inverts_by_its_name(words: Vocabulary, cat_levels: np.ndarray, name: str, reached: float) -> None:
    from preimage.representations.shallow import load_shallow

    result = preimage.invert(load_shallow(name, words), cat_levels[8:56, 8:56], iterations=50, progress=False)
    assert result.status == ["ok"] and result.error is not None
    assert result.error.item() < reached


def test_wrong_settings_are_named(words: Vocabulary) -> None:
    with pytest.raises(InputError, match="13 neighbours"):
        LLC(words, 13)
    with pytest.raises(InputError, match="penalty"):
        LLC(words, penalty=0)
    with pytest.raises(InputError, match="penalty"):
        SparseCodes(words, penalty=-1)
    with pytest.raises(InputError, match="constant"):
        SuperVector(words, constant=-1)
    with pytest.raises(InputError, match="grids"):
        SuperVector(words, ())
