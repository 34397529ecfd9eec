"""preimage atlas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import app
from .common import guard, names_in
from .options import (
    Address,
    Backend,
    Batch,
    InputSize,
    Layers,
    Mirror,
    Objective,
    Parameterization,
    Prior,
    Quiet,
    Recipe,
    RunDevice,
    RunPrecision,
    Seed,
    Space,
    StoreOut,
    Threads,
    Transform,
    Trust,
    Weights,
    Workers,
)
from .study import choose_backend, run_and_tell


@app.command(
    epilog="Examples:\n\n  preimage atlas squeezenet1_1 --layers fire4,fire9,pool10 --units 25 -o atlas/\n\n"
    "  preimage atlas squeezenet1_1 photos/ --units top --stats squeezenet.safetensors -o atlas/\n\n"
    "The same folder goes on where it stopped; `preimage report atlas/` makes its page. Exit codes: 0 done, 1 some job failed (the others "
    "are kept), 2 wrong usage, 130 interrupted."
)
def atlas(
    net: Annotated[str, typer.Argument(metavar="NET", help="A network: see `preimage networks`.")],
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[IMAGE...]", help="Photographs, or folders of them, to invert and caricature by each layer."),
    ] = None,
    *,
    out: StoreOut,
    weights: Weights = "default",
    space: Space = None,
    size: InputSize = None,
    trust: Trust = False,
    layers: Layers = "",
    units: Annotated[
        str, typer.Option(metavar="all|N|top|top:N", help="Units of each layer: the first N, or those of the largest answers in --stats.")
    ] = "25",
    restarts: Annotated[int, typer.Option(metavar="N", help="Images of each unit, from different starts.")] = 1,
    stats: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Statistics of the units (`preimage statistics`).", show_default="estimated from a few images"),
    ] = None,
    solver: Annotated[str, typer.Option(metavar="NAME", help="fast, paper, fourier-adam, adam or lbfgs.")] = "fast",
    iterations: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Evaluations an image.",
            show_default="100 a unit, else the method's own",
        ),
    ] = None,
    seed: Seed = 0,
    recipe: Recipe = None,
    objective: Objective = None,
    transform: Transform = None,
    parameterization: Parameterization = None,
    prior: Prior = None,
    device: RunDevice = "cpu",
    precision: RunPrecision = "float32",
    workers: Workers = None,
    threads: Threads = 1,
    batch: Batch = None,
    backend: Backend = "local",
    address: Address = None,
    mirror: Mirror = None,
    quiet: Quiet = False,
) -> None:
    """See what many units of a whole network look for: an image of each, on a canvas of its receptive field.

    Given photographs, each is also reconstructed from and exaggerated by each layer. All results are kept in one store.
    """
    with guard():
        from ..experiments.atlas import atlas as plan
        from ..experiments.base import ChosenParts, Study
        from ..pixels.images import find_pictures
        from ..studies.store import store_for

        computing = choose_backend(backend, address, workers)
        with store_for(out) as store:
            study = Study(
                store=store,
                images=find_pictures(images or []),
                network=net,
                weights=weights,
                space=space,
                size=size,
                trust=trust,
                layers=names_in(layers),
                solver=solver,
                iterations=iterations,
                seed=seed,
                device=device,
                precision=precision,
                parts=ChosenParts(recipe, tuple(objective or ()), tuple(transform or ()), parameterization, tuple(prior or ())),
            )
            chosen, experiments = plan(study, units, restarts, None if stats is None else str(stats))
            run_and_tell(
                chosen, experiments, workers=workers, threads=threads, batch=batch, backend=computing, mirror=mirror, progress=not quiet
            )
