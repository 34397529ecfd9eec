"""FRAME's filters and histograms against plain numpy writings, and that a descent finds an image that has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import preimage
from preimage.energy.frame import FilterHistograms, Histograms
from preimage.errors import InputError
from preimage.representations.filters import FilterBank

GREY = preimage.PixelSpace(None, "grey", mean=(110.0,))


def test_filters_are_their_formulas_summed_over_a_torus():
    x = np.random.default_rng(0).normal(size=(7, 9))
    found = FilterBank(GREY, surrounds=(1.5,), waves=(3.0,), directions=2)(torch.from_numpy(x)[None, None])[0].numpy()
    rows, columns = np.arange(-3, 4), np.arange(-4, 5)
    v, u = np.meshgrid(rows, columns, indexing="ij")
    window = {0: np.exp(-(4 * u**2 + v**2) / 18), 1: np.exp(-(4 * v**2 + u**2) / 18)}
    shapes = [(u**2 + v**2 - 2.25) * np.exp(-(u**2 + v**2) / 2.25)]
    shapes += [window[0] * np.cos(2 * np.pi * u / 3), window[0] * np.sin(2 * np.pi * u / 3)]
    shapes += [window[1] * np.cos(2 * np.pi * v / 3), window[1] * np.sin(2 * np.pi * v / 3)]
    np.testing.assert_allclose(found[0], x, atol=1e-12)
    for answer, shape in zip(found[1:], shapes, strict=True):
        kernel = shape - shape.mean()
        kernel /= np.sqrt((kernel**2).sum())
        plain = sum(kernel[r + 3, c + 4] * np.roll(x, (r, c), (0, 1)) for r in rows for c in columns)
        np.testing.assert_allclose(answer, plain, atol=1e-12)


def test_a_wave_of_two_pixels_has_no_sine_along_the_rows_and_colours_are_turned_without_loss():
    assert len(FilterBank(GREY, surrounds=(), waves=(2.0,), directions=1).kernels(8, 8)) == 2
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    colours = FilterBank(preimage.PixelSpace(None, "rgb"), surrounds=(), waves=())(x)
    torch.testing.assert_close(colours.square().sum((1, 2, 3)), x.square().sum((1, 2, 3)))
    torch.testing.assert_close(colours[:, 0], x.sum(1) / 3**0.5)
    with pytest.raises(InputError, match="above 0"):
        FilterBank(GREY, waves=(0.0,))


def test_histograms_share_each_value_between_two_bins():
    rng = np.random.default_rng(1)
    x, y = 4 * rng.normal(size=(2, 30)), rng.normal(size=(2, 20))
    expected, outside = [], []
    for a, b in zip(x, y, strict=True):
        middle, span = (b.min() + b.max()) / 2, b.max() - b.min()
        centres = np.linspace(middle - span, middle + span, 6)

        def histogram(values, centres=centres):
            inner = np.clip(values, centres[0], centres[-1])
            shares = np.maximum(0, 1 - np.abs(inner[:, None] - centres) / (centres[1] - centres[0]))
            return shares.mean(axis=0)

        np.testing.assert_allclose(histogram(a).sum(), 1)
        beyond = (a - np.clip(a, centres[0], centres[-1])) / (y.max(axis=1) - y.min(axis=1)).max()
        expected.append((np.cumsum(histogram(a) - histogram(b))[:-1] ** 2).mean() + (beyond**2).mean())
        outside.append(np.abs(beyond).max())
    found = Histograms(bins=6)(torch.from_numpy(x)[None, :, :, None], torch.from_numpy(y)[None, :, :, None])
    np.testing.assert_allclose(found.item(), np.mean(expected), rtol=1e-10)
    assert max(outside) > 0


def test_zhu_finds_the_histograms_of_a_texture_which_its_pixels_in_another_order_have_not():
    rng = np.random.default_rng(3)
    texture = np.clip(rng.uniform(60, 190, 24) + rng.normal(0, 12, (24, 24)), 0, 255).astype(np.uint8)  # standing stripes
    phi = preimage.from_callable(lambda x: x, preimage.PixelSpace(24, "grey", mean=(110.0,)), name="pixels")
    found = preimage.invert(phi, texture, recipe="zhu1998", iterations=60, progress=False).images - 110.0
    x0 = torch.from_numpy(texture).float()[None, None] - 110.0
    shuffled = torch.from_numpy(rng.permutation(texture.ravel()).reshape(24, 24)).float()[None, None] - 110.0
    bank = FilterBank(phi.space)
    apart = [Histograms()(bank(x), bank(x0)).item() for x in (found, shuffled)]
    assert apart[0] < apart[1] / 10, apart
    assert found.var(dim=2).mean() < found.var(dim=3).mean()


def test_filters_ask_no_layer():
    with pytest.raises(InputError, match="leave of= out"):
        FilterHistograms(of="fire2").bind(None)
