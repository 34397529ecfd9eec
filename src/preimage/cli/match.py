"""preimage match."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from . import app
from .common import guard, names_in, table, tell_json
from .options import Json, Overwrite

if TYPE_CHECKING:
    from ..statistics import Matches


@app.command(
    epilog="Example:\n\n  preimage statistics squeezenet1_1 photos/ --sample 2000 -o before.safetensors\n\n"
    "  preimage statistics squeezenet1_1 photos/ --weights tuned.pt --sample 2000 -o after.safetensors\n\n"
    "  preimage match before.safetensors after.safetensors --same-layers -o pairs.csv\n\n"
    "  preimage microscope before.safetensors --beside after.safetensors -o units.html"
)
def match(
    stats: Annotated[Path, typer.Argument(metavar="STATS", help="A file of `preimage statistics` with a --sample.", show_default=False)],
    others: Annotated[
        Path, typer.Argument(metavar="OTHERS", help="The same of another network or checkpoint, over the same images.", show_default=False)
    ],
    *,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write every pair of units as CSV.", show_default=False)
    ] = None,
    layers: Annotated[str, typer.Option(metavar="A,B,...", help="Only these layers of STATS.", show_default="all of the file")] = "",
    same_layers: Annotated[
        bool, typer.Option("--same-layers", help="Look only in the layer of the same name, as for two checkpoints.")
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Compare two networks, or two checkpoints of one: for every unit the unit of the other that answers most like it.

    Answers to the same places of the same images are correlated. "by chance" is what the best of the other's units reaches with answers to
    other images: a correlation is one only where it is clearly above.
    """
    with guard():
        from ..statistics import load_statistics, match_units

        if out is not None and out.exists() and not overwrite:
            raise InputError(f"{str(out)!r} is there already. Name another file, or --overwrite it.")
        names = names_in(layers) or None
        found = match_units(load_statistics(stats), load_statistics(others), names, same_layers=same_layers)
        if out is not None:
            _write(found, out)
        rows = [_row(m) for m in found]
        if as_json:
            tell_json("match", {"file": None if out is None else str(out), "draws": found[0].draws, "layers": rows})
            return
        table(
            ["layer", "most like", "units", "correlation", "by chance", "above 0.5"],
            [
                [r["layer"], r["other"], r["units"], *(_number(r[k]) for k in ("correlation", "by_chance")), _share(r["above_half"])]
                for r in rows
            ],
        )
        typer.echo(f"Medians over units, {found[0].draws} draws.{'' if out is None else f' Every pair: {out}'}")


def _row(found: Matches) -> dict[str, Any]:
    varies = found.correlation[found.units >= 0]
    return {
        "layer": found.layer,
        "other": found.other,
        "units": len(found.units),
        "constant": len(found.units) - len(varies),
        "correlation": found.median(),
        "by_chance": found.median_by_chance(),
        "above_half": float((varies > 0.5).double().mean()) if len(varies) else math.nan,
    }


def _number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.0f} %"


def _write(found: list[Matches], path: Path) -> None:
    """A line a unit; the other's is empty for a unit that answers the same everywhere."""
    from ..pixels.images import atomic_write

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["layer", "unit", "other_layer", "other_unit", "correlation", "by_chance"])
    for m in found:
        for unit, (other, r, chance) in enumerate(zip(m.units.tolist(), m.correlation.tolist(), m.chance.tolist(), strict=True)):
            numbers = ["", "", ""] if other < 0 else [other, round(r, 4), round(chance, 4)]
            writer.writerow([m.layer, unit, m.other, *numbers])
    with atomic_write(path) as file:
        file.write(buffer.getvalue().encode())
