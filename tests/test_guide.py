"""Guided DeepDream against a plain writing of the notebook's gradient."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch

import preimage
from preimage.energy.guide import Guided
from preimage.energy.transforms import Jitter
from preimage.errors import InputError
from preimage.methods.deepdream2015 import guided_by
from preimage.pixels.images import reference_images


def test_the_guided_gradient_is_the_notebooks_up_to_the_divisor():
    rng = np.random.default_rng(0)
    x, guide = rng.normal(size=(5, 4, 3)), rng.normal(size=(5, 2, 6))
    flat, y = x.reshape(5, -1), guide.reshape(5, -1)
    best = (flat.T @ y).argmax(axis=1)  # what the notebook gives to the layer: y[:, best], which the solver then climbs
    loss, target = Guided(), torch.from_numpy(guide)[None]
    value, slope = loss.differentiate(torch.from_numpy(x)[None], target, loss.scale(target))
    divisor = 12 * (y**2).sum(axis=0).mean()
    np.testing.assert_allclose(-slope[0].numpy().reshape(5, -1) * divisor, y[:, best], rtol=1e-12)
    np.testing.assert_allclose(value.item(), -(flat * y[:, best]).sum() / divisor, rtol=1e-12)


def test_a_guide_does_not_say_where_and_has_the_channels_of_the_features():
    x, guide = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 5, 2)
    torch.testing.assert_close(Guided()(x, guide), Guided()(x, guide.flip(-1, -2)))  # sums in another order
    with pytest.raises(InputError, match="A guide of 4 channels cannot guide 3"):
        Guided()(x, torch.rand(1, 4, 2, 2))
    with pytest.raises(InputError, match="another guide"):
        Guided().scale(torch.zeros(1, 3, 2, 2))


def test_a_guided_dream_answers_more_to_its_guide_than_the_photograph_does(tmp_path):
    clouds, flowers = reference_images()[:2]
    PIL.Image.fromarray(np.asarray(PIL.Image.open(flowers).convert("RGB").resize((64, 64)))).save(tmp_path / "guide.png")
    phi = preimage.load_network("squeezenet1_1").layer("fire2")
    x0 = phi.space.encode(clouds, size=(64, 64))
    found = preimage.caricature(phi, x0, recipe=guided_by(tmp_path / "guide.png"), transform=Jitter(1), iterations=4, progress=False)
    guide = phi(phi.space.encode(tmp_path / "guide.png", size=(64, 64)))
    answers = [Guided()(phi(x), guide).item() for x in (x0, found.images - phi.space.mean_colour)]
    assert answers[1] < 1.02 * answers[0] < 0, answers
    assert found.config["recipe"] == "deepdream2015-guided"
