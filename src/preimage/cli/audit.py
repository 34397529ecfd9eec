"""preimage audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import app
from .common import FAILED, guard, names_in, one_line, resumable, tell_json
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
    "  preimage audit photos/ --layers fire4,fire9,pool10 --bits 4 --noise 0.5 --release pool:2 -o audit/\n\n"
    "  preimage audit photos/ --net half.onnx --space imagenet:224 --layers output --pdf audit.pdf -o audit/\n\n"
    "  preimage audit photos/ --attack smoothness -o audit/\n\n"
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
        str,
        typer.Option(
            metavar="A,B,...",
            help="Layers by name, all, or output: what the network gives at its end.",
            show_default="eight, from the first to the last",
        ),
    ] = "",
    C: Annotated[
        list[float] | None,
        typer.Option(
            "--C",
            metavar="NUMBER",
            help="Weight of the features in the attack smoothness, or the recipe's; repeat: the best fit of each image counts.",
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
    release: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:NUMBER",
            help="Also with features released so: bits:N, noise:AMOUNT, topk:SHARE, prune:SHARE, project:N, pool:N, or several with "
            "commas; repeat.",
            show_default=False,
        ),
    ] = None,
    attack: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="smoothness, natural, inverse, collages, inverse-descent, layer-by-layer, upconv, pairs, or all; repeat.",
            show_default="the first five",
        ),
    ] = None,
    attacker_images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="What the attacker learns from; none of the audited images. Repeat.",
            show_default="free photographs",
        ),
    ] = None,
    crops: Annotated[int, typer.Option(metavar="N", help="Crops of these that an inverse is fitted on.")] = 200,
    judge: Annotated[
        str, typer.Option(metavar="NET", help="An independent network that says whose reconstruction it sees, auto or none.")
    ] = "auto",
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
    pdf: Annotated[Path | None, typer.Option(metavar="FILE", help="Print the page too, with Chromium.", show_default=False)] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Processes that compute.", show_default="one a core")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure what leaks: how much of an image comes back from the features of each layer.

    Attacks every layer in several ways, from somebody who knows only that images are smooth to somebody who has learned from photographs
    and knows how features are protected, and compares: PSNR, SSIM, the class, and whether a reconstruction finds its own image among all.
    Writes tables, curves, and the page DIR/audit.html, which says first what was found. What is recovered is a lower bound on what leaks.
    """
    with guard():
        from ..experiments.attacks import ATTACKS, DEFAULT
        from ..experiments.audit import PAGE, Threat
        from ..experiments.audit import audit as run_audit
        from ..experiments.base import ChosenParts
        from ..pixels.images import find_pictures
        from ..report.pdf import find_browser, print_pdf

        chosen = "all" if layers == "all" else names_in(layers)
        releases = [*(f"bits:{n}" for n in bits or []), *(f"noise:{a:g}" for a in noise or []), *(release or [])]
        names = list(ATTACKS) if "all" in (attack or ()) else attack or DEFAULT
        if pdf is not None:
            find_browser()
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
                release=releases,
                threat=Threat(names, attacker_images, crops, None if judge == "none" else judge),
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
                say=None if quiet or as_json else lambda text: tell(f"preimage: {text}"),
            )
        page = found.save(out)
        if pdf is not None:
            print_pdf(page, pdf)
        if as_json:
            tell_json("audit", {"findings": found.findings, "table": found.table, "notes": found.notes})
        else:
            typer.echo(found.text())
            typer.echo(f"\nOpen the page: {(out / PAGE).absolute().as_uri()}")
        for reason in found.failed.values():
            tell(f"preimage: error: {one_line(reason)}")
        if found.failed:
            raise typer.Exit(FAILED)
