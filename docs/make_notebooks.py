"""The scripts of the gallery as notebooks: python docs/make_notebooks.py [FOLDER]"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import jupytext
import nbformat

GALLERY = Path(__file__).parents[1] / "gallery"
SHARED = GALLERY / "shared.py"


def notebook(script: Path) -> nbformat.NotebookNode:
    """A script with cells (`# %%`) as a notebook without outputs; the first line of its docstring is the title."""
    found = jupytext.read(script, fmt="py:percent")
    title, *text = found.cells[0].source.splitlines()
    found.cells[0].source = "\n".join([f"# {title.rstrip('.')}", *text])
    for k, cell in enumerate(found.cells):
        cell.id = f"cell-{k}"  # the same each time
    found.metadata = nbformat.from_dict({"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    nbformat.validate(found)
    return found


def write_notebooks(folder: Path) -> list[Path]:
    """A notebook of each script, and beside them what the scripts share."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for script in sorted(GALLERY.glob("*.py")):
        if script != SHARED:
            written.append(folder / f"{script.stem}.ipynb")
            nbformat.write(notebook(script), written[-1])
    shutil.copyfile(SHARED, folder / SHARED.name)
    return written


if __name__ == "__main__":
    made = write_notebooks(Path(*sys.argv[1:2] or ["build/notebooks"]))
    print(f"{len(made)} notebooks in {made[0].parent}/")
