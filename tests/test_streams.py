"""Every command where nobody reads what it prints and where there is no terminal: its work is done and kept, its code is honest."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from preimage.cli import common, main
from preimage.tasks import result as result_module

from .ends import COMMANDS, check_every_command_is_in, make_place, shorten, words
from .marks import slow

pytestmark = pytest.mark.filterwarnings("ignore::preimage.errors.PreimageWarning")  # of two iterations nothing good comes
# What is there when a command has ended, and the code of one that could print. Nothing: it only prints.
MADE = {
    "invert": ("out/result.json", 0),
    "maximize": ("out/result.json", 0),
    "caricature": ("out/result.json", 0),
    "recipes": (None, 0),
    "again": ("out/result.json", 0),
    "compare": ("out/methods.html", 0),
    "networks": (None, 0),
    "layers": (None, 0),
    "fetch": (None, 0),
    "statistics": ("out", 0),
    "direction": ("out.safetensors", 0),
    "inverse fit": ("out.safetensors", 0),
    "vocabulary": ("out", 0),
    "invert-shallow": ("out/result.json", 0),
    "paper caricature": ("out/summary", 0),
    "paper shallow-table": ("out/table.csv", 0),
    "paper hog-template": ("out/result.json", 0),
    "paper quirks": (None, 0),
    "atlas": ("out/summary", 0),
    "activation-atlas": ("out/index.html", 0),
    "audit": ("out/summary", 0),
    "saliency": ("out/saliency.json", 0),
    "runs": (None, 0),
    "export": ("out/images.csv", 0),
    "push": ("out/runs", 0),
    "pull": ("out/runs", 0),
    "report": ("store/report.html", 0),
    "microscope": ("out.html", 0),
    "match": ("out.csv", 0),
    "demo": ("out/index.html", 0),
    "app": (None, 0),
    "doctor": (None, 0),
    "schema": (None, 0),
    "completion": (None, 0),
}


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(result_module, "plot_energy", lambda result, path: path.write_bytes(b"a drawing"))
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")  # which the program sets, for good, as typer does its hook
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.chdir(make_place(tmp_path))
    shorten(monkeypatch)
    return tmp_path


def ended(name: str, monkeypatch) -> int | str | None:
    """The exit code of the program."""
    monkeypatch.setattr(sys, "argv", ["preimage", *words(name)])
    try:
        main()
    except SystemExit as end:
        return end.code
    return 0


@contextmanager
def streams(monkeypatch, stdin, stdout, stderr) -> Iterator[None]:
    with monkeypatch.context() as patch:
        for name, stream in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
            patch.setattr(sys, name, stream)
            patch.setattr(sys, f"__{name}__", stream)
        yield


@contextmanager
def nobody_reads() -> Iterator[io.TextIOWrapper]:
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w")
    yield stream
    with suppress(OSError):
        stream.close()


def test_every_command_is_in_the_table():
    check_every_command_is_in(MADE)
    check_every_command_is_in(COMMANDS)


LONG = ("audit", "inverse fit", "paper caricature")  # seconds each


@pytest.mark.parametrize("name", slow(MADE, *LONG))
def test_a_command_whose_reader_is_gone_keeps_its_work_and_ends_as_one_that_a_closed_pipe_ended(name, place, monkeypatch):
    made, _ = MADE[name]
    said = io.StringIO()
    with nobody_reads() as pipe, streams(monkeypatch, sys.stdin, pipe, said):
        code = ended(name, monkeypatch)
    assert (code, said.getvalue()) == (common.UNREAD, "")
    if name not in ("demo", "paper shallow-table"):  # which speak before the work, and so end there
        assert made is None or (place / made).exists()
    assert not list(place.rglob("*.part"))


@pytest.mark.parametrize("name", slow(MADE, *LONG))
def test_a_command_without_a_terminal_or_any_stream_does_its_work(name, place, monkeypatch):
    made, code = MADE[name]
    with streams(monkeypatch, None, None, None):
        found = ended(name, monkeypatch)
    assert found == code
    assert made is None or (place / made).exists()
    assert not list(place.rglob("*.part"))
