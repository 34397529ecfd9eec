"""preimage demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import app
from .common import INTERRUPTED, guard, make_folder, watched
from .signals import exit_code, tell


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the pictures and the page.")] = Path("demo-out"),
) -> None:
    """Three inversions, four classes and a caricature with the embedded network, and a page that shows them."""
    with guard():
        from ..demo import run

        make_folder(out)
        try:
            run(out, progress=watched())
        except KeyboardInterrupt:
            tell(f"preimage: interrupted; the finished results are kept in {out}/")
            raise typer.Exit(exit_code() or INTERRUPTED) from None
