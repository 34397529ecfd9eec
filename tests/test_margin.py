"""The margin between a class and its rivals: against a second writing, and what does not change it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import preimage
from preimage.energy.margin import Margin
from preimage.errors import InputError


def scores(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def one_hot(samples: int, channels: int, places: int | None = None) -> torch.Tensor:
    found = torch.zeros(samples, channels, dtype=torch.float64)
    found[torch.arange(samples), torch.arange(samples)] = 1
    return found if places is None else found[..., None, None].expand(-1, -1, places, places) / places**2


def second_writing(x: np.ndarray, share: float, rivals: int, Z: float) -> list[float]:
    values = []
    for b, row in enumerate(x):
        others = sorted(np.delete(row, b))[::-1][:rivals]
        values.append(-(row[b] - share * sum(others) / len(others)) / Z)
    return values


@pytest.mark.parametrize(("share", "rivals"), [(0.5, 3), (1.0, 1), (0.0, 2), (0.5, 99)])
def test_the_margin_is_a_second_writings(share, rivals):
    found = Margin(share, rivals, 2.0)(scores(3, 8), one_hot(3, 8))
    np.testing.assert_allclose(found.numpy(), second_writing(scores(3, 8).numpy(), share, rivals, 2.0), rtol=1e-12)


def test_a_map_counts_as_its_mean_whatever_the_places_of_the_target():
    x = scores(3, 8, 4, 4)
    loss = Margin()
    for places in (4, 7):
        torch.testing.assert_close(loss(x, one_hot(3, 8, places)), loss(x.mean(dim=(2, 3)), one_hot(3, 8)))


def test_samples_are_apart_and_the_gradient_is_the_formulas():
    x = scores(3, 8, 2, 2).requires_grad_()
    target = one_hot(3, 8, 2)
    assert torch.autograd.gradcheck(lambda x: Margin(rivals=2)(x, target), x)
    alone = torch.cat([Margin()(x[b : b + 1], target[b : b + 1]) for b in range(3)])
    assert torch.equal(alone, Margin()(x, target))


def test_a_constant_that_all_scores_share_changes_a_full_share_not_at_all():
    x, target = scores(3, 8), one_hot(3, 8)
    torch.testing.assert_close(Margin(share=1.0)(x + 5, target), Margin(share=1.0)(x, target))


@pytest.mark.parametrize("wrong", [{"share": -0.1}, {"rivals": 0}, {"Z": 0.0}, {"Z": float("inf")}])
def test_a_margin_that_means_nothing_is_refused(wrong):
    with pytest.raises(InputError):
        Margin(**wrong)


def test_one_channel_has_no_rivals():
    with pytest.raises(InputError, match="between channels"):
        Margin()(scores(2, 1), one_hot(2, 2)[:, :1])


def test_a_class_image_is_asked_for_by_the_margin_and_its_energy_is_the_formula(net):
    phi = net.layer("conv10")
    asked = {
        "unit": 7,
        "everywhere": True,
        "canvas": 96,
        "transform": preimage.Jitter(1),
        "C": 1.0,
        "objective": preimage.Distinguish(),
        "progress": False,
    }
    first, later = (preimage.maximize(phi, iterations=n, **asked) for n in (1, 12))
    assert float(later.energy["loss"]) < float(first.energy["loss"])
    with torch.no_grad():
        scores = phi(later.images - net.space.mean_colour).mean(dim=(2, 3))[0]
    others = torch.cat([scores[:7], scores[8:]]).sort(descending=True).values[:10]
    assert float(later.energy["loss"]) == pytest.approx(float(-(scores[7] - others.mean() / 2) / 20), rel=1e-3, abs=1e-4)
