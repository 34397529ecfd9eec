"""Diversity: restarts that are pushed apart by what is given to them, so that samples of one run never meet."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.energy.diversity import Diversity, Likeness
from preimage.energy.objectives import Activate
from preimage.pixels.pixelspace import PixelSpace
from preimage.studies.jobs import Job, execute
from preimage.tasks import Monitor

SPACE = PixelSpace(12, "rgb", mean=(120.0, 110.0, 100.0))


@pytest.fixture(scope="module")
def phi():
    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 6, 5), nn.Tanh(), nn.Conv2d(6, 4, 3))
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.02)
    return preimage.Layer(module, "2", space=SPACE)


def run(phi, unit=1, weight=1.0, **options):
    objective = Activate(Z=0.1) + weight * Diversity() if weight else Activate(Z=0.1)
    settings = {"C": 1.0, "solver": "adam", "iterations": 6, "restarts": 3, "progress": False, "canvas": 12, "Z": 1.0} | options
    return preimage.maximize(phi, unit, objective=objective, **settings)


def likeness(phi, result):
    """The mean cosine of the Gram matrices of all pairs, by plain numpy."""
    features = phi(result.images - SPACE.decode(torch.zeros(1, 3, 1, 1))).flatten(2).numpy()
    grams = [(f @ f.T).ravel() for f in features]
    pairs = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for k, a in enumerate(grams) for b in grams[:k]]
    return float(np.mean(pairs))


def test_the_likeness_is_the_mean_cosine_of_gram_matrices():
    generator = torch.Generator().manual_seed(0)
    x, others = torch.randn(2, 3, 4, 5, generator=generator), torch.randn(2, 3, 3, 4, 5, generator=generator)
    wanted = []
    for own, given in zip(x.flatten(2).numpy(), others.flatten(3).numpy(), strict=True):
        g, h = own @ own.T, [o @ o.T for o in given]
        wanted.append(np.mean([(g * o).sum() / np.linalg.norm(g) / np.linalg.norm(o) for o in h]))
    np.testing.assert_allclose(Likeness()(x, others).numpy(), wanted, rtol=1e-5)


@pytest.mark.parametrize("unit", [1, {0: 1.0, 2: -1.0}], ids=["a unit", "a direction"])
def test_restarts_are_pushed_apart_and_the_first_is_as_without_it(phi, unit):
    alone, apart = run(phi, unit, weight=0), run(phi, unit, weight=30.0)
    assert torch.equal(alone.images[0], apart.images[0])
    assert likeness(phi, apart) < likeness(phi, alone) - 0.05
    assert apart.evaluations == alone.evaluations and apart.seeds == alone.seeds
    assert apart.energy["loss.2 2"][0] == 0 and (apart.energy["loss.2 2"][1:] != 0).all()


def test_a_request_has_the_same_bits_whatever_else_is_asked_for(phi):
    several = run(phi, [0, 1, 3])
    assert torch.equal(several.images[3:6], run(phi, 1).images)
    assert torch.equal(several.images[3:5], run(phi, 1, restarts=2).images)
    assert several.labels[3].endswith("restart 0") and several.labels[5].endswith("restart 2")


def test_a_store_gives_a_restart_the_bits_that_it_has_beside_those_before_it():
    settings = {"C": 1.0, "solver": "adam", "iterations": 3, "canvas": 23, "Z": 1.0, "layer": "conv1", "network": "squeezenet1_1"}
    objective = ("activate:Z=0.1", "30*diversity")
    jobs = [Job(experiment="e", task="maximize", unit=3, restart=r, weights="none", objective=objective, **settings) for r in range(3)]
    found = [o.result for o in execute(jobs, [None] * 3)]
    layer = preimage.load_network("squeezenet1_1", weights=None).layer("conv1")
    whole = preimage.maximize(
        layer, 3, C=1.0, solver="adam", iterations=3, canvas=23, Z=1.0, restarts=3, progress=False,
        objective=Activate(Z=0.1) + 30 * Diversity(),
    )  # fmt: skip
    assert all(torch.equal(f.images[0], image) for f, image in zip(found, whole.images, strict=True))
    assert [f.seeds for f in found] == [[s] for s in whole.seeds]
    assert len({j.key for j in jobs}) == 3


def test_a_run_that_is_interrupted_keeps_the_restarts_that_were_done(phi):
    seen = []

    def stop(evaluations, images, energy):
        seen.append(evaluations)
        return seen.count(3) == 2  # at the end of the second round

    with pytest.raises(preimage.Interrupted) as stopped:
        run(phi, [0, 1], monitor=Monitor(watch=stop), iterations=3)
    result = stopped.value.result
    assert result.images.shape[0] == 6 and torch.isfinite(result.images).all()
    assert [s.startswith("interrupted before it began") for s in result.status] == [False, False, True] * 2
    assert torch.equal(result.images[0], run(phi, [0], iterations=3, restarts=1).images[0])


def test_an_inversion_too_has_restarts_apart_and_the_command_line_gives_them(phi, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    options = {"restarts": 2, "iterations": 4, "solver": "adam", "progress": False}
    one, two = (preimage.invert(phi, picture, objective=o, **options) for o in (preimage.Match(), preimage.Match() + 5 * Diversity()))
    assert torch.equal(one.images[0], two.images[0]) and not torch.equal(one.images[1], two.images[1])

    arguments = "maximize --net squeezenet1_1 --weights none --layer conv1 --unit 3 --restarts 2 --iterations 2 --canvas 23 --quiet"
    arguments += f" --objective activate --objective 0.5*diversity -o {tmp_path / 'out'}"
    shown = CliRunner().invoke(app, arguments.split(), catch_exceptions=False)
    assert shown.exit_code == 0, shown.output
    assert torch.isfinite(preimage.load_result(tmp_path / "out").images).all()
    again = preimage.again(tmp_path / "out", progress=False) if hasattr(preimage, "again") else None
    assert again is None or torch.equal(again.images, preimage.load_result(tmp_path / "out").images)
