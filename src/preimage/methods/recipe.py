"""A recipe: all that decides an image but its inputs, as frozen plain data with a name, a source and a sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from ..energy import registered as _registered  # noqa: F401  # the parts of all methods
from ..energy.objectives import OBJECTIVES, Objective
from ..energy.parameterizations import PARAMETERIZATIONS, Parameterization, Pixels
from ..energy.regularizers import REGULARIZERS, AlphaNorm, Regularizer, TVBeta
from ..energy.transforms import TRANSFORMS, Transform
from ..errors import InputError, PreimageError
from ..plain import from_plain, is_plain, to_plain
from ..registry import Registry, unknown
from ..solvers import ascent as _ascent  # noqa: F401  # registers its solvers
from ..solvers.plans import solver_record
from ..solvers.run import SOLVERS, Solver, Stage

TASKS = ("invert", "maximize", "caricature")
STARTS = ("noise", "image", "inverse")
NATURAL = "preimage2026"  # the recipe that tasks take by themselves for deep layers and classes
_FAMILIES = (
    *(
        "mahendran2016",
        "preimage2026",
        "inverse2026",
        "erhan2009",
        "simonyan2014",
        "szegedy2014",
        "goodfellow2015",
        "nguyen2015",
        "yosinski2015",
    ),
    *(
        "deepdream2015",
        "zhu1998",
        "portilla2000",
        "gatys2015",
        "lucid2017",
        "ulyanov2018",
        "yin2020",
        "ghiasi2022",
        "maco2023",
        "hamblin2024",
        "fort2025",
        "gorgun2025",
    ),
)


@dataclass(frozen=True)
class Parts:
    """The parts of an energy for one task, and how it is minimised.

    Parameters
    ----------
    C : weight of the objective
    objective : what is asked beside or in place of the task's own question; default that question alone
    parameterization : how the image is written
    transform : what Φ is shown; default the paper's jitter for Φ's stride
    regularizers : by name; default the paper's two
    bound : of each pixel's colour norm, in grey levels; infinite for none
    solver, iterations, stages : as in `solvers.plans.plan_for`
    start : "noise", "image" to begin with the photograph, or "inverse" with a learned inverse's answer to its features
    closed_slope : the slope with which the gradient passes closed ReLUs, in every step, where Φ can be opened; the values stay. 0 for none.
        The gradient then says what would help if it were strong enough to open a unit, and depends less on the very weights of one network.
    pool_share : the part of the gradient at each window of a max pooling that all places of the window get evenly; the values stay

    >>> Parts.from_plain(Parts(C=20.0).to_plain()) == Parts(C=20.0)
    True
    """

    C: float = 100.0
    objective: tuple[Objective, ...] = ()
    parameterization: Parameterization = field(default_factory=Pixels)
    transform: Transform | None = None
    regularizers: Mapping[str, Regularizer] = field(default_factory=lambda: {"alpha-norm": AlphaNorm(), "tv-beta": TVBeta()})
    bound: float = 160.0
    solver: str | Solver = "fast"
    iterations: int | None = None
    stages: tuple[Stage, ...] | None = None
    start: str = "noise"
    closed_slope: float = 0.0
    pool_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.pool_share <= 1:
            raise InputError(f"pool_share is the part of a pooling's gradient that is spread, from 0 to 1; got {self.pool_share!r}.")
        if not 0 <= self.closed_slope <= 1:
            raise InputError(f"closed_slope is the slope of the gradient at closed ReLUs, from 0 to 1; got {self.closed_slope!r}.")
        if self.start not in STARTS:
            raise InputError(f"The start of a recipe is one of {', '.join(STARTS)}; got {self.start!r}.")

    @property
    def takes_divisor(self) -> bool:
        """Whether what is asked of a unit is divided by Z: the task's own question, or an objective that takes its formula."""
        return not self.objective or any(o.takes_divisor() for o in self.objective)

    def with_given(self, **given: Any) -> Parts:
        """Return the parts with those in place that are given (not None)."""
        return replace(self, **{k: v for k, v in given.items() if v is not None})

    def to_plain(self) -> dict[str, Any]:
        """Return plain values; what is not registered, as a user's own may not be, is given by its text."""
        return {
            "C": self.C,
            "objective": [_plain(o, OBJECTIVES) for o in self.objective],
            "parameterization": _plain(self.parameterization, PARAMETERIZATIONS),
            "transform": None if self.transform is None else _plain(self.transform, TRANSFORMS),
            "regularizers": {k: _plain(r, REGULARIZERS) for k, r in self.regularizers.items()},
            "bound": self.bound if math.isfinite(self.bound) else None,
            "solver": self.solver if isinstance(self.solver, str) else solver_record(self.solver),
            "iterations": self.iterations,
            "stages": None if self.stages is None else [asdict(s) for s in self.stages],
            "start": self.start,
            "closed_slope": self.closed_slope,
        } | ({"pool_share": self.pool_share} if self.pool_share else {})  # not in what earlier versions wrote

    @staticmethod
    def from_plain(data: Mapping[str, Any]) -> Parts:
        """Return the parts that `to_plain` wrote, also after a trip through JSON. Raises InputError for anything else."""
        known = {f.name for f in fields(Parts)}
        if not isinstance(data, Mapping) or set(data) - known:
            raise InputError(f"The parts of a recipe are {', '.join(sorted(known))}; got {data!r}.")
        given = dict(data)
        if "objective" in given:
            given["objective"] = tuple(from_plain(o, OBJECTIVES) for o in given["objective"])
        if "parameterization" in given:
            given["parameterization"] = from_plain(given["parameterization"], PARAMETERIZATIONS)
        if given.get("transform") is not None:
            given["transform"] = from_plain(given["transform"], TRANSFORMS)
        if "regularizers" in given:
            given["regularizers"] = {k: from_plain(r, REGULARIZERS) for k, r in given["regularizers"].items()}
        if "bound" in given:
            given["bound"] = math.inf if given["bound"] is None else float(given["bound"])
        if isinstance(given.get("solver"), Mapping):
            given["solver"] = from_plain(given["solver"], SOLVERS)
        if given.get("stages") is not None:
            given["stages"] = tuple(Stage(**s) for s in given["stages"])
        return Parts(**given)

    def is_plain(self) -> bool:
        """Return whether plain values are enough to make the parts again: all of them are registered, none holds an object."""
        pairs: list[tuple[Any, Registry[Any]]] = [(self.parameterization, PARAMETERIZATIONS)]
        pairs += [(r, REGULARIZERS) for r in self.regularizers.values()] + [(o, OBJECTIVES) for o in self.objective]
        pairs += [] if self.transform is None else [(self.transform, TRANSFORMS)]
        pairs += [] if isinstance(self.solver, str) else [(self.solver, SOLVERS)]
        plain = all(is_plain(part, registry) for part, registry in pairs)
        return plain and all(o.of is None or isinstance(o.of, str) for o in self.objective)


DEFAULTS: Mapping[str, Parts] = {
    "invert": Parts(C=100.0),  # get_defaults.m and exp_inversion.m use 1, 20, 100, 300; the paper's figures 100
    "maximize": Parts(C=1.0e4),  # exp_maximization.m: weight 10000 / rf² / M, here C / Z with Z = M·rf²
    "caricature": Parts(C=10.0, start="image"),  # exp_enhance.m's 1 smooths an early layer more than it exaggerates it
}
"""What a task takes where nothing else is asked for."""


@dataclass(frozen=True)
class Recipe:
    """A method: its parts for each task that it is for.

    Parameters
    ----------
    name : as in `--recipe NAME`
    source : the publication
    sentence : what it does, in one sentence
    invert, maximize, caricature : the parts; None where the method is not for this task
    differs : what is not as in the original, and why
    """

    name: str
    source: str
    sentence: str
    invert: Parts | None = None
    maximize: Parts | None = None
    caricature: Parts | None = None
    differs: str = ""

    def parts(self, task: str) -> Parts:
        """Return the parts for a task. Raises InputError where the method is not for it."""
        found: Parts | None = {"invert": self.invert, "maximize": self.maximize, "caricature": self.caricature}[task]
        if found is None:
            takes = [t for t in TASKS if getattr(self, t) is not None]
            raise InputError(f"The recipe {self.name!r} is for {' and '.join(takes)}, not for {task}. See: preimage recipes")
        return found

    def to_plain(self) -> dict[str, Any]:
        """Return plain values, for a file: `from_plain` makes the recipe again."""
        plain: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        return plain | {t: None if plain[t] is None else plain[t].to_plain() for t in TASKS}

    @staticmethod
    def from_plain(data: Mapping[str, Any]) -> Recipe:
        """Return the recipe that `to_plain` wrote. Raises InputError for anything else."""
        known = {f.name for f in fields(Recipe)}
        if not isinstance(data, Mapping) or set(data) - known or not isinstance(data.get("name"), str):
            raise InputError(f"A recipe is a mapping with {', '.join(sorted(known))}.")
        parts = {t: Parts.from_plain(data[t]) for t in TASKS if data.get(t) is not None}
        words = {k: str(data.get(k, "")) for k in ("name", "source", "sentence", "differs")}
        return Recipe(**words, **parts)  # type: ignore[arg-type]


RECIPES: Registry[Recipe] = Registry("recipe", see="preimage recipes")


def recipes() -> Mapping[str, Recipe]:
    """Return the recipes of this package by name, in the order of their files, and after them those that were registered elsewhere.

    >>> recipes()["mahendran2016"].parts("invert").solver
    'paper'
    """
    for family in _FAMILIES:
        import_module(f".{family}", __package__)
    place = {family: k for k, family in enumerate(_FAMILIES)}
    return {name: RECIPES[name] for name in sorted(RECIPES, key=lambda n: place.get(n.partition("-")[0], len(place)))}


def recipe_named(recipe: str | Recipe | Path) -> Recipe:
    """Return a recipe by its name, or from a JSON file as `Recipe.to_plain` gives it.

    Raises
    ------
    UnknownName : for a name that no recipe has
    InputError : for a file that is none

    >>> recipe_named("mahendran2016").name
    'mahendran2016'
    """
    if isinstance(recipe, Recipe):
        return recipe
    if str(recipe).endswith(".json"):
        try:
            return Recipe.from_plain(json.loads(Path(recipe).read_text(encoding="utf-8")))
        except PreimageError:
            raise
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(f"{str(recipe)!r} holds no recipe: {error}.") from None
    known = recipes()
    if str(recipe) not in known:
        raise unknown("recipe", str(recipe), list(known), "preimage recipes")
    return known[str(recipe)]


def _plain(part: Any, registry: Registry[Any]) -> Any:
    if not is_plain(part, registry):
        return repr(part)
    if isinstance(part, Objective) and not (part.of is None or isinstance(part.of, str)):
        return to_plain(replace(part, of=str(getattr(part.of, "name", part.of))), registry)
    return to_plain(part, registry)
