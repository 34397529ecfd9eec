"""A run that was left, by Ctrl-C or at its end, goes on as if it had never stopped: the same bits, or one clear line why not."""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from typer.testing import CliRunner

import preimage
from preimage import Monitor, PixelSpace, Stage
from preimage.cli import app
from preimage.errors import InputError, Interrupted, ResultFolderError
from preimage.solvers.run import Run
from preimage.tasks import result as result_module
from preimage.tasks.again import again
from preimage.tasks.result import STATE, load_kept, load_result

SPACE = PixelSpace(16, "rgb", scale=1.0, mean=0.5, std=0.25)
KEEP = Monitor(keep_state=True)
SOLVERS = ["paper", "adam", "fourier-adam", "fast", "descent", "descent:memory=3", "lbfgs"]
pytestmark = pytest.mark.filterwarnings("ignore::preimage.errors.PreimageWarning")  # nothing good comes of so few steps


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    monkeypatch.setattr(result_module, "plot_energy", lambda result, path: path.write_bytes(b"a drawing"))


@pytest.fixture(scope="module")
def phi() -> preimage.Layer:
    """A layer with a stride of 8, so that views move, and random weights."""
    generator = torch.Generator().manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=4, padding=1), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2, padding=1))
    for p in net.parameters():
        p.data = torch.randn(p.shape, generator=generator)
    return preimage.Layer(net, "2", space=SPACE)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)


def run(task: str, phi, photo, **more) -> preimage.Result:
    given = [0, 2] if task == "maximize" else photo
    own = {"Z": 2.0} if task == "maximize" else {}  # whose estimate would cost a look at photographs each time
    return getattr(preimage, task)(phi, given, **{"progress": False, **own, **more})


def left_after(evaluations: int, monkeypatch, task: str, *args, **more) -> preimage.Result:
    """What a task gives that Ctrl-C ends in the middle of this evaluation."""
    count, real = [0], Run.evaluate

    def evaluate(self, *args):
        count[0] += 1
        found = real(self, *args)
        if count[0] == evaluations:
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch, pytest.raises(Interrupted) as stop:
        patch.setattr(Run, "evaluate", evaluate)
        run(task, *args, **{"monitor": KEEP, **more})
    return stop.value.result


def same(a: preimage.Result, b: preimage.Result) -> bool:
    assert (a.evaluations, a.status, a.seeds, a.interrupted) == (b.evaluations, b.status, b.seeds, b.interrupted)
    pairs = [(a.images, b.images), *((a.energy[k], b.energy[k]) for k in b.energy), *((a.trace[k], b.trace[k]) for k in b.trace)]
    pairs += [(x, y) for x, y in ((a.error, b.error), (a.activation, b.activation)) if x is not None and y is not None]
    return all(torch.equal(x.nan_to_num(), y.nan_to_num()) for x, y in pairs)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("task", ["invert", "maximize", "caricature"])
def test_an_interrupted_run_that_goes_on_gives_the_bits_of_one_that_never_stopped(task, solver, phi, photo, monkeypatch, tmp_path):
    more = {"solver": solver, "iterations": 14, **({"restarts": 2} if task == "invert" else {})}
    whole = run(task, phi, photo, **more)
    for k in (1, 7, 14):
        left = left_after(k, monkeypatch, task, phi, photo, **more)
        assert left.state is not None and left.state.evaluations == k - 1
        assert same(run(task, phi, photo, resume=left, **more), whole)
    done = again(left.save(tmp_path / "left"), phi, progress=False, resume=True)
    assert same(done, whole) and done.config["continued"] == [13] and done.state is None
    assert {k: v for k, v in done.config.items() if k not in ("continued", "seconds")} == {
        k: v for k, v in whole.config.items() if k != "seconds"
    }


def test_each_stage_and_each_solver_of_a_plan_can_be_taken_up(phi, photo, monkeypatch):
    """ "fast" explores and then descends; the paper's second stage is a fresh problem on the centre crop."""
    stages = [Stage(4), Stage(3, rate=0.5), Stage(3, jitter=False), Stage(2, jitter=False)]
    for solver in ("fast", "paper", "adam", "fourier-adam", "descent:opened=8"):
        whole = run("invert", phi, photo, solver=solver, stages=stages)
        for k in (4, 5, 7, 8, 9, 10, 11):
            left = left_after(k, monkeypatch, "invert", phi, photo, solver=solver, stages=stages)
            assert same(run("invert", phi, photo, solver=solver, stages=stages, resume=left), whole), (solver, k)


def test_keeping_the_state_changes_no_bit_and_a_run_may_be_left_twice(phi, photo, monkeypatch, tmp_path):
    whole = run("invert", phi, photo, solver="paper", iterations=12)
    assert same(run("invert", phi, photo, solver="paper", iterations=12, monitor=KEEP), whole)
    one = left_after(4, monkeypatch, "invert", phi, photo, solver="paper", iterations=12).save(tmp_path / "a")
    two = left_after(4, monkeypatch, "invert", phi, photo, solver="paper", iterations=12, resume=one)
    assert two.state is not None and two.config["continued"] == [3] and two.state.evaluations == 6
    assert same(again(two.save(tmp_path / "b"), phi, progress=False, resume=True), whole)


@pytest.mark.parametrize(
    "more",
    [
        {"parameterization": "fourier", "transform": "random-view"},
        {"parameterization": "deep-prior:width=3,depth=1", "solver": "adam"},
        {"parameterization": "fixed-magnitude", "transform": "colour", "solver": "paper"},
        {"start": "a picture"},
        {"dtype": torch.float64},
    ],
    ids=str,
)
def test_other_parts_begin_and_draw_as_they_did(more, phi, photo, monkeypatch, tmp_path):
    from preimage.methods.text import parts_from_text

    parts = parts_from_text((), (more["transform"],) if "transform" in more else (), more.get("parameterization"), ())
    parts = {k: v for k, v in parts.items() if v is not None} | {k: v for k, v in more.items() if k in ("solver", "dtype")}
    own = {"start": photo[::-1].copy()} if "start" in more else {}
    whole = run("maximize", phi, photo, iterations=8, **parts, **own)
    left = left_after(5, monkeypatch, "maximize", phi, photo, iterations=8, **parts, **own)
    assert same(run("maximize", phi, photo, iterations=8, resume=left, **parts), whole)
    assert same(again(left.save(tmp_path / "left"), phi, progress=False, resume=True), whole)


def test_a_run_left_while_closed_units_are_tried_again_tries_them_again(photo, monkeypatch, tmp_path):
    """The unit closes at once, and other starts find nothing either."""
    from preimage.tasks import reopen

    monkeypatch.setattr(reopen, "NOISES", 1)
    phi = preimage.from_callable(lambda x: torch.where(x.mean(dim=(2, 3)) < 0.3, x.mean(dim=(2, 3)), 0 * x.mean(dim=(2, 3))), SPACE)
    whole = run("maximize", phi, photo, iterations=30)
    assert whole.evaluations > 30  # other starts were tried
    left = left_after(40, monkeypatch, "maximize", phi, photo, iterations=30)
    assert left.state is not None and left.state.evaluations == 30
    assert same(again(left.save(tmp_path / "left"), phi, progress=False, resume=True), whole)


@pytest.mark.parametrize(("task", "solver"), [("maximize", "paper"), ("caricature", "paper"), ("invert", "lbfgs"), ("invert", "descent")])
def test_a_finished_run_is_lengthened_where_its_steps_do_not_depend_on_the_length(task, solver, phi, photo, tmp_path):
    short = run(task, phi, photo, solver=solver, iterations=6, monitor=KEEP)
    longer = again(short.save(tmp_path / "short"), phi, progress=False, resume=True, iterations=11)
    assert same(longer, run(task, phi, photo, solver=solver, iterations=11))


@pytest.mark.parametrize(
    ("task", "more", "said"),
    [
        ("maximize", {"solver": "adam"}, "the steps of Adam fall to zero over 6 iterations, and would over 11"),
        ("invert", {"solver": "paper"}, "its stages are 5 and 1 long, and would be 9 and 2"),
        ("maximize", {"solver": "paper", "transform": "colour"}, "its views are drawn for the whole length at once"),
    ],
)
def test_a_finished_run_that_cannot_be_lengthened_says_why_and_what_to_do(task, more, said, phi, photo, tmp_path):
    from preimage.methods.text import parts_from_text

    views = parts_from_text((), (more["transform"],), None, ())["transform"] if "transform" in more else None
    short = run(task, phi, photo, solver=more["solver"], transform=views, iterations=6, monitor=KEEP).save(tmp_path / "short")
    with pytest.raises(InputError, match=said) as told:
        again(short, phi, progress=False, resume=True, iterations=11)
    assert "--start FOLDER" in str(told.value) and "\n" not in str(told.value)
    with pytest.raises(InputError, match=r"has ended after 6 evaluations.*--iterations N"):
        again(short, phi, progress=False, resume=True)
    with pytest.raises(InputError, match="A run of 3 iterations does not begin with the 6"):
        again(short, phi, progress=False, resume=True, iterations=3)


def test_a_run_goes_on_only_where_the_same_is_asked_for(phi, photo, tmp_path):
    kept = run("invert", phi, photo, iterations=4, monitor=KEEP).save(tmp_path / "kept")
    plain = run("invert", phi, photo, iterations=4)
    for other, said in [
        ({"C": 7.0}, "parts"),
        ({"seed": 1}, "seeds"),
        ({"mask": torch.ones(6, 2, 2)}, "mask, weights of features"),
        ({"restarts": 2}, "seeds, restarts"),
        ({"solver": "paper"}, "its solver is|parts"),
    ]:
        with pytest.raises(InputError, match=said):
            run("invert", phi, photo, iterations=4, resume=kept, **other)
    with pytest.raises(InputError, match="other seeds"):
        run("invert", phi, photo[::-1].copy(), iterations=4, resume=kept)
    with pytest.raises(InputError, match="leave one of them out"):
        run("invert", phi, photo, iterations=4, resume=kept, start="noise")
    with pytest.raises(InputError, match="keeps no state"):
        run("invert", phi, photo, iterations=4, resume=plain)
    with pytest.raises(ResultFolderError, match=r"it is not there.*--keep-state"):
        run("invert", phi, photo, iterations=4, resume=plain.save(tmp_path / "plain"))
    with pytest.raises(InputError, match="other task"):
        run("maximize", phi, photo, iterations=4, resume=kept)


def test_a_solver_that_keeps_nothing_says_so_before_it_runs(phi, photo):
    def still(run, z, stages):
        raise AssertionError("it has begun")

    with pytest.raises(InputError, match="keeps no state, so its run cannot be continued"):
        run("invert", phi, photo, solver=still, iterations=4, monitor=KEEP)


def changed(path: Path, tensors: dict[str, Tensor] | None = None, record=None) -> None:
    """Write a state again with some of it changed."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        text = file.metadata()["preimage-state"]
    plain = json.loads(text)
    for keys, value in (record or {}).items():
        *outer, last = keys.split("/")
        inner = plain
        for key in outer:
            inner = inner[int(key) if key.isdecimal() else key]
        inner[last] = value
    found = load_file(path) | (tensors or {})
    save_file({k: v for k, v in found.items() if v is not None}, path, metadata={"preimage-state": json.dumps(plain)})


HOSTILE = {
    "no bytes": lambda p: p.write_bytes(b""),
    "a header of terabytes": lambda p: p.write_bytes(b"\xff" * 8 + b"{}"),
    "a link": lambda p: (p.rename(p.with_name("x")), p.symlink_to(p.with_name("x"))),
    "a pipe": lambda p: (p.unlink(), os.mkfifo(p)),
    "a folder": lambda p: (p.unlink(), p.mkdir()),
    "no record": lambda p: save_file(load_file(p), p),
    "another tensor": lambda p: changed(p, {"memory.0.__init__": torch.ones(1)}),
    "a tensor less": lambda p: changed(p, {"best": None}),
    "z of another size": lambda p: changed(p, {"z": torch.ones(1, 3, 9, 9)}),
    "z of another type": lambda p: changed(p, {"z": torch.ones(1, 3, 16, 16, dtype=torch.float64)}),
    "sums of another size": lambda p: changed(p, {"memory.0.momentum": torch.ones(1, 3, 5, 5)}),
    "no sums": lambda p: changed(p, {"memory.0.momentum": None}),
    "too few records": lambda p: changed(p, {"records": torch.ones(2, 4, 1)}),
    "records of no terms": lambda p: changed(p, {"records": torch.ones(3, 0, 1)}),
    "verdicts in numbers": lambda p: changed(p, {"verdicts": torch.ones(3, 1)}),
    "a version to come": lambda p: changed(p, record={"version": 2}),
    "a phase below 0": lambda p: changed(p, record={"phase": -1}),
    "endless iterations": lambda p: changed(p, record={"plan/0/stages/0/iterations": 10**12}),
    "iterations in words": lambda p: changed(p, record={"plan/0/stages/0/iterations": "many"}),
    "a plan of nothing": lambda p: changed(p, record={"plan": [None]}),
    "a plan that is none": lambda p: changed(p, record={"plan": {"a": 1}}),
    "deep nesting": lambda p: save_file(load_file(p), p, metadata={"preimage-state": "[" * 10**5}),
    "about is a list": lambda p: changed(p, record={"about": []}),
    "asked is a list": lambda p: changed(p, record={"about/asked": []}),
    "a batch of nothing": lambda p: changed(p, record={"about/batch": 0}),
    "seconds without end": lambda p: changed(p, record={"about/seconds": float("inf")}),
    "continued in words": lambda p: changed(p, record={"about/continued": ["x"]}),
    "started with a list": lambda p: changed(p, record={"about/start": []}),
}


@pytest.fixture(scope="module")
def left(phi, photo, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(result_module, "plot_energy", lambda result, path: path.write_bytes(b"a drawing"))
        return left_after(4, patch, "invert", phi, photo, solver="paper", iterations=8).save(tmp_path_factory.mktemp("left") / "out")


@pytest.mark.parametrize("case", HOSTILE)
def test_a_state_that_is_not_one_is_refused_in_words(case, phi, left, tmp_path):
    import shutil

    if case == "a pipe" and not hasattr(os, "mkfifo"):
        pytest.skip("there are no named pipes here")
    shutil.copytree(left, tmp_path / "out")
    HOSTILE[case](tmp_path / "out" / STATE)
    with pytest.raises((InputError, ResultFolderError)) as told:
        again(tmp_path / "out", phi, progress=False, resume=True)
    assert "\n" not in str(told.value) and len(str(told.value)) < 700


def test_a_state_that_an_earlier_solver_left_is_refused_with_what_to_do(phi, photo, monkeypatch):
    kept = left_after(4, monkeypatch, "invert", phi, photo, solver="descent", iterations=8)
    memory = {name: t for name, t in kept.state.memory.items() if not name.endswith(".rest")}
    assert len(memory) == len(kept.state.memory) - 1
    kept = replace(kept, state=replace(kept.state, memory=memory))
    with pytest.raises(InputError, match=r"rest is absent, wanted \(1, 3, 1, 1\).*make the run anew, without its state"):
        run("invert", phi, photo, solver="descent", iterations=8, resume=kept)


def test_a_state_is_read_back_as_it_was(left):
    state = load_kept(left)
    assert (state.phase, state.done, state.evaluations, state.about["continued"]) == (0, 3, 3, [])
    assert sorted(state.memory) == ["0.accumulator", "0.momentum"]
    assert STATE in json.loads((left / "result.json").read_text())["files"]


def command(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


@pytest.fixture
def picture(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    PIL.Image.new("RGB", (30, 30), "teal").save(path)
    return path


def test_on_the_command_line_a_run_that_is_ended_says_how_to_go_on_and_that_gives_the_same_bits(picture, tmp_path, monkeypatch):
    words = ["invert", picture, "--layer", "conv1", "--size", "35", "--solver", "paper", "--iterations", 6, "-q"]
    whole = command(*words, "-o", tmp_path / "whole")
    count, real = [0], Run.evaluate

    def evaluate(self, *args):
        count[0] += 1
        if count[0] == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "evaluate", evaluate)
        stopped = command(*words, "--keep-state", "-o", tmp_path / "out")
    assert stopped.exit_code == 143, stopped.output
    assert stopped.stderr.splitlines()[-1] == f"preimage: it goes on with: preimage again {tmp_path / 'out'} --continue"
    assert load_result(tmp_path / "out").interrupted
    done = command("again", tmp_path / "out", "--continue", "-q")
    assert done.exit_code == whole.exit_code, done.output
    a, b = load_result(tmp_path / "out"), load_result(tmp_path / "whole")
    assert same(a, b) and a.labels == b.labels and a.config.get("files") == b.config.get("files")
    assert {p.name for p in tmp_path.iterdir()} == {"photo.png", "whole", "out"}


def test_the_command_refuses_what_makes_no_sense(picture, tmp_path):
    folder = tmp_path / "out"
    command("invert", picture, "--layer", "conv1", "--size", 35, "--iterations", 1, "-q", "-o", folder)
    for words, said in [
        ([], "Name a folder for the result"),
        (["--iterations", 4, "-o", tmp_path / "b"], "goes with --continue"),
        (["--continue", "-o", folder], "holds a result already"),
        (["--continue"], "holds no state from which a run goes on"),
    ]:
        refused = command("again", folder, *words)
        assert refused.exit_code in (1, 2) and said in refused.stderr and refused.stderr.count("\n") == 1
    assert load_result(folder).task == "invert"


@pytest.mark.parametrize("task", ["invert", "maximize", "caricature"])
def test_every_task_begins_with_an_image_a_result_its_folder_or_noise(task, phi, photo, tmp_path):
    one = run(task, phi, photo, iterations=2, seed=5)
    folder = one.save(tmp_path / "one")
    starts = {"result": one, "folder": folder, "text": str(folder), "picture": one.pil()[0], "noise": "noise", "none": None}
    found = {name: run(task, phi, photo, iterations=1, start=start) for name, start in starts.items()}
    assert torch.equal(found["result"].images, found["folder"].images) and torch.equal(found["folder"].images, found["text"].images)
    near = (found["result"].images - one.images).abs().mean()
    assert near < (found["noise"].images - one.images).abs().mean()
    assert not torch.equal(found["picture"].images, found["noise"].images)
    assert torch.equal(found["none"].images, found["noise"].images) == (task != "caricature")
    assert found["folder"].config["start"] == str(folder) and found["result"].config["start"] == "a Result"
    with pytest.raises(InputError, match="start is one image, or one for each"):
        run(task, phi, photo, iterations=1, start=[photo] * 3)


def test_an_exaggeration_of_another_image_is_not_made_again_from_a_folder_without_it(phi, photo, tmp_path):
    folder = preimage.caricature(phi, photo, seen=photo[::-1].copy(), iterations=2, progress=False).save(tmp_path / "out")
    with pytest.raises(InputError, match="another image"):
        again(folder, phi, progress=False)


def test_a_result_made_again_keeps_its_names(phi, tmp_path):
    path = tmp_path / "my cat.png"
    PIL.Image.new("RGB", (16, 16), "teal").save(path)
    folder = preimage.invert(phi, path, iterations=2, progress=False).save(tmp_path / "out")
    assert again(folder, phi, progress=False).labels == ["my cat"]
    one = preimage.maximize(phi, [1], iterations=2, progress=False)
    more = again(one.save(tmp_path / "unit"), phi, progress=False)
    assert (more.config["M"], more.config["M_source"]) == (one.config["M"], one.config["M_source"])


def test_code_that_a_folder_names_as_its_network_runs_only_on_trust(photo, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "import pathlib, preimage, torch\npathlib.Path('ran').touch()\n"
        "def net():\n    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))\n"
        "    return module, preimage.PixelSpace(16, 'rgb', scale=1.0, mean=0.5, std=0.25)\n"
    )
    monkeypatch.chdir(tmp_path)
    net = preimage.load_network("mine:net")
    first = preimage.invert(net.layer("0"), photo, iterations=2, progress=False)
    folder = first.save(tmp_path / "out")
    sys.modules.pop("mine")
    Path("ran").unlink()
    with pytest.raises(InputError, match=r"mine:net.*trust=True.*--trust"):
        again(folder, progress=False)
    done = CliRunner().invoke(app, ["again", "out", "-o", "more", "-q"])
    assert done.exit_code == 2 and "--trust" in done.stderr and not Path("ran").exists()
    done = CliRunner().invoke(app, ["again", "out", "-o", "more", "-q", "--trust"])
    assert done.exit_code == 0, done.stderr
    assert Path("ran").exists() and torch.equal(load_result(tmp_path / "more").images, first.images)
    sys.modules.pop("mine")


@pytest.mark.parametrize("name", ["model.pt2", "os:abort", "antigravity:x"])
def test_a_program_that_a_folder_names_is_refused_before_it_is_looked_for(name, phi, photo, tmp_path):
    folder = preimage.invert(phi, photo, iterations=2, progress=False).save(tmp_path / "out")
    record = json.loads((folder / "result.json").read_text())
    record["config"]["network"] = name
    (folder / "result.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="--trust"):
        again(folder, progress=False)
