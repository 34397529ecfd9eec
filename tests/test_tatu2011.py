"""Two images of one HOG: it is reached by going past its ceiling, and only a HOG without signs is deceived."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch

import preimage
from preimage.errors import InputError
from preimage.methods.tatu2011 import PastCeiling, disguise

SIDE = 32


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    found = []
    for path in preimage.images.reference_images()[:2]:
        with PIL.Image.open(path) as picture:
            found.append(np.asarray(picture.convert("L").resize((SIDE, SIDE))))
    return found


def disguised(wanted: np.ndarray, shown: np.ndarray, directed: bool = False, **given: float) -> preimage.InversionResult:
    phi = PastCeiling(preimage.HOG(bilinear=True, directed=directed))
    return preimage.invert(phi, wanted, recipe=disguise(**given), start=shown, progress=False)  # type: ignore[arg-type]


def alike(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_a_picture_gets_the_hog_of_another_and_still_looks_like_itself(pictures: list[np.ndarray]) -> None:
    wanted, shown = pictures
    phi = preimage.HOG(bilinear=True, directed=False)
    target = phi(phi.space.encode(wanted))
    found = disguised(wanted, shown, rate=4.0, steps=100)
    image = found.images[0, 0].numpy()
    before = (phi(phi.space.encode(shown)) - target).norm() / target.norm()
    by_hand = (phi(found.images - 128) - target).norm() / target.norm()
    assert found.error is not None
    assert found.error.item() == pytest.approx(by_hand.item(), rel=1e-4)
    assert before > 0.5 and by_hand < 0.15
    assert image.min() >= 0 and image.max() <= 255
    assert alike(image, shown) > alike(image, wanted) + 0.3


def test_a_hog_that_knows_signs_is_deceived_less(pictures: list[np.ndarray]) -> None:
    wanted, shown = pictures
    errors = [disguised(wanted, shown, directed, steps=40).error for directed in (False, True)]
    assert errors[0] is not None and errors[1] is not None
    assert errors[0] < 0.7 * errors[1]


def test_the_gradient_passes_the_ceiling_of_a_hog_and_the_values_stay(pictures: list[np.ndarray]) -> None:
    hog = preimage.HOG(bilinear=True, directed=False)
    phi, x = PastCeiling(hog), hog.space.encode(pictures[0])
    probe = x.clone().requires_grad_()
    at_ceiling = hog(x) >= 0.4 - 1e-6
    assert at_ceiling.any()
    (shut,) = torch.autograd.grad(hog(probe)[at_ceiling].sum(), probe)
    with phi.opened(1.0):
        assert torch.equal(phi(probe), hog(x))
        (open_,) = torch.autograd.grad(phi(probe)[at_ceiling].sum(), probe)
    assert not shut.any() and open_.any()


def test_undirected_channels_are_the_last_of_all_channels(pictures: list[np.ndarray]) -> None:
    x = preimage.HOG().space.encode(pictures[0])
    assert torch.equal(preimage.HOG(directed=False)(x), preimage.HOG()(x)[:, 18:])
    assert torch.equal(preimage.HOG(texture=True, directed=False)(x), preimage.HOG(texture=True)(x)[:, 18:])
    assert preimage.HOG(directed=False).channels == 9 and preimage.HOG(directed=False).name == "hog-undirected"
    inverted = preimage.HOG(directed=False)(-x)
    torch.testing.assert_close(inverted, preimage.HOG(directed=False)(x))


def test_wrong_settings_are_named() -> None:
    with pytest.raises(InputError, match="weight"):
        disguise(weight=-1.0)
    with pytest.raises(InputError, match="steps"):
        disguise(steps=0)
