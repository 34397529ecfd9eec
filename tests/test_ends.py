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
import pytest
from typer.testing import CliRunner

import preimage
from preimage import tasks
from preimage.bars import progress_bar
from preimage.cli import app, common, signals
from preimage.studies.store import Store
from preimage.tasks import result as result_module
from preimage.tasks.result import Result, load_result

from .ends import COMMANDS, check_every_command_is_in, make_place, shorten, words
from .marks import slow
from .patching import patch_os, patch_pathlib

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
    monkeypatch.chdir(make_place(tmp_path))
    return tmp_path


def command(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


RUNNER, LAST, BEFORE = "preimage.studies.runner:execute", "preimage.solvers.run:Run.accept_final", "interrupted before"
# What is ended in each command, and what the last line says of it; nothing: what was found by then is saved.
ENDED = {
    "again": (LAST, ""),
    "statistics": ("preimage.statistics.collect:_batches", "goes on"),
    "atlas": (RUNNER, "goes on from there"),
    "audit": (RUNNER, "goes on from there"),
    "paper caricature": (RUNNER, "goes on from there"),
    "paper shallow-table": ("preimage.experiments.hoggles:learn_dictionary", "interrupted"),
    "paper hog-template": (LAST, ""),
    "paper quirks": ("preimage.experiments:known_experiments", BEFORE),
    "report": ("preimage.report.store_page:write_html", BEFORE),
    "inverse fit": ("preimage.inverses:fit_inverse", "goes on from the .part file"),
    "vocabulary": ("preimage.representations.vocabulary:learn_vocabulary", BEFORE),
    "invert-shallow": (LAST, ""),
    "push": ("preimage.studies.mirror:push", BEFORE),
    "pull": ("preimage.studies.mirror:pull", BEFORE),
    "runs": ("preimage.studies.store:Store.records", BEFORE),
    "networks": ("preimage.networks.network:known_networks", BEFORE),
    "layers": ("preimage.networks.network:Network.layers", BEFORE),
    "recipes": ("preimage.methods.recipe:recipes", BEFORE),
    "demo": ("preimage.demo:maximize", "the finished results are kept"),
    "compare": (RUNNER, "goes on from there"),
    "direction": ("preimage.directions:learn_concept", BEFORE),
    "fetch": ("preimage.networks.fetch:fetch", BEFORE),
    "app": ("preimage.app.server:make", None),
    "export": ("preimage.studies.export:export", BEFORE),
    "microscope": ("preimage.report:write_microscope", BEFORE),
    "match": ("preimage.statistics:match_units", BEFORE),
    "activation-atlas": ("preimage.experiments.activation_atlas:activation_atlas", "goes on from there"),
    "doctor": ("preimage.doctor:examine", BEFORE),
    "schema": ("preimage.schemas:schemas", BEFORE),
    "saliency": ("preimage.tasks.saliency:saliency", BEFORE),
    "completion": ("typer.completion:get_completion_script", BEFORE),
}
TASKS = {"invert", "maximize", "caricature"}  # test_signals.py ends these


@pytest.mark.parametrize("number", SIGNALS, ids=lambda s: s.name)
@pytest.mark.parametrize("name", ENDED)
def test_a_command_that_is_ended_says_so_in_one_line_and_by_its_code(name, number, place, monkeypatch):
    target, said = ENDED[name]
    module, _, attribute = target.partition(":")
    *outer, attribute = attribute.split(".")
    owner = import_module(module)
    for part in outer:
        owner = getattr(owner, part)
    monkeypatch.setattr(owner, attribute, lambda *args, **more: os.kill(os.getpid(), number))
    if name == "demo":
        monkeypatch.setattr("preimage.demo.DEPTHS", ("conv1",))
        monkeypatch.setattr("preimage.demo.load_network", lambda name: SimpleNamespace(layer=lambda layer: None))
        monkeypatch.setattr("preimage.demo.invert", lambda *args, **more: load_result(place / "old"))
    done = command(*words(name))
    assert done.exit_code == 128 + number, done.output
    assert "Traceback" not in done.output and done.stderr.count("\n") <= 1 and (said or "") in done.stderr
    if said == "":
        assert load_result(place / "out").interrupted and "Saved in out/" in done.stdout
    if name == "demo":
        assert load_result(place / "out" / "invert-conv1").task == "invert"
    assert not list(place.rglob("*.part"))


def test_every_command_is_in_each_table():
    check_every_command_is_in({*ENDED, *TASKS})
    check_every_command_is_in({*READ_ONLY, "doctor"})
    check_every_command_is_in(FULL)


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
    patch_pathlib(monkeypatch, "open", opened)
    monkeypatch.setattr(os, "open", low)
    patch_os(monkeypatch, "mkdir", lambda path, *args, **more: refuse(path))


ONLY_READ = {"runs", "networks", "layers", "recipes", "schema", "completion", "paper quirks"}
# The doctor says it as a finding, with the code of one: test_first_minute.py.
READ_ONLY = {name: 0 if name in ONLY_READ else 1 for name in COMMANDS if name != "doctor"}
# What a command says of a disk that is full; those that lose an image say so, as here no other folder takes it either.
LOST = {"invert", "maximize", "caricature", "again", "paper hog-template", "invert-shallow"}
FULL = {name: "" if name in {*ONLY_READ, "doctor", "app"} else "It is lost" if name in LOST else "File too large" for name in COMMANDS}
MORE_FULL = {
    "gallery": (["report", "store", "-o", "out", "--gallery-from", "1", "-q"], "File too large"),
    "rebuild": (["runs", "store", "--rebuild"], ""),
}


@pytest.mark.parametrize("name", [*READ_ONLY, "again --continue"])
def test_where_nothing_can_be_written_a_command_says_so_before_it_works(name, place, monkeypatch):
    def worked(*args, **more):
        raise AssertionError("it has begun")

    monkeypatch.setattr("preimage.solvers.run.Run.evaluate", worked)
    before = {p: p.stat().st_mtime_ns for p in place.rglob("*")}
    with monkeypatch.context() as patch:
        refuse_writing(patch, errno.EROFS)
        done = command(*(["again", "old", "--continue", "-q"] if name == "again --continue" else words(name)))
    code = READ_ONLY.get(name, 1)
    assert done.exit_code == code, done.output
    assert done.stderr.count("\n") == (code != 0) and "PREIMAGE_DEBUG" not in done.stderr and "it has begun" not in done.output
    if code:
        assert "Read-only file system" in done.output
    assert {p: p.stat().st_mtime_ns for p in place.rglob("*")} == before


@pytest.mark.filterwarnings("ignore:.*joblib will operate in serial mode")  # as it has no room for its semaphores
@pytest.mark.parametrize("name", [*FULL, *MORE_FULL])
def test_a_full_disk_ends_a_command_in_one_honest_line_and_leaves_nothing(name, place, monkeypatch):
    """No file of this process can have a byte, as the system has it: temporary files, tables and locks too."""
    resource = pytest.importorskip("resource")
    what, said = MORE_FULL[name] if name in MORE_FULL else (words(name), FULL[name])
    monkeypatch.setattr(common, "_SPARE", (lambda: place,))
    monkeypatch.setattr("preimage.cli.demo.watched", lambda: False)  # it has no -q
    shorten(monkeypatch)
    if name == "runs":
        (place / "store" / "index.sqlite").unlink()
    before = {p for p in place.rglob("*") if p.name != "index.sqlite"}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        done = command(*what)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert done.exit_code == (1 if said else 0), done.output
    assert said in done.stderr and done.stderr.count("\n") == (said != "") and "PREIMAGE_DEBUG" not in done.stderr
    left = {p for p in place.rglob("*") if p.name != "index.sqlite"} - before
    assert not {p for p in left if p.is_file()}, left
    if name in ("runs", "rebuild"):
        assert "2 of 2 results" in done.stdout
    assert len(Store.open(place / "store").records()) == 2


@pytest.mark.parametrize("name", ["again", "paper hog-template"])
def test_a_finished_result_that_cannot_be_saved_is_kept_elsewhere(name, place, monkeypatch):
    (place / "spare").mkdir()
    monkeypatch.setattr(common, "_SPARE", (lambda: place / "spare",))
    real = Result._write_tensors

    def full(self, path):
        if path.is_relative_to(place) and not path.is_relative_to(place / "spare"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, path)

    monkeypatch.setattr(Result, "_write_tensors", full)
    done = command(*words(name))
    (kept,) = (place / "spare").iterdir()
    assert done.exit_code == 1 and str(kept) in done.stderr and done.stderr.count("\n") == 1
    assert len(load_result(kept).images) == 1


def test_a_photograph_that_is_gone_when_the_work_is_done_costs_no_result(place, monkeypatch):
    real = tasks.invert

    def invert(*args, **more):
        result = real(*args, **more)
        (place / "photo.png").unlink()
        return result

    monkeypatch.setattr(tasks, "invert", invert)
    done = command(*words("invert"))
    assert done.exit_code == 0, done.output
    (file,) = load_result(place / "out").config["files"]
    assert file["path"] == "photo.png" and len(file["sha256"]) == 64


@pytest.mark.parametrize("trouble", [KeyboardInterrupt, OSError, MemoryError])
def test_a_judge_that_fails_or_is_interrupted_costs_no_result(trouble, place, monkeypatch):
    def judge_result(*args):
        if trouble is KeyboardInterrupt:
            os.kill(os.getpid(), signal.SIGTERM)
        raise trouble("the judge")

    monkeypatch.setattr("preimage.tasks.judged.judge_result", judge_result)
    done = command(*words("maximize"), "--judge", "squeezenet1_1")
    assert done.exit_code == (143 if trouble is KeyboardInterrupt else 1) and done.stderr.count("\n") == 1
    assert not load_result(place / "out").interrupted
    if trouble is KeyboardInterrupt:
        assert "which is whole" in done.stderr


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


@pytest.mark.parametrize("case", slow(SHELL, "stdout full", "stderr full"))
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that takes nothing")
def test_a_program_whose_streams_take_nothing_ends_by_its_own_code(case):
    redirected, code = SHELL[case]
    words = f'"{sys.executable}" -m preimage --help {redirected}'
    done = subprocess.run(["sh", "-c", words], capture_output=True, text=True, timeout=120)
    assert done.returncode == code and "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
