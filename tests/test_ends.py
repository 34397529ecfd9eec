"""How every command ends when it is ended, cannot write, or has nobody to speak to: one line, an honest code, and what was done is kept."""

from __future__ import annotations

import builtins
import errno
import io
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import torch
import typer.main
from typer.testing import CliRunner

import preimage
from preimage.bars import progress_bar
from preimage.cli import app, common, signals
from preimage.statistics import Keep, collect_statistics
from preimage.tasks import result as result_module
from preimage.tasks.result import Result, load_result

from .test_hostile_stores import tiny_store

SIGNALS = [signal.SIGINT, signal.SIGTERM]
pytestmark = pytest.mark.filterwarnings("ignore::preimage.errors.PreimageWarning")


@pytest.fixture(autouse=True)
def short_runs(monkeypatch):
    """Ctrl-C is heard also where the tests run in the background, and no drawing is made."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(result_module, "plot_energy", lambda result, path: path.write_bytes(b"a drawing"))
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with a photograph, a store, a result folder, a detector's template, and a link-free way to be there."""
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(tmp_path / "photo.png")
    tiny_store(tmp_path / "store")
    ramp = np.linspace(0, 255, 32).astype(np.uint8)[None].repeat(32, 0)
    preimage.invert(preimage.HOG(), ramp, iterations=3, progress=False).save(tmp_path / "old")
    np.save(tmp_path / "person.npy", np.ones((3, 3, 31), np.float32))
    torch.manual_seed(0)
    module, space = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3)), preimage.PixelSpace(16, "rgb")
    collect_statistics(module, [tmp_path / "photo.png"], space=space, top=1, keep=Keep(sample=40, places=40), progress=False).save(
        tmp_path / "stats"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


OUT = ["-o", "out", "-q"]
STUDY = ["--layers", "conv1", "--workers", "1", "-o", "out", "-q"]
RUNNER, LAST, BEFORE = "preimage.studies.runner:execute", "preimage.solvers.run:Run.accept_final", "interrupted before"
# What is run, what is ended in it, and what the last line says of it.
ENDED = {
    "again": (["again", "old", *OUT], LAST, ""),
    "stats": (["stats", "squeezenet1_1", "photo.png", "--layers", "conv1", *OUT], "preimage.statistics.collect:_batches", "goes on"),
    "atlas": (["atlas", "squeezenet1_1", "--units", "1", *STUDY], RUNNER, "goes on from there"),
    "audit": (["audit", "photo.png", "photo.png", "--attack", "smoothness", *STUDY], RUNNER, "goes on from there"),
    "paper": (["paper", "caricature", "photo.png", *STUDY], RUNNER, "goes on from there"),
    "shallow-table": (["paper", "shallow-table", "photo.png", *OUT], "preimage.experiments.hoggles:learn_dictionary", "interrupted"),
    "hog-template": (["paper", "hog-template", "person.npy", "--iterations", "3", *OUT], LAST, ""),
    "report": (["report", "store", "-q"], "preimage.report.store_page:write_html", BEFORE),
    "inverse": (["inverse", "fit", "hog", "-o", "out.safetensors", "-q"], "preimage.inverses:fit_inverse", "goes on from the .part file"),
    "vocabulary": (["vocabulary", "photo.png", *OUT], "preimage.representations.vocabulary:learn_vocabulary", BEFORE),
    "invert-shallow": (["invert-shallow", "photo.png", "--name", "hog", "--size", "32", "--iterations", "3", *OUT], LAST, ""),
    "push": (["push", "store", "out"], "preimage.studies.mirror:push", BEFORE),
    "pull": (["pull", "store", "-o", "out"], "preimage.studies.mirror:pull", BEFORE),
    "runs": (["runs", "store"], "preimage.studies.store:Store.records", BEFORE),
    "networks": (["networks"], "preimage.networks.network:known_networks", BEFORE),
    "layers": (["layers", "squeezenet1_1"], "preimage.networks.network:Network.layers", BEFORE),
    "recipes": (["recipes"], "preimage.methods.recipe:recipes", BEFORE),
    "demo": (["demo", "-o", "out"], "preimage.demo:maximize", "the finished results are kept"),
    "compare": (["compare", "--unit", "1", "--recipes", "mahendran2016", "--judge", "none", *OUT], RUNNER, "goes on from there"),
    "direction": (["direction", "squeezenet1_1", ".", ".", "--layer", "conv1", "-o", "w.safetensors"], "preimage.directions:learn_concept",
                  BEFORE),
    "fetch": (["fetch", "vgg-vd-16", "-q"], "preimage.networks.fetch:fetch", BEFORE),
    "app": (["app", "--port", "0"], "preimage.app.server:make", None),
    "export": (["export", "store", "-o", "out"], "preimage.studies.export:export", BEFORE),
    "microscope": (["microscope", "stats", "-o", "units.html", "-q"], "preimage.report:write_microscope", BEFORE),
    "match": (["match", "stats", "stats"], "preimage.statistics:match_units", BEFORE),
    "activation-atlas": (["activation-atlas", "squeezenet1_1", "photo.png", "--layer", "conv1", *OUT],
                         "preimage.experiments.activation_atlas:activation_atlas", "goes on from there"),
    "doctor": (["doctor"], "preimage.doctor:examine", BEFORE),
    "schema": (["schema"], "preimage.schemas:schemas", BEFORE),
    "saliency": (["saliency", "photo.png", "--unit", "1", "-o", "out"], "preimage.tasks.saliency:saliency", BEFORE),
}  # fmt: skip


@pytest.mark.parametrize("case", ENDED)
def test_a_command_that_is_ended_says_so_in_one_line_and_by_its_code(case, place, monkeypatch):
    words, target, said = ENDED[case]
    number = SIGNALS[len(case) % 2]
    module, _, name = target.partition(":")
    *outer, name = name.split(".")
    owner = import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    monkeypatch.setattr(owner, name, lambda *args, **more: os.kill(os.getpid(), number))
    if case == "demo":
        monkeypatch.setattr("preimage.demo.DEPTHS", ("conv1",))
        monkeypatch.setattr("preimage.demo.load_network", lambda name: SimpleNamespace(layer=lambda layer: None))
        monkeypatch.setattr("preimage.demo.invert", lambda *args, **more: load_result(place / "old"))
    done = command(*words)
    assert done.exit_code == 128 + number, done.output
    assert "Traceback" not in done.output and done.stderr.count("\n") <= 1 and (said or "") in done.stderr
    if said == "":
        assert load_result(place / "out").interrupted and "Saved in out/" in done.stdout
    if case == "demo":
        assert load_result(place / "out" / "invert-conv1").task == "invert"


def test_every_command_is_in_both_tables():
    commands = set(typer.main.get_command(app).commands) - {"statistics", "completion"}  # stats by its other name; it prints a script
    tasks = {"invert", "maximize", "caricature"}  # test_signals.py ends these
    assert commands == {words[0] for words, _, _ in ENDED.values()} | tasks
    assert commands == {words[0] for words, _ in READ_ONLY.values()} | {"doctor"}  # which says it as a finding, in test_first_minute.py


def refuse_writing(monkeypatch, code: int) -> None:
    """Nothing can be made or opened to be written, as on a disk that is read only (EROFS) or another's (EACCES)."""
    real_open, real_os = io.open, os.open

    def refuse(path) -> None:
        raise OSError(code, os.strerror(code), os.fspath(path))

    def opened(file, mode="r", *args, **more):
        if isinstance(file, (str, os.PathLike)) and set(mode) & set("wax+"):
            refuse(file)
        return real_open(file, mode, *args, **more)

    def low(path, flags, *args, **more):
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            refuse(path)
        return real_os(path, flags, *args, **more)

    monkeypatch.setattr(io, "open", opened)
    monkeypatch.setattr(builtins, "open", opened)
    monkeypatch.setattr(os, "open", low)
    monkeypatch.setattr(os, "mkdir", lambda path, *args, **more: refuse(path))


READ_ONLY = {
    "invert": (["invert", "photo.png", "--layer", "conv1", *OUT], 1),
    "maximize": (["maximize", "--layer", "conv1", "-u", "1", *OUT], 1),
    "caricature": (["caricature", "photo.png", "--layer", "conv1", *OUT], 1),
    "hog-template": (["paper", "hog-template", "person.npy", *OUT], 1),
    "invert-shallow": (["invert-shallow", "photo.png", "--name", "hog", *OUT], 1),
    "again": (["again", "old", *OUT], 1),
    "continue": (["again", "old", "--continue", "-q"], 1),
    "stats": (["stats", "squeezenet1_1", "photo.png", "--layers", "conv1", *OUT], 1),
    "atlas": (["atlas", "squeezenet1_1", "--units", "1", *STUDY], 1),
    "audit": (["audit", "photo.png", "photo.png", "--attack", "smoothness", *STUDY], 1),
    "paper": (["paper", "caricature", "photo.png", *STUDY], 1),
    "shallow-table": (["paper", "shallow-table", "photo.png", *OUT], 1),
    "report": (["report", "store", "-q"], 1),
    "vocabulary": (["vocabulary", "photo.png", "-o", "out", "--words", "2", "-q"], 1),
    "inverse": (["inverse", "fit", "hog", "-o", "out/", "-q"], 1),
    "demo": (["demo", "-o", "out"], 1),
    "push": (["push", "store", "out"], 1),
    "pull": (["pull", "store", "-o", "out"], 1),
    "runs": (["runs", "store"], 0),
    "compare": (["compare", "--unit", "1", "--recipes", "mahendran2016", "--layer", "conv1", "--judge", "none", *OUT], 1),
    "direction": (["direction", "squeezenet1_1", ".", ".", "--layer", "conv1", "-o", "way.safetensors"], 1),
    "saliency": (["saliency", "photo.png", "--unit", "1", "-o", "out"], 1),
    "fetch": (["fetch", "vgg-vd-16", "-q"], 1),
    "app": (["app", "--port", "0"], 1),
    "export": (["export", "store", "-o", "out"], 1),
    "microscope": (["microscope", "stats", "-o", "units.html", "-q"], 1),
    "match": (["match", "stats", "stats", "-o", "pairs.csv"], 1),
    "activation-atlas": (["activation-atlas", "squeezenet1_1", *["photo.png"] * 4, "--layer", "conv1", *OUT], 1),
    "networks": (["networks"], 0),
    "layers": (["layers", "squeezenet1_1"], 0),
    "recipes": (["recipes"], 0),
    "schema": (["schema"], 0),
}


@pytest.mark.parametrize("case", READ_ONLY)
def test_where_nothing_can_be_written_a_command_says_so_before_it_works(case, place, monkeypatch):
    words, code = READ_ONLY[case]

    def worked(*args, **more):
        raise AssertionError("it has begun")

    monkeypatch.setattr("preimage.solvers.run.Run.evaluate", worked)
    before = {p: p.stat().st_mtime_ns for p in place.rglob("*")}
    with monkeypatch.context() as patch:
        refuse_writing(patch, errno.EROFS)
        done = command(*words)
    assert done.exit_code == code, done.output
    assert done.stderr.count("\n") == (code != 0) and "PREIMAGE_DEBUG" not in done.stderr and "it has begun" not in done.output
    if code:
        assert "Read-only file system" in done.stderr
    assert {p: p.stat().st_mtime_ns for p in place.rglob("*")} == before


@pytest.mark.parametrize("words", [["again", "old", *OUT], ["paper", "hog-template", "person.npy", "--iterations", "3", *OUT]])
def test_a_finished_result_that_cannot_be_saved_is_kept_elsewhere(words, place, monkeypatch):
    (place / "spare").mkdir()
    monkeypatch.setattr(common, "_SPARE", (lambda: place / "spare",))
    real = Result._write_tensors

    def full(self, path):
        if path.is_relative_to(place) and not path.is_relative_to(place / "spare"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, path)

    monkeypatch.setattr(Result, "_write_tensors", full)
    done = command(*words)
    (kept,) = (place / "spare").iterdir()
    assert done.exit_code == 1 and str(kept) in done.stderr and done.stderr.count("\n") == 1
    assert len(load_result(kept).images) == 1


class Gone(io.StringIO):
    """A pipe whose reader is gone."""

    def write(self, *text):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    flush = write


@pytest.mark.parametrize("stream", [None, Gone()], ids=["closed", "gone"])
def test_a_bar_and_a_warning_that_nobody_can_see_end_nothing(stream, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress_bar(range(3))) == [0, 1, 2]
    signals.tell("a word")
    phi = preimage.from_callable(lambda x: x[:, :, ::2, ::2], preimage.PixelSpace(8, "grey"))
    found = preimage.invert(phi, np.full((8, 8), 90, np.uint8), iterations=3, progress=True)
    assert found.evaluations == 3
    assert common.watched() == (stream is not None)


SHELL = {
    "stdout full": ("> /dev/full", 1),
    "stdout and stderr closed": (">&- 2>&-", 0),
    "stderr full": ("2> /dev/full", 0),
}


@pytest.mark.parametrize("case", SHELL)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that takes nothing")
def test_a_program_whose_streams_take_nothing_ends_by_its_own_code(case):
    redirected, code = SHELL[case]
    words = f'"{sys.executable}" -m preimage --help {redirected}'
    done = subprocess.run(["sh", "-c", words], capture_output=True, text=True, timeout=120)
    assert done.returncode == code and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
