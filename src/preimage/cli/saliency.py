"""preimage saliency."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from . import app
from .common import guard, plain, table, tell_json
from .networks import load
from .options import Device, Images, InputSize, Json, LayerOrLast, Net, Out, Overwrite, Space, Squash, Trust, Weights
from .tasks import parse_unit


@app.command(
    epilog='Examples:\n\n  preimage saliency cat.jpg --unit "tabby" -o cat/\n\n'
    "  preimage saliency cat.jpg dog.jpg --layer fire4 --unit 12 --method deconvnet -o channel12/"
)
def saliency(
    images: Images,
    unit: Annotated[str, typer.Option("--unit", "-u", metavar="NAME|N|C,Y,X", help="Whose answer: a class, a channel, a unit.")],
    out: Out,
    net: Net = "squeezenet1_1",
    layer: LayerOrLast = None,
    method: Annotated[str, typer.Option(metavar="NAME", help="gradient, guided (backpropagation), or deconvnet.")] = "gradient",
    weights: Weights = "default",
    space: Space = None,
    size: InputSize = None,
    trust: Trust = False,
    squash: Squash = False,
    device: Device = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Trace a unit's answer to a photograph back to its pixels, beside the part of the photograph that the unit sees.

    The folder gets a picture for each photograph and saliency.json. Grey is no answer, the largest is full contrast.
    """
    with guard():
        from ..errors import InputError
        from ..pixels.images import read_image
        from ..schemas import said
        from ..tasks.folders import check_folder, new_folder
        from ..tasks.result import plain_json, printable
        from ..tasks.saliency import METHODS
        from ..tasks.saliency import saliency as trace

        if method not in METHODS:
            raise InputError(f"The method is one of {', '.join(METHODS)}; got {method!r}.")
        check_folder(out, overwrite)
        for image in images:  # a wrong path costs no loading of a network
            read_image(image)
        network = load(net, weights, space, size, trust)
        phi = network.layer(network.layers()[-1].name if layer is None else layer)
        found = trace(phi, [str(i) for i in images], parse_unit(unit), method, fit="squash" if squash else None, device=device)
        rows: list[dict[str, Any]] = [
            {"image": printable(str(image)), "answer": answer, "place": list(place), "patch": list(patch), "picture": f"{k:02d}.png"}
            for k, (image, answer, place, patch) in enumerate(
                zip(images, found.responses.tolist(), found.places, found.patches, strict=True)
            )
        ]
        facts = {"net": net, "layer": phi.name, "unit": unit, "method": method, "images": rows}
        with new_folder(out, overwrite) as part:
            for row, picture in zip(rows, found.pil(), strict=True):
                picture.save(part / row["picture"])
            record = {"preimage": 1, **said("saliency", facts), "files": [row["picture"] for row in rows]}
            (part / "saliency.json").write_bytes(plain_json(record))
        if as_json:
            tell_json("saliency", {"folder": printable(str(out)), **facts})
            return
        keys = ["picture", "image", "answer", "place"]
        table(keys, [[r["picture"], r["image"], f"{r['answer']:.4g}", " ".join(map(str, r["place"])) or "whole"] for r in rows])
        typer.echo(plain(f"Left what the unit sees, right what it answered to. Saved in {out}/"))
