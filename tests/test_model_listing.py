"""Every layer that is listed can be chosen by its name, has the shape that is listed, and has features of each image."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

import preimage
from preimage import Layer, PixelSpace, from_callable, layers
from preimage.errors import InputError, UnknownName

SPACE = PixelSpace(16, "rgb", scale=1.0, mean=0.5, std=0.25)
IMAGE = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
X = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 50
FEW = {"iterations": 3, "progress": False}


class Fields(NamedTuple):
    low: torch.Tensor
    high: torch.Tensor


@dataclass
class Slotted:
    __slots__ = ("deep", "note")
    deep: torch.Tensor
    note: str


class Gives(nn.Module):
    """Gives its maps in the form that is asked for."""

    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, x):
        return self.form(x)


class Net(nn.Module):
    def __init__(self, middle):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.middle = nn.Conv2d(3, 4, 3), middle

    def forward(self, x):
        self.middle(self.conv(x))
        return x.mean(dim=(2, 3))


FORMS = {
    "strings that are numbers": (
        lambda x: OrderedDict([("0", x), ("1", 2 * x), ("pool", 3 * x)]),
        ["middle[0]", "middle[1]", "middle[pool]"],
    ),
    "tuples as keys": (lambda x: {(0, 1): x, (1, 2): 2 * x}, ["middle[(0, 1)]", "middle[(1, 2)]"]),
    "brackets in keys": (
        lambda x: {"a[0]": x, "b]": 2 * x, "c#1": 3 * x, "d:cls": x},
        ["middle[a[0]]", "middle[b]]", "middle[c#1]", "middle[d:cls]"],
    ),
    "a tuple in a dict": (lambda x: {"maps": (x, 2 * x), "n": 3}, ["middle[maps][0]", "middle[maps][1]"]),
    "a dict in a list": (lambda x: [{"a": x}, {"a": 2 * x}], ["middle[0][a]", "middle[1][a]"]),
    "a named tuple": (lambda x: Fields(x, 2 * x), ["middle[low]", "middle[high]"]),
    "a dataclass with slots": (lambda x: Slotted(x, "text"), ["middle[deep]"]),
    "a recurrent net's": (lambda x: (x, (2 * x, 3 * x)), ["middle[0]", "middle[1][0]", "middle[1][1]"]),
}


@pytest.mark.parametrize("form", FORMS)
def test_outputs_in_any_container_are_listed_by_names_that_can_be_chosen(form):
    make, names = FORMS[form]
    module = Net(Gives(make))
    found = layers(module, SPACE)
    assert [i.name for i in found] == ["conv", *names]
    for info in found:
        phi = Layer(module, info.name, space=SPACE)
        assert phi.shape == info.shape == tuple(phi(X).shape[1:])
    twos = [n for n in names if n != names[0]][:1]
    for name in twos:
        torch.testing.assert_close(Layer(module, name, space=SPACE)(X), 2 * Layer(module, "conv", space=SPACE)(X))


def test_outputs_are_chosen_by_key_path_and_position_too():
    nested, fields = Net(Gives(FORMS["a tuple in a dict"][0])), Net(Gives(FORMS["a named tuple"][0]))
    twice = 2 * Layer(nested, "conv", space=SPACE)(X)
    torch.testing.assert_close(Layer(nested, "middle", space=SPACE, output=("maps", 1))(X), twice)
    torch.testing.assert_close(Layer(fields, "middle[1]", space=SPACE)(X), twice)
    torch.testing.assert_close(Layer(fields, "middle", space=SPACE, output="high")(X), twice)
    assert Layer(Net(Gives(FORMS["a recurrent net's"][0])), "middle", space=SPACE).shape == (4, 14, 14)  # the only one that is not deeper
    with pytest.raises(InputError, match=r"gives 2 tensors: 'maps\]\[0' of shape|gives 2 tensors"):
        Layer(nested, "middle", space=SPACE)
    with pytest.raises(InputError, match="no output 'map'"):
        Layer(nested, "middle[map]", space=SPACE)


def test_modules_may_be_called_anything():
    names = ["a:0", "b#1", "c[2]", "d:grid", "e[x]#2:cls", "f[0"]
    module = nn.Sequential(OrderedDict([("conv", nn.Conv2d(3, 4, 3)), ("odd", nn.Sequential())]))
    for name in names:
        module.odd.add_module(name, nn.Conv2d(4, 4, 1))
    found = layers(module, SPACE)
    assert [i.name for i in found] == ["conv", *(f"odd.{n}" for n in names), "odd"]
    for info in found:
        assert Layer(module, info.name, space=SPACE).shape == info.shape
    network = preimage.load_network("squeezenet1_1", weights=None, size=32)
    network.module.add_module("x:0", nn.Identity())
    with pytest.raises(InputError, match="does not run"):
        network.layer("x:0")
    with pytest.raises(UnknownName, match="Did you mean 'conv'"):
        Layer(module, "conf", space=SPACE)


def test_a_module_under_two_names_is_found_under_both():
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3))

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = inner
            self.features = nn.Sequential(*inner.children())

        def forward(self, x):
            return self.features(x)

    module = Twice()
    for k in range(3):
        a, b = (Layer(module, f"{place}.{k}", space=SPACE) for place in ("backbone", "features"))
        assert torch.equal(a(X), b(X)) and a.shape == b.shape and b.name == f"features.{k}"
        assert b.skipped == a.skipped


# --- where the images are


class TokensFirst(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.patches = nn.Conv2d(3, 6, 4, 4)
        self.block = nn.TransformerEncoderLayer(6, 2, 8)  # (tokens, images, channels)
        self.gru = nn.GRU(6, 5)

    def forward(self, x):
        x = self.block(self.patches(x).flatten(2).permute(2, 0, 1))
        return self.gru(x)[0].mean(dim=0)


class Windows(nn.Module):
    def __init__(self, interleaved):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.interleaved, self.mix = nn.Conv2d(3, 6, 4, 4), interleaved, nn.Linear(6, 6)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)  # (images, 16 tokens, 6)
        x = x.reshape(len(x), 4, 4, 6)
        x = (x.transpose(0, 1) if self.interleaved else x).reshape(-1, 4, 6)
        return self.mix(x).mean()


class Squeezing(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.pool, self.squeeze, self.head = (
            nn.Conv2d(3, 6, 3),
            nn.AdaptiveAvgPool2d(1),
            Gives(lambda x: x.squeeze()),
            nn.Linear(6, 2),
        )

    def forward(self, x):
        return self.head(self.squeeze(self.pool(self.conv(x))))


class Looping(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.each = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 2, 3)

    def forward(self, x):
        return torch.stack([self.each(one) for one in self.conv(x)])


class Mixing(nn.Module):
    """Gives one map for all images."""

    def __init__(self):
        super().__init__()
        self.conv, self.all = nn.Conv2d(3, 6, 3), Gives(lambda x: x.sum(dim=0))

    def forward(self, x):
        return self.all(self.conv(x)).mean()


SHAPES = {
    "tokens": (TokensFirst, {"patches": (6, 4, 4), "block": (16, 6), "gru[0]": (16, 5), "gru[1]": (1, 5)}),
    "windows": (lambda: Windows(False), {"mix": (4, 4, 6)}),
    "windows in turn": (lambda: Windows(True), {"mix": (4, 4, 6)}),
    "squeezed": (Squeezing, {"squeeze": (6,), "head": (2,)}),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_features_of_each_image_are_found_wherever_the_images_are(kind):
    make, shapes = SHAPES[kind]
    module = make()
    listed = {i.name: i.shape for i in layers(module, SPACE)}
    for name, shape in shapes.items():
        phi = Layer(module, name, space=SPACE)
        assert phi.shape == shape == listed[name]
        together = phi(X)
        assert together.shape == (3, *shape)
        for k in range(3):
            torch.testing.assert_close(phi(X[k : k + 1])[0], together[k])
    name = next(reversed(shapes))
    assert preimage.invert(Layer(module, name, space=SPACE), IMAGE, **FEW).error.shape == (1,)


def test_what_is_not_of_single_images_is_left_out_of_the_list_and_refused_in_words():
    module = Mixing()
    assert [i.name for i in layers(module, SPACE)] == ["conv"]
    with pytest.raises(InputError, match="whether it is shown one image or two"):
        Layer(module, "all", space=SPACE)
    module = Looping()
    names = [i.name for i in layers(module, SPACE)]
    assert names == ["conv"]
    with pytest.raises(InputError, match="whether it is shown one image or two"):
        Layer(module, "each", space=SPACE)
    alone = Net(Gives(lambda x: x[:1]))
    phi = Layer(alone, "middle", space=SPACE)
    with pytest.raises(InputError, match="not one entry for each"):
        phi(X)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_outputs_that_are_no_real_numbers_are_left_out_and_refused_with_their_type(dtype):
    module = Net(Gives(lambda x: x.to(dtype)))
    assert [i.name for i in layers(module, SPACE)] == ["conv"]
    with pytest.raises(InputError, match=str(dtype)):
        Layer(module, "middle", space=SPACE)


def test_a_module_whose_forward_is_called_past_its_hooks_can_be_chosen():
    class Direct(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.unused = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3), nn.Conv2d(4, 2, 3)

        def forward(self, x):
            return self.b(self.a.forward(x))

    module = Direct()
    phi = Layer(module, "a", space=SPACE)
    torch.testing.assert_close(phi(X), module.a(SPACE.to_network(X)))
    assert (phi.shape, phi.receptive_field) == ((4, 14, 14), 3)
    assert "forward" not in vars(module.a) and phi.skipped == ("b", "unused")
    with pytest.raises(InputError, match="does not run in the forward pass"):
        Layer(module, "unused", space=SPACE)
    assert "forward" not in vars(module.unused)


def test_one_number_an_image_has_one_unit():
    phi = from_callable(lambda x: x.mean(dim=(1, 2, 3)), SPACE)
    for unit in (0, ()):
        result = preimage.maximize(phi, unit, canvas=16, iterations=5, progress=False)
        assert result.activation.shape == (1,)
    assert torch.isfinite(preimage.invert(phi, IMAGE, **FEW).error).all()
    with pytest.raises(InputError, match="There is no unit 1"):
        preimage.maximize(phi, 1, canvas=16, **FEW)


# --- modules that cannot run


def test_modules_without_values_are_refused_with_what_to_do():
    cases = [
        (nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU()), "show the module one image first"),
        (nn.Sequential(nn.Conv2d(3, 4, 3, device="meta"), nn.ReLU()), "load the weights first"),
    ]
    with torch.inference_mode():
        cases.append((nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), r"Build and load the module outside"))
    for module, match in cases:
        for use in (lambda m: layers(m, SPACE), lambda m: Layer(m, "1", space=SPACE), lambda m: from_callable(m, SPACE)):
            with pytest.raises(InputError, match=match):
                use(module)


def test_a_module_that_fails_on_an_image_is_refused_in_words_with_its_reason():
    for use in (lambda m: layers(m, SPACE), lambda m: Layer(m, "0", space=SPACE)):
        with pytest.raises(InputError, match=r"fails on a grey image .* RuntimeError: .*Expected 2D"):
            use(nn.Sequential(nn.Conv1d(7, 4, 3)))
        with pytest.raises(InputError, match=r"takes an nn\.Module; got function"):
            use(lambda x: x)


def test_an_exported_program_is_taken_by_its_module():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    program = torch.export.export(module, (torch.zeros(1, 3, 16, 16),))
    with pytest.raises(InputError, match=r"got ExportedProgram\. Take its \.module\(\)"):
        layers(program, SPACE)
    (whole,) = layers(program.module(), SPACE)
    phi = Layer(program.module(), whole.name, space=SPACE)
    torch.testing.assert_close(phi(X[:1]), Layer(module, "1", space=SPACE)(X[:1]))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:FutureWarning")
@pytest.mark.parametrize("kind", ["one layer", "a function", "traced", "two outputs", "scripted inside"])
def test_a_module_of_which_no_part_runs_as_a_module_is_listed_as_a_whole(kind):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    module, names = {
        "one layer": lambda: (net[0], [""]),
        "a function": lambda: (Gives(lambda x: x[:, :, 1:-1, 1:-1].relu()), [""]),
        "traced": lambda: (torch.jit.trace(net, torch.zeros(1, 3, 16, 16)), [""]),
        "two outputs": lambda: (Gives(lambda x: {"a": x[..., 2:, 2:], "b": x[..., 2:, 2:] + 1}), ["[a]", "[b]"]),
        "scripted inside": lambda: (nn.Sequential(torch.jit.script(net), nn.Identity()), ["1"]),
    }[kind]()
    found = layers(module, SPACE)
    assert [i.name for i in found] == names and all(i.shape[1:] == (14, 14) for i in found)
    for info in found:
        phi = Layer(module, info.name, space=SPACE)
        assert phi(X).shape == (3, *info.shape) and preimage.invert(phi, IMAGE, **FEW).status == ["ok"]


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:FutureWarning")
def test_a_scripted_module_is_refused_with_three_ways_on_and_taken_by_each(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    scripted = torch.jit.script(net)
    for look in (lambda: layers(scripted, SPACE), lambda: Layer(scripted, "0", space=SPACE), lambda: Layer(scripted, "", space=SPACE)):
        with pytest.raises(InputError, match=r"scripted module \(Sequential\)\. Take the nn\.Module .*load_network.*from_callable"):
            look()
    inside = nn.Sequential(scripted, nn.Identity())
    with pytest.raises(InputError, match="scripted"):
        Layer(inside, "0", space=SPACE)
    torch.jit.save(scripted, tmp_path / "net.ts")
    loaded = preimage.load_network(str(tmp_path / "net.ts"), space=SPACE, trust=True)
    expected = Layer(net, "1", space=SPACE)(X)
    torch.testing.assert_close(loaded.layer(loaded.layers()[-1].name)(X[:1]), expected[:1])
    torch.testing.assert_close(from_callable(scripted, SPACE)(X), expected)
