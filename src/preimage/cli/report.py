"""preimage report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import app
from .common import guard, make_folder


@app.command(
    epilog="Examples:\n\n  preimage report runs/\n\n  preimage report runs/ -o page.html --figures figures/",
)
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A store, as `preimage paper` and `preimage audit` write them.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="The page.", show_default="DIR/report.html")] = None,
    title: Annotated[str, typer.Option(metavar="TEXT", help="Its heading.", show_default="the networks' names")] = "",
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write the curves, grids and energies as PNG, SVG and PDF.", show_default=False)
    ] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", metavar="png|svg|pdf", help="Of these files.", show_default="all")
    ] = None,
    inline: Annotated[
        int, typer.Option("--inline", metavar="MB", help="The page carries whole pictures up to this size, beyond it thumbnails.")
    ] = 24,
) -> None:
    """Make one self-contained page of everything in a store: pictures, curves, energies, settings, failures.

    It opens from disk with no network. With more pictures than --inline they are thumbnails, and the enlarged ones are read from the
    store, relative to the page.
    """
    with guard():
        from ..report import save_figures, write_report
        from ..store import Store

        store = Store.open(folder, create=False)
        page = out or folder / "report.html"
        make_folder(page.absolute().parent)
        write_report(store, page, title=title, inline_limit=inline * 2**20)
        typer.echo(f"Open the page: {page.absolute().as_uri()}")
        if figures is not None:
            written = save_figures(store, figures)
            typer.echo(f"{len(written)} figures, each as PNG, SVG and PDF, in {figures}/")
