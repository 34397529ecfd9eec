"""Types say what a task always has, and every program that the documentation shows is checked by them."""

from __future__ import annotations

import doctest
import importlib.util
import shutil
import types
import typing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import preimage

ROOT = Path(__file__).parents[1]
SPACE = preimage.PixelSpace(8, "grey")
KINDS = {"invert": preimage.InversionResult, "maximize": preimage.MaximizationResult, "caricature": preimage.CaricatureResult}
ASKED = {"invert": np.full((8, 8), 200, np.uint8), "maximize": 0, "caricature": np.full((8, 8), 200, np.uint8)}


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("check_types", ROOT / "docs" / "check_types.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def results() -> dict[str, preimage.Result]:
    phi = preimage.from_callable(lambda x: x, SPACE)
    return {task: getattr(preimage, task)(phi, asked, iterations=1, progress=False) for task, asked in ASKED.items()}


@pytest.mark.parametrize("task", KINDS)
def test_a_task_returns_its_own_class_which_has_what_its_types_promise(results, task):
    result, kind = results[task], KINDS[task]
    assert type(result) is kind
    for name, hint in typing.get_type_hints(kind).items():
        if name in ("error", "activation", "originals") and name in kind.__annotations__:
            assert isinstance(getattr(result, name), hint), name
    assert repr(result).startswith(f"Result({task}:")
    assert type(replace(result, labels=["other"])) is kind


@pytest.mark.parametrize("task", KINDS)
def test_a_result_that_is_read_again_is_of_the_class_of_its_task(results, task, tmp_path):
    read = preimage.load_result(results[task].save(tmp_path / "out"))
    assert type(read) is KINDS[task]
    assert torch.equal(read.images, results[task].images)


def test_a_folder_without_what_its_task_always_has_gives_a_plain_result(results, tmp_path):
    old = preimage.Result(**{**vars(results["invert"]), "error": None})
    assert type(preimage.load_result(old.save(tmp_path / "out"))) is preimage.Result


@pytest.mark.parametrize("task", KINDS)
def test_the_signature_of_a_task_says_its_own_class(task):
    assert getattr(preimage, task).__annotations__["return"] == KINDS[task].__name__


def test_the_programs_of_a_page_are_its_blocks_together_and_those_that_name_a_file(check):
    assert doctest.testmod(check).failed == 0
    found = dict(check.programs())
    shown = [
        p for p in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")] if "```python" in p.read_text("utf-8")
    ]
    pages = {p.relative_to(ROOT).as_posix() for p in shown}
    assert all(any(name.startswith(page.replace("/", "_").replace(".", "_").replace("-", "_")) for name in found) for page in pages)
    assert {p.stem for p in (ROOT / "gallery").glob("*.py")} <= set(found)


@pytest.mark.slow
def test_strict_mypy_accepts_every_documented_line(check):
    assert check.main() == 0


@pytest.mark.slow
def test_pyright_accepts_every_documented_line(check):
    if shutil.which("pyright") is None:
        pytest.skip("pyright is not installed; the workflow has it")
    assert check.main("pyright") == 0


def test_what_a_checker_says_is_the_exit_status(check, monkeypatch):
    ran = []
    monkeypatch.setattr(check.subprocess, "run", lambda command, **kept: ran.append(command) or types.SimpleNamespace(returncode=3))
    assert check.main() == 3 and check.main("pyright") == 3
    assert "--strict" in ran[0] and ran[1][0] == "pyright"
