"""Units that are closed behind anything that bounds features are opened, and those at a ceiling are told from them."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import preimage
from preimage.energy.energy import Energy
from preimage.energy.losses import InnerProduct
from preimage.energy.terms import FeatureTerm
from preimage.errors import OptimizationError, PreimageWarning
from preimage.pixels.pixelspace import PixelSpace
from preimage.representations.hog import HOG
from preimage.representations.relus import Leaky
from preimage.solvers.loop import minimize

ZERO = torch.zeros(())
BOUNDED = {
    "ReLU": nn.ReLU(),
    "ReLU in place": nn.ReLU(inplace=True),
    "ReLU6": nn.ReLU6(),
    "ReLU6 in place": nn.ReLU6(inplace=True),
    "relu6": F.relu6,
    "Hardtanh": nn.Hardtanh(0.0, 9.0),
    "Threshold": nn.Threshold(0.0, 0.0),
    "Threshold in place": nn.Threshold(0.0, 0.0, inplace=True),
    "clamp(min=0)": lambda x: x.clamp(min=0),
    "clamp_(0)": lambda x: (1 * x).clamp_(0),
    "torch.clamp(0, 6)": lambda x: torch.clamp(x, 0, 6),
    "clip(0)": lambda x: x.clip(0),
    "clamp_min": lambda x: torch.clamp_min(x, 0.0),
    "clamp(min=tensor)": lambda x: x.clamp(min=ZERO),
    "maximum(x, 0)": lambda x: torch.maximum(x, ZERO),
    "maximum(0, x)": lambda x: torch.maximum(torch.zeros_like(x), x),
    "max(x, 0)": lambda x: torch.max(x, ZERO),
    "fmax(x, 0)": lambda x: torch.fmax(x, ZERO),
}
OTHERS = {
    "relu().square()": lambda x: x.relu().square(),
    "relu() ** 2": lambda x: x.relu() ** 2,
    "relu() * relu()": lambda x: (lambda r: r * r)(x.relu()),
    "clamp(min=0.5)": lambda x: x.clamp(min=0.5),
    "Threshold(0.1, 20)": nn.Threshold(0.1, 0.02),
    "Hardswish": nn.Hardswish(),
    "Hardsigmoid": nn.Hardsigmoid(),
}


def slope_of(function, x):
    x = x.clone().requires_grad_()
    out = function(1 * x)
    return out.detach(), torch.autograd.grad(out.sum(), x)[0]


@pytest.mark.parametrize("function", BOUNDED.values(), ids=BOUNDED)
def test_a_leak_counts_for_every_function_that_is_a_relu(function):
    x = torch.tensor([-50.0, -4.0, -1e-3, 0.5, 2.0])
    with Leaky(0.25):
        out, slope = slope_of(function, x)
    torch.testing.assert_close(out, F.leaky_relu(x, 0.25))
    torch.testing.assert_close(slope, torch.tensor([0.25, 0.25, 0.25, 1.0, 1.0]))


@pytest.mark.parametrize("function", [*BOUNDED.values(), *OTHERS.values()], ids=[*BOUNDED, *OTHERS])
def test_an_opened_gradient_passes_every_closed_unit_and_changes_no_value_and_no_other_slope(function):
    x = torch.tensor([-50.0, -4.0, -3.5, 0.6, 2.0])
    plain, own = slope_of(function, x)
    with Leaky(0.25, opened=True):
        out, slope = slope_of(function, x)
    assert torch.equal(out, plain)
    closed = own == 0
    assert closed[:3].all() and bool((slope[closed] > 0).all())
    torch.testing.assert_close(slope[~closed], own[~closed])


def test_the_larger_of_two_features_a_reduction_and_what_is_spread_are_no_relus():
    x = torch.tensor([-3.0, -1.0])
    for function in (lambda v: torch.maximum(v, v.flip(0)), lambda v: v.max(0).values, lambda v: v.max() + 0 * v, lambda v: v * (v + 1)):
        plain = slope_of(function, x)
        for opened in (False, True):
            with Leaky(0.25, opened=opened):
                torch.testing.assert_close(slope_of(function, x), plain)
    with Leaky(0.25):
        assert torch.maximum(torch.tensor([-1.0]), torch.zeros(3)).shape == (3,)
        assert torch.equal(torch.tensor([3, -1]).clamp(min=0), torch.tensor([3, 0]))
        torch.testing.assert_close(torch.tensor([-1.0]).clamp(min=0.5), torch.tensor([0.5]))


@pytest.mark.parametrize("name", ["ReLU6", "clamp(min=0)", "Hardtanh", "Threshold", "maximum(x, 0)", "relu().square()"])
def test_a_unit_that_is_closed_at_the_start_is_opened_behind_whatever_closes_it(name):
    function = (BOUNDED | OTHERS)[name]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.end = nn.Conv2d(3, 2, 3), nn.Identity()
            nn.init.constant_(self.conv.weight, 0.01)
            nn.init.constant_(self.conv.bias, -2.5)  # noise, whose mean is near zero, leaves it closed

        def forward(self, x):
            return self.end(function(self.conv(x)))

    phi = preimage.Layer(Net(), "end", space=PixelSpace(8, "rgb", mean=(110.0, 110.0, 110.0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PreimageWarning)  # of the ceiling, which is reached
        found = preimage.maximize(phi, 1, canvas="input", Z=1.0, iterations=20, progress=False)
    assert found.config["opened"] == [0] and found.config["reopened"] == {} and found.activation.item() > 0
    assert found.status == ["ok"] or (found.activation.item() in (6.0, 9.0) and "at its ceiling" in found.status[0])


def test_a_unit_at_its_ceiling_is_said_to_be_there_and_not_dead():
    energy = Energy(FeatureTerm(InnerProduct(1.0), lambda x: x.mean((1, 2, 3), keepdim=True).clamp(-9, 5.0), torch.ones(1, 1, 1, 1), 1e3))
    with pytest.warns(PreimageWarning, match="at its ceiling") as said:
        found = minimize(energy, torch.full((1, 1, 4, 4), 4.0), solver="paper", iterations=4)
    assert "dead" not in str(said[0].message) and "closed" not in found.status[0]
    with pytest.raises(OptimizationError, match=r"exactly zero at every step\. .*at its ceiling"):
        minimize(energy, torch.full((1, 1, 4, 4), 60.0), solver="paper", iterations=4)


def test_hog_at_its_ceiling_says_so():
    phi, x = HOG(), torch.zeros(1, 1, 24, 24)
    x[..., 12:] = 120.0  # one edge, which fills its cells' histograms
    features = phi(x)
    unit = features[0, :, 1, 1].argmax()
    assert features[0, unit, 1, 1].item() == pytest.approx(0.4, abs=1e-4)
    target = torch.zeros_like(features)
    target[0, unit, 1, 1] = 1.0
    with pytest.raises(OptimizationError, match="at its ceiling"):
        minimize(Energy(FeatureTerm(InnerProduct(1.0), phi, target), {}), x, solver="paper", iterations=3)


POOLINGS = {
    "3x3, stride 2, ceil": (nn.MaxPool2d(3, 2, ceil_mode=True), (1, 2, 8, 8)),
    "2x2": (nn.MaxPool2d(2), (1, 2, 8, 8)),
    "padded": (nn.MaxPool2d(3, 2, padding=1), (1, 2, 8, 8)),
    "function": (lambda x: F.max_pool2d(x, 3, stride=1), (1, 2, 8, 8)),
    "torch's": (lambda x: torch.max_pool2d(x, (2, 2)), (1, 2, 8, 8)),
    "1d": (nn.MaxPool1d(3), (1, 2, 9)),
    "3d": (nn.MaxPool3d(2), (1, 1, 4, 4, 4)),
    "3d without a batch": (nn.MaxPool3d(2), (1, 4, 4, 4)),
}


@pytest.mark.parametrize(("pooling", "shape"), POOLINGS.values(), ids=POOLINGS)
def test_a_share_of_the_gradient_at_max_pooling_goes_to_all_places_of_a_window(pooling, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    plain, largest = slope_of(pooling, x)
    with Leaky(0.0, opened=True, pool_share=1.0):
        same, even = slope_of(pooling, x)
    with Leaky(0.0, opened=True, pool_share=0.25):
        also, some = slope_of(pooling, x)
    assert torch.equal(plain, same) and torch.equal(plain, also)
    assert int((even != 0).sum()) > int((largest != 0).sum())
    torch.testing.assert_close(even.sum(), largest.sum())
    torch.testing.assert_close(some, 0.75 * largest + 0.25 * even)


def test_the_even_share_of_a_window_is_one_part_in_as_many_as_it_has_places():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    with Leaky(0.0, opened=True, pool_share=0.4):
        slope = slope_of(nn.MaxPool2d(2), x)[1]
    torch.testing.assert_close(slope[0, 0, :2, :2], torch.tensor([[0.1, 0.1], [0.1, 0.7]]))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("windows", [(3, 2, 0, True), (3, 2, 1, False), ((3, 2), (2, 1), (1, 0), True), (2, None, 0, False)])
def test_the_even_share_is_the_gradient_of_mean_pooling_of_what_is_no_padding(windows, layout):
    x = torch.randn((2, 3, 10, 11), generator=torch.Generator().manual_seed(3), dtype=torch.float64).contiguous(memory_format=layout)
    with Leaky(0.0, opened=True, pool_share=1.0):
        found = slope_of(nn.MaxPool2d(*windows[:3], ceil_mode=windows[3]), x)[1]
    wanted = slope_of(nn.AvgPool2d(*windows, count_include_pad=False), x)[1]
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)  # float64: sums in another order


@pytest.mark.parametrize("pooling", [nn.MaxPool2d(2, dilation=2), nn.MaxPool2d(2, return_indices=True), nn.AdaptiveMaxPool2d(2)])
def test_pooling_that_has_no_mean_pooling_of_its_windows_keeps_its_own_gradient(pooling):
    def values(x):
        out = pooling(x)
        return out[0] if isinstance(out, tuple) else out

    x = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(1))
    plain = slope_of(values, x)
    with Leaky(0.2, opened=True, pool_share=0.5):
        found = slope_of(values, x)
    assert all(torch.equal(a, b) for a, b in zip(plain, found, strict=True))


def test_without_a_slope_the_share_alone_changes_the_gradient():
    x = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(2))
    plain = slope_of(F.relu, x)
    with Leaky(0.0, opened=True, pool_share=0.5):
        found = slope_of(F.relu, x)
    assert all(torch.equal(a, b) for a, b in zip(plain, found, strict=True))
