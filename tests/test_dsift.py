"""Dense SIFT against VLFeat's own numbers, against a plain second writing, and against what must hold of any such histogram."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.shallow import LiteralDSIFT
from torch import Tensor

from preimage.errors import InputError
from preimage.representations.base import Representation
from preimage.representations.dsift import DenseSIFT
from tests import shallow_reference as reference

GOLDEN = Path(__file__).parent / "data" / "golden_shallow.npz"

ALL = [DenseSIFT(5), DenseSIFT(4, step=3), DenseSIFT(5, form="vlfeat"), DenseSIFT(4, step=2, form="vlfeat", margin=3)]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return {key: file[key] for key in file.files}


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return 255 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [8, 5])
def test_every_descriptor_is_the_networks_and_vlfeats(golden: dict[str, np.ndarray], size: int, dtype: torch.dtype) -> None:
    def features(phi: DenseSIFT) -> np.ndarray:
        return phi(x).permute(0, 2, 3, 1).double().numpy()

    x = torch.from_numpy(golden["gray"][golden[f"dsift{size}_images"], None]).to(dtype)
    network = features(DenseSIFT(size)) - golden[f"dsift{size}_net"]
    assert np.abs(network).max() < 2e-7
    flat = features(DenseSIFT(size, form="vlfeat", window=float(golden[f"dsift{size}_window"]), margin=size))
    seen = golden[f"dsift{size}_frames"][..., 2] > 0.01  # below, VLFeat normalises what its square root has left
    assert np.abs(flat - golden[f"dsift{size}_vl_flat_x64"])[seen].max() < 2e-7
    assert np.abs(flat - golden[f"dsift{size}_vl_flat"])[seen].max() < 1.2e-2  # vl_fast_atan2_f is good to 0.01 radians


@pytest.mark.parametrize("size", [8, 5])
def test_descriptors_are_where_vlfeat_puts_them(golden: dict[str, np.ndarray], size: int) -> None:
    frames = golden[f"dsift{size}_frames"][0]
    phi = DenseSIFT(size, form="vlfeat", margin=size)
    assert frames.shape[:2] == (phi.frames(160), phi.frames(160)) == (DenseSIFT(size).frames(160),) * 2
    assert frames[1, 2, 0] == size + 1.5 * size + 2 * phi.step


@pytest.mark.parametrize(
    ("size", "step", "window", "margin", "shape"), [(3, 9, 1.5, 3, (28, 25)), (2, 3, 2.0, 0, (11, 13)), (4, 2, 1.0, 1, (17, 16))]
)
def test_a_plain_second_writing_gives_the_same(size: int, step: int, window: float, margin: int, shape: tuple[int, int]) -> None:
    x = noise(1, 1, *shape, seed=size).round()
    x[..., 3:9, 2:7] = 90.0
    features = DenseSIFT(size, step, "vlfeat", window, margin)(x)[0].numpy()
    expected = reference.dsift(x[0, 0].numpy(), size, step, window, margin)
    assert features.shape == expected.shape
    assert np.abs(features - expected).max() < 1e-12


@pytest.mark.parametrize(("size", "shape"), [(8, (66, 120)), (5, (47, 59))])
def test_the_papers_form_is_the_network_of_dense_convolutions(size: int, shape: tuple[int, int]) -> None:
    x = noise(2, 1, *shape).requires_grad_()
    ours, network = DenseSIFT(size)(x), LiteralDSIFT(size)(x)
    assert (ours - network).abs().max() < 1e-11
    direction = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=x.dtype)
    ((a,), (b,)) = (torch.autograd.grad((f * direction).sum(), x) for f in (ours, network))
    assert (a - b).norm() < 1e-6 * b.norm()  # the network's arc cosine loses half the digits near 1


def test_the_papers_root_holds_for_faint_images() -> None:
    x = 1e-7 * noise(1, 1, 66, 66)  # descriptors have norms of about 1e-3, as the root of 1e-6 added to their square
    ours = DenseSIFT(8)(x)
    assert (ours - LiteralDSIFT(8)(x)).abs().max() < 1e-12
    assert 0.01 < torch.linalg.vector_norm(ours, dim=1).max() < 0.99


@pytest.mark.parametrize("form", ["paper", "vlfeat"])
def test_small_steps_hold_the_descriptors_of_large_ones(form: str) -> None:
    x = noise(1, 1, 61, 70)
    large = DenseSIFT(4, form=form)(x)  # type: ignore[arg-type]
    for step in (1, 2, 3, 4, 6):
        small = DenseSIFT(4, step, form=form)(x)[..., :: 12 // step, :: 12 // step]  # type: ignore[arg-type]
        assert (small - large).abs().max() < 1e-13


@pytest.mark.parametrize("form", ["paper", "vlfeat"])
def test_turning_the_image_by_90_degrees_permutes_bins_and_directions(form: str) -> None:
    phi = DenseSIFT(4, form=form)  # type: ignore[arg-type]
    side = phi.receptive_field + 2 * phi.step if form == "paper" else 3 * 4 + 1 + 2 * phi.step  # frames lie symmetrically
    x = noise(1, 1, side, side)
    features = phi(x)[0].rot90(1, (1, 2)).view(4, 4, 8, 3, 3)
    expected = features.rot90(1, (0, 1))[:, :, torch.arange(8).add(2) % 8].reshape(128, 3, 3)
    assert (phi(x.rot90(1, (2, 3)))[0] - expected).abs().max() < 1e-12


@pytest.mark.parametrize("phi", ALL, ids=repr)
def test_contrast_and_brightness_do_not_matter_where_the_image_is_not_flat(phi: DenseSIFT) -> None:
    x = noise(1, 1, 40, 40)
    assert (phi(3 * x) - phi(x)).abs().max() < 1e-8  # norms are above 100; 1e-6 under the root, or 1.2e-7 beside it
    assert (phi(x + 40) - phi(x)).abs().max() < 1e-10


@pytest.mark.parametrize(
    "phi",
    [DenseSIFT(2), DenseSIFT(2, step=3, form="vlfeat"), pytest.param(DenseSIFT(2, step=2, form="vlfeat"), marks=pytest.mark.slow)],
    ids=repr,
)
def test_derivatives_are_those_of_finite_differences(phi: DenseSIFT) -> None:
    x = noise(1, 1, 13, 12, seed=3).requires_grad_()
    assert torch.autograd.gradcheck(phi, x, eps=1e-5, atol=1e-6)


@pytest.mark.parametrize("phi", ALL, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_on_flat_and_nearly_flat_images(phi: DenseSIFT, dtype: torch.dtype) -> None:
    half = torch.full((1, 1, 40, 40), 17.0, dtype=dtype)
    half[..., 20:] = 200.0
    faint = [10.0**-power * noise(1, 1, 40, 40, dtype=dtype) for power in (3, 8, 14, 22, 30, 44)]
    for x in (torch.zeros(1, 1, 40, 40, dtype=dtype), half, *faint):
        x = x.clone().requires_grad_()
        features = phi(x)
        (gradient,) = torch.autograd.grad(features.sum(), x)
        assert torch.isfinite(features).all()
        assert torch.isfinite(gradient).all()
    assert not phi(torch.full((1, 1, 40, 40), 17.3, dtype=dtype)).any()


@pytest.mark.parametrize("phi", ALL, ids=repr)
def test_samples_do_not_see_each_other(phi: DenseSIFT) -> None:
    x = noise(3, 1, 40, 49, dtype=torch.float64).requires_grad_()
    together = phi(x)
    # the order of additions in a matrix product may depend on the batch
    assert (together - torch.cat([phi(x[i : i + 1]) for i in range(3)])).abs().max() < 1e-14
    (gradient,) = torch.autograd.grad(together[1].sum(), x)
    assert gradient[1].any()
    assert not gradient[[0, 2]].any()


@pytest.mark.parametrize("phi", ALL, ids=repr)
def test_float32_is_float64_rounded(phi: DenseSIFT) -> None:
    x = noise(2, 1, 70, 61, dtype=torch.float32)
    single, double = phi(x), phi(x.double())
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert (single - double).abs().max() < 1e-6


@pytest.mark.parametrize("phi", [DenseSIFT(4), DenseSIFT(5), DenseSIFT(4, form="vlfeat", margin=5)], ids=repr)
def test_a_descriptor_sees_its_receptive_field_and_no_more(phi: DenseSIFT) -> None:
    x = noise(1, 1, 90, 90).requires_grad_()
    (gradient,) = torch.autograd.grad(phi(x)[0, :, 1, 1].sum(), x)
    rows = gradient[0, 0].any(dim=1).nonzero().flatten()
    assert int(rows[-1] - rows[0]) + 1 == phi.receptive_field


def test_the_last_pixels_of_an_image_may_not_be_seen() -> None:
    for size, unseen in ((8, 22), (5, 4)):
        x = noise(1, 1, 256, 256).requires_grad_()
        (gradient,) = torch.autograd.grad(DenseSIFT(size)(x).square().sum(), x)
        assert 255 - int(gradient[0, 0].any(dim=1).nonzero().max()) == unseen


def test_it_is_a_representation_without_state() -> None:
    phi = DenseSIFT()
    assert isinstance(phi, Representation)
    assert (phi.name, phi.stride, phi.jitter, phi.space.size, phi.space.count) == ("dsift", 24, 1, None, 1)
    assert not list(phi.parameters())
    assert not phi.state_dict()
    assert repr(phi) == "DenseSIFT(bin=8, step=24, form='paper', window=1.5, margin=8.5)"


def test_a_broken_image_gives_broken_features_and_no_crash() -> None:
    x = torch.full((1, 1, 40, 40), float("nan"))
    x[..., 20:] = 0
    for phi in ALL:
        assert not torch.isfinite(phi(x)).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"bin": 0},
        {"step": 0},
        {"form": "flat"},
        {"window": 0.0},
        {"window": float("nan")},
        {"margin": 3},
        {"form": "vlfeat", "margin": -1},
    ],
    ids=str,
)
def test_wrong_settings_are_named(settings: dict[str, object]) -> None:
    with pytest.raises(InputError, match=list(settings)[-1]):
        DenseSIFT(**settings)  # type: ignore[arg-type]


def test_wrong_images_are_told_what_is_wanted() -> None:
    with pytest.raises(InputError, match=r"grey images of shape \(B, 1, H, W\)"):
        DenseSIFT()(torch.zeros(1, 32, 32))
    with pytest.raises(InputError, match="at least 42x42 pixels"):
        DenseSIFT()(torch.zeros(1, 1, 41, 64))
    assert DenseSIFT()(torch.zeros(1, 1, 42, 65)).shape == (1, 128, 1, 1)
    assert DenseSIFT(form="vlfeat")(torch.zeros(1, 1, 25, 48)).shape == (1, 128, 1, 1)
