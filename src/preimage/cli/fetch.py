"""preimage fetch."""

from __future__ import annotations

from typing import Annotated

import typer

from . import app
from .common import guard
from .options import Quiet


@app.command()
def fetch(
    nets: Annotated[list[str], typer.Argument(metavar="NET...", help="Networks: see `preimage networks`.")],
    quiet: Quiet = False,
) -> None:
    """Fetch the trained weights of networks that do not come with a package, and check them. Nothing else ever downloads them."""
    with guard():
        from ..errors import InputError
        from ..networks.fetch import fetch as bring
        from ..networks.network import find_card

        cards = [find_card(net) for net in nets]
        for card in cards:
            if card.file is None:
                raise InputError(f"There is nothing to fetch for {card.name}: its weights come with a package, or there are none.")
        for card in cards:
            assert card.file is not None
            typer.echo(f"{card.name}: {bring(card.file, progress=not quiet)}")
