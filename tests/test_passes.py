"""Layers of one network in one pass: the same numbers as a pass for each, one forward and one backward, the module as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import preimage
from preimage.energy.objectives import Activate, Given, Match, data_term
from preimage.errors import InputError
from preimage.networks.network import Network, NetworkCard
from preimage.pixels.pixelspace import PixelSpace
from preimage.representations.base import Wrapped
from preimage.representations.cnn import Layer
from preimage.representations.natural import centred
from preimage.representations.passes import features_together
from preimage.representations.through import Through

SPACE = PixelSpace(16, "rgb", mean=(120.0, 110.0, 100.0))
NAMES = ("0", "1", "3", "4.0", "5")


def network() -> nn.Sequential:
    """Its ReLUs write into their input, and one of its layers is inside another module."""
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU(inplace=True))
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Dropout(), nn.Conv2d(8, 8, 3, stride=2), inner, nn.Conv2d(8, 4, 1)
    ).double()


def counted(module: nn.Module) -> list[int]:
    runs: list[int] = []
    module[0].register_forward_pre_hook(lambda *_: runs.append(0))
    return runs


def images(count=2, seed=0):
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 40


def gradient(features, x):
    return torch.autograd.grad(sum(f.square().sum() for f in features), x)[0]


@pytest.mark.parametrize("names", [NAMES, NAMES[::-1], ("5", "5"), ("4", "4.0", "4.1")], ids=lambda n: "-".join(n))
def test_layers_of_one_network_have_the_same_features_and_gradient_in_one_pass_as_in_one_each(names):
    module = network()
    layers = [Layer(module, name, space=SPACE) for name in names]
    x = images().requires_grad_()
    apart = [layer(x) for layer in layers]
    runs = counted(module)
    found = features_together(layers, x)
    assert len(runs) == 1
    assert all(torch.equal(a, b) for a, b in zip(apart, found, strict=True))
    torch.testing.assert_close(gradient(found, x), gradient(apart, x), rtol=1e-12, atol=1e-12)  # float64: only sums in another order
    assert not any(m._forward_hooks for m in module.modules())
    assert torch.equal(layers[0](x), apart[0])  # and alone again


def test_layers_through_other_pixels_share_a_pass_and_layers_of_two_networks_do_not():
    module, other = network(), network()
    own = PixelSpace(16, "rgb", mean=(20.0, 60.0, 90.0))
    through = [Through(Layer(module, n, space=own), SPACE) for n in ("0", "5")]
    more = [Layer(other, "0", space=SPACE), Layer(module, "0", space=SPACE)]
    x = images()
    apart = [phi(x) for phi in through]
    runs, others = counted(module), counted(other)
    found = features_together([*through, *more], x)
    assert (len(runs), len(others)) == (2, 1)  # the last sees other pixels than the first two
    assert all(torch.equal(a, b) for a, b in zip(apart, found[:2], strict=True))


def test_a_class_has_its_name_in_a_network_that_sees_other_pixels():
    class Named(Wrapped):
        def __call__(self, x):
            return self.inner(x)

        def unit_named(self, name):
            return ["ant", "bee"].index(name)

    own = PixelSpace(16, "rgb", mean=(20.0, 60.0, 90.0))
    other = Named(Layer(network().float(), "5", space=own))
    given = Given(Layer(network().float(), "5", space=SPACE), (16, 16), 1, torch.empty(0))
    by_name, by_number = (Activate(other, unit=unit).bind(given)[2] for unit in ("bee", 1))
    assert torch.equal(by_name, by_number)


def test_a_layer_of_another_module_is_refused():
    one, other = Layer(network(), "0", space=SPACE), Layer(network(), "3", space=SPACE)
    with pytest.raises(InputError, match="shares no pass"):
        one.beside([other], images())


def test_an_inversion_of_two_layers_takes_one_pass_an_evaluation_and_counts_it_once():
    module = network().float()
    first, second = Layer(module, "1", space=SPACE), Layer(module, "5", space=SPACE)
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    runs = counted(module)
    lengths = {}
    for steps in (4, 9):
        runs.clear()
        found = preimage.invert(second, picture, objective=Match() + 0.5 * Match(first), iterations=steps, solver="adam", progress=False)
        lengths[steps] = len(runs)
        assert found.evaluations == steps
    assert lengths[9] - lengths[4] == 5


def test_a_named_layer_sees_the_same_image_where_the_network_has_its_mean_inside():
    module = network().float()
    black = PixelSpace(16, "rgb", mean=0.0)
    card = NetworkCard(name="tiny", space=black, build=lambda: module, weights=None, names={n: n for n in NAMES})
    net = Network(module, card, "")
    phi = centred(net.layer("5"))
    assert phi.space != black
    like = torch.empty(0)
    x = torch.full((1, 3, 16, 16), 20.0)
    given = Given(phi, (16, 16), 1, like, x, layer=net.layer)
    seen = x + phi.space.mean_colour  # the same levels less a mean of 0
    assert torch.equal(given.representation("0")(x), net.layer("0")(seen))
    assert data_term(Match("0"), given, 1.0)(x)["loss"].item() == 0.0
