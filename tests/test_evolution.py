"""Evolution without a gradient: its two encodings, that samples stay apart, and that runs go on with the same bits."""

from __future__ import annotations

import colorsys
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import preimage
from preimage.energy.energy import Energy, Problem
from preimage.energy.fourier import Fourier
from preimage.energy.losses import Euclidean
from preimage.energy.parameterizations import Box
from preimage.energy.terms import FeatureTerm
from preimage.errors import InputError
from preimage.methods.recipe import recipe_named
from preimage.solvers.cppn import CPPN, HIDDEN, INPUTS
from preimage.solvers.evolution import Evolution
from preimage.solvers.loop import minimize
from preimage.solvers.monitor import Monitor
from preimage.solvers.run import Run, Stage

SPACE = preimage.PixelSpace(8, "rgb", mean=(100.0, 110.0, 120.0))
ENCODINGS, BOX = ["direct", "cppn"], Box()


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def evolved(encoding, samples=slice(0, 2), steps=60, parameterization=BOX, **more):
    target = torch.full((1, 3, 8, 8), 40.0)
    energy = Energy(FeatureTerm(Euclidean(), lambda x: x, target, C=1.0), regularizers={})
    x0 = torch.rand((2, 3, 8, 8), generator=seeded(9)) * 160 - 80
    generators = [seeded(s) for s in (1, 2)[samples]]
    problem = Problem(energy, parameterization, space=SPACE)
    return minimize(problem, x0[samples], solver=Evolution(encoding), stages=[Stage(steps)], generators=generators, **more)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_better_of_parent_and_child_stays_and_samples_do_not_meet(encoding):
    found = evolved(encoding)
    assert torch.equal(found.energy["total"], found.trace["total"].amin(dim=0)) and found.evaluations == 60
    assert bool((found.energy["total"] < found.trace["total"][0]).all())
    assert torch.equal(evolved(encoding, slice(1, 2)).x[0], found.x[1]) and not torch.equal(found.x[0], found.x[1])
    levels = SPACE.decode(found.x)
    assert levels.min() >= 0 and levels.max() <= 255


def test_a_grey_start_is_changed_too():
    energy = Energy(FeatureTerm(Euclidean(), lambda x: x, torch.full((1, 3, 8, 8), 40.0), C=1.0), regularizers={})
    found = minimize(energy, torch.zeros(1, 3, 8, 8), solver=Evolution(), stages=[Stage(60)])
    assert bool((found.energy["total"] < 0.9 * found.trace["total"][0]).all())


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_an_interrupted_evolution_goes_on_with_the_bits_of_one_that_never_stopped(encoding, monkeypatch):
    whole, real, count = evolved(encoding), Run.values, []

    def values(self, z):
        count.append(1)
        if len(count) == 31:
            raise KeyboardInterrupt
        return real(self, z)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "values", values)
        left = evolved(encoding, monitor=Monitor(keep_state=True))
    assert left.interrupted and torch.equal(left.energy["total"], left.trace["total"].amin(dim=0))
    again = evolved(encoding, resume=left.state)
    assert torch.equal(again.x, whole.x) and torch.equal(again.trace["total"], whole.trace["total"])


def test_a_tenth_of_the_numbers_is_moved_by_polynomial_mutation_and_half_as_many_later():
    tried, real = [], Run.values

    def values(self, z):
        tried.append(z)
        return real(self, z) * 0 + len(tried)  # never better than the first

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "values", values)
        energy = Energy(FeatureTerm(Euclidean(), lambda x: x, torch.ones(1, 1, 64, 64), C=1.0), regularizers={})
        x0 = (torch.rand((1, 1, 64, 64), generator=seeded(0)) - 0.5) * 100
        problem = Problem(energy, Box(-math.inf, math.inf), space=preimage.PixelSpace(64, "grey", mean=(100.0,)))
        minimize(problem, x0, solver=Evolution(halved_every=20), stages=[Stage(40)])
    moved = torch.stack([z - tried[0] for z in tried[1:]]).flatten(1)
    chosen = (moved != 0).double().mean(dim=1)
    assert chosen[:19].mean() == pytest.approx(0.1, abs=0.003) and chosen[19:].mean() == pytest.approx(0.05, abs=0.003)
    span = 4 * x0.abs().median().item()
    delta = np.sort((moved[moved != 0] / span).numpy())
    for share in (0.1, 0.25, 0.5, 0.75, 0.9):  # its quantile function
        wanted = (2 * share) ** (1 / 16) - 1 if share < 0.5 else 1 - (2 - 2 * share) ** (1 / 16)
        assert delta[int(share * len(delta))] == pytest.approx(wanted, abs=0.005)


def grown(channels=3, changes=120, seed=4):
    g = seeded(seed)
    found = CPPN.drawn(channels, g)
    for _ in range(changes):
        found = found.changed(g)
    return found


def test_a_network_that_paints_is_its_nodes_pixel_by_pixel():
    network = grown()
    assert int((network.depth[INPUTS:-3] > 0).sum()) >= 3  # it has grown
    image, functions = network.paint((4, 5)), (math.sin, lambda v: 2 / (1 + math.exp(-v)) - 1, lambda v: math.exp(-v * v), lambda v: v)
    for row, y in enumerate(np.linspace(-1, 1, 4)):
        for column, x in enumerate(np.linspace(-1, 1, 5)):
            known = {0: x, 1: y, 2: math.sqrt(2) * math.hypot(x, y), 3: 1.0}

            def answer(k, known=known):
                if k not in known:
                    links = [(of, w) for of, w in enumerate(network.weights[k].tolist()) if not math.isnan(w)]
                    known[k] = functions[int(network.function[k])](sum(w * answer(of) for of, w in links))
                return known[k]

            hue, saturation, value = (answer(INPUTS + HIDDEN + c) for c in range(3))
            colour = colorsys.hsv_to_rgb(hue % 1, min(abs(saturation), 1), min(abs(value), 1))
            np.testing.assert_allclose(image[:, row, column], 255 * np.array(colour), atol=1e-6)


def test_connections_lead_to_greater_depth_and_a_genome_is_the_whole_network():
    network = grown(channels=5, changes=300)
    to, of = (~network.weights.isnan()).nonzero().T
    assert bool((network.depth[of] >= 0).all() and (network.depth[to] > network.depth[of]).all())
    assert torch.equal(CPPN.from_genome(network.genome()).paint((6, 7)), network.paint((6, 7)))
    assert network.paint((6, 7)).shape == (5, 6, 7)


@pytest.mark.parametrize("name", ["nguyen2015-direct", "nguyen2015-cppn"])
def test_fooling_images_evolve_for_each_class_by_itself(name):
    weights = torch.randn((3, 3), generator=seeded(1)) * 0.05
    phi = preimage.from_callable(lambda x: x.mean(dim=(2, 3)) @ weights.T, replace(SPACE))
    found = preimage.maximize(phi, [0, 1], recipe=name, iterations=150, progress=False)
    alone = preimage.maximize(phi, [1], recipe=name, iterations=150, progress=False)
    assert torch.equal(alone.images[0], found.images[1])
    assert bool((found.energy["loss"] < found.trace["loss"][0]).all())
    assert not recipe_named(name).maximize.takes_divisor


def test_a_network_paints_pixels_alone():
    with pytest.raises(InputError, match="pixels or box"):
        evolved("cppn", parameterization=Fourier())
    with pytest.raises(InputError, match="direct or cppn"):
        Evolution("neat")
