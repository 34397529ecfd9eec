"""Receptive field and stride of branching graphs, against two independent measurements on the network itself."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from preimage import PixelSpace, layers
from preimage.representations.cnn import Layer, evaluating


def touched(module, name, size, row, channels=3):
    """Rows of the image whose NaN reaches row `row` of the layer: NaN passes through every operation that uses it, whatever the weights."""
    phi = Layer(module, name, space=PixelSpace(size, "rgb" if channels == 3 else "grey"))

    def reaches(rows):
        x = torch.zeros(1, channels, size, size, dtype=torch.float64)  # float32 kernels work in blocks and spread NaN beyond its users
        x[:, :, rows] = float("nan")
        with torch.no_grad(), phi.session(dtype=torch.float64):
            return bool(phi(x)[0, :, row].isnan().any())

    low, high = 0, size - 1  # the last row that matters: poison rows >= q
    while low < high:
        q = (low + high + 1) // 2
        low, high = (q, high) if reaches(slice(q, None)) else (low, q - 1)
    end = low
    low, high = 0, size - 1  # the first: poison rows <= q
    while low < high:
        q = (low + high) // 2
        low, high = (low, q) if reaches(slice(None, q + 1)) else (q + 1, high)
    return low, end


def gradient_rows(module, name, size, row, tries=4):
    """The same from gradients: rows where d(sum of the unit's channels)/dx is not zero, for any of a few random images."""
    phi = Layer(module, name, space=PixelSpace(size, "rgb"))
    seen = torch.zeros(size, dtype=torch.bool)
    for k in range(tries):
        x = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(k)) * 255
        x.requires_grad_()
        out = phi(x)[0, :, row]
        (g,) = torch.autograd.grad((out * torch.randn(out.shape, generator=torch.Generator().manual_seed(k))).sum(), x)
        seen |= g[0].abs().amax(dim=(0, 2)) > 0
    rows = seen.nonzero().flatten()
    return int(rows.min()), int(rows.max())


def check(module, names, size, gradients=True):
    infos = {i.name: i for i in layers(module, PixelSpace(size, "rgb"))}
    for name in names:
        info = infos[name]
        rows = info.field.rows
        middle = info.shape[1] // 2
        for row in (middle, middle - 1):
            start = rows.start + rows.stride * row
            expected = max(start, 0), min(start + rows.size - 1, size - 1)
            assert touched(module, name, size, row) == expected, (name, row)
            if gradients:
                first, last = gradient_rows(module, name, size, row)
                assert expected[0] <= first <= expected[0] + info.stride, (
                    name,
                    first,
                    expected,
                )  # a corner may get no gradient: ReLU, max
                assert expected[1] - info.stride <= last <= expected[1], (name, last, expected)


@pytest.fixture(scope="module")
def models():
    from torchvision.models import get_model

    torch.manual_seed(0)
    return get_model


def test_squeezenet_s_fields_are_those_that_nan_and_gradients_show(net):
    check(net.module, ["features.2", "features.3", "features.6"], 128)


def test_resnet_s_fields_are_those_that_nan_and_gradients_show(models):
    check(models("resnet18"), ["layer1.0", "layer2.0.downsample.0", "layer2.0"], 128)


@pytest.mark.slow
def test_inception_s_fields_are_those_that_nan_and_gradients_show(models):
    module = models("googlenet", init_weights=False, aux_logits=False)
    check(module, ["inception3a", "inception3b.branch4.1"], 128)


class Unusual(nn.Module):
    """Everything in one: dilation, uneven padding, upsampling by a transposed convolution, slices, a skip, a flip to NHWC and back."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, stride=2, dilation=2)
        self.pad = nn.ZeroPad2d((1, 2, 3, 0))
        self.up = nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1)
        self.norm = nn.LayerNorm(4)
        self.lrn = nn.LocalResponseNorm(3)
        self.mix = nn.Linear(4, 6)
        self.out = nn.AvgPool2d(3, 1, count_include_pad=False, padding=1)

    def forward(self, x):
        x = self.pad(self.a(x))[:, :, 1:, ::1]
        x = self.lrn(self.up(x))
        x = torch.cat([x[:, :2], x[:, 2:] * 2], dim=1) + x
        x = self.mix(self.norm(x.permute(0, 2, 3, 1)))
        return self.out(x.permute(0, 3, 1, 2))


def test_an_unusual_graph_s_fields_are_those_that_nan_shows():
    check(Unusual(), ["a", "pad"], 64, gradients=False)
    for name in ("up", "out"):  # upsampled units alternate between two fields: the span holds both, and at most a pixel more
        rows = next(i for i in layers(Unusual(), PixelSpace(64, "rgb")) if i.name == name).field.rows
        for row in (20, 21):
            first, last = touched(Unusual(), name, 64, row)
            assert 0 <= first - (rows.start + rows.stride * row) <= 2
            assert 0 <= rows.start + rows.stride * row + rows.size - 1 - last <= 2


def test_what_sees_everything_is_global_and_keeps_the_stride_of_its_grid(models, net):
    names = {i.name: i for i in net.layers()}
    assert names["pool10"].receptive_field is None
    assert names["pool10"].stride == 16
    assert names["fire9"].receptive_field == 207
    vit = {i.name: i for i in layers(models("vit_b_16"), PixelSpace.imagenet(224))}
    assert (vit["conv_proj"].receptive_field, vit["conv_proj"].stride, vit["conv_proj"].jitter) == (16, 16, 4)
    block = vit["encoder.layers.encoder_layer_3"]
    assert (block.receptive_field, block.stride, block.shape) == (None, 16, (197, 768))


def test_squeeze_and_excitation_makes_a_block_global():
    class Gate(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3)

        def forward(self, x):
            x = self.conv(x)
            return x * x.mean(dim=(2, 3), keepdim=True).sigmoid()

    infos = {i.name: i for i in layers(nn.Sequential(Gate()), PixelSpace(16, "rgb"))}
    assert infos["0.conv"].receptive_field == 3
    assert infos["0"].receptive_field is None
    assert touched(nn.Sequential(Gate()), "0", 16, 5) == (0, 15)


def test_alexnet_has_the_paper_s_fields_strides_and_jitters(models):
    """Caffe's geometry (section 2 of the specification) in torch modules: the spatial part of AlexNet on 227 px."""

    def pool():
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    module = nn.Sequential(
        nn.Conv2d(3, 8, 11, 4), nn.LocalResponseNorm(5), pool(), nn.Conv2d(8, 8, 5, padding=2), pool(),
        nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1), pool(), nn.Conv2d(8, 8, 6),
    )  # fmt: skip
    found = [(i.shape[1], i.receptive_field, i.stride, i.jitter) for i in layers(module, PixelSpace(227, "rgb"))]
    assert found == [
        (55, 11, 4, 1), (55, 11, 4, 1), (27, 19, 8, 2), (27, 51, 8, 2), (13, 67, 16, 4),
        (13, 99, 16, 4), (13, 131, 16, 4), (13, 163, 16, 4), (6, 195, 32, 8), (1, 355, 32, 8),
    ]  # fmt: skip


def test_looking_at_a_network_changes_nothing_in_it(models):
    module = models("resnet18").train()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    layers(module, PixelSpace.imagenet(64))
    assert module.training
    assert all(bool((v == before[k]).all()) for k, v in module.state_dict().items())
    assert not any(m._forward_hooks for m in module.modules())
    with evaluating(module):
        assert not module.training
