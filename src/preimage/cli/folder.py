"""preimage invert FOLDER/: a store with a result for each picture and seed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import InputError
from .common import FAILED, guard, one_line, resumable, tell_json
from .signals import tell

if TYPE_CHECKING:
    from ..experiments.base import Study
    from ..studies.jobs import Job

EXPERIMENT = "images"
_NAME_THEM = "For one result of all pictures name them, as folder/*."
_NOT_IN_A_STORE = {
    "video": f"a store keeps no films. {_NAME_THEM}",
    "every": f"a store keeps no films. {_NAME_THEM}",
    "max_memory": f"a store's images are computed one by one. {_NAME_THEM}",
    "compiled": f"a store's images are computed without it. {_NAME_THEM}",
    "keep_state": f"the same command goes on with a store, picture by picture, without a state. {_NAME_THEM}",
    "overwrite": "the same command goes on with a store, and other settings add results to it: nothing in it is replaced. Leave it out.",
}


def refuse_what_a_store_cannot_use(context: typer.Context) -> None:
    """Raise typer.BadParameter for an option that was given to the command and means nothing where the results go to a store."""
    for option in context.command.params:
        source = context.get_parameter_source(str(option.name))
        if source is not None and source.name == "COMMANDLINE" and option.name in _NOT_IN_A_STORE:
            raise typer.BadParameter(f"not with a folder: {_NOT_IN_A_STORE[option.name]}", param_hint=option.opts[0])


def invert_folder(images: Sequence[Path], out: Path, **asked: Any) -> None:
    """Run what was asked of `preimage invert` for every picture in the folders. Raises typer.Exit where one failed."""
    with guard():
        from ..pixels.images import find_pictures
        from ..studies.runner import run
        from ..studies.store import store_for

        if asked["precision"] == "auto":
            raise InputError("precision is float32 or bfloat16 in a store, whose content must not depend on a stopwatch; got 'auto'.")
        pictures = find_pictures(images)
        with store_for(out) as store:
            study = _study(store, pictures, asked)
            jobs = _jobs(study, asked)
            with resumable():
                found = run(jobs, store, progress=not (asked["quiet"] or asked["as_json"]))
        if asked["as_json"]:
            facts = {"folder": str(out), "done": found.done, "already": found.skipped, "failed": found.failed, "left_out": study.unreadable}
            tell_json("folder", facts)
        else:
            typer.echo(f"{found}. Saved in {out}/. Pictures and a table: preimage export {out} -o DIR. A page: preimage report {out}")
        for reason in [*study.unreadable.values(), *found.failed.values()]:
            tell(f"preimage: error: {one_line(reason)}")
        if study.unreadable or found.failed:
            raise typer.Exit(FAILED)


def _study(store: Any, pictures: Sequence[Path], asked: dict[str, Any]) -> Study:
    from ..experiments.base import ChosenParts, Study

    parts = ChosenParts(
        asked["recipe"],
        tuple(asked["objective"] or ()),
        tuple(asked["transform"] or ()),
        asked["parameterization"],
        tuple(asked["prior"] or ()),
    )
    same = {name: asked[name] for name in ("network", "weights", "space", "size", "trust", "iterations", "precision")}
    return Study(
        store,
        pictures,
        layers=[asked["layer"]],
        solver=asked["solver"] or "fast",
        device=asked["device"] or "cpu",
        quirks=frozenset({"squash"} if asked["squash"] else ()),
        parts=parts,
        **same,
    )


def _jobs(study: Study, asked: dict[str, Any]) -> list[Job]:
    """A job for each picture, seed and restart; what is not said is as `preimage invert` has it for one picture."""
    from ..tasks.choice import check_quality
    from ..tasks.planned import own_recipe

    phi = study.net.layer(asked["layer"], leak=asked["leak"])
    start = asked["start"]
    if start not in (None, "noise", "image", "inverse"):
        raise InputError(f"In a store a run starts from noise, image or inverse; got {start!r}.")
    chosen = study.parts.settings()
    recipe = chosen.get("recipe")
    if asked["mask"] is None and start in (None, "noise"):
        recipe = own_recipe(phi, start, asked["C"], asked["solver"], asked["iterations"], chosen, asked["jitter"])
    settings = {"layer": asked["layer"], "leak": asked["leak"], "mask": asked["mask"], "recipe": recipe, "jitter": asked["jitter"]}
    if asked["quality"] is not None:
        check_quality(asked["quality"], asked["iterations"])
        settings["quality"] = asked["quality"]
    settings["C"] = (
        float(asked["C"]) if asked["C"] is not None else study.parts.strength("invert", 100.0) if recipe is None else _own(recipe)
    )
    if start is not None:
        settings["start"] = start
    return [
        study.job(EXPERIMENT, "invert", photo=photo, seed=seed, restart=restart, **settings)
        for photo in study.photographs
        for seed in asked["seeds"]
        for restart in range(asked["restarts"])
    ]


def _own(recipe: str) -> float:
    from ..methods.recipe import recipe_named

    return recipe_named(recipe).parts("invert").C
