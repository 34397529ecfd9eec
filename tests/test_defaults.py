"""What is not said is the same in Python, on the command line, in a store's job and on the page, for every layer of two networks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import preimage
from preimage.app.jobs import Desk, Order
from preimage.app.jobs import Job as Run
from preimage.cli import app
from preimage.cli import tasks as cli_tasks
from preimage.errors import InputError, OptimizationError, UnknownName
from preimage.experiments import atlas, audit
from preimage.methods.recipe import DEFAULTS, Parts, Recipe
from preimage.studies import jobs
from preimage.studies.jobs import Job, execute
from preimage.tasks.task import Task

from .marks import slow

TASKS = ("invert", "caricature", "maximize")


def build() -> nn.Module:
    """Strides of 1, 2, 8 and 16, so that each rule of the plans is met."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.Conv2d(4, 4, 4, stride=4),
        nn.ReLU6(), nn.Conv2d(4, 4, 2, stride=2), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip


SPACE = preimage.PixelSpace.imagenet(32)
OWN = f"{__name__}:build"


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    levels = np.random.default_rng(0).integers(0, 255, (227, 227, 3), dtype=np.uint8)
    PIL.Image.fromarray(levels).save(path)
    return path


@pytest.fixture
def seen(monkeypatch) -> list[dict[str, Any]]:
    """What each task would run: its parts, its plan, its own bits; nothing is computed."""
    found: list[dict[str, Any]] = []

    def minimize(self, main, start, seeds, size, x0=None, once_more=False):
        computation = self.computation
        found.append(
            {
                "parts": self.parts.to_plain(),
                "plan": self.plan.record(),
                "scale": self.plan.start_scale,
                "transform": repr(self.transform),
                "recipe": self.recipe,
                "seeds": seeds,
                "size": size,
                "noise": self.from_noise,
                "warm": self.warm,
                "precision": (computation.precision, computation.dtype, computation.batch, computation.compiled),
                "loss": type(main[0]).__name__,
            }
        )
        raise OptimizationError("nothing is computed here")

    def features(phi, x):
        return torch.ones(len(x), *phi.info.shape)

    monkeypatch.setattr(Task, "minimize", minimize)
    for module in ("invert", "caricature"):
        monkeypatch.setattr(import_module(f"preimage.tasks.{module}"), "features_of", features)
    monkeypatch.setattr("preimage.tasks.reopen._starts", lambda *args: [])
    maximize = import_module("preimage.tasks.maximize")
    monkeypatch.setattr(maximize, "estimated_largest", lambda *args: ([1.0], "nothing"))
    monkeypatch.setattr(maximize, "open_closed_units", lambda phi, target, canvas, *rest: (canvas, [], 0))
    return found


def ways(name: str, network, photo: Path, tmp_path: Path, monkeypatch, **said: Any) -> dict[str, Callable[[str, str], Any]]:
    """The four ways to ask for a task at a layer with nothing else said, but for plain settings that all of them call the same."""
    flags = [text for setting, value in said.items() for text in (f"--{setting}", str(value))]
    layer_of = cache(network.layer)  # opened once each: that takes a pass
    monkeypatch.setattr(network, "layer", lambda name, **options: layer_of(name))
    desk = Desk.__new__(Desk)
    desk.device, desk._network = None, lambda name: network
    monkeypatch.setattr(cli_tasks, "load", lambda *args, **options: network)
    monkeypatch.setattr(jobs, "open_network", lambda *args: (network, "sha"))
    jobs._layer.cache_clear()
    x0 = network.space.encode(photo)

    def python(task: str, layer: str) -> None:
        with pytest.raises(OptimizationError):
            getattr(preimage, task)(network.layer(layer), 2 if task == "maximize" else str(photo), progress=False, **said)

    def command(task: str, layer: str) -> None:
        what = ["-u", "2"] if task == "maximize" else [str(photo)]
        done = CliRunner().invoke(app, [task, *what, "--layer", layer, "-q", "-o", str(tmp_path / "out"), *flags])
        assert done.exit_code == 1 and "nothing is computed here" in done.stderr, done.output

    def store(task: str, layer: str) -> None:
        more: dict[str, Any] = {"unit": 2} if task == "maximize" else {"original": hashlib.sha256(x0[0].numpy().tobytes()).hexdigest()}
        job = Job(experiment="a", task=task, C=DEFAULTS[task].C, network=name, layer=layer, **said, **more)
        (outcome,) = execute([job], [None if task == "maximize" else x0])
        assert "nothing is computed here" in outcome.reason, outcome.reason

    def page(task: str, layer: str) -> None:
        order = Order(task, name, layer, image=None if task == "maximize" else photo, unit=2 if task == "maximize" else None, **said)
        with pytest.raises(OptimizationError):
            desk._run(Run(order, 60.0))

    return {"python": python, "command": command, "store": store, "page": page}


@pytest.mark.parametrize("name", slow(["squeezenet1_1", OWN], "squeezenet1_1"))
def test_what_is_not_said_is_the_same_in_python_command_store_and_page(name, net, photo, tmp_path, seen, monkeypatch):
    network = net if name == "squeezenet1_1" else preimage.load_network(OWN, space=SPACE)
    asked = ways(name, network, photo, tmp_path, monkeypatch)
    layers = [i.name for i in network.layers() if i.shape]
    for k, layer in enumerate(layers):
        for task in TASKS if name == OWN or k % 16 == 0 else ("invert",):  # whose plan depends most on the layer
            seen.clear()
            for ask in asked.values():
                ask(task, layer)
            python, command, store, page = seen
            assert python == command == page, (task, layer)
            # a job says itself which recipe and which start it has; where a task has none of its own they are the same
            if python["recipe"] is None and not python["warm"]:
                assert store == python, (task, layer)
    assert len(layers) > 7 or name == OWN
    jobs._layer.cache_clear()


@pytest.mark.parametrize(("task", "place"), [("invert", 2), ("maximize", -1)])  # of a coarse stride; the classes, with a recipe
def test_a_quality_is_the_same_length_in_python_command_store_and_page(task, place, photo, tmp_path, seen, monkeypatch):
    network = preimage.load_network(OWN, space=SPACE)
    layer = network.layers()[place].name

    def lengths(*asked: str, **said: Any) -> list[int]:
        seen.clear()
        for name, ask in ways(OWN, network, photo, tmp_path, monkeypatch, **said).items():
            if name in asked:
                ask(task, layer)
        plans = [one["plan"] for one in seen if one["recipe"] == seen[0]["recipe"]]  # a job says itself which recipe it has
        assert len(plans) >= len(asked) - 1 and all(p == plans[0] for p in plans)
        return [sum(s["iterations"] for phase in plan for s in phase["stages"]) for plan in plans]

    (own,) = lengths("python")
    assert lengths("python", quality="normal") == [own]
    for quality, factor in (("draft", 1 / 3), ("best", 3.0)):
        assert set(lengths("python", "command", "store", "page", quality=quality)) == {round(factor * own)}
    jobs._layer.cache_clear()


def test_a_quality_and_a_number_of_iterations_are_refused_together_everywhere(photo, tmp_path):
    tiny = preimage.from_callable(lambda x: x[:, :, ::2, ::2], preimage.PixelSpace(8, "grey"))
    both = {"quality": "draft", "iterations": 3}
    said = "both say how long the run is: leave one of them out"
    with pytest.raises(InputError, match=said):
        preimage.invert(tiny, np.zeros((8, 8), np.uint8), progress=False, **both)
    with pytest.raises(InputError, match=said):
        Job(experiment="a", task="invert", C=1.0, network="squeezenet1_1", layer="conv1", **both)
    ask = ["--layer", "conv1", "-q", "-o", str(tmp_path / "out"), "--quality", "best", "--iterations", "5"]
    (tmp_path / "folder").mkdir()
    photo.rename(tmp_path / "folder" / "photo.png")
    for what in (tmp_path / "folder" / "photo.png", tmp_path / "folder"):
        done = CliRunner().invoke(app, ["invert", str(what), *ask])
        assert done.exit_code == 2 and said in " ".join(done.stderr.split()), done.output
    with pytest.raises(UnknownName, match="No quality named 'god'"):
        preimage.invert(tiny, np.zeros((8, 8), np.uint8), quality="god", progress=False)


@pytest.mark.filterwarnings("ignore::preimage.errors.PreimageWarning")
@pytest.mark.parametrize("recipe", [None, Recipe("own", "", "", invert=Parts(iterations=6))])
def test_a_result_of_a_quality_is_made_again_to_the_bit(recipe, tmp_path):
    network = preimage.load_network(OWN, space=SPACE)
    levels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    made = preimage.invert(network.layer(network.layers()[0].name), levels, recipe=recipe, quality="draft", progress=False)
    assert made.config["quality"] == "draft" and (recipe is None or made.evaluations == 2)
    made.save(tmp_path / "kept")
    again = preimage.again(tmp_path / "kept", progress=False, trust=True)
    assert again.evaluations == made.evaluations and torch.equal(again.images, made.images)
    assert again.config["quality"] == "draft" and again.status == made.status


def test_studies_take_the_weights_of_the_tasks():
    assert DEFAULTS["caricature"].C == atlas.CARICATURE_C == 10.0
    assert DEFAULTS["invert"].C == atlas.INVERSION_C == max(audit.STRENGTHS) == 100.0
    assert DEFAULTS["maximize"].C == atlas.STRENGTH == 1e4


@pytest.mark.filterwarnings("ignore:the activation fell:preimage.errors.PreimageWarning")
@pytest.mark.parametrize("layer", ["conv1", "pool1", "fire2"])
def test_a_caricature_raises_the_activation_or_says_that_it_did_not(net, cat, layer):
    """At the default C, on the layers where smoothing wins most easily and that cost least, at a small size."""
    small = preimage.load_network("squeezenet1_1", size=64)
    found = preimage.caricature(small.layer(layer), cat, progress=False)
    assert found.activation is not None
    said = found.status != ["ok"]
    assert bool(found.activation > 1) != said, (found.activation, found.status)


@pytest.mark.filterwarnings("ignore::preimage.errors.PreimageWarning")
def test_a_caricature_at_every_layer_raises_the_activation_or_says_that_it_did_not(cat, monkeypatch):
    """As at the default length, but shorter."""
    monkeypatch.setattr(Task, "as_default", property(lambda task: True))
    small = preimage.load_network("squeezenet1_1", size=48)
    layers = [i.name for i in small.layers() if i.shape]
    assert len(layers) > 25 and {"conv1", "fire9", "pool10"} <= set(layers)
    for layer in layers:
        found = preimage.caricature(small.layer(layer), cat, iterations=2, progress=False)
        assert bool(found.activation > 1) != (found.status != ["ok"]), (layer, found.activation, found.status)
