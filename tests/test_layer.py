"""A layer of any module: found, stopped at, and everything left as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from preimage import Layer, PixelSpace, from_callable, layers
from preimage.errors import InputError, UnknownName
from preimage.representations.base import Representation

SPACE = PixelSpace(12, "rgb")


class Net(nn.Module):
    """Reused and in-place ReLUs, a block with two outputs, one with a dict, dropout, batch norm, and a tail that counts its calls."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.pair = Pair()
        self.table = Table()
        self.drop = nn.Dropout(0.5)
        self.tail = Tail()
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        x = self.relu(self.bn(self.conv(x)))
        a, b = self.pair(x)
        x = self.relu(self.table(a - b)["features"] - 1)
        return self.tail(self.drop(x))


class Pair(nn.Module):
    def forward(self, x):
        return x, 2 * x[:, :2].repeat(1, 2, 1, 1)


class Table(nn.Module):
    def forward(self, x):
        return {"features": x, "note": "not a tensor"}


class Tail(nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return x.mean(dim=(2, 3))


@pytest.fixture
def module():
    torch.manual_seed(0)
    return Net()


X = torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0)) * 50


def by_hand(module, name):
    """The layer's value in plain code, in eval mode, with nothing in place."""
    module.eval()
    with torch.no_grad():
        conv = module.conv(X)
        first = module.bn(conv).clamp(min=0)
        second = ((first - 2 * first[:, :2].repeat(1, 2, 1, 1)) - 1).clamp(min=0)
    return {"conv": conv, "relu#0": first, "relu": second, "relu#1": second, "pair[1]": 2 * first[:, :2].repeat(1, 2, 1, 1)}[name]


@pytest.mark.parametrize("name", ["conv", "relu#0", "relu", "relu#1", "pair[1]"])
def test_the_layer_s_value_is_that_of_plain_code_also_before_in_place_modules(module, name):
    phi = Layer(module, name, space=SPACE)
    torch.testing.assert_close(phi(X), by_hand(module, name))
    assert isinstance(phi, Representation)


def state(module):
    return (
        [m.training for m in module.modules()],
        [p.requires_grad for p in module.parameters()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in module.modules()],
        {k: v.clone() for k, v in module.state_dict().items()},
    )


def same(a, b):
    return a[:3] == b[:3] and all(bool((v == b[3][k]).all()) for k, v in a[3].items())


def test_the_module_is_left_as_it_was_after_success_and_after_failure(module):
    module.train()
    module.bn.eval()  # a mixture, as in fine-tuning
    module.conv.weight.requires_grad_(False)
    before = state(module)
    phi = Layer(module, "relu", space=SPACE)
    x = X.clone().requires_grad_()
    phi(x).sum().backward()
    assert x.grad is not None
    assert all(p.grad is None for p in module.parameters())
    assert same(before, state(module))
    with pytest.raises(RuntimeError):
        phi(torch.zeros(1, 7, 12, 12))
    assert same(before, state(module))
    with pytest.raises(ZeroDivisionError), phi.session():
        phi(X)
        raise ZeroDivisionError
    assert same(before, state(module))


def test_nothing_runs_after_the_layer_and_what_was_skipped_is_told(module):
    phi = Layer(module, "bn", space=SPACE)
    module.tail.calls = 0
    phi(X)
    assert module.tail.calls == 0
    assert phi.skipped == ("relu", "pair", "table", "drop", "tail", "unused")
    assert "skips 6 modules" in repr(phi)
    assert Layer(module, "tail", space=SPACE).skipped == ("unused",)


def test_the_caller_s_image_is_not_written_to_by_a_first_module_in_place():
    phi = Layer(nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 2, 3)), "1", space=SPACE)
    x = X.clone().requires_grad_()
    phi(x).sum().backward()
    assert bool((x.detach() == X).all())


def test_eval_mode_holds_whatever_mode_the_module_is_in(module):
    phi = Layer(module, "tail", space=SPACE)
    module.train()
    assert bool((phi(X) == phi(X)).all())  # no dropout, no batch statistics
    torch.testing.assert_close(phi(X)[:1], phi(X[:1]))


def test_several_outputs_must_be_chosen_and_are_listed(module):
    with pytest.raises(InputError, match=r"gives 2 tensors: 0 of shape \(4, 12, 12\), 1 of shape"):
        Layer(module, "pair", space=SPACE)
    assert Layer(module, "pair", space=SPACE, output=0).shape == (4, 12, 12)
    with pytest.raises(InputError, match="no output 5"):
        Layer(module, "pair", space=SPACE, output=5)
    torch.testing.assert_close(Layer(module, "table", space=SPACE)(X), Layer(module, "table[features]", space=SPACE)(X))


def test_calls_that_never_come_are_refused(module):
    with pytest.raises(InputError, match=r"runs 2 time\(s\) in a pass; call 2"):
        Layer(module, "relu", space=SPACE, call=2)
    with pytest.raises(InputError, match="does not run in the forward pass"):
        Layer(module, "unused", space=SPACE)


def test_a_name_with_a_typo_lists_the_nearest(module):
    with pytest.raises(UnknownName, match="Did you mean 'relu'"):
        Layer(module, "rleu", space=SPACE)
    with pytest.raises(InputError, match="needs a size"):
        Layer(module, "relu", space=PixelSpace(None, "rgb"))
    with pytest.raises(InputError, match="from_callable"):
        Layer(lambda x: x, "relu", space=SPACE)
    with pytest.raises(InputError, match="leak is the slope"):
        Layer(module, "relu", space=SPACE, leak=2.0)


def test_layers_lists_calls_and_outputs_by_the_names_that_layer_takes(module):
    found = [i.name for i in layers(module, SPACE)]
    assert found == ["conv", "bn", "relu#0", "pair[0]", "pair[1]", "table[features]", "relu#1", "drop", "tail"]
    for name in found:
        assert Layer(module, name, space=SPACE).shape == next(i.shape for i in layers(module, SPACE) if i.name == name)


def test_a_module_that_fails_beyond_the_layer_can_still_be_looked_at():
    class Broken(nn.Module):
        def forward(self, x):
            raise ValueError("not today")

    module = nn.Sequential(nn.Conv2d(3, 2, 3), Broken())
    assert Layer(module, "0", space=SPACE)(X).shape == (2, 2, 10, 10)
    with pytest.raises(ValueError, match="not today"):
        Layer(module, "1", space=SPACE)
    with pytest.raises(ValueError, match="not today"):
        layers(module, SPACE)


def test_a_leak_gives_closed_relus_a_gradient_and_open_ones_nothing_new():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True))
    nn.init.constant_(module[0].bias, -1e4)
    x = X.clone().requires_grad_()
    (g,) = torch.autograd.grad(Layer(module, "1", space=SPACE)(x).sum(), x)
    assert bool((g == 0).all())
    (g,) = torch.autograd.grad(Layer(module, "1", space=SPACE, leak=0.05)(x).sum(), x)
    torch.testing.assert_close(g[0, :, 0, 0], 0.05 * module[0].weight.sum(dim=0).flatten())
    nn.init.constant_(module[0].bias, 1e4)
    torch.testing.assert_close(Layer(module, "1", space=SPACE, leak=0.05)(X), Layer(module, "1", space=SPACE)(X))


def test_a_session_puts_the_module_in_another_precision_and_brings_the_same_tensors_back(module):
    phi = Layer(module, "relu", space=SPACE)
    weights = [p.data_ptr() for p in module.parameters()]
    with phi.session(dtype=torch.float64):
        assert phi(X.double()).dtype == torch.float64
    assert [p.data_ptr() for p in module.parameters()] == weights
    assert all(p.dtype == torch.float32 for p in module.parameters())


def test_a_function_is_a_representation_and_must_keep_the_batch():
    space = PixelSpace(12, "bgr", 1.0, mean=(0.1, 0.2, 0.3), std=0.5)
    phi = from_callable(lambda v: v.flatten(1), space)
    torch.testing.assert_close(phi(X), space.to_network(X).flatten(1))
    assert isinstance(phi, Representation)
    with pytest.raises(InputError, match="one entry for each of the 2 images"):
        from_callable(lambda v: v.sum(), space)(X)
    with pytest.raises(InputError, match="takes a function"):
        from_callable(3, space)


def test_a_module_as_a_function_takes_no_weight_gradients_and_keeps_its_mode(module):
    module.train()
    phi = from_callable(module, SPACE)
    before = state(module)
    x = X.clone().requires_grad_()
    phi(x).sum().backward()
    assert all(p.grad is None for p in module.parameters())
    assert same(before, state(module))
