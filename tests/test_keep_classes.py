"""The objective that keeps the classes which features say, and nothing else of the image."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import preimage
from preimage.energy.keep_classes import ExpectedMargin, KeepClasses, layer_of_scores
from preimage.energy.losses import Euclidean
from preimage.energy.margin import Margin
from preimage.energy.objectives import Given, Match, data_term
from preimage.errors import InputError
from preimage.networks.network import NetworkCard

SPACE = preimage.PixelSpace(16, "rgb", mean=(128.0, 128.0, 128.0))


class Around(nn.Module):
    """A convolution with a way round it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return x + self.conv(x)


def network() -> preimage.Network:
    """Six classes of 16 pixels: convolution, ReLU in place, convolution with a way round it, scores, their means."""
    torch.manual_seed(0)
    end = [nn.Conv2d(4, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), Around(), *end)
    for p in module.parameters():
        p.data *= 3
    return preimage.load_network(NetworkCard("six", SPACE, lambda: module, whole=True, classes=lambda: [*"abcdef"]))


def given(phi: preimage.Layer, x0: torch.Tensor, features: torch.Tensor | None = None, mask: torch.Tensor | None = None) -> Given:
    """What an inversion knows: the features are the image's own where none are given."""
    assert isinstance(phi.network, preimage.Network)
    with torch.no_grad():
        main = (Euclidean(mask), phi(x0) if features is None else features)
    return Given(phi, (16, 16), len(x0), x0, x0, main, phi.network.layer)


def picture(count: int = 1, seed: int = 0) -> torch.Tensor:
    return 60 * torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_an_expected_margin_of_one_class_is_the_margin_of_it():
    scores = torch.randn(3, 7, 2, 2, generator=torch.Generator().manual_seed(0))
    target = torch.zeros(1, 7)
    target[0, 2] = 1.0
    found = ExpectedMargin(share=0.6, rivals=3)(scores, 5 * target)
    torch.testing.assert_close(found, Margin(share=0.6, rivals=3)(scores, target))


def test_classes_count_by_their_weights_and_none_with_a_weight_is_a_rival():
    scores, weights = torch.tensor([[8.0, 4.0, 3.0, 1.0]]), torch.tensor([[3.0, 1.0, 0.0, 0.0]])
    assert float(ExpectedMargin(share=1.0, rivals=1, Z=1.0)(scores, weights)) == -(7.0 - 3.0)
    assert float(ExpectedMargin(share=1.0, rivals=1, Z=1.0)(scores, torch.ones(1, 4))) == -4.0


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0]])
def test_weights_of_classes_that_are_none_are_refused(weights):
    with pytest.raises(InputError, match="0 or above and not all 0"):
        ExpectedMargin()(torch.zeros(1, 2), torch.tensor([weights]))


def test_the_classes_are_the_first_ones_that_the_network_sees_in_each_image():
    net, x0 = network(), picture(2)
    _, scores, weights = KeepClasses(places=2).bind(given(net.layer("2"), x0))
    seen = net.predict(x0)
    assert scores.name == layer_of_scores(net) == "5"
    best = seen.topk(2, dim=1)
    torch.testing.assert_close(weights, torch.zeros_like(seen).scatter(1, best.indices, best.values))


def test_nothing_is_known_of_the_image_but_the_features_that_are_given():
    net, own, other = network(), picture(), picture(seed=1)
    with torch.no_grad():
        features = net.layer("0")(other)
    one, two = (KeepClasses().bind(given(net.layer("0"), x0, features))[2] for x0 in (own, other))
    assert torch.equal(one, two)
    assert not torch.equal(one, KeepClasses().bind(given(net.layer("0"), own))[2])


@pytest.mark.parametrize("layer", ["2.conv", "5"])
def test_where_the_scores_see_the_image_by_another_way_or_are_the_layer_itself_no_class_is_known(layer):
    net, x0 = network(), picture()
    with pytest.raises(InputError, match="through this layer alone"):
        KeepClasses().terms(given(net.layer(layer), x0), 1.0)
    assert KeepClasses(required=False).terms(given(net.layer(layer), x0), 1.0) == []


def test_features_that_a_mask_hides_say_no_class():
    phi = network().layer("2")
    assert KeepClasses(required=False).terms(given(phi, picture(), mask=torch.ones(4, 14, 14)), 1.0) == []


@pytest.mark.parametrize("required", [True, False])
def test_the_classes_of_each_image_are_looked_for_once(required, monkeypatch):
    asked, times, real = given(network().layer("2"), picture(2)), [], preimage.Layer.go_on
    monkeypatch.setattr(preimage.Layer, "go_on", lambda *given: times.append(1) or real(*given))
    (term,) = KeepClasses(required=required, weight=0.5).terms(asked, 4.0)
    assert len(times) == 2 and (term.C, term.name) == (2.0, "5")


def test_without_a_network_it_is_left_out_or_refused():
    phi = preimage.from_callable(lambda x: x[:, :, ::2, ::2], SPACE)
    known = Given(phi, (16, 16), 1, picture(), picture())
    assert KeepClasses(required=False).terms(known, 1.0) == []
    with pytest.raises(InputError, match="scores of classes"):
        KeepClasses().bind(known)


def test_beside_the_features_it_lowers_the_energy_of_images_that_show_the_classes():
    net, x0 = network(), picture()
    asked = given(net.layer("2"), x0)
    term = data_term(Match() + 0.25 * KeepClasses(), asked, 20.0)
    own, other = term(x0), term(picture(seed=2))
    assert float(own["loss.2"]) == 0.0 and float(own["loss"]) < float(other["loss"])
    seen = x0.clone().requires_grad_()
    values, gradient = term.differentiate(seen)
    torch.testing.assert_close(values["loss"], own["loss"])
    assert bool(gradient.abs().sum() > 0)
