"""preimage networks, preimage layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from . import app
from .common import guard, table
from .options import Json

if TYPE_CHECKING:
    from ..networks.network import NetworkCard


@app.command()
def networks(as_json: Json = False) -> None:
    """List the networks that are known by name."""
    with guard():
        from ..networks.network import known_networks

        cards = known_networks()
        rows = [[c.name, f"{c.space.size if c.space else ''}", _weights(c), c.licence, c.paper] for c in cards]
        keys = ["name", "size", "trained weights", "licence", "paper"]
        table(keys, rows, as_json)


@app.command()
def layers(
    net: Annotated[str, typer.Argument(metavar="NET", help="A network: see `preimage networks`.")],
    every: Annotated[bool, typer.Option("--all", help="All modules, by their dotted names too.")] = False,
    as_json: Json = False,
) -> None:
    """List the layers of a network: output shape, receptive field and stride in pixels, and the paper's jitter."""
    with guard():
        from ..networks.network import load_network

        infos = load_network(net, weights=None).layers(every)
        rows = [
            [
                i.name,
                "x".join(map(str, i.shape)),
                "global" if i.receptive_field is None else i.receptive_field,
                i.stride,
                i.jitter,
                i.kind,
            ]
            for i in infos
        ]
        table(["layer", "output", "receptive field", "stride", "jitter", "kind"], rows, as_json)


def _weights(card: NetworkCard) -> str:
    """Where the trained weights of a network come from."""
    from ..networks.fetch import cache_folder

    if card.file is not None:
        return "fetched" if (cache_folder() / card.file.name).is_file() else f"preimage fetch {card.name}"
    return "packaged" if card.weights else "none"
