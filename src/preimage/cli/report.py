"""preimage report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from . import app
from .common import guard, make_folder, tell_damaged
from .options import Quiet


@app.command(
    epilog="Examples:\n\n  preimage report runs/\n\n  preimage report runs/ -o page.html --figures figures/\n\n"
    "  preimage report atlas/ -o site/index.html --copy\n\n  preimage report atlas/ --judge efficientnet-lite0\n\n"
    "  preimage report runs/ --compare other/",
)
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A store, as `preimage paper` and `preimage audit` write them.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The page.", show_default="DIR/report.html, or compare-OTHER.html")
    ] = None,
    title: Annotated[str, typer.Option(metavar="TEXT", help="Its heading.", show_default="the networks' names")] = "",
    compare: Annotated[
        Path | None, typer.Option(metavar="OTHER", help="Show the results of this store beside those of another.", show_default=False)
    ] = None,
    by: Annotated[
        str, typer.Option(metavar="SETTING,…", help="Settings that pair them.", show_default="those that tell results apart in both")
    ] = "",
    copy: Annotated[
        bool, typer.Option("--copy", help="Put the whole pictures beside the page too, so that it can leave the store.")
    ] = False,
    gallery_from: Annotated[
        int, typer.Option("--gallery-from", metavar="N", help="From so many pictures on, a gallery with thumbnails beside the page.")
    ] = 400,
    figures: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write the curves, grids and energies as PNG, SVG and PDF.", show_default=False)
    ] = None,
    inline: Annotated[
        int, typer.Option("--inline", metavar="MB", help="The page carries whole pictures up to this size, beyond it thumbnails.")
    ] = 24,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="NET",
            help="Another network, as efficientnet-lite0: the page then says where it puts the class that a picture should show.",
            show_default=False,
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make one page of everything in a store: pictures, curves, energies, settings, failures. It opens from disk with no network.

    A page of few pictures carries them. With more than --inline they are thumbnails, and the enlarged ones are read from the store,
    relative to the page. From --gallery-from pictures on they are in a gallery with a search, and NAME_files beside the page belongs to it.
    What a --judge says is kept in the store, so that it is asked once for each picture.
    """
    with guard():
        from ..networks.network import load_network
        from ..report import judge_store, save_figures, write_comparison, write_report
        from ..studies.store import Store
        from ..tasks.result import file_names

        store = Store.open(folder, create=False)
        if compare is not None and (figures is not None or gallery_from != 400):
            raise InputError("--compare writes one page with a gallery: leave out --figures and --gallery-from.")
        if compare is None and by:
            raise InputError("--by says how to pair two stores: give the other one as --compare OTHER.")
        if compare is not None and judge is not None:
            raise InputError("--judge is asked of one store at a time: preimage report DIR --judge NET, then compare.")
        page = out or folder / ("report.html" if compare is None else f"compare-{file_names([compare.resolve().name])[0]}.html")
        make_folder(page.absolute().parent)
        if compare is not None:
            other = Store.open(compare, create=False)
            settings = [name for name in by.split(",") if name]
            write_comparison(store, other, page, title=title, by=settings, copy=copy, progress=not quiet)
        else:
            limit = inline * 2**20
            if judge is not None:
                judged = judge_store(store, load_network(judge), progress=not quiet)
                typer.echo("\n".join(judged.lines()))
            write_report(store, page, title=title, inline_limit=limit, gallery_from=gallery_from, copy=copy, progress=not quiet)
        typer.echo(f"Open the page: {page.absolute().as_uri()}")
        tell_damaged(store)
        if figures is not None:
            written = save_figures(store, figures)
            typer.echo(f"{len(written)} figures, each as PNG, SVG and PDF, in {figures}/")
