"""preimage activation-atlas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import app
from .common import guard, resumable
from .networks import load
from .options import Device, InputSize, LayerName, Quiet, Recipe, Seed, Space, Trust, Weights


@app.command(
    "activation-atlas",
    epilog="Example:\n\n  preimage activation-atlas squeezenet1_1 photos/ --layer fire8 -o atlas-fire8/\n\n"
    "The same command goes on where it was ended. Open atlas-fire8/index.html.",
)
def activation_atlas(
    net: Annotated[str, typer.Argument(metavar="NET", help="A network: see `preimage networks`.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Photographs, or folders of them.", show_default=False)],
    *,
    layer: LayerName,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="A new folder, or one of the same atlas.")],
    crops: Annotated[int, typer.Option(metavar="N", help="Activations that are sampled, one a random crop.")] = 2000,
    grid: Annotated[int | None, typer.Option(metavar="N", help="Fields along a side.", show_default="14 activations a field")] = None,
    layout: Annotated[str, typer.Option(metavar="tsne|umap|pca", help="How activations are laid out.")] = "tsne",
    whiten: Annotated[bool, typer.Option("--whiten/--no-whiten", help="Of directions, by the covariance of all activations.")] = False,
    canvas: Annotated[int, typer.Option(metavar="PIXELS", help="Of each image.")] = 112,
    recipe: Recipe = None,
    iterations: Annotated[int | None, typer.Option(metavar="N", help="Evaluations of each image.", show_default="100")] = None,
    seed: Seed = 0,
    weights: Weights = "default",
    space: Space = None,
    size: InputSize = None,
    trust: Trust = False,
    device: Device = None,
    quiet: Quiet = False,
) -> None:
    """Lay out many activations of a layer as a map, with an image for the mean of each field and natural examples behind it."""
    with guard(), resumable():
        from ..experiments.activation_atlas import EVALUATIONS, RECIPE
        from ..experiments.activation_atlas import activation_atlas as make

        page = make(
            load(net, weights, space, size, trust).layer(layer),
            images,
            out,
            crops=crops,
            grid=grid,
            layout=layout,
            whiten=whiten,
            canvas=canvas,
            recipe=recipe or RECIPE,
            iterations=EVALUATIONS if iterations is None else iterations,
            seed=seed,
            device=device,
            progress=not quiet,
        )
        typer.echo(f"Open {page}")
