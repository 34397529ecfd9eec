"""HOGgles: the paired dictionary on data whose answer is known, on a photograph, and in its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import preimage
from preimage.errors import InputError, MissingExtra
from preimage.experiments.hoggles import PairedDictionary, learn_dictionary, load_dictionary, scikit_image_photographs
from preimage.representations.hog import HOG


@pytest.fixture(scope="module")
def dictionary() -> PairedDictionary:
    return learn_dictionary(preimage.images.reference_images(), 60, windows=3000, steps=8, progress=False)


@pytest.fixture(scope="module")
def cat() -> torch.Tensor:
    with PIL.Image.open(next(p for p in preimage.images.reference_images() if "chelsea" in p)) as picture:
        return torch.from_numpy(np.array(picture.convert("L").resize((96, 80)), dtype=np.float32))[None, None]


def test_a_window_that_is_one_atom_gives_that_atoms_patch() -> None:
    generator = torch.Generator().manual_seed(0)
    V = torch.linalg.qr(torch.randn(675, 12, generator=generator))[0].T.contiguous()  # orthogonal: the pursuit is exact
    U = torch.randn(12, 1600, generator=generator)
    pair = PairedDictionary(V, U, torch.full((675,), 0.1), atoms=3)
    window = (0.1 + 2.0 * V[4] - 1.0 * V[7]).view(1, 27, 5, 5)
    patch = (2.0 * U[4] - U[7]).view(40, 40)
    image = pair(window)[0, 0]
    expected = (patch - patch.mean()) / patch.std()
    assert ((image - image.mean()) / image.std() - expected).abs().max() < 1e-4
    assert image.mean().item() == pytest.approx(128, abs=1e-2)


def test_overlapping_patches_are_averaged() -> None:
    V = torch.eye(1, 675)
    U = torch.arange(40.0).repeat(40, 1).view(1, 1600)  # a ramp along x
    pair = PairedDictionary(V, U, torch.zeros(675), atoms=1)
    features = torch.zeros(1, 27, 5, 6)
    features[0, 0, 0, :2] = 1.0  # two windows, each the atom once
    image = pair(features)[0, 0, 0]
    ramps = torch.zeros(2, 48)
    ramps[0, :40], ramps[1, 8:] = torch.arange(40.0), torch.arange(40.0)
    mean = ramps.sum(dim=0) / torch.tensor([1.0] * 8 + [2.0] * 32 + [1.0] * 8)
    mean = (mean - mean.mean()) / mean.std()
    assert ((image - image.mean()) / image.std() - mean).abs().max() < 1e-3


def test_it_reconstructs_what_is_bright_and_dark_in_a_photograph(dictionary: PairedDictionary, cat: torch.Tensor) -> None:
    features = HOG()(cat)
    image = dictionary(features)
    assert image.shape == cat.shape
    correlation = torch.corrcoef(torch.stack((image.flatten(), cat.flatten())))[0, 1]
    assert correlation > 0.2
    mirrored = torch.corrcoef(torch.stack((image.flatten(), cat.flip(3).flatten())))[0, 1]
    assert correlation > mirrored + 0.1


def test_samples_do_not_see_each_other(dictionary: PairedDictionary, cat: torch.Tensor) -> None:
    both = HOG()(torch.cat((cat, cat.flip(3))))
    assert (dictionary(both)[:1] - dictionary(both[:1])).abs().max() < 1e-3


def test_a_flat_image_gives_a_flat_one_and_no_nan(dictionary: PairedDictionary) -> None:
    assert torch.isfinite(dictionary(torch.zeros(1, 27, 6, 5))).all()


def test_the_same_seed_gives_the_same_dictionary(dictionary: PairedDictionary) -> None:
    again = learn_dictionary(preimage.images.reference_images(), 60, windows=3000, steps=8, progress=False)
    assert torch.equal(again.pixels, dictionary.pixels)


def test_it_comes_back_from_its_file(dictionary: PairedDictionary, cat: torch.Tensor, tmp_path: Path) -> None:
    dictionary.save(tmp_path / "pairs.safetensors")
    found = load_dictionary(tmp_path / "pairs.safetensors")
    assert torch.equal(found(HOG()(cat)), dictionary(HOG()(cat)))
    assert dict(found.about) == dict(dictionary.about)
    for content in (b"", b"nothing", (tmp_path / "pairs.safetensors").read_bytes()[:5000]):
        (tmp_path / "broken").write_bytes(content)
        with pytest.raises(InputError, match="holds no paired dictionary"):
            load_dictionary(tmp_path / "broken")


def test_the_default_pictures_are_there() -> None:
    assert len(scikit_image_photographs()) == 4


def test_what_cannot_be_done_is_said(dictionary: PairedDictionary, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="at least 5x5 cells"):
        dictionary(torch.zeros(1, 27, 4, 9))
    with pytest.raises(InputError, match="too few for 500000 atoms"):
        learn_dictionary(preimage.images.reference_images()[:1], 500_000, progress=False)
    with pytest.raises(InputError, match="40x40 pixels"):
        learn_dictionary([PIL.Image.new("L", (30, 99), 3)], progress=False)
    with pytest.raises(InputError, match="finite"):
        PairedDictionary(torch.full((3, 675), float("nan")), torch.zeros(3, 1600), torch.zeros(675))
    with pytest.raises(InputError, match="atoms"):
        PairedDictionary(torch.zeros(3, 675), torch.zeros(3, 1600), torch.zeros(675), atoms=4)
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    with pytest.raises(MissingExtra, match=r"preimage\[shallow\]"):
        learn_dictionary(progress=False)


@pytest.mark.slow
def test_the_default_dictionary_does_what_the_docs_say(photographs: list[Path]) -> None:
    """67 % over all 20 photographs: docs/shallow.md."""
    dictionary = learn_dictionary(progress=False)
    phi = HOG()
    x = torch.cat([phi.space.encode(p, size=(256, 256)) for p in photographs[::5]])
    error = preimage.metrics.normalised_error(phi(dictionary(phi(x))), phi(x)).mean().item()
    assert 0.5 < error < 0.75
