"""How long a task will take, before it runs."""

from __future__ import annotations

from typing import Any

from ..representations.base import Representation
from ..solvers.compute import Computation
from .choice import Choice, recipe_for_classes, recipe_for_layer
from .invert import own_start
from .task import Task


def planned_iterations(task: str, phi: Representation, unit: Any = None, *, C: float | None = None, **chosen: Any) -> int:
    """Return the evaluations of each image that a task plans for these settings; a unit that closes on the way takes more.

    task: "invert", "maximize" or "caricature". unit: what is maximized. chosen: solver, iterations, recipe, as the task takes them.

    >>> import preimage
    >>> phi = preimage.from_callable(lambda x: x, preimage.PixelSpace(8))
    >>> planned_iterations("maximize", phi, 0), planned_iterations("invert", phi, solver="paper")
    (200, 350)
    """
    choice = Choice(C=C, **{k: v for k, v in chosen.items() if k in ("solver", "iterations", "recipe")})
    warm = False
    if task == "maximize":
        choice = recipe_for_classes(phi, unit if isinstance(unit, list) else [unit], choice)
    elif task == "caricature":
        choice = recipe_for_layer(phi, choice, share=0.4)
    else:
        choice, _, inverse = own_start(phi, recipe_for_layer(phi, choice))
        warm = inverse is not None or choice.parts("invert")[0].start == "inverse"
    return Task(task, Computation(phi), choice, warm=warm).plan.iterations
