"""preimage audit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from . import app
from .common import FAILED, guard, names_in, one_line, resumable
from .options import (
    InputSize,
    Iterations,
    Json,
    Net,
    Objective,
    Parameterization,
    Pictures,
    Prior,
    Quiet,
    Recipe,
    RunDevice,
    RunPrecision,
    Seed,
    Space,
    StudySolver,
    Transform,
    Trust,
    Weights,
)
from .signals import tell


@app.command(
    epilog="Examples:\n\n  preimage audit photos/ -o audit/\n\n"
    "  preimage audit photos/ --recipe mahendran2016 -o audit/\n\n"
    "  preimage audit photos/ --layers fire4,fire9,pool10 --bits 4 --noise 0.5 -o audit/\n\n"
    "The same folder goes on where it stopped. Exit codes: 0 done, 1 some job failed, 2 wrong usage, 130 interrupted.",
)
def audit(
    images: Pictures,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The store: a new folder, or one from an earlier audit.")],
    net: Net = "squeezenet1_1",
    weights: Weights = "default",
    space: Space = None,
    size: InputSize = None,
    trust: Trust = False,
    layers: Annotated[
        str, typer.Option(metavar="A,B,...", help="Layers by name, or all.", show_default="eight, from the first to the last")
    ] = "",
    C: Annotated[
        list[float] | None,
        typer.Option(
            "--C",
            metavar="NUMBER",
            help="Weight of the features, or the recipe's; repeat: the best fit of each image counts.",
            show_default="20, 100",
        ),
    ] = None,
    bits: Annotated[
        list[int] | None, typer.Option(metavar="N", help="Also with features quantised to N bits; repeat.", show_default=False)
    ] = None,
    noise: Annotated[
        list[float] | None,
        typer.Option(metavar="AMOUNT", help="Also with noise on the features, of AMOUNT times their RMS; repeat.", show_default=False),
    ] = None,
    solver: StudySolver = "fast",
    iterations: Iterations = None,
    seed: Seed = 0,
    recipe: Recipe = None,
    objective: Objective = None,
    transform: Transform = None,
    parameterization: Parameterization = None,
    prior: Prior = None,
    device: RunDevice = "cpu",
    precision: RunPrecision = "float32",
    lpips: Annotated[str, typer.Option(metavar="NAME", help="alex, vgg, squeeze or none; left out where its weights are not.")] = "alex",
    workers: Annotated[int | None, typer.Option(metavar="N", help="Processes that compute.", show_default="one a core")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure what leaks: how much of an image comes back from the features of each layer.

    Inverts every image from every layer and compares: feature error, PSNR, SSIM, MS-SSIM, LPIPS, the class, and whether the
    reconstruction finds its own image among all. Writes a table, curves, and the page DIR/audit.html. What the attack recovers is a
    lower bound on what leaks.
    """
    with guard():
        from ..experiments.audit import PAGE
        from ..experiments.audit import audit as run_audit
        from ..experiments.base import ChosenParts
        from ..pixels.images import find_pictures

        chosen = "all" if layers == "all" else names_in(layers)
        release = [*(f"bits:{n}" for n in bits or []), *(f"noise:{a:g}" for a in noise or [])]
        with resumable():
            found = run_audit(
                net,
                find_pictures(images),
                chosen,
                weights=weights,
                space=space,
                size=size,
                trust=trust,
                C=C,
                release=release,
                recipe=ChosenParts(recipe, tuple(objective or ()), tuple(transform or ()), parameterization, tuple(prior or ())),
                out=out,
                solver=solver,
                iterations=iterations,
                seed=seed,
                device=device,
                precision=precision,
                lpips=None if lpips == "none" else lpips,
                workers=workers,
                progress=not (quiet or as_json),
            )
        found.save(out)
        typer.echo(json.dumps({"table": found.table, "notes": found.notes}, ensure_ascii=False) if as_json else found.text())
        if not as_json:
            typer.echo(f"\nOpen the page: {(out / PAGE).absolute().as_uri()}")
        for reason in found.failed.values():
            tell(f"preimage: error: {one_line(reason)}")
        if found.failed:
            raise typer.Exit(FAILED)
