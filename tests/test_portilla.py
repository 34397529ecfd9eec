"""Portilla's and Simoncelli's pyramid and statistics: their properties, a plain numpy writing, and plenoptic where it is installed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import preimage
from preimage.energy.portilla import SameTextureStatistics
from preimage.errors import InputError
from preimage.representations.steerable import SteerablePyramid, crop, pad
from preimage.representations.texture_statistics import TextureStatistics

GREY = preimage.PixelSpace(None, "grey", mean=(110.0,))


def noise(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)) * 30


@pytest.mark.parametrize(("size", "directions"), [((32, 48), 4), ((25, 37), 3)])
def test_bands_give_the_image_back_and_have_its_energy(size, directions):
    pyramid, x = SteerablePyramid(3, directions), noise(2, 1, *size)
    high, bands, low = pyramid(x)
    torch.testing.assert_close(pyramid.back(high, bands, low), x)
    energy = high.square().sum() + low.square().sum() + sum(band.abs().square().sum() for band in bands)
    torch.testing.assert_close(energy, x.square().sum())
    assert [tuple(b.shape[-2:]) for b in bands] == [(math.ceil(size[0] / 2**k), math.ceil(size[1] / 2**k)) for k in range(3)]


def test_fewer_frequencies_are_the_adjoint_of_more():
    a, b = (torch.fft.fft2(noise(*s)) for s in ((9, 12), (5, 6)))
    torch.testing.assert_close((crop(a, (5, 6)) * b.conj()).sum(), (a * pad(b, (9, 12)).conj()).sum())


def test_a_wave_is_in_the_band_of_its_direction_and_no_other_scale():
    x = np.mgrid[0:64, 0:64][1]
    wave = torch.from_numpy(np.cos(2 * np.pi * 8 * x / 64))[None, None]  # a quarter of half a wave a pixel: scale 1, direction 0
    high, bands, low = SteerablePyramid(3, 4)(wave)
    size = [band.abs().square().sum(dim=(0, 1, 3, 4)) for band in bands]
    assert high.square().sum() < 1e-20 and low.square().sum() < 1e-20 and size[0].sum() < 1e-20 and size[2].sum() < 1e-20
    assert int(size[1].argmax()) == 0 and size[1][2] < 1e-20
    magnitude = bands[1][0, 0, 0].abs()
    torch.testing.assert_close(magnitude, magnitude.mean().expand_as(magnitude))  # an analytic band has no ripples


def test_statistics_do_not_see_where_a_texture_lies_and_keep_samples_apart():
    phi, x = TextureStatistics(preimage.PixelSpace(None, "rgb"), scales=2), noise(2, 3, 32, 32)
    found = phi(x)
    torch.testing.assert_close(phi(x.roll((8, 4), (2, 3))), found)  # by whole places of the coarsest band
    torch.testing.assert_close(phi(x[1:]), found[1:])
    other = x.clone()
    other[0] += noise(3, 32, 32, seed=5)
    assert torch.equal(phi(other)[1], found[1]) and not torch.allclose(phi(other)[0], found[0])
    leaf = x.requires_grad_()
    (slope,) = torch.autograd.grad(phi(leaf)[0].sum(), leaf)
    assert bool(slope[0].any()) and not bool(slope[1].any())


def test_a_grey_image_has_710_numbers_and_flat_ones_have_finite_slopes():
    phi = TextureStatistics(GREY)
    assert phi(noise(1, 1, 128, 128)).shape == (1, 710)
    flat = torch.zeros(1, 1, 32, 32, requires_grad=True)
    values = phi(flat)
    (slope,) = torch.autograd.grad(values.sum(), flat)
    assert bool(values.isfinite().all()) and bool(slope.isfinite().all())


def plain(x, scales, directions):
    """The same numbers of one grey image whose sides are multiples of 2^scales, with centred spectra and loops."""
    height, width = x.shape
    v, u = np.meshgrid((np.arange(height) - height // 2) * 2 / height, (np.arange(width) - width // 2) * 2 / width, indexing="ij")
    radius, angle = np.hypot(u, v), np.arctan2(v, u)
    waves = np.fft.fftshift(np.fft.fft2(x))

    def low(k):
        with np.errstate(divide="ignore"):
            return np.where(radius > 0, np.cos(np.pi / 2 * np.clip(np.log2(radius * 2 ** (k + 1)), 0, 1)), 1.0)

    def image(f, k):
        h, w = height // 2**k, width // 2**k
        top, left = height // 2 - h // 2, width // 2 - w // 2
        return np.fft.ifft2(np.fft.ifftshift(f[top : top + h, left : left + w])) / 2**k

    def moments(a):
        a = a - a.mean()
        var = (a**2).mean()
        return var, (a**3).mean() / (var + 1e-4) ** 1.5, (a**4).mean() / (var + 1e-4) ** 2

    def correlation(a, b):
        return (a * b).mean() / np.sqrt(((a**2).mean() + 1e-4) * ((b**2).mean() + 1e-4))

    def neighbours(a):
        a = a - a.mean()
        places = [(r, c) for r in range(4) for c in range(-3, 4) if r > 0 or c > 0]
        return [(a * np.roll(a, (r, c), (0, 1))).mean() / ((a**2).mean() + 1e-4) for r, c in places]

    def centred(a):
        return np.abs(a) - np.abs(a).mean()

    alpha = 2 ** (directions - 1) * math.factorial(directions - 1) / math.sqrt(directions * math.factorial(2 * directions - 2))
    bands, spectra = [], []
    for k in range(scales):
        bands.append([])
        spectra.append([])
        for b in range(directions):
            cosine = np.cos(angle - np.pi * b / directions)
            spectra[k].append(
                waves * low(k) * np.sqrt(np.maximum(0, 1 - low(k + 1) ** 2)) * np.sqrt(2) * alpha * np.where(cosine > 0, cosine, 0)
                ** (directions - 1) * (-1j) ** (directions - 1)
            )  # fmt: skip
            bands[k].append(image(spectra[k][b], k))
    found = dict(zip(("pixel variance", "pixel skewness", "pixel kurtosis"), moments(x), strict=True))
    found |= {"pixel mean": x.mean(), "pixel least": x.min(), "pixel largest": x.max()}
    found["high variance"] = (image(waves * np.sqrt(np.maximum(0, 1 - low(0) ** 2)), 0).real ** 2).mean()
    for k in range(scales + 1):
        a = image(waves * low(k) ** 2, k).real
        found |= dict(zip((f"low {k} variance", f"low {k} skewness", f"low {k} kurtosis"), moments(a), strict=True))
        found[f"low {k} neighbours"] = neighbours(a)
    for k, scale in enumerate(bands):
        found[f"magnitude {k} variance"] = [np.var(np.abs(c)) for c in scale]
        found[f"magnitude {k} neighbours"] = [neighbours(np.abs(c)) for c in scale]
        pairs = [(i, j) for i in range(directions) for j in range(i + 1, directions)]
        found[f"magnitude {k} directions"] = [correlation(centred(scale[i]), centred(scale[j])) for i, j in pairs]
        if k + 1 < scales:
            coarse = [image(f, k) for f in spectra[k + 1]]
            doubled = [np.abs(c) * np.exp(2j * np.angle(c)) for c in coarse]
            found[f"magnitude {k} coarser"] = [[correlation(centred(a), centred(b)) for b in doubled] for a in scale]
            parts = [*(d.real for d in doubled), *(d.imag for d in doubled)]
            found[f"real {k} coarser"] = [[correlation(a.real, b) for b in parts] for a in scale]
    return found


def test_statistics_are_their_formulas_with_centred_spectra_and_loops():
    x = noise(32, 48, seed=2).cumsum(0).numpy() / 3
    expected = plain(x, 2, 3)
    found = TextureStatistics(GREY, scales=2, directions=3).measured(torch.from_numpy(x)[None, None])
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name][0, 0], values, rtol=1e-6, atol=1e-7, err_msg=name)


def test_colours_are_compared_at_the_same_place():
    x = noise(1, 3, 16, 16)
    found = TextureStatistics(preimage.PixelSpace(None, "rgb"), scales=1).measured(x)
    grey, red = x.sum(1).numpy(), (x[:, 0] - x[:, 2]).numpy()
    np.testing.assert_allclose(found["pixel channels"][0, 0], np.corrcoef(grey.ravel(), red.ravel())[0, 1], rtol=1e-4)
    assert found["magnitude 0 channels"].shape == (1, 3, 4)


@pytest.mark.slow  # about 4 seconds of descent
def test_portilla_finds_the_statistics_of_a_texture_which_its_pixels_in_another_order_have_not():
    rng = np.random.default_rng(3)
    texture = np.clip(rng.uniform(60, 190, 32) + rng.normal(0, 12, (32, 32)), 0, 255).astype(np.uint8)  # standing stripes
    phi = preimage.from_callable(lambda x: x, preimage.PixelSpace(32, "grey", mean=(110.0,)), name="pixels")
    found = preimage.invert(phi, texture, recipe="portilla2000", iterations=60, progress=False).images - 110.0
    x0 = torch.from_numpy(texture).float()[None, None] - 110.0
    shuffled = torch.from_numpy(rng.permutation(texture.ravel()).reshape(32, 32)).float()[None, None] - 110.0
    statistics = TextureStatistics(phi.space)
    apart = [(statistics(x) - statistics(x0)).square().sum().item() for x in (found, shuffled)]
    assert apart[0] < apart[1] / 4, apart
    assert found.var(dim=2).mean() < found.var(dim=3).mean()


def test_a_pyramid_asks_no_layer():
    with pytest.raises(InputError, match="leave of= out"):
        SameTextureStatistics(of="fire2").bind(None)
    with pytest.raises(InputError, match="fewer scales"):
        SteerablePyramid(4)(torch.zeros(1, 1, 16, 16))


def test_statistics_are_plenoptic_s_but_for_known_factors():
    """Its bands of scale k are 2^k times as large, and √2 for the magnitudes; its variance is that of a sample."""
    plenoptic = pytest.importorskip("plenoptic", reason="compared with plenoptic: pip install -r benchmarks/requirements-peers.txt")
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(1, 1, 64, 64)).cumsum(2).cumsum(3))
    model = plenoptic.models.PortillaSimoncelli((64, 64), n_scales=3).double()
    wanted = {name: values[0, 0] for name, values in model.convert_to_dict(model(x)).items()}
    found = {name: values[0, 0] for name, values in TextureStatistics(GREY, scales=3).measured(x).items()}

    def same(own, other):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)

    def neighbours(own, square):
        both = [(own[..., n], square[3 + s * r, 3 + s * c]) for n, (r, c) in enumerate(moves) for s in (1, -1)]
        known = [(a, b) for a, b in both if not bool(b.isnan().any())]
        assert len(known) == len(moves)
        for a, b in known:
            same(a, b)

    moves = [(r, c) for r in range(4) for c in range(-3, 4) if r > 0 or c > 0]
    more = 4096 / 4095
    for value, (name, factor) in zip(
        wanted["pixel_statistics"],
        {"mean": 1, "variance": more, "skewness": more**-1.5, "kurtosis": more**-2, "least": 1, "largest": 1}.items(),
        strict=True,
    ):
        same(found[f"pixel {name}"] * factor, value)
    same(found["high variance"], wanted["var_highpass_residual"][0])
    for k in range(4):
        same(found[f"low {k} variance"].sqrt() * 2**k, wanted["std_reconstructed"][k])
        same(found[f"low {k} skewness"], wanted["skew_reconstructed"][k])
        same(found[f"low {k} kurtosis"], wanted["kurtosis_reconstructed"][k])
        neighbours(found[f"low {k} neighbours"], wanted["auto_correlation_reconstructed"][..., k])
    above = torch.triu_indices(4, 4, offset=1)
    for k in range(3):
        same(found[f"magnitude {k} variance"].sqrt() * 2 ** (k + 0.5), wanted["magnitude_std"][:, k])
        neighbours(found[f"magnitude {k} neighbours"], wanted["auto_correlation_magnitude"][..., k])
        same(found[f"magnitude {k} directions"], wanted["cross_orientation_correlation_magnitude"][..., k].T[above[0], above[1]])
        if k < 2:
            same(found[f"magnitude {k} coarser"], wanted["cross_scale_correlation_magnitude"][..., k])
            same(found[f"real {k} coarser"], wanted["cross_scale_correlation_real"][..., k])
