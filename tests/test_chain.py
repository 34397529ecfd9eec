"""The layers of a chain against a plain numpy writing of what MatConvNet's manual says, for any geometry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import preimage
from preimage.networks.chain import AveragePool, Chain, Conv, CrossChannelNorm, MaxPool, Norm, Pool, ReLU, Step, initialise, map_size
from preimage.representations.listing import layers

from . import matfiles

side = st.integers(1, 4)
pads = st.tuples(*[st.integers(0, 3)] * 4)


def run(step: Step, x: np.ndarray) -> np.ndarray:
    """A layer's module on one picture (H, W, C), in double precision."""
    module = initialise(torch.nn.Sequential(step.build())).double().eval()
    with torch.no_grad():
        return module(torch.from_numpy(x.transpose(2, 0, 1))[None])[0].permute(1, 2, 0).numpy()


@st.composite
def axis(draw):
    """Along one side: a window, its stride, padding that is smaller than the window, and a map that the window fits."""
    kernel, stride = draw(side), draw(side)
    before, after = draw(st.integers(0, kernel - 1)), draw(st.integers(0, kernel - 1))
    return kernel, stride, (before, after), draw(st.integers(max(1, kernel - before - after), 9))


@settings(max_examples=60, deadline=None)
@given(rows=axis(), columns=axis(), method=st.sampled_from(["max", "avg"]))
def test_pooling_of_any_geometry_is_the_plain_one(rows, columns, method):
    kernel, stride, ends, size = zip(rows, columns, strict=True)
    pads = (*ends[0], *ends[1])
    step = Pool("pool", method, kernel, stride, pads)
    x = np.random.default_rng(0).normal(size=(*size, 2)) - 5  # all below zero: padding with zeros would win
    wanted = matfiles._pool(x, method, list(kernel), list(stride), list(pads))
    found = run(step, x)
    assert found.shape[:2] == wanted.shape[:2] == map_size(step, size)
    np.testing.assert_allclose(found, wanted, atol=1e-12)  # a mean of at most 16 numbers of size 5 in double precision


@settings(max_examples=30, deadline=None)
@given(kernel=st.tuples(side, side), stride=st.tuples(side, side), pads=pads, groups=st.sampled_from([1, 2]))
def test_convolution_of_any_geometry_is_the_plain_one(kernel, stride, pads, groups):
    step = Conv("conv", 4, 6, kernel, stride, pads, groups)
    x = np.random.default_rng(0).normal(size=(7, 6, 4))
    module = Chain([step])
    filters = np.random.default_rng(1).normal(size=(*kernel, 4 // groups, 6))
    biases = np.random.default_rng(2).normal(size=6)
    state = {f"{step.inside}.weight": filters.transpose(3, 2, 0, 1).copy(), f"{step.inside}.bias": biases}
    module.double().load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
    with torch.no_grad():
        found = next(module.children())(torch.from_numpy(x.transpose(2, 0, 1).copy())[None])[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, matfiles._conv(x, filters, biases, list(pads), list(stride)), atol=1e-11)  # sums of 64 products


@pytest.mark.parametrize("size", [1, 2, 4, 5, 7, 40])
def test_normalisation_over_any_number_of_channels_is_the_plain_one(size):
    x = np.random.default_rng(0).normal(size=(3, 2, 6)) * 30
    np.testing.assert_allclose(run(Norm("norm", size, 2.0, 1e-4, 0.75), x), matfiles._norm(x, size, 2.0, 1e-4, 0.75), rtol=1e-12)


def test_the_gradients_of_the_own_layers_are_right():
    x = torch.randn(2, 5, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    for module in (
        CrossChannelNorm(4, 1.0, 0.3, 0.75),
        MaxPool((3, 2), (2, 1), (1, 0, 0, 1)),
        AveragePool((3, 2), (2, 1), (1, 0, 0, 1)),
    ):
        assert torch.autograd.gradcheck(module, x)


def test_receptive_fields_go_through_uneven_padding():
    """A window of 3 with stride 2 and one row of padding above starts one pixel above the image."""
    steps = [Conv("conv1", 3, 4, (3, 3), (2, 2), (1, 0, 0, 1)), ReLU("relu1"), Pool("pool1", "max", (2, 2), (1, 1), (1, 0, 0, 0))]
    found = {i.name: i for i in layers(initialise(Chain(steps)), preimage.PixelSpace(9))}
    rows, columns = found["pool1"].field.rows, found["pool1"].field.cols
    assert (found["pool1"].receptive_field, found["pool1"].stride) == (5, 2)
    assert (rows.start, columns.start) == (-3, 0)


def test_each_picture_is_alone_in_a_chain():
    chain = initialise(
        Chain([Conv("conv1", 3, 8, (3, 3)), ReLU("relu1"), Norm("norm1", 5, 1.0, 1e-4, 0.75), Pool("pool1", "avg", (2, 2), (2, 2))])
    )
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(chain(x)[1:2], chain(x[1:2]))
