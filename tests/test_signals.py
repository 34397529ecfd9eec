"""Ctrl-C, a plain kill, a closed terminal, a full disk, a folder that cannot be written and a reader that is gone: nothing is lost."""

from __future__ import annotations

import errno
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import PIL.Image
import pytest
from typer.testing import CliRunner

import preimage
from preimage import __main__, tasks
from preimage.cli import app, common, signals
from preimage.errors import ResultFolderError
from preimage.tasks import result as result_module
from preimage.tasks.result import Result, load_result

from .test_hostile_stores import tiny_store

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def short_runs(monkeypatch):
    """Ctrl-C is heard also where the tests run in the background; no drawing is made; the handlers are as before."""
    handlers = {s: signal.getsignal(s) for s in SIGNALS}
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    monkeypatch.setattr(result_module, "plot_energy", lambda result, path: path.write_bytes(b"a drawing"))
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)
    assert {s: signal.getsignal(s) for s in SIGNALS} == handlers


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    PIL.Image.new("RGB", (30, 30), "teal").save(path)
    return path


def command(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


def send(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)


TASKS = {
    "invert": ["invert", "PHOTO", "--layer", "conv1"],
    "caricature": ["caricature", "PHOTO", "--layer", "conv1"],
    "maximize": ["maximize", "--layer", "conv1", "-u", "3"],
}


def interrupted_by(monkeypatch, task: str, *numbers) -> None:
    """The task gets these signals, one after the other, when it has made a few steps."""
    real, seen = getattr(tasks, task), []

    def watched(*args, **more):
        def watch(*args):
            seen.append(1)
            if len(seen) == 2:
                send(*numbers)
            return

        return real(*args, **more | {"monitor": replace(more["monitor"], watch=watch)})

    monkeypatch.setattr(tasks, task, watched)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda s: s.name)
@pytest.mark.parametrize("task", TASKS)
def test_a_task_that_is_ended_keeps_what_it_had_and_says_which_signal_it_was(task, number, photo, tmp_path, monkeypatch):
    interrupted_by(monkeypatch, task, number)
    words = [photo if w == "PHOTO" else w for w in TASKS[task]]
    done = command(*words, "--iterations", "5000", "-q", "-o", tmp_path / "out")
    assert done.exit_code == 128 + number, done.output
    assert load_result(tmp_path / "out").interrupted and "Interrupted." in done.stdout


def test_a_second_signal_does_not_end_the_saving_of_what_was_found(photo, tmp_path, monkeypatch):
    interrupted_by(monkeypatch, "invert", signal.SIGINT)
    real = Result._write_tensors

    def impatient(self, path):
        send(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
        real(self, path)

    monkeypatch.setattr(Result, "_write_tensors", impatient)
    done = command("invert", photo, "--layer", "conv1", "--iterations", "5000", "-q", "-o", tmp_path / "out")
    assert done.exit_code == 130 and load_result(tmp_path / "out").interrupted


def test_a_signal_while_a_finished_result_is_saved_waits_for_it(photo, tmp_path, monkeypatch):
    real = Result._write_tensors
    monkeypatch.setattr(Result, "_write_tensors", lambda self, path: (send(signal.SIGTERM), real(self, path)))
    done = command("invert", photo, "--layer", "conv1", "--iterations", "2", "-q", "-o", tmp_path / "out")
    assert done.exit_code == 143 and done.stderr.count("\n") == 1 and "which is whole" in done.stderr
    assert not load_result(tmp_path / "out").interrupted


def test_what_is_ignored_stays_ignored_as_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.obeying():
            send(signal.SIGHUP)
            assert signals.exit_code() == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_third_signal_is_obeyed_at_once(capsys):
    with signals.obeying():
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGTERM)
        send(signal.SIGINT)
        assert "once more" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
        assert signals.exit_code() == 143
    assert signals.exit_code() == 0


def test_a_store_that_takes_no_locks_is_said_in_words(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(ResultFolderError, match="takes no locks"):
        tiny_store(tmp_path / "store", 1).claims.take("ab" * 32)


def test_the_version_is_told():
    done = command("--version")
    assert (done.exit_code, done.stdout) == (0, f"preimage {preimage.__version__}\n")


def test_no_bar_goes_into_a_file(tmp_path, monkeypatch):
    with (tmp_path / "log").open("w") as log:
        monkeypatch.setattr("sys.stderr", log)
        assert not common.watched()
    read, write = os.pipe()
    with os.fdopen(write, "w") as pipe:
        monkeypatch.setattr("sys.stderr", pipe)
        assert common.watched()
    os.close(read)


class InterruptedImport:
    """A finder in the middle of whose work Ctrl-C comes."""

    def find_spec(self, name, path=None, target=None):
        if name == "preimage.cli":
            raise KeyboardInterrupt


def test_an_interrupt_while_the_command_is_still_imported_ends_it_with_130_in_one_line(monkeypatch, capfd):
    monkeypatch.delitem(sys.modules, "preimage.cli")
    monkeypatch.setattr(sys, "meta_path", [InterruptedImport(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == common.INTERRUPTED
    assert capfd.readouterr() == ("", "preimage: interrupted before there was anything to save\n")


def test_the_installed_command_is_the_one_that_may_be_interrupted_while_it_is_imported():
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert 'preimage = "preimage.__main__:main"' in project
