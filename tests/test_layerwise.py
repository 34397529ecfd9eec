"""Inverses that go layer by layer: through which layers, what each step answers, that a fit goes on, and what is refused."""

from __future__ import annotations

import json
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import preimage
from preimage.errors import InputError
from preimage.inverses import Layerwise, LayerwiseInverse, fit_inverse, layerwise, load_inverse, regression
from preimage.inverses.layerwise import earlier_layers
from preimage.representations.base import features_of
from preimage.representations.release import Protected, parse_release

from .inverses import blurred, same

SPACE = preimage.PixelSpace(32, "grey", scale=255.0, mean=120.0)
FEW = {"kind": "layerwise", "crops": 6, "progress": False}


photograph = partial(blurred, cells=5, side=40)


@pytest.fixture(scope="module")
def photographs():
    return [photograph(k) for k in range(6)]


@pytest.fixture
def net():
    torch.manual_seed(0)
    convs = [nn.Conv2d(a, b, 3, stride=s, padding=1) for a, b, s in ((1, 6, 2), (6, 8, 1), (8, 10, 2))]
    return nn.Sequential(*(part for conv in convs for part in (conv, nn.ReLU())))


@pytest.fixture
def phi(net):
    return preimage.Layer(net, "5", space=SPACE)


def test_it_goes_through_the_last_layer_before_each_change_of_the_stride_unless_others_are_named(phi, photographs):
    assert [one.name for one in earlier_layers(phi)] == ["3"]
    assert [one.name for one in earlier_layers(Protected(phi, parse_release("bits:3")), ("3", "1"))] == ["3", "1"]
    squeezenet = preimage.load_network("squeezenet1_1", weights=None)
    assert [one.name for one in earlier_layers(squeezenet.layer("fire9"))][:2] == ["fire5", "fire3"]
    two = fit_inverse(phi, photographs, **FEW | {"kind": Layerwise(through=("3", "1"))})
    assert [step.about["to"] for step in two.steps] == ["3", "1", "the image"] and two.about["through"] == ["3", "1"]


def test_a_step_answers_the_earlier_layer_s_features_and_the_last_one_the_image(net, phi, photographs):
    inverse = fit_inverse(phi, photographs, kind="layerwise", crops=60, progress=False)
    x = SPACE.encode(photograph(99))
    step, image = inverse.steps
    wanted = features_of(preimage.Layer(net, "3", space=SPACE), x)
    answer = step(phi(x).detach())
    assert answer.shape == wanted.shape and step.about["cut"] and bool((wanted >= 0).all())
    assert (answer - wanted).norm() < 0.5 * (wanted - wanted.mean(dim=(2, 3), keepdim=True)).norm()
    assert torch.equal(image(answer.clamp(min=0.0)), inverse(phi(x).detach()))
    assert (inverse(phi(x).detach()) - x).square().mean() < 0.3 * (x - x.mean()).square().mean()


def test_features_that_can_be_negative_are_not_cut(photographs):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 6, 3, stride=2, padding=1), nn.Conv2d(6, 8, 3, stride=2, padding=1))
    inverse = fit_inverse(preimage.Layer(net, "1", space=SPACE), photographs, **FEW)
    assert not inverse.steps[0].about["cut"]


def test_other_sizes_than_the_fitted_one_are_taken(phi, photographs):
    inverse = fit_inverse(phi, photographs, **FEW)
    x = SPACE.encode(photograph(98), size=(48, 40))
    assert inverse(phi(x).detach(), (48, 40)).shape == x.shape
    with pytest.raises(InputError, match="takes features"):
        inverse(torch.zeros(1, 10))


def test_a_saved_one_is_read_back_to_the_last_bit_and_damaged_ones_are_refused(phi, photographs, tmp_path):
    inverse = fit_inverse(phi, photographs, **FEW)
    inverse.save(tmp_path / "a.safetensors")
    again = load_inverse(tmp_path / "a.safetensors", phi)
    assert same(inverse, again)
    f = phi(SPACE.encode(photograph(97))).detach()
    assert isinstance(again, LayerwiseInverse) and torch.equal(again(f), inverse(f))
    assert "by 3, the image" in repr(again)
    tensors = load_file(tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        record = json.loads(file.metadata()["preimage-inverse"])
    for change in ({"steps": []}, {"steps": [{"layer": "x"}]}, {"steps": record["about"]["steps"][::-1]}, {"steps": 7}):
        damaged = record | {"about": record["about"] | change}
        save_file(tensors, tmp_path / "b.safetensors", metadata={"preimage-inverse": json.dumps(damaged)})
        with pytest.raises(InputError):
            load_inverse(tmp_path / "b.safetensors", phi)


def test_a_fit_that_was_stopped_goes_on_to_the_same_bits(phi, photographs, tmp_path, monkeypatch):
    undisturbed = fit_inverse(phi, photographs, **FEW)
    monkeypatch.setattr(regression, "EVERY", 2)
    learn, calls = regression.Regression.learn, []

    def stop(self, *given):
        calls.append(self.name)
        if len(calls) == 4:  # in the middle of the second step
            raise KeyboardInterrupt
        return learn(self, *given)

    monkeypatch.setattr(regression.Regression, "learn", stop)
    with pytest.raises(KeyboardInterrupt):
        fit_inverse(phi, photographs, checkpoint=tmp_path / "c", **FEW)
    monkeypatch.setattr(regression.Regression, "learn", learn)
    seen = []
    counted = layerwise._Target.__call__
    monkeypatch.setattr(layerwise._Target, "__call__", lambda self, x: seen.append(self.name) or counted(self, x))
    assert same(fit_inverse(phi, photographs, checkpoint=tmp_path / "c", **FEW), undisturbed)
    assert seen.count("3") == layerwise._LOOKED_AT and not (tmp_path / "c").exists()  # the first step was there


def test_what_has_no_finer_layer_before_it_is_refused_and_the_reason_is_said(net, phi, photographs):
    with pytest.raises(InputError, match=r"No layer with a finer map stands before 1.*kind='linear'"):
        fit_inverse(preimage.Layer(net, "1", space=SPACE), photographs, **FEW)
    with pytest.raises(InputError, match="not known as a layer of a network"):
        fit_inverse(preimage.from_callable(lambda x: F.pixel_unshuffle(x, 4), SPACE), photographs, **FEW)
    with pytest.raises(InputError, match="the deepest first"):
        fit_inverse(preimage.Layer(net, "3", space=SPACE), photographs, **FEW | {"kind": Layerwise(through=("5",))})
    with pytest.raises(InputError, match="odd number"):
        Layerwise(kernel=2)
