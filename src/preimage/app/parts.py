"""The parts of an energy as visitors write them: the texts of the command line, looked at before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from ..energy.objectives import OBJECTIVES, Objectives, parts_of
from ..energy.parameterizations import PARAMETERIZATIONS
from ..energy.regularizers import REGULARIZERS
from ..energy.transforms import TRANSFORMS
from ..errors import InputError
from ..inverses.known import shipped_inverse
from ..methods.recipe import recipe_named, recipes
from ..methods.text import parts_from_text
from ..registry import Registry, unknown
from ..representations.base import Representation

MOST_LETTERS, MOST_TEXTS, MOST_VIEWS, MOST_WHOLE = 300, 6, 8, 64
"""Of a field, of the parts in it, of the views in a step, and of a setting that is a whole number: a page is no place for more work."""

FIELDS: dict[str, tuple[str, Registry[Any], str]] = {
    "objective": ("Objective: what is asked", OBJECTIVES, "match:loss=cosine; 0.5*match:of=fire2"),
    "transform": ("Transform: what is shown at each step", TRANSFORMS, "crops:low=0.4; noise"),
    "parameterization": ("Parameterization: how the image is written", PARAMETERIZATIONS, "fourier:decay=1.5"),
    "prior": ("Regularizers: what is natural", REGULARIZERS, "tv-beta:beta=1, or none"),
}
"""The text fields: label, what can be named in it, and what is written there as an example."""


@dataclass(frozen=True)
class PartTexts:
    """What a visitor wrote of the parts; what is empty has not been said, and the task's own default decides."""

    recipe: str | None = None
    objective: tuple[str, ...] = ()
    transform: tuple[str, ...] = ()
    parameterization: tuple[str, ...] = ()
    prior: tuple[str, ...] = ()

    def arguments(self) -> dict[str, Any]:
        """Return the parts that were given, as arguments of the task.

        >>> PartTexts(recipe="maco2023", prior=("none",)).arguments()
        {'recipe': 'maco2023', 'regularizers': {}}
        """
        if len(self.parameterization) > 1:
            raise InputError(f"An image is written in one way: name one parameterization; got {len(self.parameterization)}.")
        written = self.parameterization[0] if self.parameterization else None
        found = {"recipe": self.recipe} | parts_from_text(self.objective, self.transform, written, self.prior)
        return {name: part for name, part in found.items() if part is not None}


def read_parts(task: str, recipe: str | None, **written: str | None) -> PartTexts:
    """Return the parts of a request; several in one field stand between semicolons.

    Raises
    ------
    PreimageError : for a name or a setting that is not there, for one that names a file, and for what would take too much work
    """
    if recipe is not None and recipe not in recipes_for(task):
        raise unknown(f"recipe to {task} with on this page", recipe, recipes_for(task), "preimage recipes")
    texts = PartTexts(recipe, **{name: _texts(name, text) for name, text in written.items()})
    for name, part in texts.arguments().items():
        if name != "recipe":
            _check(part)
    return texts


def recipes_for(task: str) -> list[str]:
    """Return the names of the recipes with which a task can run here: to maximize, those that begin without an image."""
    able = {name: found.parts(task) for name, found in recipes().items() if getattr(found, task) is not None}
    return [name for name, parts in able.items() if task != "maximize" or parts.start == "noise"]


def names_in_words(name: str) -> str:
    """Return the line under a field: what can be named in it.

    >>> names_in_words("parameterization")[:25]
    'One of pixels, box, deep-'
    """
    registry = FIELDS[name][1]
    several = "" if name == "parameterization" else " Several: put ; between them."
    return f"One of {', '.join(registry)}; with settings as {FIELDS[name][2]}.{several}"


def check_inverse(texts: PartTexts, task: str, phi: Representation) -> None:
    """Raise InputError where a recipe begins with an inverse that would have to be fitted first, which takes minutes."""
    if texts.recipe is not None and recipe_named(texts.recipe).parts(task).start == "inverse" and shipped_inverse(phi) is None:
        raise InputError(
            f"The recipe {texts.recipe!r} begins with an inverse of {phi.name}, and preimage carries none of it: choose another recipe or "
            "layer, or let the command line fit one (preimage invert)."
        )


def _texts(name: str, text: str | None) -> tuple[str, ...]:
    label = FIELDS[name][0].partition(":")[0]
    text = text or ""
    if len(text) > MOST_LETTERS:
        raise InputError(f"{label} takes at most {MOST_LETTERS} letters; got {len(text)}.")
    found = tuple(filter(None, (t.strip() for t in text.split(";"))))
    if len(found) > MOST_TEXTS:
        raise InputError(f"{label} takes at most {MOST_TEXTS} parts; got {len(found)}.")
    return found


def _check(given: Any) -> None:
    if (views := getattr(given, "views", 1)) > MOST_VIEWS:
        raise InputError(f"A step shows at most {MOST_VIEWS} views on this page; got {views}.")
    parts = given.values() if isinstance(given, dict) else parts_of(given) if isinstance(given, Objectives) else [given]
    for part in parts:
        for name, kind, value, reads in _settings(part):
            if reads and value is not None:
                raise InputError(f"The setting {name} names a file, and no file of the server can be named here: use the command line.")
            if kind in ("int", int) and abs(value) > MOST_WHOLE:
                raise InputError(f"The setting {name} is at most {MOST_WHOLE} on this page; got {value}.")


def _settings(part: Any) -> Iterator[tuple[str, Any, Any, bool]]:
    """Name, type, value, and whether it names a file, of each setting of a part and of the parts in it."""
    for field in fields(part):
        value = getattr(part, field.name)
        inner: Sequence[Any] = value if isinstance(value, tuple) else (value,)
        for one in inner:
            if is_dataclass(one):
                yield from _settings(one)
            else:
                yield field.name, field.type, one, bool(field.metadata.get("file"))
