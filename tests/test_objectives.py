"""Objectives: plain data and text, sums and weights, networks with pixels of their own, directions; against plain computations."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import preimage
from preimage.energy.guide import GuidedDream
from preimage.energy.losses import InnerProduct
from preimage.energy.objectives import OBJECTIVES, Activate, Dream, Exaggerate, Given, Gram, Match, data_term
from preimage.energy.scores import Probability, Score
from preimage.errors import InputError
from preimage.methods.text import parts_from_text
from preimage.pixels.pixelspace import PixelSpace
from preimage.plain import from_plain, parse, spell, to_plain
from preimage.representations.base import from_callable
from preimage.studies.jobs import Job

EXAMPLES = [
    pytest.param(OBJECTIVES[name](**given), id=f"{name}{k}") for name in OBJECTIVES for k, given in enumerate(OBJECTIVES.examples(name))
]
SPACE = PixelSpace(8, "rgb", mean=(120.0, 110.0, 100.0))


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(channels, seed, space=SPACE, name="layer"):
    """A small random network, and the function that it is."""
    weight = normal(channels, 3, 3, 3, seed=seed) / 50

    def f(x):
        return torch.tanh(nn.functional.conv2d(x, weight.to(x), padding=1))

    return from_callable(f, space, name=name), f


def given(phi, x0=None, **more):
    more = {"earlier": torch.stack([images(7), images(8), images(9)], dim=1)} | more  # of the restarts before
    return Given(phi, (8, 8), 2, torch.zeros((), dtype=torch.float64), x0, **more)


def asked(objective):
    """What the task asks, where the objective is about that: channel 1."""
    wanted = torch.zeros(1, 4, 8, 8, dtype=torch.float64)
    wanted[:, 1] = 1.0
    return {"main": (InnerProduct(1.0), wanted)} if isinstance(objective, (Score, Probability)) else {}


def images(seed=1):
    return 40 * normal(2, 3, 8, 8, seed=seed)


def taken(term, x):
    found, gradient = term.differentiate(x.clone().requires_grad_())
    return found["loss"].detach(), gradient


def plain(function, x):
    leaf = x.clone().requires_grad_()
    values = function(leaf)
    return values.detach(), torch.autograd.grad(values.sum(), leaf)[0]


def same(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12), (one - other).abs().max()


@pytest.mark.parametrize("objective", EXAMPLES)
def test_an_objective_is_plain_data_and_text(objective):
    assert from_plain(json.loads(json.dumps(to_plain(objective, OBJECTIVES))), OBJECTIVES) == objective
    assert parse(spell(objective, OBJECTIVES), OBJECTIVES) == objective


@pytest.mark.parametrize("objective", EXAMPLES)
def test_weights_add_up_in_value_and_gradient(objective):
    phi, _ = layer(4, 3)
    about, x = given(phi, images(2), **asked(objective)), images()
    other = Match(loss="cosine")
    both = taken(data_term(0.25 * objective + other, about, 3.0), x)
    one, two = taken(data_term(objective, about, 3.0), x), taken(data_term(other, about, 3.0), x)
    same(both, [0.25 * a + b for a, b in zip(one, two, strict=True)])


@pytest.mark.parametrize("objective", EXAMPLES)
def test_a_sample_depends_on_itself_alone(objective):
    phi, _ = layer(4, 3)
    term, x = data_term(objective, given(phi, images(2), **asked(objective)), 1.0), images()
    changed = x.clone()
    changed[1] = images(9)[1]
    for one, other in zip(taken(term, x), taken(term, changed), strict=True):
        assert torch.equal(one[0], other[0])
        assert not torch.equal(one[1], other[1])


@pytest.mark.parametrize("objective", [*EXAMPLES, Activate(), Activate(everywhere=True), Match("other"), Exaggerate("other")], ids=repr)
def test_an_objective_says_whether_it_takes_the_divisor_of_the_task_s_question(objective):
    phi, _ = layer(4, 3)
    own = InnerProduct(7.0), asked(Score())["main"][1]
    terms = objective.terms(given(phi, images(2), main=own, layer=lambda name: layer(5, 4)[0]), 1.0)
    assert objective.takes_divisor() == any(term.loss is own[0] for term in terms)


def test_a_sum_of_one_representation_has_one_pass():
    passes = []
    phi = from_callable(lambda x: passes.append(0) or x * 2, SPACE)
    term = data_term(Match() + Dream() + Gram(), given(phi, images(2)), 1.0)
    passes.clear()
    taken(term, images())
    alone = len(passes)
    single = data_term(Match(), given(phi, images(2)), 1.0)
    passes.clear()
    taken(single, images())
    assert alone == len(passes)


def test_two_layers_at_once_are_the_sum_of_their_formulas():
    (a, f), (b, g) = layer(4, 3, name="a"), layer(6, 4, name="b")
    x, x0 = images(), images(2)

    def expected(x):
        parts = [(w, h(x), h(x0)) for w, h in ((1.0, f), (0.5, g))]
        return sum(7.0 * w * (p - q).square().sum((1, 2, 3)) / q.square().sum((1, 2, 3)) for w, p, q in parts)

    same(taken(data_term(Match() + 0.5 * Match(b), given(a, x0), 7.0), x), plain(expected, x))


def test_a_unit_in_two_networks_sees_the_pixels_of_each():
    own = PixelSpace(8, "rgb", mean=(20.0, 60.0, 90.0))
    (_, f), (_, g) = layer(4, 3), layer(5, 4, own)
    x, shift = images(), torch.tensor([100.0, 50.0, 10.0], dtype=torch.float64).view(1, 3, 1, 1)
    ends = from_callable(lambda x: f(x).mean((2, 3)), SPACE, name="a"), from_callable(lambda x: g(x).mean((2, 3)), own, name="b")
    term = data_term(Activate(unit=1) + Activate(ends[1], unit=2), given(ends[0]), 1.0)

    def expected(x):
        return -ends[0](x)[:, 1] - ends[1](x + shift)[:, 2]

    same(taken(term, x), plain(expected, x))


@pytest.mark.parametrize("direction", [np.array([0.0, 1.0, 0.0, 0.5]), {1: 1.0, 3: 0.5}])
def test_a_direction_is_an_inner_product_with_the_features(direction):
    _, f = layer(4, 3)
    phi = from_callable(lambda x: f(x).mean((2, 3)), SPACE)

    def expected(x):
        return -(phi(x)[:, 1] + 0.5 * phi(x)[:, 3])

    for objective in (Activate(direction=direction), Activate(unit=direction)):
        same(taken(data_term(objective, given(phi), 1.0), images()), plain(expected, images()))


def test_dream_and_gram_are_their_formulas():
    phi, f = layer(4, 3)
    x, x0 = images(), images(2)

    def gram(x):
        maps = f(x).flatten(2)
        return maps @ maps.mT / maps.shape[2]

    same(
        taken(data_term(Dream(), given(phi, x0), 1.0), x), plain(lambda x: -f(x).square().sum((1, 2, 3)) / f(x0).square().sum((1, 2, 3)), x)
    )
    style = lambda x: (gram(x) - gram(x0)).square().sum((1, 2)) / gram(x0).square().sum((1, 2))  # noqa: E731
    same(taken(data_term(Gram(), given(phi, x0), 1.0), x), plain(style, x))


@pytest.mark.parametrize("kind", [Dream, Gram, GuidedDream])
def test_a_picture_is_taken_in_place_of_the_tasks_image(kind):
    phi, _ = layer(4, 3)
    picture = images(5)[:1]
    about = given(phi, images(2), encode={"style.jpg": picture}.__getitem__)
    same(taken(data_term(kind(image="style.jpg"), about, 1.0), images()), taken(data_term(kind(), given(phi, picture), 1.0), images()))
    with pytest.raises(InputError, match="give image="):
        kind().bind(given(phi))


def test_the_command_lines_text_is_the_same_objective_as_pythons():
    phi, _ = layer(4, 3)
    about = given(phi, images(2), layer=lambda name: phi)
    text = parts_from_text(objective=["gram:of=fire2", "0.5*dream"])["objective"]
    for one, other in zip(
        taken(data_term(text, about, 2.0), images()), taken(data_term(Gram("fire2") + 0.5 * Dream(), about, 2.0), images()), strict=True
    ):
        assert torch.equal(one, other)


def test_a_job_takes_dream_and_gram_and_no_picture_of_their_own():
    job = {"experiment": "e", "task": "invert", "network": "squeezenet", "layer": "fire2", "C": 1.0}
    keys = {Job(**job, objective=o).key for o in ((), ("gram",), ("0.5*dream", "match"))}
    assert len(keys) == 3
    with pytest.raises(InputError, match="Leave image= out"):
        Job(**job, objective=("match", "0.5*gram:of=fire2,image=style.jpg"))


def test_exaggerating_is_the_caricatures_inner_product():
    phi, _ = layer(4, 3)
    loss, _, target = Exaggerate().bind(given(phi, images(2)))
    assert loss == InnerProduct(None) and bool((target >= 0).all())


def test_a_texture_is_taken_from_a_picture_of_another_size(tmp_path):
    phi = from_callable(lambda x: torch.cat([x, x.flip(1)], dim=1), PixelSpace(None, "rgb", mean=(120.0, 110.0, 100.0)), name="both")
    style = np.random.default_rng(0).integers(0, 256, (20, 14, 3), dtype=np.uint8)
    Image.fromarray(style).save(tmp_path / "style.png")
    found = preimage.invert(
        phi,
        np.full((16, 16, 3), 90, np.uint8),
        objective=Gram(image=str(tmp_path / "style.png")),
        iterations=3,
        solver="adam",
        progress=False,
    )
    f = phi(phi.space.encode(style)).flatten(2)
    g = phi(found.images - phi.space.mean_colour).flatten(2)
    a, b = (h @ h.mT / h.shape[2] for h in (f, g))
    assert found.energy["loss"].item() == pytest.approx(100 * ((a - b).square().sum() / a.square().sum()).item(), rel=1e-4)
