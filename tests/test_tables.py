"""Tables of commands are read in a terminal of 80 columns: no line is longer, no word is broken, nothing is left out."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from preimage.cli import app, common

from .report_store import build_store


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def printed(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == []
    return done.stdout


def test_the_lists_of_networks_and_quirks():
    shown = printed("networks")
    assert all(name in shown for name in ("efficientnet-lite0", "transformers/FOLDER-OR-ID", "package.module:function"))
    printed("paper", "quirks")


def test_the_layers_of_networks():
    shown = printed("layers", "squeezenet1_1").split()  # a header stands on two lines where there is no room for one
    assert {"receptive", "field", "fire2/relu_squeeze1x1", "1000x1x1"} <= set(shown)
    shown = printed("layers", "timm/vit_tiny_patch16_224", "--size", "32")
    assert "blocks.11" in shown and ":cls :prefix :grid" in shown


def test_the_runs_of_a_store_with_a_long_name_and_a_long_reason(tmp_path):
    name = "a-photograph-with-quite-a-long-name-of-its-own"
    store = build_store(tmp_path / "store", ("cat", name), failure="OutOfMemoryError: more than this machine has, with all its words said")
    shown = " ".join(printed("runs", store.path).split())
    assert name in shown and "OutOfMemoryError:" in shown and "activation 3.5" in shown


@pytest.mark.parametrize(
    "row",
    [
        ["inversion", "fire9", "a photograph restart 3", "100", "no-regularizer", "failed", "OutOfMemoryError: too large for it", "1.0 s"],
        ["x" * 30, "y" * 30, "z" * 30, "100", "", "done", "36.1%", "12.3 s"],
    ],
    ids=["fits by wrapping", "does not fit"],
)
def test_no_word_is_broken_and_none_is_left_out(row, capsys):
    keys = ["experiment", "layer", "what", "C", "variant", "status", "reached", "time"]
    common.table(keys, [row])
    shown = capsys.readouterr().out
    assert set(" ".join(row).split()) <= {word.strip(";") for word in shown.split()}
    assert max(map(len, shown.splitlines())) <= 80


def test_a_wider_terminal_has_whole_cells(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    common.table(["name", "what"], [["a", "a text of several words that is longer than twelve letters"]])
    assert "a text of several words that is longer than twelve letters" in capsys.readouterr().out
