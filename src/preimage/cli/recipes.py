"""preimage recipes, preimage again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from . import app
from .common import FAILED, guard, keep, plain, saved_if_interrupted, tell_json, tell_state
from .options import Json, Overwrite, Quiet

if TYPE_CHECKING:
    from ..tasks.result import Result


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

        found = known() if name is None else {name: recipe_named(name)}
        if as_json:
            tell_json("recipes", {"recipes": [r.to_plain() for r in found.values()]})
            return
        if name is not None:
            typer.echo(json.dumps(found[name].to_plain(), indent=1, ensure_ascii=False))
            return
        for recipe in found.values():
            tasks = ", ".join(t for t in TASKS if getattr(recipe, t) is not None)
            typer.echo(f"{recipe.name} ({tasks})\n  {recipe.sentence}\n  {recipe.source}")


@app.command(
    epilog="Examples:\n\n  preimage again out/inversion -o out/once-more\n\n  preimage again out/inversion --continue\n\n"
    "  preimage again out/inversion --continue --iterations 600 -o out/longer"
)
def again(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A result folder.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for the result.", show_default="with --continue the same"),
    ] = None,
    resume: Annotated[bool, typer.Option("--continue", help="Go on from where the run was left; it was made with --keep-state.")] = False,
    iterations: Annotated[
        int | None,
        typer.Option(metavar="N", help="With --continue: how many in all, those done included.", show_default="as many as it was to have"),
    ] = None,
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Run the program or function that the folder names as its network; it can do all that you can."),
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Make a result again from its own folder, or continue its run: the same image, to the bit on the same machine."""
    with guard():
        from ..tasks import Monitor
        from ..tasks.again import again as repeat
        from ..tasks.result import check_folder

        if out is None and not resume:
            raise InputError("Name a folder for the result: -o DIR.")
        if iterations is not None and not resume:
            raise InputError("--iterations goes with --continue: without it a result is made again as it was.")
        target = folder if out is None else out
        check_folder(target, overwrite or out is None)

        def save(result: Result) -> None:
            keep(result, target, overwrite or out is None)
            for line in result.captions():
                typer.echo(plain(line))
            typer.echo(f"{'Interrupted. ' if result.interrupted else ''}{result.evaluations} evaluations an image. Saved in {target}/")
            tell_state(result, target)

        with saved_if_interrupted(save):
            monitor = Monitor(keep_state=resume)
            result = repeat(folder, progress=not quiet, resume=resume, iterations=iterations, trust=trust, monitor=monitor)
            save(result)
        if any(s != "ok" for s in result.status):
            raise typer.Exit(FAILED)
