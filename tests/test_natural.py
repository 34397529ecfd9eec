"""The priors are centred on a colour of natural pictures, whatever a network subtracts; and hold for any number of channels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import preimage
from preimage import AlphaNorm, Layer, PixelBall, PixelSpace, TVBeta
from preimage.pixels.images import reference_images
from preimage.representations.natural import Centred, centred, natural_colour


class Inside(nn.Module):
    """A network that takes 0 to 255 and subtracts its mean itself."""

    def __init__(self, module, mean):
        super().__init__()
        self.module = module
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))

    def forward(self, x):
        return self.module(x - self.mean)


@pytest.fixture(scope="module")
def pair(net):
    """fire2 of SqueezeNet as it is, and with its mean moved inside."""
    space = net.space
    outside = PixelSpace(64, space.channels, space.scale, space.mean, space.std)
    inside = PixelSpace(64, space.channels, space.scale, 0.0, space.std)
    name = net.card.names["fire2"]
    assert (space.scale, set(space.std)) == (255.0, {1.0})
    return Layer(net.module, name, space=outside), Layer(Inside(net.module, space.mean), f"module.{name}", space=inside)


def test_a_network_whose_mean_is_natural_is_taken_as_it_is(net):
    assert centred(net.layer("fire2")) == net.layer("fire2") or not isinstance(centred(net.layer("fire2")), Centred)
    for space in (PixelSpace.imagenet(8), PixelSpace.caffe(8), PixelSpace(8, "grey", mean=128.0), PixelSpace(8, "rgb", 1.0, 0.5, 0.5)):
        phi = preimage.from_callable(lambda x: x, space)
        assert centred(phi) is phi
        assert torch.equal(natural_colour(space), space.mean_colour)


@pytest.mark.parametrize("solver", ["fast", "paper"])
def test_with_the_mean_inside_the_network_its_pre_image_is_the_same(pair, solver):
    outside, inside = pair
    photo = reference_images()[0]
    common = {"iterations": 30, "seed": [3], "solver": solver, "progress": False}
    one, other = (preimage.invert(phi, photo, **common) for phi in (outside, inside))
    assert abs(float(one.error) - float(other.error)) < 0.02
    assert float(preimage.metrics.psnr(one.images, other.images)) > 24  # the natural colour is ImageNet's, not quite this network's
    near, far = (float(preimage.metrics.psnr(r.images, r.originals)) for r in (one, other))
    assert far > near - 0.5
    assert PixelSpace.from_dict(other.config["space"]) == inside.space
    torch.testing.assert_close(other.originals, one.originals)


def test_a_unit_s_picture_and_a_caricature_are_not_dark(pair):
    outside, inside = pair
    common = {"iterations": 15, "progress": False}
    one, other = (preimage.maximize(phi, 5, seed=[1], **common) for phi in (outside, inside))
    assert abs(float(one.images.mean()) - float(other.images.mean())) < 8
    photo = reference_images()[0]
    one, other = (preimage.caricature(phi, photo, C=10.0, transform=preimage.Jitter(3), **common) for phi in (outside, inside))
    assert float(preimage.metrics.psnr(one.images, other.images)) > 24


def test_a_canonical_tensor_is_still_levels_less_the_network_s_mean():
    space = PixelSpace(8, "grey")
    phi = preimage.from_callable(lambda x: x, space)
    levels = torch.full((1, 1, 8, 8), 200.0)
    given = preimage.invert(phi, levels, iterations=5, progress=False)
    read = preimage.invert(phi, np.full((8, 8), 200, np.uint8), iterations=5, progress=False)
    torch.testing.assert_close(given.originals, levels)
    torch.testing.assert_close(given.images, read.images)
    torch.testing.assert_close(space.encode(np.full((8, 8), 200, np.uint8)), levels)


@pytest.mark.parametrize(
    "space",
    [
        PixelSpace(8), PixelSpace(8, "bgr", 1.0), PixelSpace(8, "grey", 1.0, 0.13, 0.31), PixelSpace(8, "bgr", 1.0, (0.0, 0.1, 0.2), 0.3),
        PixelSpace(8, 5, 1.0, 0.0, 2.0),
    ],
)  # fmt: skip
def test_what_the_network_sees_is_the_same_through_the_centred_representation(space):
    phi = preimage.from_callable(lambda x: x, space)
    around = centred(phi)
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, space.count), np.uint8)
    x = around.space.encode(picture)
    torch.testing.assert_close(around(x), phi(space.encode(picture)), atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(around.space.encode(space.encode(picture)), x, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(around.space.decode(x), space.decode(space.encode(picture)), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(around.space.mean_colour, natural_colour(space))
    assert around.space.to_dict() == space.to_dict()


def test_ink_and_paper_of_digits_are_both_within_the_bound():
    """Digits are dark, with a mean of 33 levels: around that, the bound of 160 would hold nothing brighter than 193."""
    space = PixelSpace(8, "grey", scale=1.0, mean=0.13, std=0.31)
    grey = natural_colour(space).item()
    assert grey == pytest.approx(117.4, abs=0.1)
    assert 0 - grey > -160
    assert 255 - grey < 160


@pytest.mark.parametrize("channels", [2, 13, 64])
def test_the_bound_and_the_norm_of_many_channels_are_those_of_three(channels):
    level = 50.0
    three, many = torch.full((1, 3, 4, 4), level), torch.full((1, channels, 4, 4), level)
    torch.testing.assert_close(AlphaNorm()(many), AlphaNorm()(three))
    steps = torch.arange(4.0).square()
    for beta in (1.0, 2.0):
        torch.testing.assert_close(TVBeta(beta)(many * steps), TVBeta(beta)(three * steps))
    torch.testing.assert_close(PixelBall(40.0)(many)[:, :1], PixelBall(40.0)(three)[:, :1])
    assert PixelBall(math.inf)(many) is many
    gradient = torch.zeros_like(many)
    leaf = many.clone().requires_grad_()
    AlphaNorm().add_gradient(many, gradient)
    (expected,) = torch.autograd.grad(AlphaNorm()(leaf).sum(), leaf)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("channels", [13, 64])
def test_an_image_of_many_channels_comes_back(channels):
    phi = preimage.from_callable(lambda x: x, PixelSpace(16, channels))
    image = np.random.default_rng(0).integers(0, 256, (4, 4, channels)).repeat(4, axis=0).repeat(4, axis=1).astype(np.uint8)
    colour = preimage.from_callable(lambda x: x, PixelSpace(16))
    many = preimage.invert(phi, image, solver="paper", progress=False)
    three = preimage.invert(colour, image[..., :3].copy(), solver="paper", progress=False)
    assert float(many.error) < float(three.error) + 0.03
