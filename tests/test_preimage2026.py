"""The recipe preimage2026: what its gradient passes, for which layers it is the default, and what it keeps of a photograph."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import preimage
from preimage.energy.priors import L2
from preimage.energy.resampling import RandomView
from preimage.errors import InputError, PreimageWarning
from preimage.methods.recipe import DEFAULTS, Parts, Recipe, recipe_named
from preimage.networks.network import NetworkCard, weights_hash
from preimage.tasks.choice import Choice, is_deep, is_of_classes, recipe_for_layer
from preimage.tasks.judged import judge_result
from preimage.tasks.result import Result

SPACE = preimage.PixelSpace(8, "rgb", mean=(128.0, 128.0, 128.0))


def closed_unit() -> preimage.Layer:
    """A ReLU's one unit, which a chequerboard of more than 16 grey levels opens and no photograph."""
    conv = nn.Conv2d(3, 1, 8)
    conv.weight.data[:] = 1.0 - 2.0 * ((torch.arange(8)[:, None] + torch.arange(8)) % 2)
    nn.init.constant_(conv.bias, -16.0 * conv.weight.numel())
    return preimage.Layer(nn.Sequential(conv, nn.ReLU(), nn.Identity()), "2", space=SPACE)


def recipe(slope: float) -> Recipe:
    """Ten steps on a loss that looks at a unit's value alone."""
    parts = Parts(
        objective=(preimage.Activate(),), regularizers={}, bound=math.inf, solver="adam:rate=8", iterations=10, closed_slope=slope
    )
    return Recipe("own", "here", "It opens units.", maximize=parts)


def test_the_gradient_passes_closed_relus_where_the_recipe_says_so() -> None:
    start = np.full((8, 8, 3), 128, np.uint8)
    closed, opened = (preimage.maximize(closed_unit(), 0, Z=1.0, recipe=recipe(s), start=start, progress=False) for s in (0.0, 0.2))
    assert closed.config["reopened"] and not opened.config["reopened"]
    assert opened.status == ["ok"] and float(opened.activation) > 0


def test_a_unit_that_ends_closed_is_no_success_though_the_gradient_passed_its_relu_to_the_end() -> None:
    board = np.where((np.arange(8)[:, None] + np.arange(8)) % 2, 100, 156).astype(np.uint8)[..., None].repeat(3, 2)
    parts = recipe(0.2).parts("maximize").with_given(C=1e-6, regularizers={"l2": L2()})
    fading = Recipe("own", "here", "It fades to grey.", maximize=parts)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = preimage.maximize(closed_unit(), 0, Z=1.0, recipe=fading, start=board, progress=False)
    assert float(found.activation) == 0 and "has closed" in found.status[0] and "Other starts were tried too" in found.status[0]
    assert any("has closed" in str(w.message) for w in said)


def test_the_energy_of_a_recipe_with_a_slope_is_that_of_the_relu() -> None:
    phi = closed_unit()
    found = preimage.maximize(phi, 0, Z=1.0, recipe=recipe(0.2), progress=False)
    with torch.no_grad():
        assert float(found.energy["loss"]) == pytest.approx(-100 * float(phi(found.images - 128.0)), rel=1e-5)


def test_the_slope_is_data_and_is_between_0_and_1() -> None:
    plain = json.loads(json.dumps(recipe(0.2).to_plain()))
    assert Recipe.from_plain(plain).parts("maximize").closed_slope == 0.2
    with pytest.raises(InputError, match=r"from 0 to 1; got 1\.5"):
        Parts(closed_slope=1.5)


def test_layers_are_deep_whose_units_see_half_of_the_image(net: preimage.Network) -> None:
    assert [is_deep(net.layer(name)) for name in ("conv1", "fire4", "fire6", "fire7", "fire9", "pool10")] == [False] * 3 + [True] * 3
    assert is_deep(net.layer("fire6"), 0.4) and not is_deep(net.layer("fire5"), 0.4)
    assert not is_deep(preimage.HOG()) and not is_deep(closed_unit())


def test_the_recipe_is_the_default_of_deep_layers_and_one_chosen_part_is_enough_to_go_without(net: preimage.Network) -> None:
    deep, shallow = net.layer("fire9"), net.layer("fire2")
    assert recipe_for_layer(deep, Choice()).recipe == recipe_for_layer(deep, Choice(iterations=9)).recipe == "preimage2026"
    for phi, choice in ((shallow, Choice()), (deep, Choice(C=10.0)), (deep, Choice(solver="paper")), (deep, Choice(solver="fast"))):
        assert recipe_for_layer(phi, choice) == choice


def test_the_recipe_for_channels_asks_the_paper_s_question_with_its_weight_in_the_range_of_pictures(net: preimage.Network) -> None:
    parts = recipe_named("preimage2026-units").parts("maximize")
    assert parts.takes_divisor and parts.C == DEFAULTS["maximize"].C
    found = preimage.maximize(net.layer("fire5"), 7, recipe="preimage2026-units", Z=1e6, canvas=48, iterations=15, progress=False)
    assert found.config["Z"] == [1e6] and "loss.statistics of fire5" in found.trace
    assert 0 <= float(found.images.min()) <= float(found.images.max()) <= 255


def test_a_deep_caricature_exaggerates_and_keeps_the_photograph_s_colours(net: preimage.Network, cat) -> None:
    found = preimage.caricature(net.layer("fire9"), cat, iterations=12, progress=False)
    assert found.config["recipe"] == "preimage2026"
    assert float(found.activation) > 1.2
    mean, own = found.images.mean(dim=(2, 3)), found.originals.mean(dim=(2, 3))
    assert float((mean - own).abs().max()) < 12


def test_a_start_of_pixels_is_no_start_of_its_own(net: preimage.Network, cat) -> None:
    few = {"iterations": 12, "progress": False}
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    early = net.layer("conv1")
    for found in (
        preimage.invert(early, pixels, start=pixels, **few),
        preimage.caricature(early, pixels, start=pixels, **few),
        preimage.maximize(early, 3, canvas="auto", start=pixels[:3, :3], **few),
    ):
        assert found.config["start"] == "a ndarray" and found.config["recipe"] is None


def test_what_a_recipe_with_a_slope_made_is_made_again_to_the_last_bit(net: preimage.Network, cat, tmp_path) -> None:
    found = preimage.invert(net.layer("fire7"), cat, iterations=4, progress=False)
    assert found.config["parts"]["closed_slope"] > 0
    found.save(tmp_path / "out")
    again = preimage.again(tmp_path / "out", progress=False)
    assert torch.equal(again.images, found.images) and again.config["parts"] == found.config["parts"]


def made(units: list[int], restarts: int = 1, of_classes: bool = True, weights: str = "0" * 64) -> Result:
    """A result of maximize as it would be, of random images."""
    count = len(units) * restarts
    images = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    energy = {"total": torch.zeros(count)}
    config = {"unit": units, "restarts": restarts, "of_classes": of_classes, "weights_sha256": weights, "canvas": [32, 32]}
    names, trace = [f"unit {k}" for k in range(count)], {"total": torch.zeros(2, count)}
    return Result("maximize", images, None, torch.ones(count), energy, trace, 2, names, [0] * count, ["ok"] * count, config)


def test_a_judge_s_ranks_stand_beside_the_pictures_and_in_the_saved_record(net: preimage.Network, tmp_path) -> None:
    result = made([130, 7], restarts=2)
    found = judge_result(result, net)
    assert found.classes.tolist() == [130, 130, 7, 7] and found.rank.min() >= 1
    result.save(tmp_path / "out")
    again = preimage.load_result(tmp_path / "out")
    assert again.config["recognised"]["rank"] == found.rank.tolist()
    assert again.captions()[2].endswith(f", squeezenet1_1: rank {int(found.rank[2])}")


def test_a_judge_is_not_asked_for_what_is_no_class_nor_of_its_own_images(net: preimage.Network) -> None:
    with pytest.raises(InputError, match="made for one"):
        judge_result(made([3], of_classes=False), net)
    with pytest.raises(InputError, match="made these images"):
        judge_result(made([3], weights=weights_hash(net.module)), net)


def test_only_units_of_the_layer_of_classes_are_recorded_as_classes(net: preimage.Network) -> None:
    few = {"iterations": 2, "progress": False, "Z": 1.0, "canvas": 64}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PreimageWarning)  # two steps are few
        found = [preimage.maximize(net.layer(name), 3, **few).config["of_classes"] for name in ("pool10", "conv1")]
    assert found == [True, False]


def classifier(*end: nn.Module, fixed: bool = False) -> preimage.Network:
    """Three classes of 16 pixels, by a convolution, with or without something behind the scores; `fixed` takes no other size."""
    torch.manual_seed(0)
    body = [nn.Flatten(), nn.Linear(4 * 14 * 14, 3)] if fixed else [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), *body, *end)
    space = preimage.PixelSpace(16, "rgb", mean=(128.0, 128.0, 128.0))
    return preimage.load_network(NetworkCard("small", space, lambda: module, whole=True, classes=lambda: ["ape", "bee", "cat"]))


def test_the_classes_of_a_network_are_its_last_layer_where_that_holds_scores() -> None:
    net = classifier()
    last = net.layers()[-1].name
    assert is_of_classes(net.layer(last)) and not is_of_classes(net.layer("0"))
    soft = classifier(nn.Softmax(dim=1))
    assert not is_of_classes(soft.layer(soft.layers()[-1].name))
    assert not is_of_classes(closed_unit())


def test_classes_of_any_network_are_made_by_the_recipe_and_one_of_a_single_size_is_shown_all_pixels() -> None:
    for fixed, resolution in ((False, 0.72), (True, 1.0)):
        net = classifier(fixed=fixed)
        found = preimage.maximize(net.layer(net.layers()[-1].name), "bee", iterations=2, progress=False)
        assert found.config["recipe"] == "preimage2026"
        assert found.config["parts"]["transform"]["resolution"] == resolution
        assert "bee" in found.labels[0]


def test_a_recipe_of_one_s_own_with_smaller_views_is_shown_all_pixels_where_a_network_takes_one_size() -> None:
    net = classifier(fixed=True)
    seen = Parts(C=10.0, transform=RandomView(resolution=0.5), solver="adam")
    mine = Recipe(name="mine", source="this test", sentence="Smaller views.", maximize=seen)
    found = preimage.maximize(net.layer(net.layers()[-1].name), "bee", recipe=mine, iterations=2, progress=False)
    assert found.config["parts"]["transform"]["resolution"] == 1.0
