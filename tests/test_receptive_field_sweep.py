"""Receptive fields of random networks, unit by unit, against what is measured by changing the image.

Why the two must be equal, and not only near: every value in these networks lies where each activation has a slope (a squashing into
0.1 to 0.9 stands between the blocks), weights are random and positive, max pooling is measured as a weighted sum over the same
window (its value depends on one pixel at a time, what it *may* depend on is the window), and all is float64. So a unit changes when a
row of the image is raised exactly if there is a way from that row to the unit, but for coincidences of probability zero; and what a
unit does not depend on does not change one bit of it. Units whose field reaches over the border see less of the image than the
field says, as padding is counted in it: of those only "not more" is asked.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import preimage
from preimage import PixelSpace, layers

C = 4  # channels everywhere
SIZE = (22, 26)
EVERY_ACTIVATION = torch.nn.modules.activation.__all__
OPTIONS = {"Threshold": (0.01, 0.0), "Hardshrink": (0.01,), "Softshrink": (0.01,)}
OPTIONS |= dict.fromkeys(("Softmax", "Softmin", "LogSoftmax", "GLU"), (1,))
INTERPOLATIONS = [
    *[(mode, {}) for mode in ("nearest", "nearest-exact", "area")],
    *[(mode, {"align_corners": corners}) for mode in ("bilinear", "bicubic") for corners in (False, True)],
    *[(mode, {"antialias": True}) for mode in ("bilinear", "bicubic")],
]


def squashed(x):
    return 0.5 + 0.4 * torch.tanh(x)


class Block(nn.Module):
    """A function of maps with its own positive weights; `measured` where max pooling is to be a sum over its window."""

    measured = False

    def __init__(self, f, **modules):
        super().__init__()
        self.f = f
        for name, module in modules.items():
            self.add_module(name, module)

    def extra_repr(self):
        return self.f.__qualname__ + str([c.cell_contents for c in self.f.__closure__ or ()])

    def forward(self, x):
        return squashed(self.f(self, x))


class Max(nn.Module):
    def __init__(self, kernel, stride, padding, dilation):
        super().__init__()
        self.options = {"stride": stride, "padding": padding, "dilation": dilation}
        self.kernel = kernel
        self.register_buffer("weights", torch.rand(C, 1, kernel, kernel) + 0.5)

    def forward(self, x):
        if not Block.measured:
            return F.max_pool2d(x, self.kernel, **self.options)
        return F.conv2d(x, self.weights / self.kernel**2, groups=x.shape[1], **self.options)


def convolution(r):
    mode = r.choice(["zeros", "zeros", "reflect", "replicate", "circular"])
    kernel, dilation = r.randint(1, 4), r.randint(1, 2)
    layer = nn.Conv2d(C, C, kernel, r.randint(1, 2), r.randint(0, 2), dilation, groups=r.choice([1, 2, C]), padding_mode=mode)
    return Block(lambda s, x: s.layer(x), layer=layer)


def transposed(r):
    stride = r.randint(1, 3)
    layer = nn.ConvTranspose2d(C, C, r.randint(2, 4), stride, r.randint(0, 1), r.randint(0, stride - 1), groups=r.choice([1, 2]))
    return Block(lambda s, x: s.layer(x), layer=layer)


def pooling(r):
    kernel, stride = r.randint(2, 3), r.randint(1, 3)
    layer = r.choice(
        [
            Max(kernel, stride, r.randint(0, 1), r.randint(1, 2)),
            nn.AvgPool2d(kernel, stride, r.randint(0, 1)),
            nn.LPPool2d(2, kernel, stride),
        ]
    )
    return Block(lambda s, x: s.layer(x), layer=layer)


def adaptive(r):
    size = (r.randint(6, 14), r.randint(6, 14))
    return Block(lambda s, x: s.layer(x), layer=nn.AdaptiveAvgPool2d(size))


def norm(r):
    kind = r.choice(["instance", "group", "layer", "batch", "batch", "batch without statistics", "local"])
    layer = {
        "instance": nn.InstanceNorm2d(C), "group": nn.GroupNorm(2, C), "layer": nn.LayerNorm(C), "batch": nn.BatchNorm2d(C),
        "batch without statistics": nn.BatchNorm2d(C, track_running_stats=False), "local": nn.LocalResponseNorm(3),
    }[kind]  # fmt: skip
    if kind == "layer":
        return Block(lambda s, x: s.layer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), layer=layer)
    return Block(lambda s, x: s.layer(x), layer=layer)


def residual(r):
    kernel = r.choice([1, 3, 5])
    inner = nn.Sequential(nn.Conv2d(C, C, kernel, padding=kernel // 2), nn.ReLU(inplace=r.random() < 0.5))
    return Block(lambda s, x: s.inner(x) + x, inner=inner)


def concat(r):
    a, b = nn.Conv2d(C, C, 3, padding=1), nn.Conv2d(C // 2, C, 5, padding=2, groups=2)
    join = nn.Conv2d(2 * C, C, 1)
    return Block(lambda s, x: s.join(torch.cat([s.a(x), s.b(x.split(C // 2, dim=1)[1])], dim=1)), a=a, b=b, join=join)


def attention(r):
    attend = nn.MultiheadAttention(C, 2, batch_first=True)

    def f(s, x):
        tokens = x.flatten(2).transpose(1, 2)
        return s.attend(tokens, tokens, tokens)[0].transpose(1, 2).reshape(x.shape)

    return Block(f, attend=attend)


def activation(r, name=None):
    name = name or r.choice([n for n in EVERY_ACTIVATION if n != "MultiheadAttention"])
    layer = getattr(nn, name)(*OPTIONS.get(name, ()))
    if name == "GLU":
        return Block(lambda s, x: s.layer(s.twice(x)), layer=layer, twice=nn.Conv2d(C, 2 * C, 1))
    return Block(lambda s, x: s.layer(x), layer=layer)


def interpolation(r):
    mode, more = r.choice(INTERPOLATIONS)
    if r.random() < 0.5:
        scale = r.choice([0.4, 0.5, 0.75, 1.5, 2, 1.7])
        return Block(lambda s, x: F.interpolate(x, scale_factor=scale, mode=mode, **more))
    size = (r.randint(7, 30), r.randint(7, 30))
    return Block(lambda s, x: F.interpolate(x, size=size, mode=mode, **more))


def shuffle(r):
    if r.random() < 0.5:
        return Block(lambda s, x: s.conv(F.pixel_shuffle(x, 2)), conv=nn.Conv2d(1, C, 1))
    return Block(
        lambda s, x: s.conv(F.pixel_unshuffle(x[..., : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2], 2)), conv=nn.Conv2d(4 * C, C, 1)
    )


def written(r):
    """Writes into slices, of a copy and of an empty canvas."""

    def into_copy(s, x):
        y = x.clone()
        y[:, 1:3, 1:-1] = s.conv(x)[:, 1:3, 1:-1]
        y[:, :, :, ::2] *= 0.5
        return y

    def into_canvas(s, x):
        y = x.new_zeros(x.shape[0], C, x.shape[2] + 2, x.shape[3] + 2)
        y[:, :, 1:-1, 1:-1] = x
        return s.conv(y)

    return Block(r.choice([into_copy, into_canvas]), conv=nn.Conv2d(C, C, 3, padding=1))


def product(r):
    def by_einsum(s, x):
        return torch.einsum("bchw,dc->bdhw", x, s.mix.weight)

    def channels_last(s, x):
        return s.mix(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    def window(s, x):
        return s.mix(F.unfold(x, 3, padding=1).transpose(1, 2).unflatten(2, (C, 9)).mean(dim=3)).transpose(1, 2).reshape(x.shape)

    return Block(r.choice([by_einsum, channels_last, window]), mix=nn.Linear(C, C))


def moved(r):
    return Block(
        r.choice(
            [lambda s, x: x + x.roll(1, 2), lambda s, x: x[:, :, ::2], lambda s, x: x + x.flip(3), lambda s, x: F.pad(x, (1, 2, 0, 3))]
        )
    )


def gate(r):
    return Block(lambda s, x: x * s.mix(x.mean(dim=(2, 3), keepdim=True)).sigmoid(), mix=nn.Conv2d(C, C, 1))


USUAL = [
    convolution,
    convolution,
    transposed,
    pooling,
    residual,
    concat,
    activation,
    activation,
    interpolation,
    shuffle,
    written,
    product,
    moved,
    adaptive,
]
GLOBAL = [norm, attention, gate]


def network(seed, activation_name=None):
    """A few random blocks whose maps stay between 5 and 44 pixels wide; one in four may have what sees everything, once."""
    r = random.Random(seed)
    torch.manual_seed(seed)
    blocks = [Block(lambda s, x: s.conv(x), conv=nn.Conv2d(3, C, 3, padding=1))]
    x = blocks[0](torch.rand(1, 3, *SIZE))
    if activation_name:
        blocks.append(activation(r, activation_name))
    at = r.randint(1, 5) if r.random() < 0.4 else 0
    while len(blocks) < 6:
        block = r.choice(GLOBAL if len(blocks) == at else USUAL)(r)
        try:
            with torch.no_grad():
                y = block.eval()(x)
        except RuntimeError:  # a padding larger than the map, and the like
            continue
        if min(y.shape[2:]) >= 5 and max(y.shape[2:]) <= 44:
            blocks.append(block)
            x = y
    module = nn.Sequential(*blocks).double().eval()
    for tensor in module.parameters():
        with torch.no_grad():  # positive, and of a sum near 1 for what is added up
            tensor.copy_(
                (torch.rand_like(tensor) + 0.5) / max(tensor[0].numel(), 1) if tensor.ndim > 1 else torch.rand_like(tensor) * 0.2 + 0.1
            )
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            layer.running_mean.uniform_(0.1, 0.5), layer.running_var.uniform_(0.2, 0.5)
    return module


def outputs(module, x):
    """The map after every block; image by image where a block mixes images."""
    mixing = any(isinstance(m, nn.BatchNorm2d) and m.running_mean is None for m in module.modules())
    found = []
    for part in x.split(1) if mixing else [x]:
        y, each = part, []
        for block in module:
            y = block(y)
            each.append(y)
        found.append(each)
    return [torch.cat(parts) for parts in zip(*found, strict=True)]


@torch.no_grad()
def measured(module, axis):
    """For every block: the units along an axis, each with the first and last row (column) of the image that changes it, or None."""
    x = torch.rand(1, 3, *SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 0.8 + 0.1
    n = SIZE[axis]
    changed = x.repeat(n, 1, 1, 1)
    for i in range(n):
        changed[i].select(axis + 1, i).add_(0.05)
    Block.measured = True
    try:
        before, after = outputs(module, x), outputs(module, changed)
    finally:
        Block.measured = False
    found = []
    for a, b in zip(before, after, strict=True):
        touched = ((b - a).abs().amax(dim=(1, 3 - axis)) > 1e-15).T  # (units, pixels)
        found.append([(int(t.nonzero()[0]), int(t.nonzero()[-1])) if t.any() else None for t in touched])
    return found


def check(seed, activation_name=None):
    module = network(seed, activation_name)
    infos = {i.name: i for i in layers(module, PixelSpace(SIZE, "rgb", scale=1.0))}
    for axis in (0, 1):
        for k, seen in enumerate(measured(module, axis)):
            info, what = infos[str(k)], f"seed {seed}, block {k}, axis {axis}\n{module}"
            span = info.field.span(axis)
            if span.whole:
                middle = seen[len(seen) // 4 : len(seen) - len(seen) // 4]
                everything = (min(a for a, _ in filter(None, seen)), max(b for _, b in filter(None, seen)))
                assert set(middle) <= {everything, None}, what
                assert info.receptive_field is None, what
                continue
            assert len(span.units) == len(seen), what
            for i, (expected, found) in enumerate(zip(span.units, seen, strict=True)):
                if found is None:
                    assert expected is None or expected[0] < 0 or expected[1] >= SIZE[axis], (i, expected, what)
                elif expected is None:
                    raise AssertionError((i, found, what))
                elif expected[0] >= 0 and expected[1] < SIZE[axis]:
                    assert expected == found, (i, what)
                else:
                    assert max(expected[0], 0) <= found[0] and found[1] <= expected[1], (i, expected, found, what)
        if info.receptive_field is not None:
            assert info.receptive_field == max(info.field.rows.largest, info.field.cols.largest)


@pytest.mark.parametrize("name", [n for n in EVERY_ACTIVATION if n != "MultiheadAttention"])
def test_every_activation_is_followed_element_by_element(name):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), activation(random.Random(0), name))
    assert layers(module, PixelSpace(12, "rgb"))[-1].receptive_field == 3


@pytest.mark.parametrize("seed", range(20))
def test_fields_of_a_random_network_are_those_that_are_measured(seed):
    print("seed", seed)
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20, 120))
def test_fields_of_a_hundred_more_random_networks(seed):
    print("seed", seed)
    check(seed, EVERY_ACTIVATION[seed % len(EVERY_ACTIVATION)].replace("MultiheadAttention", "ReLU"))


def inverted(seed):
    """An inversion of the last block, and the same network's features of image and photograph, computed apart from the package."""
    module = network(seed, EVERY_ACTIVATION[seed % len(EVERY_ACTIVATION)].replace("MultiheadAttention", "ReLU"))
    phi = preimage.Layer(module, str(len(module) - 1), space=PixelSpace(SIZE, "rgb", scale=1.0, mean=0.5, std=1.0))
    photo = np.random.default_rng(seed).integers(0, 255, (*SIZE, 3), dtype=np.uint8)
    found = preimage.invert(phi, photo, solver="paper", iterations=2, C=7.0, dtype=torch.float64, progress=False)
    levels = [found.images.double(), torch.from_numpy(photo.transpose(2, 0, 1)[None].astype(np.float64))]
    with torch.no_grad():
        features = [module(x / 255 - 0.5).numpy().ravel() for x in levels]
    return found, features


def check_numbers(seed):
    found, (ours, its) = inverted(seed)
    error = np.linalg.norm(ours - its) / np.linalg.norm(its)
    assert found.error.item() == pytest.approx(error, rel=1e-4), f"seed {seed}"
    assert found.energy["loss"].item() == pytest.approx(7.0 * error**2, rel=2e-4), f"seed {seed}"


@pytest.mark.filterwarnings("ignore::preimage.errors.PreimageWarning")  # two steps do not come far
@pytest.mark.parametrize("seed", range(12))
def test_the_error_of_a_random_network_is_that_of_an_independent_computation(seed):
    check_numbers(seed)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::preimage.errors.PreimageWarning")
@pytest.mark.parametrize("seed", range(12, 112))
def test_errors_of_a_hundred_more_random_networks(seed):
    check_numbers(seed)


class Detector(nn.Module):
    """As one that finds nothing: an empty part of the map is given another shape."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.none = nn.Identity()
        self.head = nn.Conv2d(4, 4, 3)

    def forward(self, x):
        x = self.conv(x)
        found = self.none(x[:, :, :0].reshape(1, 2, 2, 0, x.shape[3]))
        return self.head(x) + found.sum()


def test_an_empty_tensor_has_no_field_and_ends_nothing():
    found = {i.name: i for i in layers(Detector(), PixelSpace(16, "rgb"))}
    assert (found["conv"].receptive_field, found["none"].field, found["head"].receptive_field) == (3, None, 5)


def test_a_fault_of_the_tracker_gives_no_field_and_no_exception(monkeypatch):
    from preimage.representations import receptive_field

    true = receptive_field.after

    def faulty(call):
        if call.func.overloadpacket.__name__ == "hardswish":
            raise ZeroDivisionError
        return true(call)

    monkeypatch.setattr(receptive_field, "after", faulty)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Hardswish(), nn.Conv2d(4, 4, 3))
    found = layers(module, PixelSpace(16, "rgb"))
    assert [i.receptive_field for i in found] == [3, None, None]
    assert [i.field is None for i in found] == [False, True, True]  # and what comes after does not pass for something small


def test_windows_of_a_shifted_window_transformer_are_exact():
    class Windows(nn.Module):
        def forward(self, x):
            b, c, h, w = x.shape
            x = x.view(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
            x = torch.softmax(x @ x.transpose(1, 2), dim=2) @ x
            return x.view(b, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)

    module = nn.Sequential(nn.Conv2d(3, 4, 2, 2), Windows(), nn.Conv2d(4, 4, 1))
    patches, windows, after = layers(module, PixelSpace(32, "rgb"))
    assert (patches.receptive_field, windows.receptive_field, after.receptive_field) == (2, 8, 8)
    assert after.field.rows.units[:6] == ((0, 7), (0, 7), (0, 7), (0, 7), (8, 15), (8, 15))
