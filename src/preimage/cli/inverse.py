"""preimage inverse fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import app
from .common import INTERRUPTED, guard, make_folder, names_in, table
from .loudness import Commands
from .options import Device, InputSize, Json, Quiet, Space, Trust, Weights
from .signals import exit_code, tell

if TYPE_CHECKING:
    from ..representations.base import Representation

inverse = typer.Typer(
    cls=Commands,
    name="inverse",
    help="Learned inverses of layers: fitted once on photographs, they give an image for any features at once.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(inverse)
_SHALLOW = ("hog", "hogb", "dsift")


@inverse.callback()
def _group() -> None:
    """Learned inverses of layers: fitted once on photographs, they give an image for any features at once."""


@inverse.command(
    epilog="Examples:\n\n  preimage inverse fit squeezenet1_1 --layers fire4 -o fire4.safetensors\n\n"
    "  preimage inverse fit squeezenet1_1 --layers fire2,fire4,fire9 photos/ -o inverses/\n\n"
    "  preimage inverse fit hog -o hog.safetensors"
)
def fit(
    net: Annotated[str, typer.Argument(metavar="NET", help="A network: see `preimage networks`. Or hog, hogb, dsift.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE|DIR", help="A .safetensors file; for several layers a folder, one file a layer.")
    ],
    photos: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PHOTO...]",
            help="Photographs, or folders of them, at least four.",
            show_default="the free ones of scikit-image, scikit-learn and matplotlib",
        ),
    ] = None,
    layers: Annotated[
        str, typer.Option(metavar="A,B,...", help="Layers with a map, or NAME:grid of a transformer.", show_default=False)
    ] = "",
    weights: Weights = "default",
    space: Space = None,
    size: InputSize = None,
    trust: Trust = False,
    crops: Annotated[int, typer.Option(metavar="N", help="Random crops to fit on.")] = 200,
    kernel: Annotated[int, typer.Option(metavar="K", help="Cells along each side that tell about a patch of pixels; odd.")] = 3,
    rank: Annotated[
        int | None, typer.Option(metavar="R", help="Combinations of channels that are used.", show_default="128, or all of fewer")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed gives the same file.")] = 0,
    max_memory: Annotated[str, typer.Option(metavar="SIZE", help="For the regression, the network aside.")] = "2GB",
    device: Device = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit an inverse of each layer: a linear map from its features to the image, by ridge regression on photographs.

    It takes about half a minute a layer on two cores and at most --max-memory. Every fourth photograph is held out: it chooses the
    regression's strength and gives the numbers that are printed, PSNR of the images and error of their features. Where a layer has
    forgotten much the images are blurred; as the start of `invert` they save most of its evaluations. An ended command goes on where
    it stopped when it is given again (FILE.part). An inverse is of use for the network, weights and layer that it was made of only.
    """
    with guard():
        from ..errors import InputError
        from ..inverses import fit_inverse

        representations = _representations(net, names_in(layers), weights, space, size, trust)
        single = len(representations) == 1 and not out.is_dir() and out.suffix == ".safetensors"
        if not single:
            make_folder(out)
        paths = {name: out if single else out / f"{name.replace('/', '_').replace(':', '-')}.safetensors" for name in representations}
        if taken := [str(p) for p in paths.values() if p.exists() and not overwrite]:
            raise InputError(f"{taken[0]!r} is there already. Name another, or replace it (--overwrite).")
        rows = []
        try:
            for name, phi in representations.items():
                part = paths[name].with_name(paths[name].name + ".part")
                options: dict[str, Any] = {"crops": crops, "kernel": kernel, "rank": rank, "seed": seed, "max_memory": max_memory}
                with phi.session(None if device is None else _device(device)):
                    found = fit_inverse(phi, photos or None, checkpoint=part, progress=not (as_json or quiet), **options)
                found.save(paths[name])
                held = found.about["held_out"]
                chosen = found.about["chosen"]
                rows.append(
                    [
                        name,
                        f"{held['psnr']:.2f}",
                        f"{held['feature_error']:.3f}",
                        f"{chosen['kernel']}x{chosen['kernel']}",
                        chosen["rank"],
                        f"{chosen['strength']:g}",
                        paths[name].stat().st_size,
                        str(paths[name]),
                    ]
                )
        except KeyboardInterrupt:
            tell("preimage: interrupted; the same command goes on from the .part file")
            raise typer.Exit(exit_code() or INTERRUPTED) from None
        table(["layer", "PSNR, dB", "feature error", "cells", "rank", "strength", "bytes", "file"], rows, as_json)


def _representations(
    net: str, layers: list[str], weights: str, space: str | None, size: str | None, trust: bool
) -> dict[str, Representation]:
    from ..errors import InputError
    from ..networks.network import load_network
    from ..pixels.pixelspace import PixelSpace, parse_size
    from ..representations.shallow import load_shallow

    if net in _SHALLOW:
        if layers:
            raise InputError(f"{net} has no layers: leave --layers out.")
        return {net: load_shallow(net)}
    if not layers:
        raise InputError(f"Say which layers to fit: --layers A,B. `preimage layers {net}` lists them.")
    network = load_network(
        net,
        weights=None if weights == "none" else weights,
        space=None if space is None else PixelSpace.parse(space),
        size=None if size is None else parse_size(size),
        trust=trust,
    )
    return {name: network.layer(name) for name in layers}


def _device(name: str) -> Any:
    from ..representations.devices import usable_device

    return usable_device(name)
