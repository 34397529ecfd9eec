"""Units for which no image is found are no successes: exit code 1, and named in table, page and summary with what was tried."""

from __future__ import annotations

import csv
import importlib
import json

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.studies import jobs

from . import letters

TRIED = "4 other random starts and the packaged photographs were tried too"
CLOSED = "the gradient of the loss vanished on the way: the unit has closed. Other starts were tried too."


def build() -> tuple[nn.Module, preimage.PixelSpace]:
    """Three units: one that answers, one that never does, and one that `closing` says has closed on the way."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 3, 3, stride=2), nn.ReLU(), nn.Conv2d(3, 2, 3))
    with torch.no_grad():
        module[0].bias.copy_(torch.tensor([1.0, -1e4, 1.0]))
    return module, preimage.PixelSpace(16, "rgb", scale=1.0, mean=0.5, std=0.25)


@pytest.fixture
def closing(monkeypatch):
    real = jobs.maximize

    def maximize(phi, units, **more):
        result = real(phi, units, **more)
        result.status = [CLOSED if u in (2, (2,)) else s for u, s in zip(units, result.status, strict=True)]
        return result

    monkeypatch.setattr(jobs, "maximize", maximize)


def command(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


@pytest.mark.parametrize("what", ["neurons", "atlas"])
def test_a_unit_without_an_image_ends_a_study_with_1_and_is_named_in_table_page_and_summary(what, closing, tmp_path, monkeypatch):
    letters.leave_out(monkeypatch)
    start = ["paper", "neurons", "--net", f"{__name__}:build"] if what == "neurons" else ["atlas", f"{__name__}:build"]
    words = [*start, "--layers", "1", "--units", 3, "--iterations", 3, "--workers", 1, "-q", "-o", tmp_path / "s"]
    for again in (False, True):
        done = command(*words)
        assert done.exit_code == 1, done.output
        assert "1 failed, 1 found no image" in done.stdout and ("2 were there already" in done.stdout) == again
        dead, closed = done.stderr.splitlines()
        assert dead.startswith(f"preimage: error: {what}") and TRIED in dead
        assert closed.startswith(f"preimage: error: {what}") and "no image was found" in closed and CLOSED in closed
    (folder,) = (tmp_path / "s" / "summary").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert [(row["unit"], row["ok"]) for row in summary["rows"]] == [(0, 1.0), (2, 0.0), (1, 0.0)]
    with (folder / "table.csv").open() as file:
        assert [row["ok"] for row in csv.DictReader(file)] == ["1.0", "0.0", "0.0"]
    assert any("No image was found" in note and CLOSED in note for note in summary["notes"])
    assert any("1 of its jobs failed" in note and TRIED in note for note in summary["notes"])
    assert command("report", tmp_path / "s", "-q").exit_code == 0
    page = (tmp_path / "s" / "report.html").read_text()
    assert TRIED in page and CLOSED in page


def test_a_unit_without_an_image_ends_the_single_command_with_1_and_says_what_was_tried(monkeypatch, tmp_path):
    words = ["maximize", "--net", f"{__name__}:build", "--layer", "1", "--iterations", 3, "-q"]
    done = command(*words, "-u", 1, "-o", tmp_path / "dead")
    assert done.exit_code == 1 and TRIED in " ".join(done.stderr.split())
    task = importlib.import_module("preimage.tasks.maximize")
    real = task.minimize_open

    def minimize(*given, **more):
        found, took, again = real(*given, **more)
        found.status = [CLOSED]
        return found, took, again

    monkeypatch.setattr(task, "minimize_open", minimize)
    done = command(*words, "-u", 2, "-o", tmp_path / "closed")
    assert done.exit_code == 1 and preimage.load_result(tmp_path / "closed").status == [CLOSED]
