"""Collages to learn from: made of their numbers alone, within the range of pixels, of no photograph that is held out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import preimage
from preimage.inverses import Linear, fit_inverse, load_inverse
from preimage.inverses.collages import Collages, recoloured
from preimage.inverses.photographs import Crops, split
from preimage.representations.base import features_of

SPACE = preimage.PixelSpace(32)


@pytest.fixture(scope="module")
def photographs():
    return [np.random.default_rng(k).integers(0, 256, (40, 40, 3), dtype=np.uint8) for k in range(6)]


def phi_of(space):
    filters = torch.randn(8, space.count, 4, 4, generator=torch.Generator().manual_seed(0))
    return preimage.from_callable(lambda x: torch.relu(torch.nn.functional.conv2d(x, filters, stride=4) / 100), space)


def test_every_other_one_is_a_crop_of_a_photograph_and_the_others_are_made_of_their_numbers_alone(photographs):
    crops, collages = (kind(photographs, SPACE, (32, 32), 3) for kind in (Crops, Collages))
    for n in range(0, 12, 2):
        assert torch.equal(collages[n], crops[n // 2])
    later = {n: collages[n] for n in (11, 1, 5)}  # in another order
    again = Collages(photographs, SPACE, (32, 32), 3)
    assert all(torch.equal(again[n], x) for n, x in later.items())
    assert len({float(x.sum()) for x in later.values()}) == 3
    assert not torch.equal(Collages(photographs, SPACE, (32, 32), 4)[1], later[1])


@pytest.mark.parametrize("channels", ["rgb", "grey"])
def test_a_collage_has_the_range_of_pixels(photographs, channels):
    space = preimage.PixelSpace(32, channels)
    collages = Collages(photographs, space, (32, 24), 0)
    for n in range(1, 40, 2):
        levels = space.decode(collages[n])
        assert levels.shape == (1, space.count, 32, 24)
        assert levels.min() >= -1e-3 and levels.max() <= 255 + 1e-3 and bool(torch.isfinite(levels).all())


def test_a_colour_that_is_turned_keeps_its_distance_from_grey():
    """With every amount but the hue's at 0 the mean over channels and the saturation stay."""

    class Turned:
        def __init__(self):
            self.calls = 0

        def normal(self, mean, spread, size=None):
            self.calls += 1
            return np.zeros(size) if size is not None else (1.0 if self.calls == 4 else 0.0)  # the fourth amount is that of the hue

        def random(self):
            return 1.0

    levels = torch.tensor([150.0, 120.0, 90.0]).view(1, 3, 1, 1)
    found = recoloured(levels, Turned())
    assert not torch.allclose(found, levels, atol=5.0)
    torch.testing.assert_close(found.mean(), levels.mean())
    torch.testing.assert_close((found - found.mean()).norm(), (levels - levels.mean()).norm())


def test_an_inverse_learns_from_collages_of_what_it_learns_from_and_from_nothing_that_is_held_out(photographs, monkeypatch):
    made = []
    monkeypatch.setattr("preimage.inverses.fit.Collages", lambda *given: made.append(given) or Collages(*given))
    plain, collaged = (
        fit_inverse(phi_of(SPACE), photographs, kind=Linear(kernel=1, collages=c), crops=12, progress=False) for c in (False, True)
    )
    learned, held = split(len(photographs), 0.25)
    assert len(made) == 1 and held and [id(p) for p in made[0][0]] == [id(photographs[k]) for k in learned]
    assert plain.digest != collaged.digest
    assert "collages" not in plain.about["settings"] and collaged.about["settings"]["collages"] is True
    assert fit_inverse(phi_of(SPACE), photographs, kind="linear:kernel=1,collages=true", crops=12, progress=False).digest == collaged.digest


def test_an_inverse_that_learned_from_collages_is_read_back_as_it_was(photographs, tmp_path):
    phi = phi_of(SPACE)
    inverse = fit_inverse(phi, photographs, kind="linear:kernel=1,collages=true", crops=4, progress=False)
    inverse.save(tmp_path / "i.safetensors")
    f = features_of(phi, SPACE.encode(photographs[0]))
    assert torch.equal(load_inverse(tmp_path / "i.safetensors", phi)(f), inverse(f))
