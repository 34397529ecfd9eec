"""What a representation declares; objects that are none, and wrappers of others, lose nothing."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

import preimage
from preimage import HOG, Layer, PixelSpace, Representation, Wrapped, as_representation, from_callable
from preimage.errors import InputError
from preimage.representations.base import device_of, module_of

SPACE = PixelSpace(12, "rgb", scale=1.0, mean=0.5, std=0.25)
IMAGE = np.random.default_rng(0).integers(0, 255, (12, 12, 3), dtype=np.uint8)


class Duck:
    """The least that can be used: no subclass, no session."""

    def __init__(self):
        self.space, self.name, self.stride, self.receptive_field = SPACE, "duck", 4, None

    def __call__(self, x):
        return x[:, :, ::4, ::4]


class Doubled(Wrapped):
    def __call__(self, x):
        return 2 * self.inner(x)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))


@pytest.mark.parametrize("phi", [HOG(), from_callable(lambda x: x, SPACE), Layer(net(), "1", space=SPACE), as_representation(Duck())])
def test_every_representation_declares_what_tasks_ask_of_it(phi):
    assert isinstance(phi, Representation) and as_representation(phi) is phi
    assert phi.jitter in (None, 1) and phi.leak == 0.0 and phi.network is None
    assert phi.module is None or isinstance(phi.module, nn.Module)
    with phi.session(torch.device("cpu"), torch.float32, False):
        pass
    with pytest.raises(InputError, match="has no class names: give the unit as a number"):
        phi.unit_named("tree frog")
    if not phi.can_open:
        with pytest.raises(InputError, match="cannot be opened"):
            phi.opened(0.05)


def test_an_object_with_the_five_attributes_is_inverted_as_the_same_function_is():
    same = from_callable(lambda x: x[:, :, ::4, ::4], PixelSpace(12, "rgb", mean=127.5), stride=4)
    duck = Duck()
    duck.space = same.space
    kw = {"iterations": 3, "progress": False}
    assert torch.equal(preimage.invert(duck, IMAGE, **kw).images, preimage.invert(same, IMAGE, **kw).images)
    assert preimage.maximize(duck, (0, 1, 1), canvas=12, Z=1.0, **kw).config["representation"] == "duck"
    preimage.caricature(duck, IMAGE, **kw)


def test_what_else_an_object_has_is_used():
    entered = []

    class Prepared(Duck):
        jitter, leak, fast_rate = 3, 0.5, 2.0
        module = net()

        @contextmanager
        def session(self, device=None, dtype=None):
            entered.append((device, dtype))
            yield

        def unit_named(self, name):
            return len(name)

    own = Prepared()
    phi = as_representation(own)
    assert (phi.jitter, phi.leak, phi.fast_rate, phi.unit_named("abc")) == (3, 0.5, 2.0, 3)
    assert phi.module is own.module and device_of(phi) == torch.device("cpu")
    result = preimage.invert(own, IMAGE, iterations=2, progress=False)
    assert entered == [(torch.device("cpu"), torch.float32)]
    assert result.config["jitter"] == 3 and result.config["weights_sha256"]


def test_what_lacks_an_attribute_is_refused_with_the_list():
    for wrong in (lambda x: x, 3, nn.Conv2d(3, 4, 3)):
        with pytest.raises(InputError, match="a call, space, name, stride, receptive_field"):
            as_representation(wrong)
        with pytest.raises(InputError, match="a call, space, name, stride, receptive_field"):
            preimage.invert(wrong, IMAGE, progress=False)


def test_a_wrapper_loses_nothing_of_a_layer():
    network = preimage.load_network("squeezenet1_1", weights=None, size=64)
    layer = network.layer("fire2", leak=0.25)
    phi = Doubled(layer, name="doubled")
    assert (phi.space, phi.stride, phi.receptive_field) == (layer.space, layer.stride, layer.receptive_field)
    assert (phi.network, phi.leak, phi.can_open, phi.prefers_channels_last) == (network, 0.25, True, True)
    assert phi.module is network.module and module_of(phi) is network.module
    x = torch.zeros(1, 3, 64, 64)
    with phi.session(dtype=torch.float64, channels_last=True):
        assert next(network.module.parameters()).dtype == torch.float64
        torch.testing.assert_close(phi(x.double()), 2 * layer(x.double()))
    assert Doubled(layer, receptive_field=None, stride=9).receptive_field is None
    result = preimage.invert(phi, np.full((64, 64, 3), 90, np.uint8), iterations=1, progress=False)
    assert result.config["network"] == "squeezenet1_1" and result.config["channels_last"] and result.config["representation"] == "doubled"


def test_the_closed_units_of_a_wrapped_layer_are_opened():
    module = net()
    nn.init.constant_(module[0].bias, -2.0)
    phi = Doubled(Layer(module, "1", space=SPACE))
    x = torch.zeros(1, 3, 12, 12, requires_grad=True)
    with phi.opened(0.05):
        (gradient,) = torch.autograd.grad(phi(x).sum(), x)
    assert bool(gradient.any())
    assert preimage.maximize(phi, 0, canvas=12, Z=1.0, iterations=1, progress=False).config["opened"] == [0]
