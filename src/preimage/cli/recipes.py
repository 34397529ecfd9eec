"""preimage recipes, preimage again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from . import app
from .common import FAILED, guard
from .options import Json, Out, Overwrite, Quiet


@app.command(epilog='Example:\n\n  preimage maximize --unit "tree frog" --recipe mahendran2016 -o out/')
def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show this one whole, as a file for --recipe.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """List the methods that --recipe takes, or show all that one of them decides."""
    with guard():
        from ..methods.recipe import TASKS, recipe_named
        from ..methods.recipe import recipes as known

        if name is not None:
            typer.echo(json.dumps(recipe_named(name).to_plain(), indent=1, ensure_ascii=False))
            return
        found = known()
        if as_json:
            typer.echo(json.dumps([r.to_plain() for r in found.values()], ensure_ascii=False))
            return
        for recipe in found.values():
            tasks = ", ".join(t for t in TASKS if getattr(recipe, t) is not None)
            typer.echo(f"{recipe.name} ({tasks})\n  {recipe.sentence}\n  {recipe.source}")


@app.command(epilog="Example:\n\n  preimage again out/inversion -o out/once-more")
def again(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A result folder.", show_default=False)],
    out: Out,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Make a result again from its own folder: the same image, to the bit on the same machine."""
    with guard():
        from ..tasks.again import again as repeat
        from ..tasks.result import check_folder

        check_folder(out, overwrite)
        result = repeat(folder, progress=not quiet)
        result.save(out, overwrite=overwrite)
        for line in result.captions():
            typer.echo(line)
        if any(s != "ok" for s in result.status):
            raise typer.Exit(FAILED)
