"""How long a task will take, before it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ..representations.base import Representation
from ..solvers.compute import Computation
from .choice import Choice, recipe_for_classes, recipe_for_layer
from .invert import own_start
from .task import Task


def planned_iterations(task: str, phi: Representation, unit: Any = None, *, C: float | None = None, **chosen: Any) -> int:
    """Return the evaluations of each image that a task plans for these settings; a unit that closes on the way takes more.

    task: "invert", "maximize" or "caricature". unit: what is maximized. chosen: solver, iterations, quality, recipe and its parts, as the
    task takes them; a task's other arguments change no plan.

    >>> import preimage
    >>> phi = preimage.from_callable(lambda x: x, preimage.PixelSpace(8))
    >>> planned_iterations("maximize", phi, 0), planned_iterations("invert", phi, solver="paper")
    (200, 350)
    """
    names = {f.name for f in fields(Choice)}
    choice = Choice(C=C, **{k: v for k, v in chosen.items() if k in names})
    warm = False
    if task == "maximize":
        choice = recipe_for_classes(phi, unit if isinstance(unit, list) else [unit], choice)
    elif task == "caricature":
        choice = recipe_for_layer(phi, choice, share=0.4)
    else:
        choice, _, inverse = own_start(phi, recipe_for_layer(phi, choice))
        warm = inverse is not None or choice.parts("invert")[0].start == "inverse"
    return Task(task, Computation(phi), choice, warm=warm).plan.iterations


def own_recipe(
    phi: Representation,
    start: str | None,
    C: float | None,
    solver: str | None,
    iterations: int | None,
    chosen: Mapping[str, Any],
    jitter: int | None = None,
) -> str | None:
    """Return the name of the recipe that `invert` takes by itself for these settings, of any length, for a job; None where it takes none.

    chosen: recipe, objective, transform, parameterization and prior as text, as far as they were chosen.
    """
    if set(chosen) - {"recipe"} or jitter is not None:
        return chosen.get("recipe")
    choice = recipe_for_layer(phi, Choice(C=C, solver=solver, iterations=iterations, recipe=chosen.get("recipe")))
    if start is None:
        choice = own_start(phi, choice)[0]
    return choice.recipe if choice.recipe is None or isinstance(choice.recipe, str) else choice.recipe.name
