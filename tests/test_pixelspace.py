"""Pixel space: from a picture to the network's pixels and back."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import preimage
from preimage import PixelSpace, from_callable
from preimage.errors import ImageError, InputError, PreimageWarning

GREY_PLAIN = 0.298936 * 200 + 0.587043 * 100 + 0.114021 * 50


@st.composite
def spaces(draw):
    channels = draw(st.sampled_from(["rgb", "bgr", "grey", 1, 3, 5]))
    count = channels if isinstance(channels, int) else 1 if channels == "grey" else 3
    scale = draw(st.sampled_from([1.0, 255.0]))
    mean = draw(st.lists(st.floats(0, scale), min_size=count, max_size=count))
    std = draw(st.lists(st.floats(0.1, 90.0), min_size=count, max_size=count))
    return PixelSpace((6, 5), channels, scale, tuple(mean), tuple(std))


@given(spaces(), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_network_sees_value_minus_mean_over_std_in_its_own_order(space, seed):
    picture = np.random.default_rng(seed).integers(0, 256, (6, 5, space.count), np.uint8)
    x = space.encode(picture)
    assert x.shape == (1, space.count, 6, 5)
    levels = picture.astype(np.float64)[..., ::-1] if space.channels == "bgr" else picture.astype(np.float64)
    expected = (levels * space.scale / 255 - np.array(space.mean)) / np.array(space.std)
    np.testing.assert_allclose(space.to_network(x)[0].numpy().transpose(1, 2, 0), expected, rtol=1e-4, atol=2e-3)
    np.testing.assert_allclose(space.decode(x)[0].numpy().transpose(1, 2, 0), picture, atol=1e-3)
    assert PixelSpace.from_dict(space.to_dict()) == space


def test_presets_are_those_of_torchvision_and_caffe():
    white = np.full((4, 4, 3), 255, np.uint8)
    np.testing.assert_allclose(
        PixelSpace.imagenet(4).to_network(PixelSpace.imagenet(4).encode(white))[0, :, 0, 0].numpy(),
        (1 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225]),
        rtol=1e-5,
    )
    caffe = PixelSpace.caffe(4)
    np.testing.assert_allclose(caffe.to_network(caffe.encode(white))[0, :, 0, 0].numpy(), [151, 138, 132])


def test_to_network_is_differentiable_and_linear():
    space = PixelSpace.imagenet(4)
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(space.to_network, (x,))
    assert bool((space.to_network(torch.zeros(1, 3, 4, 4)) == 0).all())  # the mean colour is the network's zero


def test_crop_keeps_the_aspect_ratio_and_squash_does_not():
    picture = np.zeros((10, 30, 3), np.uint8)
    picture[:, 10:20] = 255
    crop = PixelSpace(10, "rgb").encode(picture)
    assert bool((crop == 255).all())
    squash = PixelSpace(10, "rgb", fit="squash").encode(picture)
    assert squash[0, 0, 5, 0] < 20 < 230 < squash[0, 0, 5, 5]
    assert bool((PixelSpace(10, "rgb").encode(picture, fit="squash") == squash).all())
    assert PixelSpace((7, 9), "rgb").encode(picture).shape == (1, 3, 7, 9)
    assert PixelSpace(None, "rgb").encode(picture).shape == (1, 3, 10, 30)
    assert PixelSpace(None, "rgb").encode(picture, size=(4, 4)).shape == (1, 3, 4, 4)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=40, deadline=None)
def test_any_picture_fits_any_size(height, width, rows, cols):
    x = PixelSpace((rows, cols), "grey").encode(np.full((height, width), 77, np.uint8))
    assert x.shape == (1, 1, rows, cols)
    torch.testing.assert_close(x, torch.full_like(x, 77.0))


def test_colour_and_grey_pictures_go_into_each_other_s_spaces():
    colour = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    assert PixelSpace(4, "grey").encode(colour)[0, 0, 0, 0].item() == pytest.approx(GREY_PLAIN, rel=1e-6)
    grey = np.full((4, 4), 9, np.uint8)
    assert PixelSpace(4, "rgb").encode(grey)[0, :, 0, 0].tolist() == [9, 9, 9]
    assert PixelSpace(4, "rgb").encode(PIL.Image.fromarray(grey)).shape == (1, 3, 4, 4)
    with pytest.raises(ImageError, match=r"3 channel\(s\) and the representation takes 5"):
        PixelSpace(4, 5).encode(colour)


def test_tensors_pass_as_they_are_or_are_refused():
    space = PixelSpace.caffe(8)
    x = torch.randn(2, 3, 9, 7)
    assert bool((space.encode(x) == x).all())
    assert space.encode(x[0]).shape == (1, 3, 9, 7)
    for bad in (x[:, :1], x[0, 0], x.byte(), torch.full((3, 8, 8), float("nan")), x[:0]):
        with pytest.raises(InputError, match="tensor image"):
            space.encode(bad)
    with pytest.raises(ImageError, match="got list"):
        space.encode([[1, 2], [3, 4]])


@pytest.mark.parametrize(
    "kw",
    [
        {"size": 0},
        {"size": (3, -1)},
        {"channels": "gbr"},
        {"channels": 0},
        {"scale": 100.0},
        {"mean": (1.0, 2.0)},
        {"std": (0.0,)},
        {"mean": (float("nan"),)},
        {"fit": "stretch"},
    ],
)
def test_a_space_that_makes_no_sense_is_refused(kw):
    with pytest.raises(InputError, match="got"):
        PixelSpace(**kw)


@pytest.mark.parametrize(
    ("text", "space"),
    [
        ("imagenet", PixelSpace.imagenet(224)),
        ("imagenet:96x128", PixelSpace.imagenet((96, 128))),
        ("caffe:227", PixelSpace.caffe(227)),
        ("size=28,channels=grey,scale=1,mean=0.13,std=0.31", PixelSpace(28, "grey", 1.0, 0.13, 0.31)),
        ("size=64x32, channels=4, mean=1/2/3/4, fit=squash", PixelSpace((64, 32), 4, 255.0, (1, 2, 3, 4), fit="squash")),
    ],
)
def test_a_space_is_read_from_words(text, space):
    assert PixelSpace.parse(text) == space


@pytest.mark.parametrize(
    "text", ["", "imagenet:0", "imagenet:1x2x3", "size=a", "mean=3", "size=8,colour=rgb", "size=8,std=0", "size=8,mean=x"]
)
def test_words_that_are_no_space_are_refused(text):
    with pytest.raises(InputError):
        PixelSpace.parse(text)


def test_an_image_that_fits_only_blown_up_beyond_all_bounds_is_refused():
    """A line of 60,000 pixels is small, but its short side at 227 pixels would make it 227x13,620,000."""
    line = np.zeros((1, 60_000), np.uint8)
    with pytest.raises(ImageError, match="60000x1 pixels is too narrow"):
        PixelSpace.caffe(227).encode(line)
    assert PixelSpace.caffe(227).encode(line, fit="squash").shape == (1, 3, 227, 227)


@pytest.mark.parametrize("channels", ["rgb", "bgr", "grey", 2])
def test_every_kind_of_values_becomes_the_canonical_image_that_the_picture_is(channels):
    space = PixelSpace(6, channels, 1.0, mean=0.4, std=0.3)
    levels = np.random.default_rng(0).integers(0, 255, (6, 6, space.count), dtype=np.uint8)
    x = space.encode(levels)
    planes = torch.from_numpy(levels.transpose(2, 0, 1)[None].copy())
    torch.testing.assert_close(space.to_canonical(space.to_network(x)), x)
    torch.testing.assert_close(space.to_canonical(planes / 255, "0-1"), x)
    torch.testing.assert_close(space.to_canonical(planes[0], "0-255"), x)
    with pytest.raises(InputError, match="values is 'network', '0-1' or '0-255'"):
        space.to_canonical(planes, "unit")
    with pytest.raises(InputError, match=f"wanted \\(B, {space.count}, H, W\\)"):
        space.to_canonical(torch.zeros(1, 4, 6, 6))


def test_a_tensor_of_values_from_0_to_1_is_refused_and_a_normalised_one_gets_a_warning():
    space = PixelSpace.imagenet(8)
    phi = from_callable(lambda v: v[:, :, ::2, ::2], space)
    levels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    unit = torch.from_numpy(levels.transpose(2, 0, 1)[None].copy()) / 255
    few = {"iterations": 1, "progress": False}
    for task in (preimage.invert, preimage.caricature):
        with pytest.raises(InputError, match=r"from 0.* to 0.97.* space\.to_canonical\(x, '0-1'\)"):
            task(phi, unit, **few)
        with pytest.warns(PreimageWarning, match=r"next to no contrast"):
            task(phi, space.to_network(space.encode(levels)), **few)
        good = task(phi, space.to_canonical(unit, "0-1"), **few).images
        torch.testing.assert_close(good, task(phi, levels, **few).images, rtol=1e-4, atol=1e-2)


def test_no_picture_however_flat_is_doubted():
    space = PixelSpace(8, "rgb", mean=(104.0, 117.25, 123.5))
    flat = np.random.default_rng(0).integers(0, 2, (8, 8, 3), dtype=np.uint8) + np.uint8([104, 117, 123])
    space.doubt(space.encode(flat))
    space.doubt(torch.zeros(1, 3, 8, 8))
    space.doubt(torch.full((1, 3, 8, 8), 0.3))
    space.doubt(6 * torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
    PixelSpace(8, 5).doubt(torch.rand(1, 5, 8, 8))
    with pytest.raises(InputError, match="to_canonical"):
        space.doubt(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
