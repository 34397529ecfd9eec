"""preimage compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import app
from .common import FAILED, guard, names_in, one_line, resumable, tell_json
from .options import Iterations, Json, LayerOrLast, Quiet, RunDevice, RunPrecision, Seed, StoreOut


@app.command(
    epilog='Examples:\n\n  preimage compare --unit "tree frog" --recipes all -o frogs/\n\n'
    "  preimage compare photo.jpg --layer fire9 --recipes mahendran2016,ulyanov2018,preimage2026 -o photo/\n\n"
    "  preimage compare --unit goose --net squeezenet1_1 --net efficientnet-lite0 --recipes preimage2026 --judge none -o two/\n\n"
    "The same folder goes on where it stopped. Exit codes: 0 done, 1 some method failed (the others are kept), 2 wrong usage, 130 "
    "interrupted."
)
def compare(
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="[IMAGE...]", help="Photographs to invert or caricature.", show_default=False)
    ] = None,
    *,
    out: StoreOut,
    unit: Annotated[
        list[str] | None, typer.Option(metavar="NAME|N|C,Y,X", help="What to excite: a class or a unit; repeat for several.")
    ] = None,
    recipes: Annotated[str, typer.Option(metavar="all|A,B,...", help="The methods, by name: see `preimage recipes`.")] = "all",
    net: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A network; repeat for several.", show_default="squeezenet1_1")
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Weights of it; repeat for several checkpoints.", show_default="default")
    ] = None,
    layer: LayerOrLast = None,
    task: Annotated[
        str | None, typer.Option(metavar="invert|caricature", help="What to do with photographs.", show_default="invert")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What methods begin with that change an image.", show_default="a photograph of a cat"),
    ] = None,
    judge: Annotated[
        str, typer.Option(metavar="NET", help="Which network says what it sees in the images; or none.")
    ] = "efficientnet-lite0",
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="Images each, from different seeds.")] = 1,
    smoke: Annotated[bool, typer.Option("--smoke", help="Two iterations each, to see that everything works.")] = False,
    iterations: Iterations = None,
    seed: Seed = 0,
    device: RunDevice = "cpu",
    precision: RunPrecision = "float32",
    workers: Annotated[int, typer.Option(metavar="N", min=1, help="Processes that compute.")] = 1,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the same unit, class or photograph by many methods, side by side on one page.

    With --net or --weights several times, the methods run on each of the networks or checkpoints.
    """
    with guard():
        from ..experiments.methods import compare as run_comparison
        from ..report.methods_page import write_methods
        from .tasks import parse_unit

        with resumable():
            found = run_comparison(
                [parse_unit(u) for u in unit or []],
                images or [],
                "all" if recipes == "all" else names_in(recipes),
                out=out,
                networks=net or ["squeezenet1_1"],
                weights=weights or ["default"],
                layer=layer,
                task=task,
                start=start,
                judge=None if judge == "none" else judge,
                seeds=seeds,
                seed=seed,
                iterations=iterations,
                smoke=smoke,
                device=device,
                precision=precision,
                workers=workers,
                progress=not (quiet or as_json),
            )
        page = write_methods(found)
        if as_json:
            tell_json("compare", {"rows": found.rows, "notes": found.notes, "page": str(page)})
        else:
            _tell(found.columns, found.rows, found.notes)
            typer.echo(f"\nOpen the page: {page.absolute().as_uri()}")
        for reason in found.failed.values():
            typer.echo(f"preimage: error: {one_line(reason)}", err=True)
        if found.failed:
            raise typer.Exit(FAILED)


def _tell(columns: list[str], rows: list[dict[str, object]], notes: list[str]) -> None:
    from ..report.numbers import number_table
    from .common import table

    several = len({row["subject"] for row in rows}) > 1
    order = ["method", *(c for c in columns if c != "method" and (several or c != "subject"))]
    shown = number_table(order, [[row.get(c) for c in order] for row in rows])
    table(shown["columns"], shown["rows"])
    for note in notes:
        typer.echo(one_line(note))
