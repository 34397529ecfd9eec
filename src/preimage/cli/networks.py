"""preimage networks, preimage layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import app
from .common import guard, table, tell_json
from .options import InputSize, Json, Space, Trust, Weights

if TYPE_CHECKING:
    from ..networks.network import Network, NetworkCard
    from ..representations.listing import LayerInfo
    from ..representations.reach import Number


@app.command()
def networks(as_json: Json = False) -> None:
    """List the networks that are known by name, and the forms in which all others are named."""
    with guard():
        from ..networks.network import known_networks, known_sources

        cards, sources = known_networks(), known_sources()
        if as_json:
            listed = [{"name": c.name, "size": _size(c), "weights": _weights(c), "licence": c.licence, "paper": c.paper} for c in cards]
            tell_json("networks", {"networks": listed, "sources": [{"form": s.form, "about": s.about} for s in sources]})
            return
        rows = [[c.name, "x".join(map(str, _size(c) or ())), _weights(c).replace("fetchable", f"preimage fetch {c.name}")] for c in cards]
        table(["name", "size", "trained weights", "licence"], [[*r, c.licence] for r, c in zip(rows, cards, strict=True)])
        typer.echo("All others, by the form of their name:")
        table(["form", "what it is"], [[s.form, s.about] for s in sources])


@app.command(
    epilog="Examples:\n\n  preimage layers squeezenet1_1\n\n  preimage layers timm/vit_tiny_patch16_224\n\n"
    "  preimage layers my_models:build --space imagenet:224\n\n"
    "A layer is named as listed. Where parts are listed, they are layers too: blocks.3:cls, blocks.3:grid."
)
def layers(
    net: Annotated[str, typer.Argument(metavar="NET", help="A network, in any of the forms of `preimage networks`.")],
    every: Annotated[bool, typer.Option("--all", help="All modules, by their dotted names too.")] = False,
    weights: Weights = "none",
    space: Space = None,
    size: InputSize = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """List the layers of a network: output shape, receptive field and stride in pixels, and the paper's jitter."""
    with guard():
        infos = load(net, weights, space, size, trust, listed=True).layers(every)
        parts = any(i.parts for i in infos)
        if as_json:
            tell_json("layers", {"network": net, "layers": [_facts(i) for i in infos]})
            return
        rows = [
            [
                i.name or '""',  # a module as a whole
                "x".join(map(str, i.shape)),
                "global" if i.receptive_field is None else i.receptive_field,
                i.stride,
                i.jitter,
                i.kind,
                *([" ".join(f":{p}" for p in i.parts)] if parts else []),
            ]
            for i in infos
        ]
        table(["layer", "output", "receptive field", "stride", "jitter", "kind", *(["parts"] if parts else [])], rows)


def _facts(layer: LayerInfo) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "shape": list(layer.shape),
        "receptive_field": None if layer.receptive_field is None else _number(layer.receptive_field),
        "stride": _number(layer.stride),
        "jitter": layer.jitter,
        "parts": list(layer.parts),
    }


def _number(value: Number) -> int | float:
    return int(value) if value == int(value) else float(value)


def load(
    net: str, weights: str, space: str | None, size: str | None, trust: bool, *, listed: bool = False, labels: Path | None = None
) -> Network:
    """The network that these options of a command name. Raises what `load_network` does.

    listed: only its layers are looked at, so a network that comes with its weights may have them also where "none" are asked for.
    """
    from ..networks.network import find_card, load_network
    from ..pixels.pixelspace import PixelSpace, parse_size

    card: Any = find_card(net, trust)
    return load_network(
        card,
        weights if weights != "none" else "default" if listed and card.whole else None,
        space=None if space is None else PixelSpace.parse(space),
        size=None if size is None else parse_size(size),
        labels=labels,
    )


def _size(card: NetworkCard) -> list[int] | None:
    return list(card.space.size) if card.space and card.space.size else None


def _weights(card: NetworkCard) -> str:
    """Where the trained weights of a network come from: packaged, fetched, fetchable or none."""
    from ..networks.fetch import cache_folder

    if card.file is not None:
        return "fetched" if (cache_folder() / card.file.name).is_file() else "fetchable"
    return "packaged" if card.weights else "none"
