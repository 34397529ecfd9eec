"""The gallery's scripts as notebooks: the same code, no outputs, and they run in a real kernel and show their pictures."""

from __future__ import annotations

import ast
import asyncio
import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("jupytext", reason="notebooks need pip install 'preimage[docs]'")
ROOT = Path(__file__).parents[1]
SHOWN = {"own_regularizer": (64, 1), "own_model": (32, 2)}  # size in pixels, and pictures below the cells


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        from make_notebooks import write_notebooks
    finally:
        sys.path.remove(str(ROOT / "docs"))
    return {path.stem: path for path in write_notebooks(tmp_path_factory.mktemp("notebooks"))}


def test_every_script_is_a_notebook_of_a_title_and_the_same_code_without_outputs(made):
    import nbformat

    assert sorted(made) == sorted(p.stem for p in (ROOT / "gallery").glob("*.py") if p.stem != "shared")
    for name, path in made.items():
        text, *code = nbformat.read(path, as_version=4).cells
        assert text.cell_type == "markdown" and re.match(r"# [A-Z][^\n]+[^.\n]\n\n\w", text.source) and '"""' not in text.source
        assert len(code) >= 2 and all(cell.cell_type == "code" and not cell.outputs for cell in code)
        _, *script = ast.parse((ROOT / "gallery" / f"{name}.py").read_text(encoding="utf-8")).body  # less the docstring
        assert [ast.dump(node) for cell in code for node in ast.parse(cell.source).body] == [ast.dump(node) for node in script]


@pytest.fixture
def closed_loop():
    """Jupyter's loop, which it makes for this thread and leaves open."""
    yield
    utils = pytest.importorskip("jupyter_core.utils")
    utils.ensure_event_loop().close()
    asyncio.set_event_loop(None)


@pytest.mark.parametrize("name", ["own_regularizer", pytest.param("own_model", marks=pytest.mark.slow)])
def test_a_notebook_runs_in_a_kernel_and_shows_its_pictures(name, made, closed_loop):
    size, pictures = SHOWN[name]
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("sklearn")
    book = nbformat.read(made[name], as_version=4)
    (settings,) = (cell for cell in book.cells if "= arguments(" in cell.source)
    settings.source, numbers = re.subn(r"size=\d+, iterations=\d+", f"size={size}, iterations=2", settings.source)
    assert numbers == 1
    nbclient.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(made[name].parent)}}).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert sum("image/png" in o.get("data", {}) for o in outputs) == pictures
    assert list((made[name].parent / "out" / name).glob("*.png"))
