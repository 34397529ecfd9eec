"""Local binary patterns: scikit-image's codes exactly, soft ones that lead to them, and an inversion."""

from __future__ import annotations

import warnings

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import preimage
from preimage.errors import InputError
from preimage.representations.base import Representation
from preimage.representations.lbp import LBP, code_labels

METHODS = ["default", "nri_uniform", "uniform", "ror"]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 255 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def theirs(x: np.ndarray, points: int, radius: float, method: str) -> np.ndarray:
    from skimage.feature import local_binary_pattern

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it advises against floating-point images because of ties
        codes = local_binary_pattern(x, points, radius, method).astype(int)
    return codes if method != "ror" else code_labels(points, "ror")[codes]


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=25, deadline=None)
@given(
    points=st.integers(2, 12),
    radius=st.sampled_from([0.5, 1, 1.5, 2, 3.3]),
    levels=st.sampled_from([2, 6, 256, 10**6]),
    seed=st.integers(0, 99),
)
def test_hard_codes_are_scikit_images_ties_included(method: str, points: int, radius: float, levels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, levels, (rng.integers(3, 30), rng.integers(3, 30))) * (255 / (levels - 1))
    ours = LBP(points=points, radius=radius, method=method).codes(torch.from_numpy(x)[None, None])[0]  # type: ignore[arg-type]
    assert np.array_equal(ours.numpy(), theirs(x, points, radius, method))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("points", "radius"), [(8, 1), (8, 2), (5, 1.5), (2, 1)])
def test_at_zero_temperature_a_cell_counts_scikit_images_codes(method: str, points: int, radius: float) -> None:
    x = noise(1, 1, 25, 34)
    phi = LBP(8, points, radius, method, temperature=0)  # type: ignore[arg-type]
    codes = theirs(x[0, 0].numpy(), points, radius, method)
    expected = [
        [np.bincount(codes[8 * i : 8 * i + 8, 8 * j : 8 * j + 8].ravel(), minlength=phi.labels) / 64 for j in range(4)] for i in range(3)
    ]
    assert np.abs(phi(x)[0].permute(1, 2, 0).numpy() - np.array(expected)).max() < 1e-12


def test_soft_histograms_become_the_hard_ones_as_it_gets_cold() -> None:
    x = noise(1, 1, 32, 32)
    hard = LBP(temperature=0)(x)
    distances = [(LBP(temperature=t)(x) - hard).abs().sum().item() for t in (30.0, 3.0, 0.3, 1e-6)]
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-9


def test_a_soft_histogram_is_the_product_of_its_bits() -> None:
    x = noise(1, 1, 6, 6)
    phi = LBP(6, points=3, method="default", temperature=50.0)
    bits = phi._bits(x[:, 0])[0].flatten(1).numpy()
    for code in range(8):
        shares = np.prod([bits[p] if code >> p & 1 else 1 - bits[p] for p in range(3)], axis=0)
        assert phi(x)[0, code, 0, 0].item() == pytest.approx(shares.mean())


@pytest.mark.parametrize("method", METHODS)
def test_every_cell_sums_to_one_and_nothing_is_negative(method: str) -> None:
    features = LBP(method=method)(noise(2, 1, 24, 33))  # type: ignore[arg-type]
    assert (features.sum(dim=1) - 1).abs().max() < 1e-12
    assert features.min() >= 0


def test_brightness_does_not_matter_away_from_the_border() -> None:
    x = noise(1, 1, 40, 40)
    assert (LBP()(x + 70)[..., 1:-1, 1:-1] - LBP()(x)[..., 1:-1, 1:-1]).abs().max() < 1e-12


def test_rotation_invariant_labels_do_not_turn_with_the_image() -> None:
    x = noise(1, 1, 32, 32)
    turned = LBP(method="ror")(x.rot90(1, (2, 3)))
    assert (turned - LBP(method="ror")(x).rot90(1, (2, 3))).abs().max() < 1e-5  # scikit-image rounds positions to 1e-5 pixels


def test_derivatives_are_those_of_finite_differences() -> None:
    x = noise(1, 1, 9, 8).requires_grad_()
    assert torch.autograd.gradcheck(LBP(4, 5, 1.3, "nri_uniform", 20.0), x, eps=1e-4, atol=1e-8)


def test_samples_do_not_see_each_other() -> None:
    x = noise(3, 1, 16, 24).requires_grad_()
    (gradient,) = torch.autograd.grad(LBP()(x)[1].square().sum(), x)
    assert gradient[1].any()
    assert not gradient[[0, 2]].any()


def test_it_inverts_by_the_same_call() -> None:
    with PIL.Image.open(next(p for p in preimage.images.reference_images() if "chelsea" in p)) as picture:
        cat = np.asarray(picture.convert("L").resize((64, 64)))
    phi = LBP(cell=8)
    assert isinstance(phi, Representation)
    result = preimage.invert(phi, cat, iterations=80, progress=False)
    assert result.status == ["ok"]
    assert result.error is not None
    assert result.error.item() < 0.25
    assert result.energy["total"] < 0.3 * result.trace["total"][0]


@pytest.mark.parametrize(
    "wrong", [{"cell": 0}, {"points": 1}, {"points": 13}, {"radius": 0.2}, {"method": "var"}, {"temperature": -1.0}], ids=str
)
def test_wrong_settings_are_named(wrong: dict) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        LBP(**wrong)
    with pytest.raises(InputError, match="at least 8x8"):
        LBP()(torch.zeros(1, 1, 7, 20))
