"""preimage export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import app
from .common import guard
from .options import Overwrite


@app.command(
    epilog="Examples:\n\n  preimage export study/ -o stimuli/\n\n"
    "  preimage export study/ --where layer=fire4 --grey --equal --size 256 -o stimuli/\n\n"
    "  preimage export out/ --mean 128 --contrast 40 -o stimuli/"
)
def export(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="A store, or the folder of a result.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the PNGs and images.csv; it must be new or empty.")],
    grey: Annotated[bool, typer.Option("--grey", help="One channel, the luma.")] = False,
    equal: Annotated[bool, typer.Option("--equal", help="The same mean and contrast for all: the means over the set.")] = False,
    mean: Annotated[float | None, typer.Option(metavar="LEVEL", help="Mean of the luma, 0 to 255.", show_default="its own")] = None,
    contrast: Annotated[
        float | None, typer.Option(metavar="LEVELS", help="Standard deviation of the luma.", show_default="its own")
    ] = None,
    size: Annotated[int | None, typer.Option(metavar="PIXELS", help="Of the longer side.", show_default="its own")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="SETTING=VALUE", help="Of a store, only images with this setting; repeat for several.", show_default=False),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the images of a store or a result as PNGs with readable names, and a table with all settings and numbers of each."""
    with guard():
        from ..studies.export import TABLE, Look
        from ..studies.export import export as write
        from .runs import setting

        look = Look(grey, mean, contrast, equal, size)
        rows = write(source, out, look, overwrite=overwrite, **dict(setting(text) for text in where or []))
        cut = sum(row["clipped"] > 0.01 for row in rows)
        typer.echo(
            f"{len(rows)} {'image' if len(rows) == 1 else 'images'} and {TABLE} in {out}/"
            + (f"; {cut} with more than 1 % of their values cut" if cut else "")
        )
