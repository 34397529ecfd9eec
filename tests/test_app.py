"""The interactive page without a browser: what can be chosen, the runs, the handlers, the server's answers."""

from __future__ import annotations

import asyncio
import io
import os
import re
import struct
import sys
import threading
import time
import zipfile
import zlib
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlencode

import numpy as np
import PIL.Image
import pytest
import torch
from typer.testing import CliRunner

import preimage
from preimage.app import jobs, view
from preimage.app.catalogue import Catalogue, map_of
from preimage.app.jobs import DONE, FAILED, RUNNING, STOPPED, WAITING, Desk, Job, Order
from preimage.cli import app
from preimage.errors import ImageError, InputError, PreimageError, UnknownName
from preimage.tasks.planned import planned_iterations

from . import planted
from .marks import slow

NAME = "squeezenet1_1"
LONG = 600.0  # seconds: what is waited for comes at once, but on a busy machine
ERRORS_OF_OTHERS = [  # what Gradio and its server use of each other
    "ignore::DeprecationWarning:gradio",
    "ignore::DeprecationWarning:starlette",
]
pytestmark = [pytest.mark.filterwarnings(w) for w in (*ERRORS_OF_OTHERS, "ignore::preimage.PreimageWarning")]


@pytest.fixture(scope="module")
def catalogue():
    return Catalogue([NAME])


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A run goes on though this process did not come to look at it for a while."""
    monkeypatch.setattr(jobs, "PATIENCE", LONG)


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path, workers=1, queue=1)
    yield desk
    desk.close()


@pytest.fixture
def handlers(catalogue, desk):
    pytest.importorskip("gradio", reason="the page needs the extra app")
    from preimage.app.handlers import Handlers

    return Handlers(catalogue, desk)


@pytest.fixture
def order(cat):
    return Order("invert", NAME, "fire2", image=Path(cat), iterations=3)


def finish(job: Job, seconds: float = LONG) -> Job:
    """Look at a run until it is over."""
    end = time.monotonic() + seconds
    while not job.over.wait(0.02):
        assert time.monotonic() < end, "the run does not end"
        job.touch()
    return job


def begun(job: Job) -> Job:
    """Look at a run until there is something to see."""
    end = time.monotonic() + LONG
    while job.frame is None:
        assert time.monotonic() < end and not job.over.is_set()
        job.touch()
        time.sleep(0.01)
    return job


def unpacked(job: Job, folder: Path) -> preimage.Result:
    """The result in a run's zip."""
    assert job.outcome is not None, job.message
    with zipfile.ZipFile(job.outcome.archive) as file:
        file.extractall(folder)
        (root,) = {Path(n).parts[0] for n in file.namelist()}
    return preimage.load_result(folder / root)


def header_of_png(width: int, height: int) -> bytes:
    """A PNG that says how large it is and holds next to no pixels."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + body
        + struct.pack(">I", zlib.crc32(body))
        + struct.pack(">I", 999)
        + b"IDAT"
        + zlib.compress(b"")
    )


# What there is to choose


def test_the_parts_hold_every_layer_once_and_in_order(net, catalogue):
    entry = catalogue.entry(NAME)
    assert [i.name for g in entry.groups for i in g.layers] == [i.name for i in net.layers()]
    for group in entry.groups:
        assert len({map_of(i) for i in group.layers}) == 1
    assert all(map_of(a.layers[0]) != map_of(b.layers[0]) for a, b in zip(entry.groups, entry.groups[1:], strict=False))
    assert entry.class_layer == "pool10" and len(entry.classes) == 1000


@pytest.mark.parametrize("name", ["alexnet", "../squeezenet1_1", "/etc/passwd", "timm:resnet18"])
def test_only_the_networks_of_the_page_are_opened(catalogue, name):
    with pytest.raises(UnknownName, match="on this page"):
        catalogue.entry(name)


def test_a_network_brings_parts_a_part_layers_a_layer_channels(handlers, catalogue):
    part, layer, facts, channel, named, what = handlers.choose_network(NAME)
    assert part["value"] in part["choices"] and layer["value"] in [v for _, v in layer["choices"]]
    for title in part["choices"]:
        layer, facts, channel = handlers.choose_group(NAME, title)
        info = catalogue.entry(NAME).layer(layer["value"])
        assert channel["maximum"] == info.shape[0] - 1
        assert f"{np.prod(info.shape):,} numbers" in facts
    assert len(named["choices"]) == 1000 and what["value"] == what["choices"][0]


def test_a_network_that_cannot_be_opened_says_what_to_install(handlers, monkeypatch):
    def absent(name):
        raise preimage.MissingExtra("pip install 'preimage[x]'")

    monkeypatch.setattr(handlers.catalogue, "entry", absent)
    *_, facts, _, _, _ = handlers.choose_network(NAME)
    assert "preimage[x]" in facts and "refusal" in facts


def test_the_smallest_network_stands_first_unless_another_is_asked_for():
    from preimage.app.server import networks_here

    assert networks_here()[0] == NAME and "vgg-f" not in networks_here(), "vgg-f comes without weights"
    assert networks_here(["vgg-f"])[:2] == ["vgg-f", NAME]
    assert len(networks_here([NAME])) == len(networks_here())


def test_every_class_can_be_chosen_and_those_of_the_same_name_are_told_apart(handlers, catalogue):
    *_, named, _ = handlers.choose_network(NAME)
    assert [k for _, k in named["choices"]] == list(range(1000)) and len({label for label, _ in named["choices"]}) == 1000
    from preimage.app.handlers import class_choices, unit_of

    birds = replace(catalogue.entry(NAME), classes=("crane", "tree frog", "crane"))
    assert class_choices(birds)["choices"] == [("crane (0)", 0), ("tree frog", 1), ("crane (2)", 2)]
    assert [unit_of(birds.classes, k) for k in range(3)] == [0, "tree frog", 2]


def test_a_task_shows_its_own_controls(handlers):
    for task in view.TASKS:
        explanation, picture, unit, restarts, recipe, C, iterations = handlers.choose_task(task, "paper", "by the layer")
        assert recipe["value"] == recipe["choices"][0] == "by the layer" and set(recipe["choices"][1:]) <= set(preimage.recipes())
        assert view.TASKS[task][1] in explanation
        assert picture["visible"] != unit["visible"] == (task == "maximize")
        assert restarts["visible"] == (task != "caricature")
        assert C["placeholder"] == {"invert": "default 100", "caricature": "default 1", "maximize": "default 10,000"}[task]
        assert iterations["placeholder"] == ("default 350" if task == "invert" else "default 300")


def test_what_is_left_empty_is_not_said(handlers):
    from preimage.app.handlers import BY_LAYER

    empty = {"C": None, "iterations": " ", "seed": None, "restarts": None, "solver": None}
    for task in view.TASKS:
        assert handlers.order(**ORDER | {"task": task} | empty).said == {}
        assert handlers.order(**ORDER | {"task": task} | empty | {"C": "7", "seed": 0, "solver": "paper"}).said == {
            "C": 7.0,
            "seed": 0,
            "solver": "paper",
        }
    for solver in ("fast", BY_LAYER):
        assert handlers.choose_method("invert", solver, BY_LAYER)[1]["placeholder"] == "default: by the layer"
    assert "solver" not in handlers.order(**ORDER | {"solver": BY_LAYER}).said  # as in Python, where nothing is said
    assert handlers.order(**ORDER | {"solver": "fast"}).said["solver"] == "fast"
    assert "quality" not in handlers.order(**ORDER | {"quality": "normal"}).said
    assert handlers.order(**ORDER | empty | {"quality": "best"}).said == {"quality": "best"}


def build():
    """A small network whose layers have strides of 1, 5 and 8: "fast" inverts them in three ways."""
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.MaxPool2d(5), torch.nn.Conv2d(4, 4, 3, padding=1), torch.nn.AvgPool2d(2, 1),
        torch.nn.Upsample(scale_factor=1.25), torch.nn.AvgPool2d(2),
    )  # fmt: skip
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        for p in module.parameters():
            p.copy_(torch.randn(p.shape) * 0.3)
    return module, preimage.PixelSpace(16, "rgb", scale=1.0, mean=0.5, std=0.25)


@pytest.mark.parametrize("solver", slow(["fast", "paper", "adam", "lbfgs", "fourier-adam"], "adam", "fourier-adam"))
def test_the_page_records_and_finds_what_python_does(desk, cat, tmp_path, solver):
    pytest.importorskip("gradio", reason="the page needs the extra app")
    from preimage.app.handlers import Handlers

    handlers = Handlers(Catalogue([f"{__name__}:build"]), desk)
    network = preimage.load_network(f"{__name__}:build")
    empty = {"network": f"{__name__}:build", "C": "", "iterations": "", "seed": None, "restarts": None, "solver": solver}
    rounds = [("invert", "5", {})]
    if solver == "fast":
        rounds += [("invert", "0", {}), ("invert", "1", {}), ("caricature", "1", {}), ("maximize", "0", {})]
    elif solver == "paper":
        rounds = [("invert", "5", {"iterations": "7", "C": "30"})]
    for k, (task, layer, said) in enumerate(rounds):
        what = {"task": task, "layer": layer, "what": "a channel of the layer, by its number", "channel": 2}
        job = finish(desk.submit("a", handlers.order(**ORDER | empty | what | said)))
        found = unpacked(job, tmp_path / str(k))
        given = {"iterations": 7, "C": 30.0} if said else {}
        wanted = getattr(preimage, task)(network.layer(layer), 2 if task == "maximize" else cat, solver=solver, progress=False, **given)
        assert (found.evaluations, found.seeds, found.labels) == (wanted.evaluations, wanted.seeds, wanted.labels)
        assert found.config | {"seconds": 0} == wanted.config | {"seconds": 0}, (task, layer)
        assert torch.equal(found.images, wanted.images), (task, layer)
        assert job.curve[-1][0] == wanted.evaluations or task == "maximize"
        assert job.planned == sum(s["iterations"] for p in wanted.config["plan"] for s in p["stages"])
        assert 'value="' in view.run(job) and f"{wanted.evaluations} evaluations for each image" in view.run(job)


def test_a_run_whose_length_is_not_known_says_how_far_it_is(order):
    job = Job(replace(order, iterations=None), 60, state=RUNNING, frame=jobs.Frame(57, 2.0, ()))
    assert "57 evaluations so far." in view.run(job) and "<progress  aria" in view.run(job)


def test_a_run_whose_evaluations_were_left_empty_says_how_long_it_still_takes(order):
    job = Job(replace(order, iterations=None), 60, state=RUNNING, frame=jobs.Frame(51, 5.0, ()), planned=101)
    assert "51 of 101 evaluations, about 5 s left." in view.run(job) and 'max="101" value="51"' in view.run(job)


def test_a_class_by_the_recipe_for_classes_is_planned_as_long_as_it_is(net):
    assert planned_iterations("maximize", net.layer("pool10"), "goose") == 150
    assert planned_iterations("maximize", net.layer("pool10"), "goose", solver="paper") == 300
    assert planned_iterations("invert", net.layer("fire9")) == 150 and planned_iterations("invert", net.layer("fire9"), iterations=9) == 9
    assert planned_iterations("invert", net.layer("fire2")) == 50 and planned_iterations("caricature", net.layer("fire9")) == 60


# Parts of the energy, as the page takes them and as the command line does
PARTS = {
    "objective": ({"objective": "match:loss=cosine; 0.5*match:of=0"}, "--objective match:loss=cosine --objective 0.5*match:of=0"),
    "transform": ({"transform": "crops:low=0.5;noise"}, "--transform crops:low=0.5 --transform noise"),
    "parameterization": ({"parameterization": " fourier:decay=0.5 "}, "--parameterization fourier:decay=0.5"),
    "prior": ({"prior": "tv-beta:beta=1"}, "--prior tv-beta:beta=1"),
    "no prior": ({"prior": "none"}, "--prior none"),
    "recipe": ({"recipe": "fort2025"}, "--recipe fort2025"),
    "a part in the place of a recipe's": (
        {"recipe": "preimage2026", "prior": "tv-beta", "solver": "adam"},
        "--recipe preimage2026 --prior tv-beta --solver adam",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("task", "part"), [*(("invert", part) for part in PARTS), ("maximize", "objective"), ("maximize", "recipe")])
def test_the_page_finds_with_each_part_what_the_command_line_does(desk, cat, tmp_path, task, part):
    pytest.importorskip("gradio", reason="the page needs the extra app")
    from preimage.app.handlers import Handlers

    written, flags = PARTS[part]
    if task == "maximize" and part == "objective":
        written, flags = {"objective": "activate; 0.5*activate:of=0,unit=1"}, "--objective activate --objective 0.5*activate:of=0,unit=1"
    what = {"task": task, "what": "a channel of the layer, by its number", "channel": 2, "layer": "2"}
    empty = {"network": f"{__name__}:build", "C": "", "iterations": "3", "seed": None, "restarts": None, "solver": None}
    job = finish(desk.submit("a", Handlers(Catalogue([f"{__name__}:build"]), desk).order(**ORDER | empty | what | written)))
    assert job.state == DONE, job.message
    asked = ["--unit", "2"] if task == "maximize" else [str(cat)]
    line = [task, *asked, "--net", f"{__name__}:build", "--layer", "2", "--iterations", "3", "--quiet", "-o", str(tmp_path / "told")]
    done = CliRunner().invoke(app, [*line, *flags.split()], catch_exceptions=False)
    assert (tmp_path / "told" / "result.json").is_file(), done.output
    found, told = unpacked(job, tmp_path / "page"), preimage.load_result(tmp_path / "told")
    assert torch.equal(found.images, told.images) and found.config["parts"] == told.config["parts"]
    assert job.planned == 3


def test_a_recipe_brings_its_own_length_and_weight_to_the_page(handlers):
    C, iterations = handlers.choose_method("maximize", "by the layer", "lucid2017")
    assert C["placeholder"] == f"default {preimage.recipes()['lucid2017'].parts('maximize').C:,.6g}"
    assert iterations["placeholder"] == "default: by the recipe"
    order = handlers.order(**ORDER | {"recipe": "ulyanov2018", "C": "", "iterations": ""} | {"solver": None})
    assert set(order.said) == {"recipe", "seed", "restarts"}


def test_a_recipe_that_is_not_for_the_next_task_is_given_up(handlers):
    *_, recipe, _, _ = handlers.choose_task("caricature", "by the layer", "gatys2015")
    assert recipe["value"] == "by the layer" and "deepdream2015" in recipe["choices"] and "gatys2015" not in recipe["choices"]
    *_, recipe, _, _ = handlers.choose_task("invert", "by the layer", "preimage2026")
    assert recipe["value"] == "preimage2026"
    assert "szegedy2014" not in handlers.choose_task("maximize", "by the layer", "lucid2017")[4]["choices"], "it changes a given image"


def test_a_recipe_that_would_fit_an_inverse_first_is_refused_before_it_does(desk, cat):
    from preimage.app.parts import PartTexts

    order = Order("invert", f"{__name__}:build", "2", image=Path(cat), iterations=3, parts=PartTexts(recipe="inverse2026"))
    job = finish(desk.submit("a", order))
    assert job.state == FAILED and "preimage carries none of it" in job.message


def test_every_setting_of_a_part_that_is_a_text_names_no_file_or_says_that_it_does():
    """Otherwise the page could be asked to open any file of its server."""
    from preimage.app.parts import FIELDS

    words = {"of", "unit", "loss", "padding", "colours", "range", "to"}  # layers, classes and words that the part itself checks
    texts = [
        (f"{registry.kind} {name}", field)
        for _, registry, _ in FIELDS.values()
        for name in registry
        for field in fields(registry[name])
        if field.compare and re.search(r"str|Any|Of", str(field.type)) and field.type != "tuple[str, ...]"
    ]
    assert {f.name for _, f in texts if not f.metadata.get("file")} <= words
    assert {name for name, f in texts if f.metadata.get("file")} == {
        *("objective match", "objective dream", "objective gram", "objective texture", "objective feature-statistics"),
        *("objective guided-dream", "objective filter-histograms", "objective texture-statistics", "regularizer patch-prior"),
    }


# Runs


@pytest.mark.parametrize("task", ["invert", "caricature", "maximize"])
def test_a_run_gives_bit_for_bit_what_the_library_gives(net, desk, order, cat, tmp_path, task):
    order = replace(order, task=task, C=3.0, seed=5)
    if task == "maximize":
        order = replace(order, image=None, unit=7)
    job = finish(desk.submit("a", order))
    assert job.state == DONE, job.message
    given = 7 if task == "maximize" else cat
    wanted = getattr(preimage, task)(net.layer("fire2"), given, C=3.0, iterations=3, seed=5, progress=False)
    result = unpacked(job, tmp_path / "out")
    named = "unit-7" if task == "maximize" else "chelsea"
    assert job.outcome.archive.name == f"preimage-{task}-fire2-{named}.zip"
    assert torch.equal(result.images, wanted.images)
    assert result.config["solver"] == "fast" and not result.interrupted
    assert job.curve[-1][0] == 3 or task == "maximize"
    assert len(job.outcome.pictures) == 1
    assert ("error" if task == "invert" else "activation") in job.outcome.captions[0]


def test_runs_beside_each_other_do_not_mix(net, tmp_path):
    """Two workers, four pages: the same network with other layers, photographs and seeds at the same time."""
    photographs = [Path(p) for p in preimage.images.reference_images()]
    orders = [
        Order("invert", NAME, la, photographs[k % 3], seed=k, iterations=10) for k, la in enumerate(["fire2", "fire4", "pool1", "fire3"])
    ]
    desk = Desk(tmp_path, workers=2, queue=2)
    try:
        running = [desk.submit(str(k), o) for k, o in enumerate(orders)]
        for k, (job, order) in enumerate(zip(running, orders, strict=True)):
            finish(job)
            alone = preimage.invert(net.layer(order.layer), order.image, iterations=10, seed=k, progress=False)
            found = unpacked(job, tmp_path / f"out{k}")
            assert found.config["representation"] == order.layer
            assert torch.equal(found.images, alone.images), f"run {k} is not what it is alone"
    finally:
        desk.close()


def test_a_stopped_run_keeps_what_was_found(desk, order, tmp_path):
    job = begun(desk.submit("a", replace(order, iterations=1000)))
    assert job.state == RUNNING and desk.job("a") is job
    desk.stop("a")
    assert finish(job).state == STOPPED
    result = unpacked(job, tmp_path / "out")
    assert result.interrupted and 1 <= result.evaluations < 1000
    assert "found by then" in job.message and desk.job("a") is None
    assert view.run(job).count("Stopped") == 1


def test_a_run_that_nobody_looks_at_is_stopped(desk, order, monkeypatch):
    monkeypatch.setattr(jobs, "PATIENCE", 0.5)
    job = begun(desk.submit("a", replace(order, iterations=1000)))
    assert job.over.wait(LONG), "the run goes on"
    assert job.state == STOPPED and job.outcome is None and job.frame.evaluations < 1000


def test_a_run_ends_after_its_time(tmp_path, order):
    desk = Desk(tmp_path, workers=1, seconds=0.5)
    try:
        job = finish(desk.submit("a", replace(order, iterations=1000)))
        assert job.state == STOPPED and "Ended after 0.5 s" in job.message and job.outcome is not None
    finally:
        desk.close()


def test_places_are_limited_and_a_page_has_one_run(desk, order):
    long = replace(order, iterations=1000)
    first = begun(desk.submit("a", long))
    with pytest.raises(InputError, match="has a run already"):
        desk.submit("a", long)
    second = desk.submit("b", long)
    assert second.state == WAITING and desk.ahead(second) == 0
    with pytest.raises(InputError, match="All 2 places are taken"):
        desk.submit("c", long)
    desk.stop("b")
    assert second.over.is_set() and second.state == STOPPED and second.outcome is None
    assert view.run(second).count("Stopped") == 1 and "It had not begun" in view.run(second)
    third = desk.submit("c", order)
    desk.stop("a")
    assert finish(first).state == STOPPED and finish(third).state == DONE


def test_an_error_of_the_library_is_shown_and_one_of_the_code_is_not(desk, order, tmp_path, monkeypatch, caplog):
    secret = tmp_path / "notes.png"
    secret.write_text("this is no image")
    job = finish(desk.submit("a", replace(order, image=secret)))
    assert job.state == FAILED and "not an image" in job.message
    assert str(tmp_path) not in job.message and "notes.png" in job.message
    monkeypatch.setattr(jobs.tasks, "invert", lambda *a, **k: 1 / 0)
    job = finish(desk.submit("a", order))
    assert job.state == FAILED and "ZeroDivisionError" in job.message and "division by zero" not in job.message
    assert "division by zero" in caplog.text
    assert 'role="alert"' in view.run(job)


def test_old_results_are_deleted_and_new_ones_stay(tmp_path):
    desk = Desk(tmp_path, keep=100)
    try:
        for name, age in (("old", 200), ("new", 10)):
            (tmp_path / name).mkdir()
            (tmp_path / name / "x.zip").write_bytes(b"x")
            then = time.time() - age
            os.utime(tmp_path / name, (then, then))
        desk.sweep()
        assert [p.name for p in tmp_path.iterdir()] == ["new"]
    finally:
        desk.close()


def test_a_worker_keeps_few_networks(desk, order):
    job = finish(desk.submit("a", order))
    assert job.state == DONE

    def shelf() -> list[str]:
        return list(desk._own.__dict__["shelf"])

    desk._pool.submit(lambda: desk._own.__dict__["shelf"].update({"x": None, "y": None})).result()
    assert finish(desk.submit("a", order)).state == DONE
    assert len(desk._pool.submit(shelf).result()) <= 3
    desk._pool.submit(lambda: desk._own.__dict__["shelf"].pop(NAME)).result()
    assert finish(desk.submit("a", order)).state == DONE
    assert desk._pool.submit(shelf).result() == ["y", NAME]


# The watcher of the loop


def test_a_watcher_sees_the_images_form_and_does_not_change_them(net, cat):
    seen = []
    phi = net.layer("fire2")
    watched = preimage.invert(
        phi,
        cat,
        iterations=6,
        restarts=2,
        progress=False,
        monitor=preimage.Monitor(watch=lambda *now: seen.append((now[0], now[1].clone(), now[2].clone()))),
    )
    plain = preimage.invert(phi, cat, iterations=6, restarts=2, progress=False)
    assert torch.equal(watched.images, plain.images)
    count, images, energy = seen[-1]
    assert count == 6 and images.shape == plain.images.shape and energy.shape == (2,)
    torch.testing.assert_close(energy, watched.trace["total"][-1])
    assert 60 < float(images.mean()) < 200, "levels 0–255, not the canonical image around 0"


def test_a_watcher_can_end_the_run(net, cat):
    with pytest.raises(preimage.Interrupted) as stop:
        preimage.invert(net.layer("fire2"), cat, iterations=500, progress=False, monitor=preimage.Monitor(watch=lambda n, x, e: n > 1))
    result = stop.value.result
    assert result.interrupted and result.evaluations < 500 and result.status == ["ok"]


# Handlers

ORDER = {
    "task": "invert", "network": NAME, "layer": "fire2", "choice": "cat", "upload": None, "what": "a class, by its name", "class_index": 0,
    "channel": 0, "C": "100", "solver": "fast", "iterations": "3", "seed": 0, "restarts": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"C": "nan"}, "C is a number"),
        ({"C": "-1"}, "C is a number"),
        ({"C": "<b>"}, "C is a number, or left empty; got '<b>'"),
        ({"iterations": "0"}, "Evaluations is a whole number from 1 to 1000; got 0"),
        ({"iterations": "1000000"}, "from 1 to 1000"),
        ({"iterations": "2.5"}, "whole number"),
        ({"iterations": "20", "quality": "best"}, "both say how long the run is"),
        ({"quality": "god", "iterations": ""}, "No quality named 'god'"),
        ({"restarts": 5}, "from 1 to 4"),
        ({"seed": -1}, "Seed"),
        ({"solver": "slow"}, "No solver named 'slow'"),
        ({"task": "delete"}, "no task 'delete'"),
        ({"network": "../x"}, "on this page"),
        ({"layer": "../x"}, "No layer"),
        ({"choice": "../../etc/passwd"}, "no photograph"),
        ({"choice": "my own image"}, "Drop an image first"),
        ({"choice": "my own image", "upload": "/nowhere/x.png"}, "has been deleted"),
        ({"task": "maximize", "what": "channel", "channel": 999}, "Channel is a whole number from 0 to 127"),
        ({"task": "maximize", "class_index": None}, "Class is a whole number"),
        ({"recipe": "mahendran"}, "No recipe to invert with .* named 'mahendran'. Did you mean 'mahendran2016'"),
        ({"recipe": "/tmp/recipe.json"}, "No recipe to invert with"),
        ({"recipe": "deepdream2015"}, "No recipe to invert with"),
        ({"objective": "macht"}, "No objective named 'macht'. Did you mean 'match'"),
        ({"objective": "match:image=/etc/passwd"}, "image names a file, and no file of the server"),
        ({"objective": "match; 0.5*texture:image=photo.jpg"}, "image names a file"),
        ({"objective": "feature-statistics:file=/etc/passwd"}, "file names a file"),
        ({"objective": "activate:direction=v.npy"}, "has no setting 'direction'"),
        ({"objective": "x*match"}, "weight before an objective is a number"),
        ({"objective": ";".join(["match"] * 7)}, "Objective takes at most 6 parts; got 7"),
        ({"transform": "noise;" * 99}, "Transform takes at most 300 letters"),
        ({"transform": "crops:views=9"}, "at most 8 views on this page; got 9"),
        ({"transform": "compose:parts=noise/[crops:views=9]"}, "at most 8 views"),
        ({"transform": "jitter:amount=1000"}, "amount is at most 64 on this page; got 1000"),
        ({"transform": "compose:parts=noise/[crops:border=99]"}, "border is at most 64"),
        ({"transform": "jitter=3"}, "No transform named 'jitter=3'"),
        ({"parameterization": "deep-prior:width=9999"}, "width is at most 64"),
        ({"parameterization": "pixels; fourier"}, "name one parameterization; got 2"),
        ({"prior": "tv-beta:gamma=1"}, "has no setting 'gamma'. It has: V, beta"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(handlers, change, words):
    with pytest.raises(PreimageError, match=words):
        handlers.order(**ORDER | change)


def test_a_class_is_sought_in_the_last_layer_by_its_name(handlers, catalogue):
    classes = catalogue.entry(NAME).classes
    found = handlers.order(**ORDER | {"task": "maximize", "class_index": classes.index("tree frog")})
    assert (found.layer, found.unit, found.image) == ("pool10", "tree frog", None)
    assert handlers.order(**ORDER | {"task": "maximize", "what": "channel", "channel": 3}).layer == "fire2"


def test_a_hundred_megapixels_are_refused_before_they_are_decoded(handlers, tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(header_of_png(10_000, 10_000))  # to decode it would end in "damaged"
    with pytest.raises(ImageError, match="100,000,000 pixels, more than 32,000,000"):
        handlers.order(**ORDER | {"choice": "my own image", "upload": str(path)})
    choice, shown = handlers.upload(str(path))
    assert choice == "my own image" and "100,000,000 pixels" in shown and str(tmp_path) not in shown


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("text.png", b"just words\n" * 50, "not an image"),
        ("empty.png", b"", "empty"),
        ("page.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        ("drawing.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image"),
        ("cut.png", header_of_png(64, 64), "damaged"),
        ("bomb.png", header_of_png(60_000, 60_000), "32,000,000 pixels"),
    ],
)
def test_what_is_no_usable_image_is_refused(handlers, tmp_path, name, data, words):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ImageError, match=words) as refusal:
        handlers.order(**ORDER | {"choice": "my own image", "upload": str(path)})
    assert str(tmp_path) not in str(refusal.value) and name in str(refusal.value)


def test_an_upload_is_shown_and_its_name_is_escaped(handlers, tmp_path):
    path = tmp_path / "<img onerror=alert(1)>.png"
    PIL.Image.new("L", (600, 20), 90).save(path)
    choice, shown = handlers.upload(str(path))
    assert choice == "my own image" and "data:image/jpeg" in shown
    assert "<img onerror" not in shown and "&lt;img onerror" in shown
    assert handlers.upload(None)[0] == "cat"


def read_all(handlers, session, count=None, **change):
    """What the page would be shown, up to `count` updates; then the page is closed."""

    async def go():
        shown = []
        steps = handlers.start(SimpleNamespace(session_hash=session), *(ORDER | change).values())
        async for update in steps:
            shown.append(update)
            if count is not None and len(shown) >= count:
                await steps.aclose()
        return shown

    return asyncio.run(go())


def test_a_run_is_shown_until_it_is_over(handlers):
    shown = read_all(handlers, "a", iterations="12")
    assert all(start["interactive"] is False and stop["interactive"] for _, start, stop, _ in shown[:-1])
    last, start, stop, download = shown[-1]
    assert 'data-state="done"' in last and start["interactive"] and not stop["interactive"]
    assert download["interactive"] and Path(download["value"]).suffix == ".zip"
    assert "12 evaluations" in last and "<polyline" in last and "error" in last


@pytest.mark.parametrize("phase", ["opening the network", "estimating Z", "planning"])
def test_stop_gives_the_page_back_at_once_in_every_phase(handlers, desk, monkeypatch, phase):
    monkeypatch.setattr(jobs, "GRACE", 0.5)
    hold, reached = threading.Event(), threading.Event()
    maximize_module = sys.modules["preimage.tasks.maximize"]
    owner, name = {
        "opening the network": (desk, "_load"),
        "estimating Z": (maximize_module, "estimated_largest"),
        "planning": (jobs, "planned_iterations"),
    }[phase]
    original = getattr(owner, name)

    def waits(*args, **settings):
        if hold.is_set():
            return original(*args, **settings)
        reached.set()
        assert hold.wait(LONG)
        raise InputError("what a worker says afterwards")

    monkeypatch.setattr(owner, name, waits)

    async def stop_when_reached():
        shown, asked = [], 0.0
        values = ORDER | {"task": "maximize", "what": "a channel of the layer, by its number", "channel": 3.0, "solver": "paper"}
        async for update in handlers.start(SimpleNamespace(session_hash="a"), *values.values()):
            if reached.is_set() and not asked:
                desk.stop("a")
                asked = time.monotonic()
            shown.append(update)
        return shown, time.monotonic() - asked

    try:
        shown, seconds = asyncio.run(stop_when_reached())
        assert seconds < 60  # and the worker is held for ten minutes
        assert 'data-state="stopped"' in shown[-1][0] and "nothing to show" in shown[-1][0]
        assert shown[-1][1]["interactive"] and not shown[-1][2]["interactive"] and desk.job("a") is None
        assert any("Stopping." in view and not stop["interactive"] for view, _, stop, _ in shown[:-1])
    finally:
        hold.set()
    after = finish(desk.submit("a", Order("invert", NAME, "fire2", image=Path(preimage.images.reference_images()[0]), iterations=2)))
    assert after.state == DONE


def test_a_closed_page_stops_its_run(handlers, desk):
    shown = read_all(handlers, "a", count=8, iterations="1000")
    assert 'data-state="running"' in shown[-1][0]
    job = desk.job("a")
    assert job is None or job.stop.is_set()
    end = time.monotonic() + LONG
    while desk.job("a") is not None:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_refused_order_leaves_the_page_usable(handlers, desk):
    ((shown, start, stop, download),) = read_all(handlers, "a", C="0")
    assert "C is a number" in shown and start["interactive"] and not stop["interactive"] and not download["interactive"]
    assert desk.job("a") is None


def test_a_fault_of_the_page_itself_is_logged_and_said(handlers, desk, caplog):
    ((shown, start, *_),) = read_all(handlers, "a", C=5)  # what no field of the page sends
    assert "could not be started" in shown and "AttributeError" not in shown and start["interactive"]
    assert "AttributeError" in caplog.text and desk.job("a") is None


# A unit beside nature, and links


@pytest.fixture(scope="module")
def planted_page(tmp_path_factory):
    """A catalogue with the planted network, and the pages of its units."""
    from preimage.app.units import UnitPages

    root = tmp_path_factory.mktemp("planted")
    planted.write(root / "in", 4)
    catalogue = Catalogue(["tests.planted:build", NAME])
    net = catalogue.load("tests.planted:build")
    keep = preimage.Keep(sample=40)
    preimage.collect_statistics(net, root / "in", root / "s.safetensors", top=3, keep=keep, progress=False)
    return catalogue, UnitPages(catalogue, [root / "s.safetensors"]), root


def test_a_unit_s_page_is_live_with_its_examples_histogram_and_likes(planted_page, desk):
    pytest.importorskip("gradio", reason="the page needs the extra app")
    from preimage.app.handlers import CHANNEL, CLASS, Handlers

    catalogue, units, _ = planted_page
    handlers = Handlers(catalogue, desk, units)
    shown = handlers.choose_unit("maximize", "tests.planted:build", "3", CHANNEL, None, 3)
    assert "What excites 3 3 most in 20 images" in shown and shown.count("data:image/jpeg") == 3 + 1  # and the best of the unit before
    assert shown.count("<rect") == 32 and "Units of the layer that answer alike" in shown
    assert "Units of 1 that speak for it, by weight" in shown and "1 3: 1" in shown
    nothing = [
        ("invert", "tests.planted:build", "3", CHANNEL, None, 3),
        ("maximize", NAME, "fire2", CHANNEL, None, 3),
        ("maximize", "tests.planted:build", "3", CHANNEL, None, 99),
        ("maximize", "tests.planted:build", "3", CHANNEL, None, None),
        ("maximize", "tests.planted:build", "3", CLASS, 0, 3),
    ]
    assert [handlers.choose_unit(*asked) for asked in nothing] == [""] * 5


def test_a_run_of_a_unit_says_where_its_image_stands_in_nature(planted_page, tmp_path):
    catalogue, units, _ = planted_page
    desk = Desk(tmp_path, load=catalogue.load, statistics=units.of)
    try:
        asked = Order("maximize", "tests.planted:build", "3", unit=0, iterations=20, solver="fourier-adam", restarts=2)
        job = finish(desk.submit("a", asked))
        assert job.state == DONE and all("% of natural activations" in c for c in job.outcome.captions)
        assert "rank correlation" in job.outcome.nature[0] and "the way of natural images" in job.outcome.nature[1]
        assert "the way of natural images" in view.run(job)
        found = unpacked(job, tmp_path / "out").config["natural"]["units"][0]
        assert len(found["share"]) == 2 and "red-vertical" in found["examples"][0]["image"]
    finally:
        desk.close()


def test_statistics_that_the_page_cannot_use_are_refused(planted_page, tmp_path):
    from preimage.app.units import UnitPages

    catalogue, _, root = planted_page
    with pytest.raises(InputError, match="not on this page: offer it with --net"):
        UnitPages(Catalogue([NAME]), [root / "s.safetensors"])
    with pytest.raises(InputError, match="one file of statistics a network"):
        UnitPages(catalogue, [root / "s.safetensors"] * 2)
    bare = preimage.collect_statistics(catalogue.load("tests.planted:build"), root / "in", keep=preimage.Keep(crops=0), progress=False)
    bare.save(tmp_path / "bare.safetensors")
    with pytest.raises(InputError, match="--crops 64"):
        UnitPages(catalogue, [tmp_path / "bare.safetensors"])


def linked(handlers, **query):
    """What a link fills: by the names of the components, then the run's view and whether it starts."""
    from preimage.app.handlers import LINKED

    shown = handlers.open_link(f"?{urlencode(query)}")
    return dict(zip((*LINKED, "run", "starts"), shown, strict=True))


def test_a_link_fills_the_form_and_says_whether_to_start(handlers):
    asked = {
        "task": "maximize",
        "layer": "fire8",
        "channel": "12",
        "C": "30",
        "iterations": "7",
        "seed": "5",
        "restarts": "2",
        "start": "1",
    }
    found = linked(handlers, **asked)
    assert found["task"] == "maximize" and found["layer"]["value"] == "fire8" and found["channel"]["value"] == 12
    assert found["what"]["value"].startswith("a channel") and found["channel"]["visible"] and not found["named"]["visible"]
    assert (found["C"]["value"], found["iterations"]["value"], found["seed"], found["restarts"]["value"]) == ("30", "7", 5, 2)
    entry = handlers.catalogue.entry(NAME)
    assert found["starts"] == "1" and "fire8" in [i.name for i in entry.group(found["group"]["value"]).layers]
    by_name = linked(handlers, **{"class": "Tree Frog"})
    assert by_name["task"] == "maximize" and by_name["named"]["visible"] and by_name["starts"] == ""
    assert entry.classes[by_name["named"]["value"]].lower().split(",")[0] == "tree frog"
    inverted = linked(handlers, layer="fire4", photograph="coffee", recipe="mahendran2016")
    assert inverted["task"] == "invert" and inverted["choice"] == "coffee" and inverted["recipe"]["value"] == "mahendran2016"


def test_the_link_under_a_run_asks_for_the_same(handlers, tmp_path):
    from preimage.app.handlers import link_of

    asked = ORDER | {"C": "", "prior": "tv-beta:beta=1; alpha-norm"}
    for values in (
        asked,
        asked | {"task": "maximize", "iterations": "", "quality": "draft"},
        asked | {"task": "maximize", "what": "a channel of the layer, by its number"},
    ):
        order = handlers.order(**values)
        found = linked(handlers, **dict(parse_qsl(link_of(order).removeprefix("?"))))
        again = {"task": found["task"], "network": found["network"], "layer": found["layer"]["value"], "choice": found["choice"]}
        again |= {"what": found["what"]["value"], "class_index": found["named"]["value"], "channel": found["channel"]["value"]}
        again |= (
            {k: found[k].get("value", "") for k in ("C", "iterations")}
            | {"solver": found["solver"], "seed": found["seed"]}
            | {"quality": found["quality"]}
        )
        again |= {"restarts": found["restarts"]["value"], "prior": found["prior"], "upload": None}
        assert handlers.order(**again) == order
    assert link_of(replace(order, image=tmp_path / "chelsea.jpg")) == ""  # a visitor's own


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"layer": "fire99"}, "No layer"),
        ({"network": "../x"}, "on this page"),
        ({"class": "unicorn"}, "no class"),
        ({"channel": "<b>"}, "whole number"),
        ({"photograph": "/etc/passwd"}, "no photograph"),
        ({"task": "delete"}, "no task"),
        ({"quality": "god"}, "No quality named"),
        ({"recipe": "none"}, "no recipe"),
        ({"prior": "x" * 301}, "more than 300 letters"),
        ({"image": "/etc/passwd"}, "a link says task"),
    ],
)
def test_a_link_that_cannot_be_followed_says_why_and_starts_nothing(handlers, query, words):
    found = linked(handlers, **query, start="1")
    assert words in found["run"] and "<b>" not in found["run"] and found["starts"] == ""


# The view


def test_the_curve_is_finite_whatever_the_energy():
    assert view._curve([(1, float("nan")), (2, 1.0)]) == ""
    for values in ([3.0, 2.0, 1.0], [-1.0, -5.0], [1.0, 1.0], [float("inf"), 2.0, 1.0], [0.0, 1.0]):
        drawn = view._curve(list(enumerate(values, start=1)))
        assert "nan" not in drawn and "inf" not in drawn and "<polyline" in drawn


def test_a_preview_is_small_and_of_the_right_size():
    uri = jobs.preview(torch.rand(3, 227, 227) * 255)
    import base64

    data = base64.b64decode(uri.partition(",")[2])
    assert PIL.Image.open(io.BytesIO(data)).size == (227, 227)


# The server


def test_an_address_that_is_taken_is_an_error_in_words():
    from preimage.app.server import listen

    with listen("127.0.0.1", 0) as first, pytest.raises(InputError, match="Choose another --port"):
        listen("127.0.0.1", first.getsockname()[1])
    with pytest.raises(InputError, match="cannot be served"):
        listen("no.such.host.invalid", 0)
    for nobodys in (
        "255.255.255.255",
        "240.0.0.1",
        "224.0.0.1",
        "ff02::1",
    ):  # a socket for the first may be had, and a page that none can open
        with pytest.raises(InputError, match=f"cannot be served at {nobodys} port 0: no address of a machine"):
            listen(nobodys, 0)


def test_without_gradio_the_extra_is_named(catalogue, desk, monkeypatch):
    from preimage.app.server import make

    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(preimage.MissingExtra, match=r"preimage\[app\]"):
        make(catalogue, desk)


@pytest.mark.parametrize(("host", "warned", "local"), [("127.0.0.1", False, True), ("0.0.0.0", True, False)])
def test_a_public_address_must_be_asked_for_and_warns(monkeypatch, host, warned, local):
    from preimage.app import server

    made = []
    monkeypatch.setattr(server, "make", lambda catalogue, desk, units, **more: made.append(more))
    monkeypatch.setattr(server, "serve", lambda app, bound: made.append(bound.getsockname()[0]))
    done = CliRunner().invoke(app, ["app", "--port", "0", *(["--host", host] if warned else [])])
    assert done.exit_code == 0 and made == [{"local": local}, host]
    assert ("anybody who can reach this machine can use it" in done.stderr) == warned


def test_the_page_of_the_documents_names_every_option():
    import typer

    options = {o for p in typer.main.get_command(app).commands["app"].params for o in p.opts}
    table = (Path(__file__).parents[1] / "docs" / "app.md").read_text().split("|---|---|---|")[1].split("\n\n")[0]
    assert set(re.findall(r"`(--\w+)", table)) == options


def test_a_network_that_is_not_there_is_an_error_before_anything_is_served():
    done = CliRunner().invoke(app, ["app", "--port", "0", "--net", "squeezenet1_2"])
    assert done.exit_code == 2 and "Did you mean 'squeezenet1_1'" in done.stderr


def test_the_environment_and_the_files_are_gone_afterwards(monkeypatch):
    from preimage.app.server import private_folder

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    with private_folder() as folder:
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder) and os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
        assert folder.stat().st_mode & 0o077 == 0, "others can read the folder"
        (folder / "x").write_bytes(b"x")
    assert not folder.exists() and os.environ["HF_HUB_OFFLINE"] == "0" and "GRADIO_TEMP_DIR" not in os.environ
