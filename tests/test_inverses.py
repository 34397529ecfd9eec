"""Learned inverses: exact where there is an exact one, against plain numpy, the same again, after a kill, and only for their layer."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.energy.energy import Energy
from preimage.energy.losses import Euclidean
from preimage.energy.terms import FeatureTerm
from preimage.energy.transforms import Jitter
from preimage.errors import InputError, MissingExtra
from preimage.inverses import Linear, Nearby, fit, fit_inverse, free_photographs, known, load_inverse, regression, start_from_inverse
from preimage.inverses.fitting import HELD_CROPS
from preimage.inverses.grid import Grid, find_grid
from preimage.inverses.photographs import Crops, digest, gather, split
from preimage.inverses.sums import Sums, gram
from preimage.networks.network import weights_hash
from preimage.schemas import schema

SPACE = preimage.PixelSpace(32, "rgb", scale=1.0, mean=0.45, std=0.25)
QUICK = {"crops": 10, "progress": False}


def smooth(seed, side=48):
    """A picture with more of low than of high frequencies, as photographs have, uint8 (side, side, 3)."""
    rng = np.random.default_rng(seed)
    x = sum(
        F.interpolate(torch.from_numpy(rng.normal(size=(1, 3, n, n)) * 160 / n), (side, side), mode="bicubic")[0] * n**0.5 / 2
        for n in (4, 8, 16)
    )
    return (x + 128).clamp(0, 255).byte().permute(1, 2, 0).numpy()


@pytest.fixture(scope="module")
def photographs():
    return [smooth(k) for k in range(5)]


@pytest.fixture
def module():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(12, 20, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(20, 6, 3)
    )


@pytest.fixture
def phi(module):
    return preimage.Layer(module, "3", space=SPACE)


def same(one, other):
    assert all(torch.equal(getattr(one, n), getattr(other, n)) for n in ("mean", "projection", "weights", "offsets", "probe"))
    assert one.about == other.about
    assert one.grid == other.grid


@pytest.mark.parametrize("overlap", [1, 2])
@pytest.mark.parametrize("channels", ["grey", "rgb"])
def test_an_invertible_linear_map_is_inverted(channels, overlap, photographs):
    space = preimage.PixelSpace(24, channels, scale=255.0, mean=120.0)
    mixing = torch.randn(16 * space.count, 16 * space.count, generator=torch.Generator().manual_seed(1))
    phi = preimage.from_callable(lambda x: F.conv2d(F.pixel_unshuffle(x, 4), mixing[:, :, None, None]) / 100 + 3, space)
    # of overlapping patches the outer half belongs to the neighbours, which 3x3 cells hold, but not beyond the border, which disturbs
    # the regression a little; weights are kept in half precision
    inverse = fit_inverse(phi, photographs, kind=Linear(2 * overlap - 1, overlap, strengths=(1e-10,)), crops=60, progress=False)
    x = space.encode(smooth(99), size=(40, 24))  # of another size, and not seen before
    assert (inverse(phi(x), (40, 24)) - x)[:, :, 2:-2, 2:-2].abs().max() < (0.5 if overlap == 1 else 3.0)
    assert inverse.about["held_out"]["psnr"] > (50 if overlap == 1 else 40)


def test_streaming_sums_are_the_normal_equations_of_all_rows_at_once():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(7, 300)) + 4, rng.normal(size=(5, 300)) - 2
    sums = Sums.none(7, 5)
    for part in np.split(np.arange(300), [10, 11, 200]):
        sums.add(torch.from_numpy(x[:, part]), torch.from_numpy(y[:, part]))
    weights, offsets = sums.solve(0.01)
    a = x - x.mean(axis=1, keepdims=True)
    covariance = a @ a.T / 300
    plain = np.linalg.solve(covariance + 0.01 * covariance.diagonal().mean() * np.eye(7), a @ y.T / 300).T
    np.testing.assert_allclose(weights, plain, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(offsets, y.mean(axis=1) - plain @ x.mean(axis=1), rtol=1e-10)
    found = plain @ x + (y.mean(axis=1) - plain @ x.mean(axis=1))[:, None]
    assert sums.error(weights, offsets) == pytest.approx(np.square(found - y).mean(), rel=1e-10)


def test_the_sums_of_some_inputs_are_those_of_their_rows():
    x, y = torch.randn(6, 30, dtype=torch.float64), torch.randn(2, 30, dtype=torch.float64)
    whole, some = Sums.none(6, 2), Sums.none(3, 2)
    whole.add(x, y)
    some.add(x[[4, 0, 3]], y)
    for name, tensor in some.tensors().items():
        torch.testing.assert_close(whole.of_inputs(torch.tensor([4, 0, 3])).tensors()[name], tensor)


def test_the_photographs_held_out_choose_fewer_inputs_where_more_only_learn_by_heart(photographs):
    noise = torch.randn(60, 3, 4, 4, generator=torch.Generator().manual_seed(0))  # many channels of one cell's own pixels
    phi = preimage.from_callable(lambda x: torch.tanh(F.conv2d(x, noise, stride=4) / 100), SPACE)
    few, many = (fit_inverse(phi, photographs, crops=n, kind=Linear(strengths=(1e-6,)), progress=False).about["chosen"] for n in (2, 60))
    assert few["rank"] * few["kernel"] ** 2 < many["rank"] * many["kernel"] ** 2


@pytest.mark.parametrize("inputs", [1, 192, 193, 500])
def test_a_symmetric_product_in_blocks_is_the_product(inputs):
    x = torch.randn(inputs, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(gram(x), x @ x.T)


def test_sums_of_two_halves_merge_to_those_of_the_whole():
    x, y = torch.randn(3, 40, dtype=torch.float64), torch.randn(2, 40, dtype=torch.float64)
    parts = [Sums.none(3, 2) for _ in range(3)]
    for part, rows in zip(parts, (slice(0, 15), slice(15, 40), slice(0, 40)), strict=True):
        part.add(x[:, rows], y[:, rows])
    merged = parts[0].merge(parts[1])
    for name, tensor in parts[2].tensors().items():
        torch.testing.assert_close(merged.tensors()[name], tensor)


def test_the_fit_is_the_ridge_regression_of_neighbourhoods_on_patches(module, photographs, monkeypatch):
    """Against a plain writing with all rows in memory: loops over cells, float64, numpy's solver."""
    monkeypatch.setattr(regression, "BAND", 4096)  # several bands a crop
    phi = preimage.Layer(module.double(), "1", space=replace(SPACE, size=(12, 12)))
    inverse = fit_inverse(phi, photographs, crops=12, kind=Linear(rank=5, strengths=(0.01,)), progress=False)
    assert (inverse.kernel, len(inverse.projection)) == (3, 5)
    chosen, held = split(5, 0.25)
    rows, patches = [], []
    for seed, which, count in ((0, chosen, 12), (1, held, HELD_CROPS)):
        crops = Crops([photographs[k] for k in which], phi.space, (12, 12), seed)
        for n in range(count):
            x = crops[n].double()
            z = np.einsum("rc,chw->rhw", inverse.projection, phi(x)[0].detach() - inverse.mean[:, None, None].double())
            padded = np.pad(z, ((0, 0), (1, 1), (1, 1)), mode="edge")
            pixels = np.pad(x[0].numpy(), ((0, 0), (4, 4), (4, 4)), mode="edge")
            for i in range(6):
                for j in range(6):
                    top, left = 4 + inverse.grid.origin[0] + 2 * i, 4 + inverse.grid.origin[1] + 2 * j
                    rows.append(padded[:, i : i + 3, j : j + 3].ravel())
                    patches.append(pixels[:, top : top + 4, left : left + 4].ravel())
    a, b = np.array(rows), np.array(patches)
    a0 = a - a.mean(axis=0)
    covariance = a0.T @ a0 / len(a)
    plain = np.linalg.solve(covariance + 0.01 * covariance.diagonal().mean() * np.eye(45), a0.T @ b / len(a)).T
    found = inverse.weights.flatten(1).numpy()
    np.testing.assert_allclose(found, plain, rtol=2e-3, atol=1e-3 * np.abs(plain).max())  # kept in half precision
    np.testing.assert_allclose(inverse.offsets, b.mean(axis=0) - plain @ a.mean(axis=0), rtol=1e-3, atol=1e-2)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(phi, photographs):
    one, again, other = (fit_inverse(phi, photographs, seed=s, **QUICK) for s in (0, 0, 1))
    same(one, again)
    assert not torch.equal(one.weights, other.weights)


def test_a_saved_inverse_is_read_back_to_the_last_bit(phi, photographs, tmp_path):
    inverse = fit_inverse(phi, photographs, **QUICK)
    inverse.save(tmp_path / "i.safetensors")
    found = load_inverse(tmp_path / "i.safetensors", phi)
    same(inverse, found)
    x = SPACE.encode(photographs[0])
    assert torch.equal(found(phi(x)), inverse(phi(x)))
    assert {"psnr", "feature_error", "crops"} <= set(found.about["held_out"])
    assert found.about["free"] is False
    assert found.about["photographs"] == 5
    assert "dB on photographs held out" in repr(found)


def test_images_of_a_batch_do_not_depend_on_each_other_and_any_size_is_taken(phi, photographs):
    inverse = fit_inverse(phi, photographs, **QUICK)
    x = torch.cat([SPACE.encode(p, size=(44, 60)) for p in photographs[:2]])
    features = phi(x)
    found = inverse(features, (44, 60))
    assert found.shape == (2, 3, 44, 60)
    torch.testing.assert_close(found[:1], inverse(features[:1], (44, 60)), atol=1e-3, rtol=0)  # sums in another order
    with pytest.raises(InputError, match="A map of 11x15 cells needs the size"):
        inverse(features)
    assert float((found - x).square().mean()) < 0.4 * float((x - x.mean(dim=(2, 3), keepdim=True)).square().mean())


def test_each_cell_lies_over_the_pixels_that_it_sees(module):
    layer, _ = find_grid(preimage.Layer(module, "3", space=SPACE), (32, 32), 2)
    assert layer == Grid((4, 4), (-4, -4), (8, 8))  # cell 0 sees -3 .. 3
    opaque, _ = find_grid(preimage.from_callable(module[:4], SPACE), (32, 32), 2)
    assert opaque == layer  # found by gradients alone
    passes = []
    phi = preimage.from_callable(lambda x: passes.append(1) or module[:4](x), SPACE)
    assert find_grid(phi, (32, 32), 2, tuple(phi(torch.zeros(1, 3, 32, 32)).shape[1:]))[0] == layer and len(passes) == 3  # ours, and two
    hog, shape = find_grid(preimage.HOG(cell=8), (64, 80), 1)
    assert (hog, shape) == (Grid((8, 8), (0, 0), (8, 8)), (27, 8, 10))
    sift, _ = find_grid(preimage.DenseSIFT(bin=4), (64, 64), 1)
    # four bins of 4 pixels with the first centre at 4.5: the middle of descriptor 0 is 10.5, its 12 pixels begin at 5
    assert sift == Grid((12, 12), (5, 5), (12, 12))


def test_patches_that_are_cut_and_blended_are_the_image_where_they_cover_it():
    x = torch.rand(2, 3, 30, 26, generator=torch.Generator().manual_seed(0))
    for grid in (
        Grid((4, 4), (-1, 3), (4, 4)),
        Grid((4, 5), (-2, -3), (8, 10)),
        Grid((3, 3), (0, 0), (9, 9)),
        Grid((2, 2), (5, 5), (3, 3)),
    ):
        cells = (5, 4)
        found = grid.blend(grid.cut(x, cells), cells, (30, 26))
        ends = [o + (n - 1) * s + p for o, n, s, p in zip(grid.origin, cells, grid.stride, grid.side, strict=True)]
        rows, columns = (slice(max(o, 0), min(e, n)) for o, e, n in zip(grid.origin, ends, (30, 26), strict=True))
        torch.testing.assert_close(found[..., rows, columns], x[..., rows, columns])
        assert found.shape == x.shape
        assert bool(torch.isfinite(found).all())


@pytest.mark.parametrize("make", [preimage.HOG, lambda: preimage.DenseSIFT(bin=4)])
def test_hog_and_dense_sift_have_inverses_that_show_the_picture(make, photographs):
    phi = make()
    inverse = fit_inverse(phi, photographs, size=64, crops=12, progress=False)
    picture = phi.space.encode(photographs[4], size=(64, 64))
    found = inverse(phi(picture))
    centred = [t - t.mean() for t in (found, picture)]
    assert float(F.cosine_similarity(*(t.flatten(1) for t in centred))) > 0.3


class Patches(nn.Module):
    """A small transformer: 4x4 patches, a class token, one layer of attention."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, 16, 4, stride=4)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 16))
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)

    def forward(self, x):
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        return self.block(torch.cat([self.cls_token.expand(len(x), -1, -1), tokens], dim=1))


def test_the_patches_of_a_transformer_have_an_inverse_at_their_own_places(photographs):
    module = Patches()
    phi = preimage.Layer(module, "block:grid", space=SPACE)
    inverse = fit_inverse(phi, photographs, **QUICK)
    assert inverse.grid == Grid((4, 4), (-2, -2), (8, 8))
    assert inverse.about["held_out"]["psnr"] > 15
    with pytest.raises(InputError, match="Name the patches of a transformer as LAYER:grid"):
        fit_inverse(preimage.Layer(module, "block", space=SPACE), photographs, **QUICK)


def test_features_without_a_grid_are_refused(photographs):
    with pytest.raises(InputError, match="choose a layer before they become global"):
        fit_inverse(preimage.from_callable(lambda x: x.mean(dim=(2, 3)), SPACE), photographs, **QUICK)


def test_features_with_nan_are_refused(photographs):
    with pytest.raises(InputError, match="hold NaN"):
        fit_inverse(preimage.from_callable(lambda x: F.avg_pool2d(x, 4) / 0 * 0, SPACE), photographs, **QUICK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": 3}, "kind is 'linear', 'upconv'"),
        ({"kind": "linear:kernel=2"}, "an odd number of cells"),
        ({"kind": "linear:rank=99"}, "at most the number of channels, 20"),
        ({"held_out": 0.9}, "above 0 and at most 0.5"),
        ({"max_memory": 1000}, "Nothing fits into max_memory"),
        ({"kind": "linear:rank=20", "max_memory": 1000}, "does not fit into max_memory"),
        ({"size": (32, 0)}, "size is a whole number of pixels"),
        ({"crops": 0}, "crops is a whole number of at least 1"),
        ({"checkpoint": "no/such/folder/c"}, "There is no folder"),
    ],
)
def test_settings_of_no_use_are_refused_with_a_reason(phi, photographs, options, message):
    with pytest.raises(InputError, match=message):
        fit_inverse(phi, photographs, progress=False, **options)


def test_a_kind_that_is_not_there_is_answered_with_those_that_are(phi, photographs):
    with pytest.raises(preimage.UnknownName, match=r"No kind of inverse named 'magic'\. Known: linear, upconv"):
        fit_inverse(phi, photographs, kind="magic", progress=False)


def test_a_regression_without_a_strength_is_refused():
    with pytest.raises(InputError, match="at least one"):
        Linear(strengths=())


def test_fewer_than_four_photographs_are_refused(phi, photographs):
    with pytest.raises(InputError, match="at least 4 photographs, some of them held out; got 3"):
        fit_inverse(phi, photographs[:3], **QUICK)


def test_a_smaller_memory_takes_fewer_combinations_of_channels(phi, photographs):
    small = fit_inverse(phi, photographs, max_memory=4 * regression.BAND + 2**20, **QUICK)
    assert 1 <= len(small.projection) < 20


def test_an_inverse_is_read_only_for_the_network_layer_and_pixels_it_was_made_of(module, phi, photographs, tmp_path):
    path = tmp_path / "i.safetensors"
    fit_inverse(phi, photographs, **QUICK).save(path)
    load_inverse(path, preimage.Layer(module, "3", space=replace(SPACE, size=(40, 40))))  # the size may be another
    with pytest.raises(InputError, match="answers differently to a test picture"):
        load_inverse(path, preimage.Layer(module, "2", space=SPACE))
    with pytest.raises(InputError, match="other pixels"):
        load_inverse(path, preimage.Layer(module, "3", space=replace(SPACE, mean=(0.5,) * 3)))
    with torch.no_grad():
        module[4].bias[0] += 1  # of a layer that comes later
    with pytest.raises(InputError, match="with weights"):
        load_inverse(path, phi)
    hog = tmp_path / "h.safetensors"
    fit_inverse(preimage.HOG(), photographs, size=48, **QUICK).save(hog)
    with pytest.raises(InputError, match="answers differently"):
        load_inverse(hog, preimage.HOG(bilinear=True))


def test_damaged_and_foreign_files_are_refused_in_one_line(phi, photographs, tmp_path):
    path = tmp_path / "i.safetensors"
    inverse = fit_inverse(phi, photographs, **QUICK)
    inverse.save(path)
    content = path.read_bytes()
    bad = {"cut": content[: len(content) // 2], "empty": b"", "text": b"hello", "flipped": b"\xff" * 8 + content[8:]}
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match="holds no inverse") as caught:
            load_inverse(tmp_path / name, phi)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="holds no inverse"):
        load_inverse(tmp_path / "none", phi)
    from safetensors.torch import save_file

    with safe_open(path, framework="pt") as file:
        metadata, tensors = file.metadata(), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (not a mapping)
    cases = {
        "NaN": ({"mean": tensors["mean"] * torch.nan}, metadata, "NaN"),
        "shape": ({"mean": tensors["mean"][:3]}, metadata, "has shape"),
        "version": ({}, {"preimage-inverse": metadata["preimage-inverse"].replace('"version": 1', '"version": 7')}, "reads version 1"),
        "record": ({}, {"preimage-inverse": metadata["preimage-inverse"].replace('"cells"', '"cellz"')}, "not complete"),
    }
    for name, (change, record, message) in cases.items():
        save_file(tensors | {k: v.contiguous() for k, v in change.items()}, tmp_path / name, metadata=record)
        with pytest.raises(InputError, match=message):
            load_inverse(tmp_path / name, phi)


def test_features_that_the_inverse_is_not_of_are_refused(phi, photographs):
    inverse = fit_inverse(phi, photographs, **QUICK)
    with pytest.raises(InputError, match=r"takes features \(B, 20, h, w\)"):
        inverse(torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match="NaN"):
        inverse(torch.full((1, 20, 8, 8), torch.nan))


KILLED = """
import sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
import preimage
from tests.test_inverses import SPACE, smooth, Slow
phi = preimage.Layer(Slow(), "net.3", space=SPACE)
preimage.fit_inverse(phi, [smooth(k) for k in range(5)], crops=60, checkpoint={path!r}, progress=False)
"""


class Slow(nn.Module):
    """The fixture's network, which takes a moment for each image."""

    wait = 0.01

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(3, 12, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(12, 20, 3, stride=2, padding=1), nn.ReLU())

    def forward(self, x):
        time.sleep(self.wait)
        return self.net(x)


def test_a_killed_fit_goes_on_where_it_stopped_and_ends_the_same(photographs, tmp_path, pytestconfig, monkeypatch):
    part = tmp_path / "c"
    process = subprocess.Popen([sys.executable, "-c", KILLED.format(tests=str(pytestconfig.rootpath), path=str(part))])
    deadline = time.monotonic() + 120
    while not (part.exists() and part.stat().st_size > 4 * 10**5) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    monkeypatch.setattr(Slow, "wait", 0.0)
    module = Slow()
    phi = preimage.Layer(module, "net.3", space=SPACE)
    passes = []
    module.register_forward_pre_hook(lambda *_: passes.append(1))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        resumed = fit_inverse(phi, photographs, crops=60, checkpoint=part, progress=False)
        counted = len(passes)
        undisturbed = fit_inverse(phi, photographs, crops=60, progress=False)
    finally:
        torch.set_num_threads(threads)
    same(resumed, undisturbed)
    assert counted < len(passes) - counted - 40  # the channels' 48 crops at least were not taken again
    assert not part.exists()


def test_a_checkpoint_of_another_fit_and_a_damaged_one_are_refused(phi, photographs, tmp_path, monkeypatch):
    part = tmp_path / "c"
    monkeypatch.setattr(fit, "held_out_numbers", lambda *_: 1 / 0)  # ends the fit after its last checkpoint
    with pytest.raises(ZeroDivisionError):
        fit_inverse(phi, photographs, checkpoint=part, **QUICK)
    monkeypatch.undo()
    with pytest.raises(InputError, match="of a fit with another settings"):
        fit_inverse(phi, photographs, checkpoint=part, seed=5, **QUICK)
    with pytest.raises(InputError, match="another photographs_sha256"):
        fit_inverse(phi, photographs[::-1], checkpoint=part, **QUICK)
    content = part.read_bytes()
    part.write_bytes(content[:-100])
    with pytest.raises(InputError, match="is no checkpoint of a fit"):
        fit_inverse(phi, photographs, checkpoint=part, **QUICK)


def test_crops_are_made_of_the_seed_and_their_number_alone(photographs):
    crops = Crops(photographs, SPACE, (32, 32), 0)
    forwards = [crops[n] for n in range(8)]
    for n in reversed(range(8)):
        assert torch.equal(Crops(photographs, SPACE, (32, 32), 0)[n], forwards[n])
    levels = SPACE.decode(torch.cat(forwards))
    assert levels.shape == (8, 3, 32, 32)
    assert levels.min() >= -1e-4 and levels.max() <= 255.0001
    assert not torch.equal(Crops(photographs, SPACE, (32, 32), 1)[0], forwards[0])


def test_every_nth_photograph_is_held_out():
    assert split(4, 0.25) == ([0, 1, 2], [3])
    assert split(13, 0.25)[1] == [3, 7, 11]
    assert split(5, 0.5)[1] == [1, 3]
    assert split(4, 0.01) == ([0, 1, 2], [3])


def test_the_free_photographs_are_there_and_their_absence_names_the_extra(monkeypatch):
    found = free_photographs()
    assert len(found) == 10
    assert "china.jpg" in {p.name for p in found}
    shown = {"astronaut.png", "chelsea.png", "coffee.png"}  # the package's own pictures, on which nothing is fitted
    assert {p.name for p in free_photographs(shown=True)} - {p.name for p in found} == shown
    assert gather(None) == found
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"preimage\[shallow\]"):
        free_photographs()


def test_a_start_has_the_inverse_in_the_middle_and_the_restarts_noise(phi, photographs):
    inverse = fit_inverse(phi, photographs, **QUICK)
    phi0 = phi(torch.cat([SPACE.encode(p) for p in photographs[:2]]))
    jitter = Jitter(4)
    plain = start_from_inverse(inverse, phi0, (32, 32), jitter.canvas((32, 32)))
    assert plain.shape == (2, 3, 35, 35)
    within = SPACE.decode(inverse(phi0)).clamp(0, 255) - SPACE.mean_colour
    torch.testing.assert_close(jitter.crop(plain), within, atol=1e-3, rtol=0)
    assert torch.equal(plain[..., 0], plain[..., 1])  # the border repeats the edge
    generators = [None, torch.Generator().manual_seed(7)]
    moved = start_from_inverse(inverse, phi0, (32, 32), jitter.canvas((32, 32)), generators, amplitude=3.0)
    assert torch.equal(moved[0], plain[0])
    assert 2.5 < float((moved[1] - plain[1]).abs().max()) <= 3.0001
    alone = start_from_inverse(inverse, phi0[1:], (32, 32), jitter.canvas((32, 32)), [torch.Generator().manual_seed(7)], amplitude=3.0)
    assert torch.equal(alone[0], moved[1])  # the other samples change no bit
    assert torch.equal(start_from_inverse(inverse, phi0, (32, 32)), jitter.crop(plain).contiguous())
    with pytest.raises(InputError, match="The canvas has at least"):
        start_from_inverse(inverse, phi0, (32, 32), (31, 35))
    with pytest.raises(InputError, match="1 generators for 2 samples"):
        start_from_inverse(inverse, phi0, (32, 32), None, [None])


def test_an_inversion_begins_with_the_inverse_and_its_restarts_beside_it(phi, photographs, tmp_path):
    inverse = fit_inverse(phi, photographs, **QUICK)
    inverse.save(tmp_path / "inverse.safetensors")
    photo = smooth(5, 32)
    x0 = phi.space.encode(photo)
    with pytest.warns(preimage.PreimageWarning, match="did not move"):
        first = preimage.invert(phi, photo, iterations=1, restarts=2, start=inverse, progress=False)
    answer = start_from_inverse(inverse, phi(x0).detach(), (32, 32))
    for image in first.images:  # one evaluation is that of the start
        assert 1.5 < float((image - phi.space.decode(answer)[0]).abs().max()) < 2.001
    assert not torch.equal(first.images[0], first.images[1])
    with pytest.warns(preimage.PreimageWarning, match="did not move"):
        other = preimage.invert(phi, photo, iterations=1, start=inverse, seed=1, progress=False)
    assert not torch.equal(other.images[0], first.images[0])
    with pytest.warns(preimage.PreimageWarning, match="did not move"):
        from_file = preimage.invert(phi, photo, iterations=1, restarts=2, start=tmp_path / "inverse.safetensors", progress=False)
    assert torch.equal(from_file.images, first.images)
    assert [p["solver"]["name"] for p in preimage.invert(phi, photo, start=inverse, progress=False).config["plan"]] == ["descent"]


def test_nearby_pulls_each_sample_to_its_own_image_also_one_sample_at_a_time():
    a = torch.stack([torch.full((1, 8, 8), v) for v in (40.0, -40.0)])
    energy = Energy(
        FeatureTerm(Euclidean(), lambda x: x.mean(dim=(2, 3)), torch.full((2, 1), 10.0), C=1e-3), {"nearby": Nearby(10.0, image=a)}
    )
    found = preimage.minimize(energy, torch.zeros(2, 1, 8, 8), solver="lbfgs", iterations=20)
    torch.testing.assert_close(found.x, a, atol=1.0, rtol=0)
    one = Nearby(image=a[:1])
    assert one.part(slice(1, 2)) is one
    with pytest.raises(InputError, match="asked about"):
        Nearby(image=a)(torch.zeros(2, 1, 9, 8))
    with pytest.raises(InputError, match="finite"):
        Nearby(image=a * torch.inf)
    with pytest.raises(InputError, match="weight is"):
        Nearby(weight=-1.0)


@pytest.fixture
def folder(photographs, tmp_path):
    (tmp_path / "photos").mkdir()
    for k, picture in enumerate(photographs):
        PIL.Image.fromarray(picture).save(tmp_path / "photos" / f"{k}.png")
    return tmp_path / "photos"


def test_the_command_fits_a_file_or_a_folder_and_refuses_what_it_cannot_use(folder, tmp_path, net):
    def run(*arguments):
        return CliRunner().invoke(app, ["inverse", "fit", *map(str, arguments)])

    out = tmp_path / "fire2.safetensors"
    quick = ["--crops", 2, "--kind", "linear:rank=4,kernel=1", "--quiet", "--size", 64]
    done = run("squeezenet1_1", folder, "--layers", "fire2", "-o", out, *quick)
    assert done.exit_code == 0, done.output
    assert "fire2" in done.output
    assert load_inverse(out, net.layer("fire2")).kernel == 1
    assert list(tmp_path.glob("*.part")) == []
    again = run("squeezenet1_1", folder, "--layers", "fire2", "-o", out, *quick)
    assert again.exit_code == 2 and "--overwrite" in again.output
    both = run("squeezenet1_1", folder, "--layers", "fire2,fire3", "-o", tmp_path / "both", "--json", *quick)
    assert both.exit_code == 0, both.output
    jsonschema.validate(json.loads(both.stdout), schema("inverse"))
    assert sorted(p.name for p in (tmp_path / "both").iterdir()) == ["fire2.safetensors", "fire3.safetensors"]
    assert "--layers A,B" in run("squeezenet1_1", folder, "-o", out).output
    assert "has no layers" in run("hog", folder, "--layers", "fire2", "-o", out).output
    assert "global" in run("squeezenet1_1", folder, "--layers", "pool10", "-o", tmp_path / "p.safetensors", *quick).output


def test_the_record_of_an_inverse_says_what_it_is_of(phi, photographs):
    about = fit_inverse(phi, photographs, **QUICK).about
    assert about["weights_sha256"] == weights_hash(phi.module)
    assert about["settings"] == {
        "kind": "linear", "crops": 10, "held_out": 0.25, "seed": 0,
        "kernel": 3, "overlap": 2, "rank": 20, "strengths": list(Linear().strengths),
    }  # fmt: skip
    assert about["chosen"]["strength"] in Linear().strengths
    assert about["chosen"]["kernel"] in (1, 3)
    assert about["chosen"]["rank"] in (5, 10, 20)
    assert len(about["photographs_sha256"]) == 64


@pytest.fixture(scope="module")
def squeezenet():
    return preimage.load_network("squeezenet1_1")


CAT = Path(preimage.__file__).parent / "data" / "chelsea.jpg"


@pytest.mark.parametrize(("layer", "share"), [("fire2", 0.2), ("fire3", 0.2), ("fire4", 0.4), ("fire5", 0.5)])
def test_the_package_carries_inverses_of_the_embedded_network_that_know_nothing_of_its_own_pictures(squeezenet, layer, share):
    phi = squeezenet.layer(layer)
    found = preimage.shipped_inverse(phi)
    assert found.about["photographs_sha256"] == digest(free_photographs())
    assert found.about["settings"]["seed"] == 0
    x = phi.space.encode(CAT)
    with torch.no_grad():
        error = (found(phi(x), (227, 227)) - x).square().mean().item()
    assert error < share * (x - x.mean()).square().mean().item()


def test_no_inverse_is_carried_for_other_layers_weights_pixels_and_modules(squeezenet, phi):
    assert preimage.shipped_inverse(squeezenet.layer("fire9")) is None
    assert preimage.shipped_inverse(phi) is None
    other = preimage.load_network("squeezenet1_1")
    other.module.features[3].squeeze.bias.data += 1e-3
    assert preimage.shipped_inverse(other.layer("fire2")) is None


@pytest.mark.filterwarnings("ignore::preimage.errors.PreimageWarning")  # two steps get nowhere
def test_the_default_of_shallow_layers_is_warm_and_every_choice_of_a_part_is_cold(squeezenet):
    few = {"iterations": 2, "progress": False}
    phi = squeezenet.layer("fire2")
    warm = preimage.invert(phi, CAT, **few)
    assert (warm.config["recipe"], warm.config["start"]) == (None, "inverse")
    assert warm.config["inverse"]["sha256"] == preimage.shipped_inverse(phi).digest
    assert "nearby" not in warm.energy  # features this near to the pixels leave little open: the paper's own energy
    near = preimage.invert(squeezenet.layer("fire4"), CAT, **few)
    assert (near.config["recipe"], near.config["start"], "nearby" in near.energy) == ("inverse2026", "inverse", True)
    assert warm.config["plan"][0]["solver"]["name"] == "descent"
    for given in ({"start": "noise"}, {"solver": "paper"}, {"regularizers": {}}, {"mask": preimage.masks.central(5)}):
        cold = preimage.invert(phi, CAT, **few, **given)
        assert cold.config["start"] == "noise", given
    assert preimage.invert(squeezenet.layer("fire9"), CAT, **few).config["start"] == "noise"


def test_no_evaluations_give_the_inverse_s_answer_at_once_and_it_is_kept_and_made_again(squeezenet, tmp_path):
    phi = squeezenet.layer("fire4")
    found = preimage.invert(phi, CAT, iterations=0, progress=False)
    assert found.evaluations == 0 and found.status == ["ok"]
    answer = start_from_inverse(preimage.shipped_inverse(phi), phi(phi.space.encode(CAT)).detach(), (227, 227))
    torch.testing.assert_close(found.images, phi.space.decode(answer), atol=1e-3, rtol=0)
    found.save(tmp_path / "out")
    assert torch.equal(preimage.again(tmp_path / "out", progress=False).images, found.images)
    with pytest.raises(InputError, match="0, the answer of a learned inverse itself"):
        preimage.invert(phi, CAT, iterations=0, start="noise", progress=False)


def test_a_masked_inversion_shows_the_inverse_nothing_of_what_is_masked(phi, photographs):
    inverse = fit_inverse(phi, photographs, **QUICK)
    one, other = smooth(1, 32), smooth(1, 32)
    other[:, 16:] = 255 - other[:, 16:]  # differs under the masked half alone
    mask = torch.zeros(phi(SPACE.encode(one)).shape[1:])
    mask[..., : mask.shape[-1] // 2 - 1] = 1.0
    few = {"mask": mask, "start": inverse, "iterations": 0, "progress": False}
    assert torch.equal(preimage.invert(phi, one, **few).images, preimage.invert(phi, other, **few).images)


def test_nearness_to_the_start_follows_the_still_view_and_needs_a_start():
    near = Nearby(2.0, to="start")
    with pytest.raises(InputError, match="what a task begins with"):
        near(torch.zeros(1, 1, 4, 4))
    canvas = torch.zeros(1, 1, 7, 7)
    canvas[..., 1:5, 1:5] = 80.0  # the middle of a canvas with a border of 3, as Jitter cuts it
    bound = near.begin(canvas)
    assert Jitter(4).crop(canvas).eq(80).all()
    assert bound(torch.full((1, 1, 4, 4), 80.0)).tolist() == [0.0]
    assert near.begin(canvas)(torch.zeros(1, 1, 4, 4)).tolist() == [2.0]
    with pytest.raises(InputError, match='"mean" or "start"'):
        Nearby(to="nowhere")


def test_an_inverse_that_is_not_carried_is_fitted_once_and_kept_in_the_cache(phi, monkeypatch, tmp_path):
    monkeypatch.setenv("PREIMAGE_CACHE", str(tmp_path))
    calls = []
    monkeypatch.setattr(
        known, "fit_inverse", lambda *a, **k: calls.append(1) or fit_inverse(*a, [smooth(k, 40) for k in range(4)], **QUICK)
    )
    first, second = preimage.inverse_of(phi, progress=False), preimage.inverse_of(phi, progress=False)
    assert len(calls) == 1 and first.digest == second.digest
    assert len(list((tmp_path / "inverses").glob("*.safetensors"))) == 1


def test_an_inverse_is_no_start_of_a_unit_s_image(squeezenet):
    with pytest.raises(InputError, match="a start of invert, not of maximize"):
        preimage.maximize(squeezenet.layer("fire9"), 3, start="inverse", progress=False)


def test_features_without_places_have_no_inverse_of_their_own_and_it_is_said():
    phi = preimage.Layer(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)), "1", space=SPACE)
    with pytest.raises(InputError, match=r"shape \(5,\) .* or fit an up-convolutional one \(kind=\"upconv\"\)"):
        preimage.invert(phi, smooth(0, 32), start="inverse", progress=False)
