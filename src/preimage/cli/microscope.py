"""preimage microscope."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import app
from .common import guard, make_folder, names_in
from .networks import load
from .options import InputSize, Labels, Quiet, Space, Trust, Weights


@app.command(
    epilog="Example:\n\n  preimage statistics squeezenet1_1 photos/ --sample 2000 -o squeezenet.safetensors\n\n"
    "  preimage atlas squeezenet1_1 --layers fire8 --units 25 --stats squeezenet.safetensors -o atlas/\n\n"
    "  preimage microscope squeezenet.safetensors --store atlas/ --net squeezenet1_1 -o units.html"
)
def microscope(
    stats: Annotated[Path, typer.Argument(metavar="STATS", help="A file of `preimage statistics`, with crops.", show_default=False)],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The page; NAME_files beside it belongs to it.")],
    net: Annotated[
        str | None,
        typer.Option(
            metavar="NET", help="The network of STATS: show also which units its weights make alike and speak for.", show_default=False
        ),
    ] = None,
    weights: Weights = "default",
    space: Space = None,
    size: InputSize = None,
    trust: Trust = False,
    store: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Show the images of units in a store of `preimage atlas` too.", show_default=False)
    ] = None,
    beside: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Statistics of another network or checkpoint over the same images: show each unit's like.",
            show_default=False,
        ),
    ] = None,
    layers: Annotated[str, typer.Option(metavar="A,B,...", help="Only these layers.", show_default="all of the file")] = "",
    labels: Labels = None,
    quiet: Quiet = False,
) -> None:
    """Make a page with a place for every unit: natural examples, synthetic images, a histogram of its answers, and units like it."""
    with guard():
        from ..networks.labels import read_labels
        from ..report import write_microscope
        from ..statistics import load_statistics
        from ..studies.store import Store

        found = load_statistics(stats)
        network = None if net is None else load(net, weights, space, size, trust)
        make_folder(out.absolute().parent)
        page = write_microscope(
            found,
            out,
            network=network,
            store=None if store is None else Store.open(store, create=False),
            beside=None if beside is None else load_statistics(beside),
            layers=names_in(layers) or None,
            classes=() if labels is None else read_labels(labels),
            progress=not quiet,
        )
        typer.echo(f"Open the page: {page.absolute().as_uri()}")
