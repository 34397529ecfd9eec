"""Statistics of photographs' features as an objective: where they come from, the formula, and what is refused; crops that are stretched."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import preimage
from preimage.energy.feature_statistics import FeatureStatistics, carried, kept_by_normalisations, statistics_in
from preimage.energy.losses import LOSSES
from preimage.energy.objectives import OBJECTIVES, Given
from preimage.energy.resampling import RandomView
from preimage.energy.styles import MeanDeviationNorms, with_statistics
from preimage.energy.transforms import TRANSFORMS
from preimage.errors import InputError
from preimage.inverses.photographs import Crops, free_photographs
from preimage.methods.recipe import Parts, recipes
from preimage.networks.network import NetworkCard
from preimage.plain import from_plain, to_plain
from preimage.representations.passes import features_together

SPACE = preimage.PixelSpace(16, "rgb", scale=255.0, mean=(120.0, 110.0, 100.0), std=(60.0, 60.0, 60.0))


def normalised() -> preimage.Network:
    """Four convolutions, each with a batch normalisation that has seen something, and classes."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for k, (a, b) in enumerate([(3, 4), (4, 5), (5, 6), (6, 7)]):
        norm = nn.BatchNorm2d(b)
        norm.running_mean.copy_(torch.arange(b) + k)
        norm.running_var.copy_(torch.arange(b) + 1.0)
        layers += [nn.Conv2d(a, b, 3, padding=1), norm, nn.ReLU()]
    return network(*layers)


def network(*layers: nn.Module) -> preimage.Network:
    return preimage.load_network(NetworkCard("small", SPACE, lambda: nn.Sequential(*layers), whole=True))


def given_of(net: preimage.Network, layer: str) -> Given:
    phi = net.layer(layer)
    return Given(phi, (16, 16), 1, torch.zeros(()), layer=net.layer)


def numbers(x: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> float:
    """The formula once more, in numpy."""
    flat = x.reshape(x.shape[0], -1)
    a, b = flat.mean(axis=1) - mean, flat.std(axis=1) - deviation
    return float(np.linalg.norm(a) / np.linalg.norm(mean) + np.linalg.norm(b) / np.linalg.norm(deviation))


def test_the_loss_is_that_of_a_second_writing_and_zero_at_its_target():
    x = torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, deviation = torch.linspace(0.1, 2, 5, dtype=torch.float64), torch.linspace(1, 3, 5, dtype=torch.float64)
    target = with_statistics(mean, deviation, (2, 1))
    found = MeanDeviationNorms()(x, target)
    assert found.tolist() == pytest.approx([numbers(one.numpy(), mean.numpy(), deviation.numpy()) for one in x])
    assert float(MeanDeviationNorms()(with_statistics(mean, deviation, (4, 4)), target)) == pytest.approx(0, abs=1e-9)
    assert torch.autograd.gradcheck(lambda v: MeanDeviationNorms()(v, target), (x[:1].requires_grad_(),))


def test_targets_without_statistics_are_refused():
    with pytest.raises(InputError, match="all zero"):
        MeanDeviationNorms().scale(torch.zeros(1, 3, 4, 4))


def test_the_embedded_network_brings_the_statistics_of_the_free_photographs(net):
    pytest.importorskip("skimage"), pytest.importorskip("sklearn")
    known = carried(net)
    assert known is not None and list(known) == ["fire5", "fire6", "fire7", "fire8", "fire9"]
    crops = Crops(free_photographs(), net.space, (163, 163), seed=7)  # others than those that it was made of
    with torch.no_grad():
        values = net.layer("fire9")(torch.cat([crops[n] for n in range(40)])).transpose(0, 1).flatten(1)
    mean, deviation = known["fire9"]
    assert float((values.mean(dim=1) - mean).norm() / mean.norm()) < 0.2
    assert float((values.std(dim=1) - deviation).norm() / deviation.norm()) < 0.2


def test_other_weights_have_none():
    other = preimage.load_network("squeezenet1_1", weights=None)
    assert carried(other) is None


def test_batch_normalisations_give_what_they_have_kept_of_what_they_are_given():
    known = kept_by_normalisations(given_of(normalised(), "11"))
    assert known is not None and list(known) == ["6", "9"]  # the later half, by the convolutions before them
    assert known["9"][0].tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert known["9"][1].tolist() == pytest.approx([math.sqrt(v) for v in range(1, 8)])


def test_its_terms_are_the_formula_of_each_layer_and_share_a_pass():
    net = normalised()
    given = given_of(net, "11")
    terms = FeatureStatistics(weight=3.0).terms(given, 2.0)
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 50
    with torch.no_grad():
        features = features_together([t.phi for t in terms], x)
        for term, of in zip(terms, features, strict=True):
            module = net.module[int(term.phi.name) + 1]
            mean, deviation = module.running_mean.numpy(), module.running_var.sqrt().numpy()
            wanted = [3.0 * 2.0 / 2 * numbers(one.numpy(), mean, deviation) for one in of]
            assert term(x)["loss"].tolist() == pytest.approx(wanted, rel=1e-4)


def test_a_network_of_which_nothing_is_known_is_refused_or_goes_without():
    net = network(nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.raises(InputError, match="preimage statistics NET photos/ -o FILE"):
        FeatureStatistics().terms(given_of(net, "1"), 1.0)
    assert FeatureStatistics(required=False).terms(given_of(net, "1"), 1.0) == []


@pytest.fixture
def file(tmp_path):
    net = network(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3))
    for k in range(5):
        Image.fromarray(np.random.default_rng(k).integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(tmp_path / f"{k}.png")
    found = preimage.collect_statistics(net, tmp_path, layers=["1", "2"], progress=False)
    found.save(tmp_path / "s.safetensors")
    return net, tmp_path / "s.safetensors", found


def test_a_file_of_the_users_own_photographs_gives_the_statistics(file):
    net, path, found = file
    known = statistics_in(path, net)
    assert list(known) == ["1", "2"]
    for name, (mean, deviation) in known.items():
        torch.testing.assert_close(mean, found[name].mean)
        torch.testing.assert_close(deviation, found[name].std)
    terms = FeatureStatistics(file=str(path), layers=("2",)).terms(given_of(net, "2"), 1.0)
    assert [t.name for t in terms] == ["statistics of 2"]


def test_files_that_are_none_or_of_other_weights_and_layers_are_refused(file, tmp_path):
    net, path, _ = file
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"no statistics at all")
    for what in (bad, tmp_path / "missing"):
        with pytest.raises(InputError, match="holds no statistics of a network"):
            FeatureStatistics(file=str(what), required=False).terms(given_of(net, "2"), 1.0)
    with pytest.raises(InputError, match="other weights"):
        FeatureStatistics(file=str(path)).terms(given_of(normalised(), "11"), 1.0)
    with pytest.raises(InputError, match="no statistics of '0'; there are of 1, 2"):
        FeatureStatistics(file=str(path), layers=("0",)).terms(given_of(net, "2"), 1.0)


def test_a_class_image_has_a_curve_for_each_layer_of_statistics(net):
    found = preimage.maximize(net.layer("pool10"), "tree frog", iterations=2, progress=False)
    assert {f"loss.statistics of fire{k}" for k in range(5, 10)} <= set(found.trace)


def test_settings_that_came_later_are_not_in_plain_values_at_their_default():
    assert "aspect" not in to_plain(RandomView(), TRANSFORMS)
    wide = RandomView(aspect=1.5)
    assert to_plain(wide, TRANSFORMS)["aspect"] == 1.5
    assert from_plain(json.loads(json.dumps(to_plain(wide, TRANSFORMS))), TRANSFORMS) == wide
    assert "pool_share" not in Parts().to_plain() and Parts.from_plain(Parts(pool_share=0.5).to_plain()).pool_share == 0.5
    with pytest.raises(InputError, match="from 0 to 1; got 2"):
        Parts(pool_share=2)


def test_a_stretched_crop_keeps_its_area_and_its_other_draws():
    plain, wide = (RandomView(noise=0.0, degrees=0.0, aspect=a).sample(torch.Generator().manual_seed(0), 200) for a in (1.0, 2.0))
    assert all(len(d) == 6 for d in plain) and all(0.5 <= d[6] <= 2.0 for d in wide)
    logs = np.log([d[6] for d in wide])
    assert abs(logs.mean()) < 0.1 and logs.std() == pytest.approx(2 * math.log(2) / math.sqrt(12), rel=0.15)
    view = RandomView(noise=0.0, degrees=0.0, aspect=2.0)
    for draw in wide[:20]:
        rows, _, _, _, columns, _ = view.sampling_map(draw, (64, 64), (32, 32))
        assert rows * columns == pytest.approx((draw[0] * 2) ** 2) and columns / rows == pytest.approx(draw[6])


def test_the_recipe_says_what_it_does():
    parts = recipes()["preimage2026"].parts("maximize")
    assert parts.pool_share == 0.5 and any(isinstance(o, FeatureStatistics) and not o.required for o in parts.objective)
    assert "feature-statistics" in OBJECTIVES and "mean-deviation-norms" in LOSSES
