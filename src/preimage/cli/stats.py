"""preimage statistics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import app
from .common import FAILED, INTERRUPTED, guard, names_in, table, tell_json
from .networks import load
from .options import Device, InputSize, Json, Quiet, Space, Squash, Trust, Weights
from .signals import exit_code, tell

if TYPE_CHECKING:
    from ..statistics import Statistics


_EPILOG = (
    "Examples:\n\n  preimage statistics squeezenet1_1 photos/ -o squeezenet.safetensors\n\n"
    "  preimage statistics squeezenet1_1 shard-0.tar more.txt --sample 2000 -o squeezenet.safetensors\n\n"
    "  preimage maximize --layer fire9 --unit 12 --stats squeezenet.safetensors -o out/"
)


@app.command("statistics", epilog=_EPILOG)
@app.command("stats", epilog=_EPILOG, hidden=True)
def stats(
    net: Annotated[str, typer.Argument(metavar="NET", help="A network: see `preimage networks`.")],
    images: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IMAGE...", help="Images, folders of them, .txt lists of paths, .tar files.", show_default=False),
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The statistics, a .safetensors file.")],
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME[:SPLIT]", help="Instead of images: a Hugging Face data set, by name or folder.", show_default=False),
    ] = None,
    layers: Annotated[
        list[str] | None, typer.Option("--layers", metavar="NAME,…", help="Only these; repeat or use commas.", show_default="all")
    ] = None,
    weights: Weights = "default",
    space: Space = None,
    size: InputSize = None,
    trust: Trust = False,
    top: Annotated[int, typer.Option(metavar="K", help="Keep for each channel the K images that excite it most.")] = 9,
    crops: Annotated[int, typer.Option(metavar="PIXELS", help="Keep what each unit saw of these images, this large; 0: none.")] = 64,
    sample: Annotated[int, typer.Option(metavar="N", help="Keep N activations of each layer, all channels at random places.")] = 0,
    places: Annotated[int, typer.Option(metavar="N", help="Of the sample: places in each image.")] = 4,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the sample.")] = 0,
    batch: Annotated[int, typer.Option(metavar="N", help="Images in one pass.")] = 16,
    workers: Annotated[int, typer.Option(metavar="N", help="Processes that read images ahead.")] = 0,
    checkpoint: Annotated[float, typer.Option(metavar="SECONDS", help="Keep what was done, this often.")] = 60.0,
    device: Device = None,
    squash: Squash = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew, and replace the file.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Collect how every channel of every layer answers to many images: largest, mean, std, quantiles, and its strongest images.

    The same command goes on where an ended one stopped. Images that cannot be read are left out and named, and the exit code is 1.
    """
    with guard():
        from ..statistics import Keep, collect_statistics
        from ..statistics.sources import hugging_face

        if (images is None) == (dataset is None):
            raise typer.BadParameter("Give images, or --dataset NAME.", param_hint="IMAGE...")
        rows = None if dataset is None else hugging_face(*dataset.rsplit(":", 1))

        network = load(net, weights, space, size, trust)
        names = names_in(",".join(layers)) if layers else None
        try:
            found = collect_statistics(
                network,
                images if rows is None else rows,
                out,
                layers=names,
                top=top,
                keep=Keep(crops, sample, places, seed),
                fit="squash" if squash else None,
                batch=batch,
                workers=workers,
                device=device,
                checkpoint=checkpoint,
                overwrite=overwrite,
                progress=not (as_json or quiet),
            )
        except KeyboardInterrupt:
            tell(f"Interrupted. The same command goes on from what {out}.part holds, if it is there.")
            raise typer.Exit(exit_code() or INTERRUPTED) from None
        if as_json:
            _tell(found, out)
        else:
            table(["layer", "channels", "never fired", "median max", "largest"], _rows(found))
        for path, reason in found.skipped:
            tell(f"preimage: skipped {path}: {reason}")
        if not as_json:
            typer.echo(f"{len(found.images)} image(s) counted, {len(found.skipped)} skipped: {out}")
        if found.skipped:
            raise typer.Exit(FAILED)


def _tell(found: Statistics, out: Path) -> None:
    layers = [
        {
            "name": s.name,
            "channels": s.channels,
            "never_fired": int((s.max <= 0).sum()),
            "median_max": s.max.median().item(),
            "largest": s.max.max().item(),
        }
        for s in found.values()
    ]
    skipped = [{"picture": str(path), "reason": reason} for path, reason in found.skipped]
    tell_json("statistics", {"file": str(out), "images": len(found.images), "skipped": skipped, "layers": layers})


def _rows(found: Statistics) -> list[list[Any]]:
    """A channel that was never above 0 has never fired."""
    return [[s.name, s.channels, int((s.max <= 0).sum()), f"{s.max.median():.4g}", f"{s.max.max():.4g}"] for s in found.values()]
