"""Textons: the filters of Leung and Malik against their formulas, histograms against a plain count, words in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.errors import InputError
from preimage.representations.encodings import BagOfWords
from preimage.representations.leung_malik import LeungMalik, leung_malik
from preimage.representations.shallow import load_shallow
from preimage.representations.textons import Textons
from preimage.representations.vocabulary import Vocabulary, learn_vocabulary, load_vocabulary

BANK = LeungMalik(4, 25)


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    return learn_vocabulary(preimage.images.reference_images(), 8, sift=BANK, descriptors=600, size=64, progress=False)


@pytest.fixture(scope="module")
def cat_levels() -> np.ndarray:
    with PIL.Image.open(next(p for p in preimage.images.reference_images() if "chelsea" in p)) as picture:
        return np.asarray(picture.convert("L").resize((56, 56)))


@pytest.fixture(scope="module")
def x(cat_levels: np.ndarray) -> Tensor:
    return torch.from_numpy(cat_levels.astype(np.float64))[None, None]


def test_filters_have_mean_zero_absolute_sum_one_and_their_symmetries() -> None:
    filters = leung_malik(49)
    assert filters.shape == (48, 49, 49)
    assert np.abs(filters.sum(axis=(1, 2))).max() < 1e-12
    assert np.abs(np.abs(filters).sum(axis=(1, 2)) - 1).max() < 1e-12
    turned = filters[:, ::-1, ::-1]
    assert np.abs(filters[:18] + turned[:18]).max() < 1e-12  # odd: first derivatives
    assert np.abs(filters[18:] - turned[18:]).max() < 1e-12  # even
    assert np.abs(filters[36:] - filters[36:].transpose(0, 2, 1)).max() < 1e-12  # round
    for first in range(0, 36, 6):  # direction k + 3 is k turned by a quarter
        assert np.abs(np.rot90(filters[first], -1) - filters[first + 3]).max() < 1e-12


def test_filters_are_the_derivatives_of_gaussians() -> None:
    """By finite differences of the Gaussian itself, in directions that are no pixels'."""
    filters, (y, x) = leung_malik(49), np.mgrid[-24:25, -24:25].astype(float)

    def gaussian(dx: float, dy: float, k: int, sigma: float) -> np.ndarray:
        u, v = x + dx, y + dy
        along, across = u * np.cos(np.pi * k / 6) + v * np.sin(np.pi * k / 6), v * np.cos(np.pi * k / 6) - u * np.sin(np.pi * k / 6)
        return np.asarray(np.exp(-(across**2) / (2 * sigma**2) - along**2 / (18 * sigma**2)))

    for k, scale in ((1, 0), (4, 2)):
        sigma, h = 2 ** ((scale + 1) / 2), 1e-3
        step = (-h * np.sin(np.pi * k / 6), h * np.cos(np.pi * k / 6))  # across
        plus, minus, middle = gaussian(*step, k, sigma), gaussian(-step[0], -step[1], k, sigma), gaussian(0, 0, k, sigma)
        for index, found in ((6 * scale + k, plus - minus), (18 + 6 * scale + k, plus + minus - 2 * middle)):
            found = found - found.mean()
            assert np.abs(filters[index] - found / np.abs(found).sum()).max() < 1e-6


def test_answers_are_correlations_compressed_as_a_whole(x: Tensor) -> None:
    answers = BANK(x)[0]
    assert answers.shape == (48, 8, 8)
    patch = x[0, 0, 8:33, 12:37].numpy() / 255
    raw = (leung_malik(25) * patch).sum(axis=(1, 2))
    length = np.linalg.norm(raw)
    assert np.abs(answers[:, 2, 3].numpy() - raw * np.log(1 + length / 0.03) / length).max() < 1e-9


@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_a_histogram_counts_the_nearest_textons(words: Vocabulary, x: Tensor, temperature: float) -> None:
    answers, c = BANK(x)[0].permute(1, 2, 0).numpy(), words.centres.double().numpy()
    distances = np.square(answers[:, :, None] - c).sum(axis=3)
    shares = np.exp(-(distances - distances.min(axis=2, keepdims=True)) / max(temperature, 1e-9))
    shares /= shares.sum(axis=2, keepdims=True)
    expected = [shares.mean(axis=(0, 1))] + [shares[i : i + 4, j : j + 4].mean(axis=(0, 1)) for i in (0, 4) for j in (0, 4)]
    found = Textons(words, (1, 2), temperature)(x)[0].numpy()
    assert np.abs(found - np.concatenate(expected)).max() < 1e-8


def test_brightness_does_not_count_and_samples_do_not_see_each_other(words: Vocabulary, x: Tensor) -> None:
    phi = Textons(words)
    assert (phi(x + 30) - phi(x)).abs().max() < 1e-9
    both = torch.cat((x, x.flip(3))).requires_grad_()
    assert (phi(both)[:1] - phi(x)).abs().max() < 1e-12
    (gradient,) = torch.autograd.grad(phi(both)[1].square().sum(), both)
    assert gradient[1].any() and not gradient[0].any()


def test_derivatives_are_those_of_finite_differences_and_a_flat_image_has_one(words: Vocabulary, x: Tensor) -> None:
    phi, generator = Textons(words, (1, 2)), torch.Generator().manual_seed(0)
    direction = torch.randn(x.shape, generator=generator, dtype=torch.float64)
    weights = torch.randn(phi(x).shape, generator=generator, dtype=torch.float64)
    probe = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((phi(probe) * weights).sum(), probe)
    change = ((phi(x + 1e-5 * direction) - phi(x - 1e-5 * direction)) * weights).sum() / 2e-5
    assert (gradient * direction).sum().item() == pytest.approx(change.item(), rel=1e-5)
    flat = torch.full((1, 1, 40, 40), 90.0, requires_grad=True)
    (gradient,) = torch.autograd.grad(phi(flat).square().sum(), flat)
    assert gradient.isfinite().all()


def test_textons_come_back_from_their_file_and_are_learned_on_the_command_line(words: Vocabulary, tmp_path: Path) -> None:
    words.save(tmp_path / "textons.safetensors")
    found = load_vocabulary(tmp_path / "textons.safetensors")
    assert torch.equal(found.centres, words.centres) and found.filters().extra_repr() == BANK.extra_repr()
    with pytest.raises(InputError, match="textons"):
        BagOfWords(found)
    given = ["vocabulary", *preimage.images.reference_images()[:1], "--textons", "--words", "3", "--size", "60", "--step", "2", "-q"]
    done = CliRunner().invoke(app, [*given, "-o", str(tmp_path / "own.safetensors")])
    assert done.exit_code == 0, done.output
    assert load_shallow("textons", load_vocabulary(tmp_path / "own.safetensors")).stride == 2
    refused = CliRunner().invoke(app, [*given, "--kind", "gmm", "-o", str(tmp_path / "other.safetensors")])
    assert refused.exit_code != 0


def test_it_inverts_by_the_same_call(words: Vocabulary, cat_levels: np.ndarray) -> None:
    result = preimage.invert(Textons(words, (1, 2)), cat_levels, iterations=50, progress=False)
    assert result.status == ["ok"] and result.error is not None
    assert result.error.item() < 0.25


def test_wrong_settings_are_named(words: Vocabulary) -> None:
    sift = Vocabulary("kmeans", torch.eye(3, 128))
    with pytest.raises(InputError, match="--textons"):
        Textons(sift)
    with pytest.raises(InputError, match="--textons"):
        load_shallow("textons")
    with pytest.raises(InputError, match="odd"):
        LeungMalik(support=24)
    with pytest.raises(InputError, match="at least 25x25"):
        BANK(torch.zeros(1, 1, 20, 60))
    with pytest.raises(InputError, match="48"):
        Vocabulary("kmeans", torch.eye(3, 128), descriptor=words.descriptor)
