"""How it is installed: what `make` would run, and what the pages and messages say of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from preimage.errors import how_to_install

ROOT = Path(__file__).parents[1]
INDEX = "https://download.pytorch.org/whl/cpu"


def commands(*arguments: str) -> str:
    """What make would run in a fresh clone; nothing is run."""
    if (make := shutil.which("make")) is None:
        pytest.skip("there is no make")
    return subprocess.run([make, "-n", "-B", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def installs(text: str) -> list[str]:
    return re.findall(r"-m pip install (.*)", text)


def test_the_demo_s_environment_is_the_core_alone():
    done = installs(commands("demo"))
    assert len(done) == 1 and done[0].endswith("--editable .")
    assert "requirements" not in done[0] and "[" not in done[0]


def test_the_tests_install_the_locked_tools_and_pytorch_once():
    done = installs(commands("test"))
    assert "-r requirements/dev.txt" in done[0]
    assert all("--no-deps" in line for line in done[1:])


def test_pytorch_without_cuda_is_installed_first_and_from_its_own_index():
    done = installs(commands("demo", "TORCH=cpu"))
    assert done[0].endswith(f"--index-url {INDEX} torch torchvision")
    assert done[1].endswith("--editable .") and INDEX not in done[1]
    assert INDEX not in commands("demo")


def test_another_word_than_cpu_ends_the_making():
    assert 'case "x" in ""|cpu) ;; *) echo' in commands("demo", "TORCH=x")


def test_the_page_about_installing_names_the_three_tools_and_the_index():
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    for tool in ("pip install torch torchvision --index-url", "uv pip install torch torchvision --index-url", "conda"):
        assert tool in text
    assert text.count(INDEX) >= 2
    assert how_to_install("app").partition(" in ")[0] in text
