"""preimage runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from ..registry import unknown
from . import app
from .common import guard, one_line, table, tell_damaged, tell_json
from .options import Json

if TYPE_CHECKING:
    from ..studies.store import Record, Store

_COLUMNS = ("experiment", "layer", "what", "C", "variant", "status", "reached", "time", "key")


@app.command(
    epilog="Examples:\n\n  preimage runs study/ --experiment inversion --layer fire4\n\n"
    "  preimage runs study/ --where C=100 --where image=cat --json\n\n  preimage runs study/ --status failed\n\n"
    "  preimage runs study/ --measure"
)
def runs(
    store: Annotated[Path, typer.Argument(metavar="DIR", help="A store of results, as `preimage paper` makes it.")],
    experiment: Annotated[str | None, typer.Option(metavar="NAME", help="Only those of this experiment.", show_default=False)] = None,
    layer: Annotated[str | None, typer.Option(metavar="NAME", help="Only those of this layer.", show_default=False)] = None,
    status: Annotated[str | None, typer.Option(metavar="WHICH", help="done or failed.", show_default=False)] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="SETTING=VALUE", help="Only those with this setting; repeat for several.", show_default=False),
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="First make the table again from the files, and check them.")] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="First take the metrics that results have not, from the kept tensors; nothing is run again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List what is in a store: what was asked for, what came of it, and why it failed where it did."""
    with guard():
        from ..studies.store import Store

        chosen: dict[str, Any] = {k: v for k, v in (("experiment", experiment), ("layer", layer), ("status", status)) if v is not None}
        if status not in (None, "done", "failed"):
            raise InputError(f"--status is done or failed; got {status!r}.")
        opened = Store.open(store, create=False)
        if rebuild:
            opened.rebuild()
        if measure:
            _measure(opened)
        found = opened.records(**chosen | dict(setting(text) for text in where or []))
        everything = opened.records()
        for name, value in (("experiment", experiment), ("layer", layer)):
            there = list(dict.fromkeys(str(r.config[name]) for r in everything if r.config.get(name) is not None))
            if value is not None and there and value not in there:
                raise unknown(f"{name} in {str(store)!r}", value, there, f"preimage runs {store}")
        if as_json:
            tell_json("runs", {"runs": [_plain(r) for r in found]})
        elif found:
            rows = [_row(r) for r in found]
            shown = [k for k in range(len(_COLUMNS)) if any(row[k] != "" for row in rows)]
            table([_COLUMNS[k] for k in shown], [[row[k] for k in shown] for row in rows])
        if not as_json:
            failed = sum(r.status == "failed" for r in found)
            typer.echo(f"{len(found)} of {len(everything)} results, {failed} of them failed")
        tell_damaged(opened)


def _measure(store: Store) -> None:
    from ..studies.measure import measure_store

    done = measure_store(store)
    typer.echo(f"measured {done.results} results: {done.numbers} numbers", err=True)
    for why in list(dict.fromkeys(done.left_out.values()))[:5]:
        count = sum(reason == why for reason in done.left_out.values())
        typer.echo(f"preimage: warning: {count} left out: {one_line(why)}", err=True)


def setting(text: str) -> tuple[str, Any]:
    """name=value; a value that is a number, true, false or null is one."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InputError(f"--where takes SETTING=VALUE, as C=100; got {text!r}.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _row(r: Record) -> list[Any]:
    config = r.config
    what = config.get("image") or config.get("name") or config.get("unit", "")
    what = f"{what} restart {config['restart']}" if config.get("restart") else str(what)
    reached = r.reason or (f"{r.metrics['error']:.1%}" if "error" in r.metrics else f"activation {r.metrics.get('activation', 0):.4g}")
    place = config.get("layer") or config.get("representation", "")
    return [
        r.experiment,
        place,
        what,
        f"{config.get('C', 0):g}",
        config.get("variant", ""),
        r.status,
        reached,
        f"{r.seconds:.1f} s",
        r.key[:8],
    ]


def _plain(r: Record) -> dict[str, Any]:
    return r.facts() | {"folder": None if r.folder is None else str(r.folder)}
