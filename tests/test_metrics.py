"""Metrics: their properties, and each against a second, plain numpy or scipy writing or the library that defines it."""

from __future__ import annotations

import hashlib
import importlib.util
import re

import numpy as np
import pytest
import scipy.ndimage
import skimage.metrics
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st

import preimage
from preimage import metrics
from preimage.errors import InputError, MissingExtra, UnknownName
from preimage.metrics import perceptual
from preimage.pixels.images import read_image


@pytest.fixture(scope="module")
def photo():
    """The three photographs, (3, 3, 200, 224), each from its corner."""
    levels = [read_image(p)[:200, :224] for p in preimage.images.reference_images()]
    return torch.from_numpy(np.stack(levels)).permute(0, 3, 1, 2).contiguous()


def noisy(x, amount, seed=0):
    return x + amount * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


PAIRS = {
    "psnr": metrics.psnr,
    "ssim": metrics.ssim,
    "ms_ssim": metrics.ms_ssim,
    "naturalness": metrics.naturalness,
    "rms": lambda x, y: -metrics.rms(x, y),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_metric_falls_with_noise_and_keeps_samples_apart(photo, name):
    metric = PAIRS[name]
    little, much = metric(noisy(photo, 5), photo), metric(noisy(photo, 40), photo)
    assert little.shape == (3,)
    assert bool((much < little).all())
    alone = torch.cat([metric(noisy(photo, 5)[b : b + 1], photo[b : b + 1]) for b in range(3)])
    torch.testing.assert_close(little, alone, rtol=1e-6, atol=0)
    torch.testing.assert_close(metric(photo, noisy(photo, 5)), little, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["ssim", "ms_ssim", "naturalness"])
def test_the_same_image_has_similarity_one(photo, name):
    torch.testing.assert_close(PAIRS[name](photo, photo), torch.ones(3), rtol=0, atol=1e-6)


def test_pictures_are_compared_as_a_screen_shows_them(photo):
    beyond = torch.where(photo >= 255, photo + 50, photo)
    assert bool((beyond > 255).any())
    for name in ("ssim", "ms_ssim"):
        assert torch.equal(PAIRS[name](beyond, noisy(photo, 9)), PAIRS[name](photo, noisy(photo, 9)))


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_that_of_scikit_image(photo, channels):
    x, y = (t[:, :channels].clamp(0, 255) for t in (noisy(photo, 20), photo))
    expected = [
        skimage.metrics.structural_similarity(
            a.double().numpy(), b.double().numpy(), channel_axis=0, data_range=255, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )
        for a, b in zip(x, y, strict=True)
    ]  # fmt: skip
    np.testing.assert_allclose(metrics.ssim(x, y), expected, rtol=1e-6)  # rounded to float32 at the end


def ms_ssim_by_scipy(a, b):
    """Wang, Simoncelli & Bovik 2003 for one channel, with scipy's filters."""
    weights = [0.0448, 0.2856, 0.3001, 0.2363, 0.1333]
    out = 1.0
    for k, weight in enumerate(weights):
        f = lambda z: scipy.ndimage.gaussian_filter(z, 1.5, radius=5)[5:-5, 5:-5]  # noqa: E731
        ma, mb = f(a), f(b)
        va, vb, cov = f(a * a) - ma**2, f(b * b) - mb**2, f(a * b) - ma * mb
        contrast_structure = (2 * cov + 7.65**2) / (va + vb + 7.65**2)
        luminance = (2 * ma * mb + 2.55**2) / (ma**2 + mb**2 + 2.55**2)
        out *= max((contrast_structure * luminance if k == 4 else contrast_structure).mean(), 0) ** weight
        a, b = (z[: len(z) // 2 * 2, : z.shape[1] // 2 * 2] for z in (a, b))
        a, b = ((z[::2, ::2] + z[1::2, ::2] + z[::2, 1::2] + z[1::2, 1::2]) / 4 for z in (a, b))
    return out


@pytest.mark.parametrize("size", [(176, 192), (199, 223)])
def test_ms_ssim_is_that_of_the_paper_written_with_scipy(photo, size):
    x, y = (t[..., : size[0], : size[1]].clamp(0, 255) for t in (noisy(photo, 30), photo))
    expected = [
        np.mean([ms_ssim_by_scipy(a[c].double().numpy(), b[c].double().numpy()) for c in range(3)]) for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(metrics.ms_ssim(x, y), expected, rtol=1e-6)


def test_ms_ssim_of_a_negative_is_zero_and_not_nan(photo):
    value = metrics.ms_ssim(255 - photo, photo)
    assert bool(((value >= 0) & (value < 0.3)).all())


def histogram_by_loops(grey):
    """imgradient and the weighted histogram of exp_naturalness.m, pixel by pixel."""
    z = np.pad(grey, 1, mode="edge")
    out = np.zeros(18)
    for u in range(grey.shape[0]):
        for v in range(grey.shape[1]):
            p = z[u : u + 3, v : v + 3]
            gx = sum(w * (p[r, 2] - p[r, 0]) for r, w in enumerate((1, 2, 1)))
            gy = sum(w * (p[2, c] - p[0, c]) for c, w in enumerate((1, 2, 1)))
            direction = np.degrees(np.arctan2(-gy, gx))
            out[min(int((direction + 180) // 20), 17)] += np.hypot(gx, gy)
    return out / out.sum()


def test_the_gradient_histogram_is_that_of_imgradient(photo):
    rng = np.random.default_rng(0)
    some = torch.from_numpy(rng.uniform(-20, 280, (2, 3, 12, 9)))
    found = metrics.gradient_histogram(some)
    for image, h in zip(some.numpy(), found, strict=True):
        grey = 0.298936 * image[0] + 0.587043 * image[1] + 0.114021 * image[2]
        np.testing.assert_allclose(h, histogram_by_loops(grey), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(metrics.gradient_histogram(photo).sum(dim=1), torch.ones(3, dtype=torch.float64))


def test_a_ramp_has_its_one_direction_and_turns_with_the_image():
    # brighter to the right: 0 degrees, the tenth bin; up: 90 degrees; left: 180 degrees, in MATLAB -180; down: -90
    ramp = (torch.arange(8.0).expand(1, 1, 8, 8) * 9).clone()
    bins = [int(metrics.gradient_histogram(ramp.rot90(k, (2, 3))).argmax()) for k in range(4)]
    assert bins == [9, 13, 0, 4]
    assert metrics.naturalness(ramp, ramp.rot90(1, (2, 3))).item() == 0.0
    assert metrics.naturalness(torch.full((1, 3, 8, 8), 7.0), ramp).item() == 0.0


def test_roughness_is_the_ratio_of_total_variations_on_a_screen_and_grows_with_noise(photo):
    rng = np.random.default_rng(0)
    x, y = (torch.from_numpy(rng.uniform(-40, 300, (1, 2, 7, 9))) for _ in range(2))

    def variation(image):
        z = image[0].clamp(0, 255).numpy()
        return sum(np.hypot(c[u + 1, v] - c[u, v], c[u, v + 1] - c[u, v]) for c in z for u in range(6) for v in range(8))

    assert metrics.roughness(x, y).item() == pytest.approx(variation(x) / variation(y), rel=1e-6)
    little, much = metrics.roughness(noisy(photo, 5), photo), metrics.roughness(noisy(photo, 40), photo)
    assert bool((little > 1).all()) and bool((much > little).all())
    torch.testing.assert_close(metrics.roughness(photo / 2, photo), torch.full((3,), 0.5))


@settings(deadline=None, max_examples=25)
@given(st.floats(0.1, 10), st.floats(-100, 100))
def test_naturalness_sees_neither_contrast_nor_brightness(gain, offset):
    x = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 255
    torch.testing.assert_close(metrics.naturalness(x * gain + offset, x), torch.ones(1), rtol=0, atol=1e-5)


def test_the_route_of_the_original_is_a_stretched_png(photo, tmp_path):
    x = photo * 0.4 + 60.5
    stretched = metrics.through_png(x)
    assert stretched.amin(dim=(1, 2, 3)).tolist() == [0, 0, 0]
    assert stretched.amax(dim=(1, 2, 3)).tolist() == [255, 255, 255]
    preimage.images.write_png(tmp_path / "x.png", preimage.images.contrast_stretch(x[:1])[0])
    assert torch.equal(torch.from_numpy(read_image(tmp_path / "x.png")).permute(2, 0, 1), stretched[0])


def test_agreement_is_of_the_classes_that_the_network_names(net, photographs):
    originals = torch.cat([net.space.decode(net.space.encode(p)) for p in photographs[:3]])
    assert metrics.top1_agreement(net, originals, originals).tolist() == [True] * 3
    swapped = originals[[0, 2, 1]]
    named = [net.top(p, 1)[0][0][0] for p in photographs[:3]]
    assert named[1] != named[2]
    assert metrics.top1_agreement(net, swapped, originals).tolist() == [True, False, False]
    larger = torch.nn.functional.interpolate(originals[1:], scale_factor=2)
    assert metrics.top1_agreement(net, larger, originals[1:]).tolist() == [True] * 2
    with pytest.raises(InputError, match="2 images and 3 originals"):
        metrics.top1_agreement(net, originals[:2], originals)


def test_intervals_and_spreads_are_those_of_the_figures():
    rng = np.random.default_rng(0)
    errors = rng.uniform(0, 1, (5, 4))
    found = metrics.interval(torch.from_numpy(errors))
    assert found.mean == pytest.approx(errors.mean())
    assert found.half == pytest.approx(1.96 * errors.std(ddof=1) / np.sqrt(20))
    assert np.isnan(metrics.interval(torch.tensor([0.5])).half)
    np.testing.assert_allclose(metrics.spread(torch.from_numpy(errors)), errors.std(axis=1, ddof=1))
    with pytest.raises(InputError, match="at least 2 restarts"):
        metrics.spread(torch.zeros(3, 1))
    with pytest.raises(InputError, match="no values"):
        metrics.interval(torch.zeros(0))


def test_pairwise_distance_is_the_mean_over_all_pairs():
    x = torch.from_numpy(np.random.default_rng(0).uniform(0, 255, (2, 3, 1, 4, 4)))
    expected = [np.mean([np.sqrt(((i[a] - i[b]) ** 2).mean()) for a, b in ((0, 1), (0, 2), (1, 2))]) for i in x.numpy()]
    np.testing.assert_allclose(metrics.pairwise_distance(x), expected)
    with pytest.raises(InputError, match="at least 2 restarts"):
        metrics.pairwise_distance(x[:, :1])


def test_an_image_is_found_again_where_its_own_original_is_the_nearest(photo):
    assert metrics.reidentified(noisy(photo, 30), photo).tolist() == [True] * 3
    assert metrics.reidentified(noisy(photo, 30)[[1, 1]], photo, torch.tensor([1, 2])).tolist() == [True, False]
    alike = metrics.reidentified(noisy(photo, 30), photo, distance=lambda x, y: -metrics.ssim(x, y))
    assert alike.tolist() == [True] * 3
    features = torch.eye(4)
    assert metrics.reidentified(features * 0.9, features).float().mean() == 1.0
    assert not metrics.reidentified(features[:1], features[[0, 0, 1]])  # a tie
    for match, call in [
        ("fewer than 2", lambda: metrics.reidentified(photo[:1], photo[:1])),
        ("one source among 3 originals", lambda: metrics.reidentified(photo, photo, torch.tensor([0, 1, 3]))),
        ("one source among 2 originals", lambda: metrics.reidentified(photo, photo[:2])),
    ]:
        with pytest.raises(InputError, match=match):
            call()


def test_wrong_shapes_are_refused(photo):
    for match, call in [
        ("one shape", lambda: metrics.ssim(photo, photo[:2])),
        ("at least 11 pixels", lambda: metrics.ssim(photo[..., :10], photo[..., :10])),
        ("at least 176 pixels", lambda: metrics.ms_ssim(photo[..., :175], photo[..., :175])),
        ("grey or RGB", lambda: metrics.naturalness(photo[:, :2], photo[:, :2])),
    ]:
        with pytest.raises(InputError, match=match):
            call()


has_lpips = pytest.mark.skipif(importlib.util.find_spec("lpips") is None, reason="the package lpips, which carries LPIPS's own weights")


@pytest.fixture
def random_backbone(tmp_path, monkeypatch):
    """A checkpoint of random weights that passes for torchvision's."""
    import torchvision

    def make(net):
        torch.manual_seed(0)
        card = perceptual._NETS[net]
        model = getattr(torchvision.models, card.model)(weights=None)
        path = tmp_path / "net.pth"
        torch.save(model.state_dict(), path)
        digits = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        monkeypatch.setitem(perceptual._NETS, net, perceptual._Net(card.model, f"net-{digits}.pth", card.compared, card.linear))
        return path, model.features

    return make


@has_lpips
@pytest.mark.parametrize("net", ["alex", "squeeze"])
def test_lpips_is_the_sum_over_layers_of_weighted_unit_differences(random_backbone, photo, net):
    path, features = random_backbone(net)
    found = metrics.LPIPS(net, path)
    x, y = noisy(photo, 30)[:2, :, :96, :96], photo[:2, :, :96, :96]
    assert found(y, y).tolist() == [0.0, 0.0]
    spec = importlib.util.find_spec("lpips")
    linear = torch.load(f"{spec.submodule_search_locations[0]}/weights/v0.1/{net}.pth", map_location="cpu", weights_only=True)
    expected = np.zeros(2)
    for b in range(2):
        both = []
        for image in (x[b], y[b]):
            z = (image.clamp(0, 255) / 255 * 2 - 1 - torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)) / torch.tensor(
                [0.458, 0.448, 0.450]
            ).view(3, 1, 1)
            steps, h = [], z[None]
            with torch.no_grad():
                for k, layer in enumerate(features):
                    h = layer(h.clone())
                    if k in perceptual._NETS[net].compared:
                        steps.append(h[0].double().numpy())
            both.append(steps)
        for k, (f, g) in enumerate(zip(*both, strict=True)):
            w = linear[f"lin{k}.model.1.weight"].double().numpy().reshape(-1, 1, 1)
            f, g = (v / (np.sqrt((v**2).sum(axis=0)) + 1e-10) for v in (f, g))
            expected[b] += (w * (f - g) ** 2).sum(axis=0).mean()
    np.testing.assert_allclose(found(x, y), expected, rtol=1e-4)


@has_lpips
def test_lpips_takes_its_true_weights_or_none(random_backbone, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for net, found in perceptual._NETS.items():
        with pytest.raises(InputError, match=r"which are not here. Fetch them once:") as error:
            metrics.LPIPS(net)
        (call,) = re.findall(r"""python -c "from torchvision.models import (\w+); \1\(weights='(\w+)'\)\"""", str(error.value))
        assert getattr(torchvision.models.get_model_weights(call[0]), call[1]).url.endswith(f"/{found.file}")
    other = tmp_path / "other.pth"
    torch.save({}, other)
    with pytest.raises(InputError, match="not the file that is wanted"):
        metrics.LPIPS("squeeze", other)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        metrics.LPIPS("alex", tmp_path / "absent.pth")
    with pytest.raises(UnknownName, match="No LPIPS network"):
        metrics.LPIPS("resnet")
    with pytest.raises(InputError, match="RGB images of one shape"):
        metrics.LPIPS("alex", random_backbone("alex")[0])(photo[:, :1], photo[:, :1])


def test_lpips_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(perceptual, "files", lambda name: None)
    with pytest.raises(MissingExtra, match=r"preimage\[lpips\]: pip install '\.\[lpips\]'"):
        metrics.LPIPS("alex")
