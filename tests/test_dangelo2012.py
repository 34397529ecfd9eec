"""Images from binary descriptors by d'Angelo et al.: what the recovery minimises, its iteration written plainly, and a photograph."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch
from torch import Tensor

import preimage
from preimage.errors import InputError
from preimage.methods.dangelo2012 import from_bits, from_differences, haar, haar_inverse
from preimage.representations.binary import BinaryDescriptor
from preimage.representations.brief import BRIEF
from preimage.representations.freak import FREAK

SMALL = [BRIEF(48, 9, step=4), FREAK(scale=6, step=4)]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 200 * torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 100


def matrix(phi: BinaryDescriptor, side: int) -> np.ndarray:
    """A, a column for each pixel."""
    pixels = torch.eye(side * side, dtype=torch.float64).view(-1, 1, side, side)
    return phi.differences(pixels).flatten(1).T.numpy()


def cat(side: int) -> np.ndarray:
    with PIL.Image.open(next(p for p in preimage.images.reference_images() if "chelsea" in p)) as picture:
        return np.asarray(picture.convert("L").resize((side, side)))


def alike(a: Tensor, b: Tensor) -> float:
    a, b = a.flatten() - a.mean(), b.flatten() - b.mean()
    return float(a @ b / (a.norm() * b.norm()))


@pytest.mark.parametrize("size", [(8, 8), (7, 12), (1, 5), (13, 1)])
def test_haar_wavelets_are_an_orthonormal_basis_whose_first_is_constant(size: tuple[int, int]) -> None:
    count = size[0] * size[1]
    basis = haar_inverse(torch.eye(count, dtype=torch.float64).view(-1, 1, *size)).flatten(1)
    assert (basis @ basis.T - torch.eye(count)).abs().max() < 1e-12
    assert (haar(basis.view(-1, 1, *size)).flatten(1) - torch.eye(count)).abs().max() < 1e-12
    sums = basis.sum(dim=1).abs()
    assert sums[0] > 0 and (size != (8, 8) or sums[1:].max() < 1e-12)


def test_wavelets_of_a_power_of_two_are_pywavelets_by_hand() -> None:
    """Means and differences of the four pixels of a square, at each level, over twos."""
    x = noise(1, 1, 4, 4)
    level, out = x[0, 0].numpy(), np.zeros((4, 4))
    for n in (4, 2):
        a, b, c, d = level[::2, ::2], level[::2, 1::2], level[1::2, ::2], level[1::2, 1::2]
        h = n // 2
        out[:h, h:n], out[h:n, :h], out[h:n, h:n] = (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2
        level = (a + b + c + d) / 2
    out[0, 0] = level[0, 0]
    assert np.abs(haar(x)[0, 0].numpy() - out).max() < 1e-12


@pytest.mark.parametrize("phi", SMALL, ids=lambda phi: phi.name)
def test_the_image_from_differences_is_where_the_energy_is_least(phi: BinaryDescriptor) -> None:
    x0, weight = noise(1, 1, 14, 14), 2.0
    y = phi.differences(x0)

    def energy(x: Tensor) -> float:
        down, right = torch.diff(x, dim=2)[..., :, :], torch.diff(x, dim=3)
        gradient = torch.nn.functional.pad(down, (0, 0, 0, 1)).square() + torch.nn.functional.pad(right, (0, 1)).square()
        return float(weight * (phi.differences(x) - y).abs().sum() + gradient.sqrt().sum())

    found = from_differences(phi, y, (14, 14), weight, steps=700)
    least = energy(found)
    assert least < energy(x0) - 1 and least < energy(torch.zeros_like(x0)) - 1
    for seed in range(6):
        for size in (0.003, 0.3):
            assert energy(found + size * noise(1, 1, 14, 14, seed=seed)) > least * (1 - 1e-4)
        assert energy(found + 0.01 * (x0 - found)) > least * (1 - 1e-4)


def test_no_differences_are_a_flat_image_and_opposite_ones_its_negative() -> None:
    phi, y = SMALL[0], 0.3 * SMALL[0].differences(noise(1, 1, 16, 13))
    assert from_differences(phi, torch.zeros_like(y), (16, 13), steps=20).abs().max() == 0
    assert (from_differences(phi, y, (16, 13), steps=50) + from_differences(phi, -y, (16, 13), steps=50)).abs().max() < 1e-9
    assert (from_bits(phi, y, (16, 13), steps=20) + from_bits(phi, -y, (16, 13), steps=20)).abs().max() < 1e-6
    assert (from_bits(phi, 9 * y, (16, 13), steps=20) - from_bits(phi, y, (16, 13), steps=20)).abs().max() == 0


@pytest.mark.parametrize("phi", SMALL, ids=lambda phi: phi.name)
def test_the_image_from_bits_is_binary_iterative_hard_thresholding(phi: BinaryDescriptor) -> None:
    """With A and the wavelets as matrices; the step's length is of no account, as signs know no length."""
    side, kept = 14, 0.25
    a = matrix(phi, side)
    basis = haar(torch.eye(side * side, dtype=torch.float64).view(-1, 1, side, side)).flatten(1).T.numpy()
    bits = np.sign(a @ noise(1, 1, side, side, seed=3).flatten().numpy())
    x = np.zeros(side * side)
    for _ in range(4):
        waves = basis @ (x + a.T @ (bits - np.sign(a @ x)))
        waves[np.abs(waves) < np.sort(np.abs(waves))[-round(kept * side * side)]] = 0
        x = basis.T @ waves
    expected = 50 * (x - x.mean()) / x.std()
    given = torch.from_numpy(bits).view_as(phi.differences(torch.zeros(1, 1, side, side, dtype=torch.float64)))
    assert np.abs(from_bits(phi, given, (side, side), kept, 4).flatten().numpy() - expected).max() < 1e-6


def test_samples_do_not_see_each_other() -> None:
    phi = SMALL[0]
    y = phi.differences(noise(2, 1, 16, 16))
    for method in (from_differences, from_bits):
        both, alone = method(phi, y, (16, 16), steps=10), method(phi, y[1:], (16, 16), steps=10)
        assert (both[1:] - alone).abs().max() < 1e-6


@pytest.mark.parametrize("phi", [BRIEF(patch=17, step=6), FREAK(scale=10, step=6)], ids=["brief", "freak"])
def test_a_photograph_comes_back_from_its_differences_and_from_its_bits(phi: BinaryDescriptor) -> None:
    x0 = phi.space.encode(cat(48))
    y = phi.differences(x0)
    assert alike(from_differences(phi, y, (48, 48), steps=60), x0) > 0.75
    found = from_bits(phi, y, (48, 48), steps=30)
    assert alike(found, x0) > 0.6
    assert float((phi.differences(found).sign() == y.sign()).float().mean()) > 0.85


def test_wrong_settings_are_named() -> None:
    phi, y = SMALL[0], SMALL[0].differences(torch.zeros(1, 1, 16, 16))
    with pytest.raises(InputError, match="has shape"):
        from_bits(phi, y, (30, 16))
    with pytest.raises(InputError, match="kept"):
        from_bits(phi, y, (16, 16), kept=0)
    with pytest.raises(InputError, match="weight"):
        from_differences(phi, y, (16, 16), weight=-1)
    with pytest.raises(InputError, match="steps"):
        from_bits(phi, y, (16, 16), steps=0)
