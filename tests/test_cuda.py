"""On a GPU: the same starts, the same energies, and the module back where it was. Skipped where there is none."""

from __future__ import annotations

import pytest
import torch

import preimage

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture
def own():
    return preimage.load_network("squeezenet1_1")


@pytest.mark.parametrize("solver", ["fast", "paper", "adam", "lbfgs"])
def test_an_inversion_ends_where_the_cpu_s_does_and_the_module_stays_on_the_cpu(own, cat, solver):
    phi = own.layer("fire3")
    here = preimage.invert(phi, [cat, cat], restarts=2, solver=solver, iterations=60, progress=False)
    there = preimage.invert(phi, [cat, cat], restarts=2, solver=solver, iterations=60, progress=False, device="cuda")
    assert there.config["device"] == "cuda"
    assert here.seeds == there.seeds
    torch.testing.assert_close(here.trace["total"][0], there.trace["total"][0], rtol=2e-3, atol=0)  # TF32 convolutions
    torch.testing.assert_close(here.energy["total"], there.energy["total"], rtol=0.05, atol=0)
    assert all(p.device.type == "cpu" for p in own.module.parameters())
    assert there.images.device.type == "cpu"


def test_a_network_on_the_gpu_is_used_there(own, cat):
    net = preimage.load_network("squeezenet1_1", device="cuda")
    r = preimage.maximize(net.layer("pool10"), ["tree frog", "goose"], iterations=60, progress=False)
    assert r.config["device"].startswith("cuda")
    assert [net.class_name(i) for i in net.predict(r.images - net.space.mean_colour).argmax(dim=1).tolist()] == ["tree frog", "goose"]
    c = preimage.caricature(net.layer("fire6"), cat, iterations=30, progress=False, dtype=torch.float64)
    assert c.activation.item() > 1
    assert all(p.device.type == "cuda" and p.dtype == torch.float32 for p in net.module.parameters())


def test_classical_descriptors_run_there(cat):
    for phi in (preimage.HOG(), preimage.HOG(bilinear=True), preimage.DenseSIFT()):
        r = preimage.invert(phi, cat, iterations=40, progress=False, device="cuda")
        assert r.config["device"] == "cuda"
        assert r.energy["total"] < 0.6 * r.trace["total"][0]
