"""preimage demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import app
from .common import guard, make_folder, watched


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the pictures and the page.")] = Path("demo-out"),
) -> None:
    """Three inversions, four classes and a caricature with the embedded network, and a page that shows them."""
    with guard():
        from ..demo import run

        make_folder(out)
        run(out, progress=watched())
