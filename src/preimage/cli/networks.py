"""preimage networks, preimage layers."""

from __future__ import annotations

from typing import Annotated

import typer

from . import app
from .common import guard, table
from .options import Json


@app.command()
def networks(as_json: Json = False) -> None:
    """List the networks that are known by name."""
    with guard():
        from ..networks.network import known_networks

        cards = known_networks()
        rows = [[c.name, f"{c.space.size}", "yes" if c.weights else "no", c.licence, c.paper] for c in cards]
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
