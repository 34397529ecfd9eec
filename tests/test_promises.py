"""The figures that the project promises, on the 20 photographs. Slow: `make test-slow`."""

from __future__ import annotations

import pytest
import torch

import preimage

pytestmark = pytest.mark.slow


def means(net, photographs, layer, **kw):
    """Mean error, energy and PSNR over the photographs, five in a batch."""
    results = [preimage.invert(net.layer(layer), photographs[k : k + 5], C=100, seed=0, progress=False, **kw) for k in range(0, 20, 5)]
    error = torch.cat([r.error for r in results])
    energy = torch.cat([r.energy["loss"] + r.energy["alpha-norm"] + r.energy["tv-beta"] for r in results])  # the paper's
    psnr = torch.cat([preimage.metrics.psnr(r.images, r.originals) for r in results])
    print(f"\n| {layer} | {kw} | {results[0].evaluations} | {energy.mean():.2f} | {error.mean():.1%} | {psnr.mean():.1f} dB |", end="")
    return error.mean().item(), energy.mean().item(), psnr.mean().item()


@pytest.mark.parametrize("layer", ["fire2", "fire4"])
def test_paper_inverts_and_fast_gets_there_in_a_hundred_evaluations(net, photographs, layer):
    error, energy, _ = means(net, photographs, layer, solver="paper")
    assert error <= 0.22
    _, fast, _ = means(net, photographs, layer, solver="fast", iterations=100, start="noise")
    assert fast <= 1.05 * energy
    _, warm, _ = means(net, photographs, layer, solver="fast")
    assert warm < energy


def test_fire4_by_the_default_is_near_in_features_and_in_pixels(net, photographs):
    error, _, psnr = means(net, photographs, "fire4")
    assert error <= 0.16
    assert psnr >= 18.5


def test_fire9_too_is_lower_with_fast(net, photographs):
    _, energy, _ = means(net, photographs, "fire9", solver="paper")
    _, fast, _ = means(net, photographs, "fire9", solver="fast")
    assert fast < energy


@pytest.mark.parametrize("solver", ["fourier-adam", "paper"])
def test_each_class_is_seen_as_itself_at_full_length(net, solver, tmp_path):
    names = ["black swan", "goose", "tree frog", "cheeseburger"]
    preimage.maximize(net.layer("pool10"), names, solver=solver, progress=False).save(tmp_path / "out")
    for name in names:
        ((best, probability),) = net.top(tmp_path / "out" / f"{name.replace(' ', '-')}.png", 1)[0]
        print(f"\n{solver}: {name} is seen as {best}, {probability:.5f}", end="")
        assert best == name
        assert probability > 0.95
