"""Precision and memory: what is reported stays float32's, a trial decides by its numbers, and no more is evaluated than fits."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import preimage
from preimage.energy.energy import Energy
from preimage.energy.losses import Euclidean
from preimage.energy.terms import FeatureTerm
from preimage.errors import InputError
from preimage.methods.recipe import Recipe, recipe_named
from preimage.representations.cnn import likes_channels_last
from preimage.solvers.compute import STATE, Trial, compiled, graph_bytes, in_bfloat16, memory_limit, samples_at_once, try_bfloat16

SPACE = preimage.PixelSpace(32, "rgb")
CPU = torch.device("cpu")


def network(width=8):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, width, 5, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(width, 16, 3))


@pytest.fixture
def phi():
    return preimage.Layer(network(), "3", space=SPACE)


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)


def energy_of(phi):
    return Energy(FeatureTerm(Euclidean(), phi, phi(torch.ones(1, 3, 32, 32)).detach()))


def test_in_bfloat16_the_reported_error_is_that_of_the_image_in_float32(phi, photo):
    exact = preimage.invert(phi, photo, progress=False, iterations=60)
    rounded = preimage.invert(phi, photo, progress=False, iterations=60, compute=preimage.Compute(precision="bfloat16"))
    assert rounded.config["precision"] == "bfloat16" and exact.config["precision"] == "float32"
    assert not torch.equal(rounded.images, exact.images)
    ours, its = (phi(x - phi.space.mean_colour) for x in (rounded.images, rounded.originals))
    assert rounded.error.item() == pytest.approx(((ours - its).norm() / its.norm()).item(), rel=1e-4)
    assert rounded.error.item() == pytest.approx(exact.error.item(), rel=0.02)


def test_in_bfloat16_products_are_rounded_and_features_keep_the_type_of_the_image(phi):
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 50
    exact, rounded = phi(x), in_bfloat16(phi)(x)
    assert rounded.dtype == torch.float32
    apart = ((exact - rounded).norm() / exact.norm()).item()
    assert 1e-5 < apart < 0.02


def test_large_weights_are_rounded_once_to_the_same_features_and_gradients(monkeypatch):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 400), nn.ReLU(), nn.Linear(400, 10))
    phi = preimage.Layer(module, "", space=SPACE)
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 50

    def found():
        leaf = x.clone().requires_grad_()
        with phi.session():
            features = quick(leaf)
            return features, *torch.autograd.grad(features.square().sum(), leaf)

    rounded, to = [], torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *a, **k: (rounded.append(self.numel()), to(self, *a, **k))[1])
    quick = in_bfloat16(phi)
    first, again = found(), found()
    assert rounded.count(3 * 32 * 32 * 400) == 1
    monkeypatch.setattr("preimage.solvers.compute._LARGE", 10**9)
    quick = in_bfloat16(phi)
    each_time = found()
    for a, b, c in zip(first, again, each_time, strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)
    assert module[1].weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("trial", "pays"), [((1, 0.5, 0.99), True), ((1, 0.95, 0.99), False), ((1, 0.5, 0.5), False), ((1, 0.5, float("nan")), False)]
)
def test_bfloat16_pays_if_it_is_faster_and_its_gradient_alike(trial, pays):
    assert Trial(*trial).pays is pays


def test_a_trial_is_recorded_and_what_it_chose_is_done(phi, photo, monkeypatch):
    for seconds, chosen in ((0.1, "bfloat16"), (2.0, "float32")):
        monkeypatch.setattr("preimage.solvers.compute.try_bfloat16", lambda energy, x, s=seconds: Trial(1.0, s, 0.99))
        result = preimage.invert(phi, photo, progress=False, iterations=5, compute=preimage.Compute(precision="auto"))
        assert result.config["precision"] == chosen
        assert result.config["precision_trial"] == {"float32": 1.0, "bfloat16": seconds, "cosine": 0.99}
        same = preimage.invert(phi, photo, progress=False, iterations=5, compute=preimage.Compute(precision=chosen))
        assert torch.equal(result.images, same.images)


def test_a_trial_measures_both_and_leaves_the_energy_as_it_was(phi):
    energy = energy_of(phi)
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 50
    trial = try_bfloat16(energy, x)
    assert trial.float32 > 0 and trial.bfloat16 > 0 and 0.9 < trial.cosine < 1
    assert energy.data.gradient_phi is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_network_gives_the_same_image_and_says_that_it_was_compiled(phi, photo):
    options = {"progress": False, "iterations": 12, "solver": "adam"}
    plain, compiled = (preimage.invert(phi, photo, compute=preimage.Compute(compiled=c), **options) for c in (False, True))
    assert compiled.config["compiled"] is True and plain.config["compiled"] is False
    torch.testing.assert_close(compiled.images, plain.images, rtol=0, atol=0.05)
    assert compiled.evaluations == plain.evaluations


def test_a_network_is_compiled_once_for_the_batch_that_is_used(phi, photo, monkeypatch):
    seen = []
    monkeypatch.setattr(torch, "compile", lambda graph, **options: (seen.append(options), graph)[1])
    preimage.invert(phi, photo, progress=False, iterations=3, restarts=4, compute=preimage.Compute(batch=2, compiled=True))
    assert seen == [{"dynamic": False, "mode": "default"}]


def test_where_nothing_can_be_compiled_it_is_said(phi, photo, monkeypatch):
    def refuse(function, **options):
        def call(x):
            raise RuntimeError("No working C++ compiler found in here\nand much more")

        return call

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(InputError, match=r"cannot be compiled here: No working C\+\+ compiler found in here Leave compiled out"):
        preimage.invert(phi, photo, progress=False, iterations=2, compute=preimage.Compute(compiled=True))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"precision": "half"}, "float32, bfloat16, auto"),
        ({"precision": "bfloat16", "dtype": torch.float64}, "does not go with"),
        ({"dtype": torch.bfloat16}, "see precision"),
        ({"max_memory": "lots"}, "'4GB'"),
        ({"max_memory": 0}, "'4GB'"),
        ({"max_memory": "1GB", "batch": 2}, "leave one out"),
        ({"max_memory": "100KB"}, "the limit is 0 MB"),
    ],
)
def test_what_cannot_be_done_is_said(phi, photo, options, said):
    options = dict(options)
    with pytest.raises(InputError, match=said):
        dtype = options.pop("dtype", None)
        preimage.invert(phi, photo, progress=False, iterations=2, dtype=dtype, compute=preimage.Compute(**options))


@given(number=st.integers(1, 999), unit=st.sampled_from(["B", "KB", "MB", "GB", "KiB", "MiB", "GiB"]), space=st.sampled_from(["", " "]))
@settings(max_examples=40, deadline=None)
def test_limits_are_read_as_they_are_written(number, unit, space):
    factor = {"B": 1, "K": 1000, "M": 1000**2, "G": 1000**3}[unit[0]] if len(unit) < 3 else {"K": 2**10, "M": 2**20, "G": 2**30}[unit[0]]
    assert memory_limit(f"{number}{space}{unit}", CPU) == number * factor
    assert memory_limit(f"{number}{space}{unit.lower()}", CPU) == number * factor
    assert memory_limit(number, CPU) == number


def test_the_graph_s_bytes_grow_with_the_batch_and_not_with_the_weights():
    class Wide(nn.Module):
        def __init__(self, unused):
            super().__init__()
            self.table = nn.Parameter(torch.ones(3, 32, 32, unused))

        def forward(self, x):
            return (x * self.table[..., 0]).relu()

    small, large = (graph_bytes(energy_of(preimage.Layer(Wide(n), "", space=SPACE)), torch.ones(1, 3, 32, 32)) for n in (1, 1000))
    assert small == large
    energy = energy_of(preimage.Layer(network(), "3", space=SPACE))
    one, four = (graph_bytes(energy, torch.randn(n, 3, 32, 32)) for n in (1, 4))
    assert one >= 4 * (3 * 32 * 32 + 8 * 14 * 14)  # the image, for the first convolution, and the ReLU's output
    assert 3.5 * one < four <= 4.5 * one


def test_as_many_are_evaluated_together_as_fit_and_the_images_are_the_same(photo):
    sizes = []
    net = network()

    def f(x):
        sizes.append(len(x))
        return net.requires_grad_(False)(x)

    phi = preimage.from_callable(f, SPACE)
    energy, start = energy_of(phi), torch.zeros(6, 3, 32, 32)
    own, each = STATE * start[0].numel() * 4, 2 * graph_bytes(energy, start[:1])
    assert samples_at_once(energy, start, 6 * own + 2 * each) == 2
    assert samples_at_once(energy, start, 10**12) == 6
    with pytest.raises(InputError, match="3 would: make them in several runs"):
        samples_at_once(energy, start, 3 * own + each)
    sizes.clear()
    together = preimage.invert(
        phi, photo, progress=False, iterations=3, restarts=6, compute=preimage.Compute(max_memory=6 * own + 2 * each + 10)
    )
    assert set(sizes[1:]) <= {1, 2} and 2 in sizes
    alone = preimage.invert(phi, photo, progress=False, iterations=3, restarts=6)
    torch.testing.assert_close(together.images, alone.images, rtol=0, atol=0.02)


def test_channels_last_is_for_convolutions_and_leaves_the_weights_as_they_were(photo):
    net = network()
    before = [p.stride() for p in net.parameters()]
    phi = preimage.Layer(net, "3", space=SPACE)
    assert likes_channels_last(net) and not likes_channels_last(nn.Linear(2, 2))
    early = preimage.Layer(net, "1", space=SPACE)
    with early.session(channels_last=True):
        assert [p.stride()[1] for p in (net[0].weight, net[3].weight)] == [1, 9]  # what the layer does not need is not copied
    with phi.session(channels_last=True):
        inside = phi(torch.ones(1, 3, 32, 32))
        assert inside.is_contiguous(memory_format=torch.channels_last) and not inside.is_contiguous()
    outside = phi(torch.ones(1, 3, 32, 32))
    assert outside.is_contiguous() and [p.stride() for p in net.parameters()] == before
    torch.testing.assert_close(inside, outside)
    assert preimage.invert(phi, photo, progress=False, iterations=2).config["channels_last"] is True


def test_while_a_network_is_opened_it_runs_as_it_is_and_not_as_the_compiled_graph_that_does_not_know_it(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda graph, **options: graph)
    torch.manual_seed(0)
    phi = preimage.Layer(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)), "2", space=SPACE)
    graph = compiled(phi, torch.device("cpu"))

    def gradient(function):
        x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3)).mul(40).requires_grad_()
        return torch.autograd.grad(function(x).square().sum(), x)[0]

    with phi.session():
        torch.testing.assert_close(gradient(graph), gradient(phi))
        plain = gradient(phi)
        with phi.opened(0.3, 0.5):
            assert torch.equal(gradient(graph), gradient(phi)) and not torch.allclose(gradient(graph), plain)
        torch.testing.assert_close(gradient(graph), plain)


def test_that_a_run_which_is_opened_throughout_is_not_compiled_is_said(phi, photo):
    parts = replace(recipe_named("mahendran2016").parts("invert"), closed_slope=0.1)
    with pytest.warns(preimage.PreimageWarning, match="compiled has no effect"):
        found = preimage.invert(
            phi,
            photo,
            recipe=Recipe("own", "me", "Mine.", invert=parts),
            iterations=2,
            progress=False,
            compute=preimage.Compute(compiled=True),
        )
    assert found.config["compiled"] is False
