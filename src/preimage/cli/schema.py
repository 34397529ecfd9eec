"""preimage schema."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from . import app
from .common import guard


@app.command(epilog="Examples:\n\n  preimage schema\n\n  preimage schema result > result.schema.json")
def schema(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", help="What to describe.", show_default=False)] = None,
) -> None:
    """List the kinds of JSON that commands print with --json, or print the JSON schema of one."""
    with guard():
        from ..schemas import schema as one
        from ..schemas import schemas

        if kind is not None:
            typer.echo(json.dumps(one(kind), indent=1, ensure_ascii=False))
            return
        for name, found in schemas().items():
            typer.echo(f"{name:<12} {found['title']}")
