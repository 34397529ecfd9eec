"""preimage doctor."""

from __future__ import annotations

import typer

from . import app
from .common import FAILED, guard, plain, tell_json
from .options import Json

_SIGNS = {"ok": "ok", "absent": "-", "warning": "warning", "problem": "PROBLEM"}


@app.command(epilog="Exit code: 0 where everything works, 1 where something does not. Extras and devices that are not there are no fault.")
def doctor(as_json: Json = False) -> None:
    """Look whether all is well here: versions, devices, extras, folders, disk, and a small inversion."""
    with guard():
        from ..doctor import examine, report

        checks = examine()
        found = report(checks)
        if as_json:
            tell_json("doctor", found)
        else:
            for group in dict.fromkeys(c.group for c in checks):
                typer.echo(f"{group}:")
                for c in (c for c in checks if c.group == group):
                    typer.echo(plain(f"  {_SIGNS[c.status]:<8} {c.name:<16} {c.found}"))
                    if c.advice and c.status != "absent":
                        typer.echo(plain(f"           {'':<16} {c.advice}"))
            bad = sum(c.status == "problem" for c in checks)
            typer.echo("All is well." if found["ok"] else f"{bad} of {len(checks)} checks found a problem.")
        if not found["ok"]:
            raise typer.Exit(FAILED)
