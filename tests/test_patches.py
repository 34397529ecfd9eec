"""Patches of photographs as a prior: properties first, then a plain numpy writing, then the file and what is no file of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.energy.patches import PatchMixture, PatchPrior, load_patch_mixture
from preimage.energy.regularizers import REGULARIZERS
from preimage.errors import InputError
from preimage.plain import from_plain, parse, spell, to_plain


def mixture(side=3, count=2, seed=0):
    factors = torch.randn(count, side**2, side**2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 5
    weights = torch.tensor([0.3, 0.7])[:count] if count == 2 else torch.full((count,), 1 / count)
    return PatchMixture(weights, (factors @ factors.mT + torch.eye(side**2)).float(), {"from": "a test"})


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("patches") / "two.safetensors"
    mixture().save(path)
    return str(path)


def images(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 30


@given(st.integers(1, 3), st.sampled_from([1, 3, 5]), st.integers(3, 11), st.integers(3, 11), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_samples_are_apart_and_the_gradient_is_autograd_s(file, count, channels, height, width, every, seed):
    x, prior = images(count, channels, height, width, seed=seed), PatchPrior(2.0, every, file)
    gradient = torch.zeros_like(x)
    values = prior.add_gradient(x, gradient)
    leaf = x.clone().requires_grad_()
    torch.testing.assert_close(prior(leaf), values, rtol=1e-12, atol=0)
    (expected,) = torch.autograd.grad(prior(leaf).sum(), leaf)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    alone = torch.zeros_like(x[-1:])
    assert torch.equal(prior.add_gradient(x[-1:], alone), values[-1:]) and torch.equal(alone, gradient[-1:])


def test_it_is_blind_to_brightness_and_a_flat_image_has_none_of_it(file):
    x, prior = images(2, 3, 9, 8), PatchPrior(file=file)
    torch.testing.assert_close(prior(x + 37.0), prior(x))
    flat = torch.full((1, 2, 6, 6), -40.0)
    assert prior(flat).item() == pytest.approx(0, abs=1e-9)
    gradient = torch.zeros_like(flat)
    prior.add_gradient(flat, gradient)
    assert float(gradient.abs().max()) < 1e-9


def test_it_equals_a_plain_writing(file):
    x, side, every = images(1, 2, 8, 10), 3, 2
    weights, covariances = (t.double().numpy() for t in (mixture().weights, mixture().covariances))
    rows, columns = [0, 2, 4, 5], [0, 2, 4, 6, 7]  # every other one, and the last
    constants = [np.linalg.slogdet(c)[1] / 2 - np.log(w) for w, c in zip(weights, covariances, strict=True)]
    values = []
    for channel in x[0].numpy():
        for r in rows:
            for c in columns:
                p = channel[r : r + side, c : c + side].ravel()
                p = p - p.mean()
                values.append(min(p @ np.linalg.solve(s, p) / 2 + k for s, k in zip(covariances, constants, strict=True)) - min(constants))
    assert PatchPrior(0.5, every, file)(x).item() == pytest.approx(0.5 * np.mean(values) / side**2, rel=1e-6)


def test_photographs_have_less_than_noise_of_their_contrast_and_a_descent_brings_noise_nearer(cat):
    prior = PatchPrior()
    x = preimage.PixelSpace(96, "rgb", mean=(110.0, 110.0, 110.0)).encode(cat)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)) * x.std()
    assert 0 < prior(x).item() < 0.6 * prior(noise).item()
    gradient = torch.zeros_like(noise)
    before = prior.add_gradient(noise, gradient)
    step = noise - gradient * (0.1 * noise.norm() / gradient.norm())
    assert prior(step).item() < before.item()


def test_a_small_image_and_settings_that_mean_nothing_are_refused(file):
    with pytest.raises(InputError, match="no patch of 3 x 3"):
        PatchPrior(file=file)(torch.zeros(1, 1, 2, 9))
    for wrong in ({"weight": 0.0}, {"every": 0}):
        with pytest.raises(InputError):
            PatchPrior(**wrong)
    absent = PatchPrior(file="nowhere.safetensors")  # a part alone opens nothing
    with pytest.raises(InputError, match=r"There is no file 'nowhere\.safetensors'"):
        absent.begin(torch.zeros(1, 1, 9, 9))


def test_a_mixture_is_kept_whole_and_comes_back(file, tmp_path):
    found, made = load_patch_mixture(file), mixture()
    assert torch.equal(found.weights, made.weights) and torch.equal(found.covariances, made.covariances)
    assert (found.side, dict(found.about)) == (3, {"from": "a test"})
    part = PatchPrior(3.0, 2, file)
    assert from_plain(json.loads(json.dumps(to_plain(part, REGULARIZERS))), REGULARIZERS) == part
    assert parse(spell(part, REGULARIZERS), REGULARIZERS) == part
    assert parse("patch-prior:weight=2", REGULARIZERS) == PatchPrior(2.0)


def changed(path, out, **tensors):
    save_file(load_file(path) | tensors, out, metadata={"preimage-patches": json.dumps({"version": 1})})


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path, out: out.write_bytes(b"not a file of tensors"), "holds no mixture"),
        (lambda path, out: out.write_bytes(Path(path).read_bytes()[:300]), "holds no mixture"),
        (lambda path, out: save_file(load_file(path), out), "holds no mixture"),
        (lambda path, out: changed(path, out, more=torch.zeros(2)), "holds no mixture"),
        (lambda path, out: changed(path, out, weights=torch.tensor([0.5, float("nan")])), "finite"),
        (lambda path, out: changed(path, out, weights=torch.tensor([0.5, 0.1])), "sum to 1"),
        (lambda path, out: changed(path, out, covariances=-torch.eye(9).expand(2, 9, 9).contiguous()), "above 0"),
        (lambda path, out: changed(path, out, covariances=torch.eye(8).expand(2, 8, 8).contiguous()), "squares"),
        (lambda path, out: changed(path, out, weights=torch.tensor([1, 0])), "finite"),
        (lambda path, out: changed(path, out, covariances=torch.ones(2, 1025, 1).contiguous()), "holds no mixture"),
    ],
)
def test_what_is_no_mixture_is_refused_in_one_line(file, tmp_path, damage, said):
    out = tmp_path / "damaged.safetensors"
    damage(file, out)
    with pytest.raises(InputError, match=said) as error:
        PatchPrior(file=str(out)).begin(torch.zeros(1, 1, 9, 9))
    assert "\n" not in str(error.value)


def test_a_fit_is_the_same_for_a_seed_and_finds_the_variances_that_were_drawn():
    pytest.importorskip("sklearn", reason="fitting needs the extra shallow")
    rng = np.random.default_rng(0)
    drawn = [(rng.normal(128, 20, (60, 60, 1)).clip(0, 255)).astype(np.uint8).repeat(3, axis=2) for _ in range(2)]
    given = {"side": 3, "components": 1, "patches": 4000}
    found = preimage.fit_patch_prior(drawn, **given)
    again = preimage.fit_patch_prior(drawn, **given)
    assert torch.equal(found.covariances, again.covariances) and found.about == again.about
    assert not torch.equal(found.covariances, preimage.fit_patch_prior(drawn, **given, seed=1).covariances)
    expected = 400 * (torch.eye(9) - 1 / 9)  # white noise less its mean
    assert float((found.covariances[0] - expected).abs().max()) < 60
    for wrong, said in (
        ({"side": 1}, "side"),
        ({"side": 40}, "at most 32"),
        ({"patches": 10}, "want at least"),
        ({"components": 0}, "components"),
    ):
        with pytest.raises(InputError, match=said):
            preimage.fit_patch_prior(drawn, **(given | wrong))
    with pytest.raises(InputError, match="flat"):
        preimage.fit_patch_prior([np.full((40, 40, 3), 9, np.uint8)], **given)
    with pytest.raises(InputError, match="no patch of"):
        preimage.fit_patch_prior([drawn[0][:2]], **given)
    with pytest.raises(InputError, match="no photograph"):
        preimage.fit_patch_prior([], **given)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.mixture", None)
    with pytest.raises(preimage.MissingExtra, match="shallow"):
        preimage.fit_patch_prior([np.zeros((40, 40, 3), np.uint8)], side=2, components=1, patches=100)


def test_a_run_takes_it_by_name_and_records_it(file, tmp_path):
    words = ["invert", preimage.images.reference_images()[0], "--layer", "fire2", "--size", "64", "--iterations", "3", "-q"]
    found = CliRunner().invoke(
        app, [*words, "--prior", "alpha-norm", "--prior", f"patch-prior:weight=4,file={file}", "-o", str(tmp_path / "out")]
    )
    assert found.exit_code == 0, found.output
    result = preimage.load_result(tmp_path / "out")
    assert float(result.energy["patch-prior"]) > 0
    assert "'weight': 4.0" in str(result.config["parts"]["regularizers"])
