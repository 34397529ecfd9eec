"""preimage direction."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import app
from .common import guard, table, tell_json
from .networks import load
from .options import InputSize, Json, LayerName, Seed, Space, Trust, Weights


@app.command(
    epilog="Example:\n\n  preimage direction squeezenet1_1 --layer fire8 striped/ others/ -o striped.safetensors\n\n"
    "  preimage maximize --layer fire8 --direction striped.safetensors -o out/"
)
def direction(
    net: Annotated[str, typer.Argument(metavar="NET", help="A network: see `preimage networks`.")],
    positives: Annotated[Path, typer.Argument(metavar="POSITIVES", help="A folder of pictures with the concept.", show_default=False)],
    negatives: Annotated[Path, typer.Argument(metavar="NEGATIVES", help="A folder of pictures without it.", show_default=False)],
    *,
    layer: LayerName,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The direction, a .safetensors file.")],
    use: Annotated[str, typer.Option(metavar="logistic|mean", help="Which vector is the direction: both are kept.")] = "logistic",
    held_out: Annotated[float, typer.Option(metavar="PART", help="Of the pictures, for the accuracy alone.")] = 0.25,
    seed: Seed = 0,
    weights: Weights = "default",
    space: Space = None,
    size: InputSize = None,
    trust: Trust = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    as_json: Json = False,
) -> None:
    """Learn the direction in a layer that tells some pictures from others, and how well it does on pictures it has not seen."""
    with guard():
        from ..directions import learn_concept
        from ..errors import InputError
        from ..files import check_file

        check_file(out)
        if out.exists() and not overwrite:
            raise InputError(f"The file {str(out)!r} is there already. Name another, or give --overwrite.")
        phi = load(net, weights, space, size, trust).layer(layer)
        found = learn_concept(phi, positives, negatives, use=use, held_out=held_out, seed=seed)
        found.save(out)
        if as_json:
            vectors = [{"name": name, "accuracy": float(found.accuracy[name]), "used": name == found.use} for name in found.vectors]
            tell_json("direction", {"file": str(out), "held_out": found.held_out, "vectors": vectors})
        else:
            rows = [[name, f"{found.accuracy[name]:.3f}", "yes" if name == found.use else ""] for name in found.vectors]
            table(["vector", "accuracy", "used"], rows)
            typer.echo(f"On {found.held_out} pictures that were held out; 0.5 is chance. Saved in {out}")
