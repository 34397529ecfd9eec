"""preimage inverse fit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import app
from .common import INTERRUPTED, guard, make_folder, names_in, table, tell_json
from .loudness import Commands
from .options import Device, InputSize, Json, Quiet, Space, Trust, Weights
from .signals import exit_code, tell

if TYPE_CHECKING:
    from ..inverses.learned import LearnedInverse
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
    "  preimage inverse fit squeezenet1_1 --layers fire9 --kind upconv photos/ -o fire9.safetensors\n\n"
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
    kind: Annotated[
        str,
        typer.Option(
            metavar="KIND[:SETTING=VALUE,...]",
            help="linear (half a minute), layerwise (linear ones through earlier layers) or upconv (a small network, minutes; also for "
            "layers without places); as linear:kernel=1,rank=64, layerwise:through=fire5/fire3 or upconv:width=64,feature_loss=0.",
        ),
    ] = "linear",
    crops: Annotated[int | None, typer.Option(metavar="N", help="Random crops to fit on.", show_default="200; 4,000 for upconv")] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="The same seed gives the same file.")] = 0,
    max_memory: Annotated[str, typer.Option(metavar="SIZE", help="For the fit, the network aside.")] = "2GB",
    device: Device = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit an inverse of each layer: a map from its features to the image, learned from photographs.

    A linear one takes about half a minute a layer on two cores, an up-convolutional network minutes, both at most --max-memory. Every
    fourth photograph is held out and gives the numbers that are printed, PSNR of the images and error of their features. Where a layer has
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
        fitted: list[dict[str, Any]] = []
        try:
            for name, phi in representations.items():
                part = paths[name].with_name(paths[name].name + ".part")
                options: dict[str, Any] = {"kind": kind, "crops": crops, "seed": seed, "max_memory": max_memory}
                with phi.session(None if device is None else _device(device)):
                    found = fit_inverse(phi, photos or None, checkpoint=part, progress=not (as_json or quiet), **options)
                found.save(paths[name])
                held = found.about["held_out"]
                facts = {"psnr": held["psnr"], "feature_error": held["feature_error"], "made_of": _made_of(found)}
                file = {"bytes": paths[name].stat().st_size, "file": str(paths[name])}
                fitted.append({"layer": name, "kind": found.kind, **facts, **file})
        except KeyboardInterrupt:
            tell("preimage: interrupted; the same command goes on from the .part file")
            raise typer.Exit(exit_code() or INTERRUPTED) from None
        if as_json:
            tell_json("inverse", {"inverses": fitted})
        else:
            table(["layer", "PSNR, dB", "feature error", "inverse", "bytes", "file"], [_row(one) for one in fitted])


def _row(one: dict[str, Any]) -> list[Any]:
    return [one["layer"], f"{one['psnr']:.2f}", f"{one['feature_error']:.3f}", one["made_of"], one["bytes"], one["file"]]


def _made_of(inverse: LearnedInverse) -> str:
    """What was fitted, in a few words."""
    about = inverse.about
    if inverse.kind == "linear":
        chosen = about["chosen"]
        return f"{chosen['kernel']}x{chosen['kernel']} cells, rank {chosen['rank']}, strength {chosen['strength']:g}"
    if inverse.kind == "layerwise":
        return f"by {', '.join(about['through'])}"
    plan = about["architecture"]
    return f"width {plan['width']}, {plan['stages']} doublings"


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
