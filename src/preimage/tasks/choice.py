"""What a caller chose of the parts, and what is taken where nothing was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypedDict

import torch

from ..energy.keep_classes import layer_of_scores
from ..energy.objectives import Objective, Objectives, parts_of
from ..energy.parameterizations import Parameterization
from ..energy.regularizers import PixelBall, Regularizer
from ..energy.resampling import RandomView
from ..energy.transforms import Transform
from ..errors import InputError
from ..methods.recipe import DEFAULTS, NATURAL, Parts, Recipe, recipe_named
from ..networks.network import Network
from ..ranges import checked, is_zero
from ..representations.base import Representation
from ..representations.units import Unit, is_direction
from ..solvers.plans import evaluations_at
from ..solvers.run import Solver, Stage

if TYPE_CHECKING:
    from ..inverses.learned import LearnedInverse
    from .inputs import Start

_MOVED = {  # arguments of earlier versions, and where they are now
    "jitter": "transform=Jitter(N)",
    "batch": "compute=Compute(batch=N)",
    "precision": "compute=Compute(precision=…)",
    "max_memory": "compute=Compute(max_memory=…)",
    "compiled": "compute=Compute(compiled=True)",
    "frames": "monitor=Monitor(frames=N)",
    "watch": "monitor=Monitor(watch=…)",
    "keep_state": "monitor=Monitor(keep_state=True)",
    "prior": "regularizers={name: …}",
    "prior_weights": "regularizers={name: …}",
    "loss": "objective=Match(loss=…)",
}


class PartArguments(TypedDict, total=False):
    """What a task takes by name: parts in the place of the recipe's own, a start, and how much work; see `preimage.invert`."""

    objective: Objective | Objectives | Sequence[Objective] | None
    parameterization: Parameterization | None
    transform: Transform | None
    regularizers: Mapping[str, Regularizer] | None
    bound: float | None
    stages: Sequence[Stage] | None
    start: Start | LearnedInverse
    quality: str | None


@dataclass(frozen=True)
class Choice:
    """What a caller chose of the parts; None is not given."""

    recipe: str | Recipe | None = None
    C: float | None = None
    objective: Objective | Objectives | Sequence[Objective] | None = None
    parameterization: Parameterization | None = None
    transform: Transform | None = None
    regularizers: Mapping[str, Regularizer] | None = None
    bound: float | None = None
    solver: str | Solver | None = None
    iterations: int | None = None
    stages: Sequence[Stage] | None = None
    quality: str | None = None

    @staticmethod
    def of(
        recipe: str | Recipe | None, C: float | None, solver: str | Solver | None, iterations: int | None, parts: PartArguments
    ) -> Choice:
        """Return what the arguments of a task choose; its start is the task's own matter. Raises InputError for what is no such part."""
        given = {name: value for name, value in parts.items() if value is not None and name != "start"}
        _check(parts, given)
        check_quality(parts.get("quality"), iterations)
        C = None if C is None else checked("C", C)
        if iterations is not None:  # none are taken where a learned inverse answers
            iterations = 0 if is_zero(iterations) else checked("iterations", iterations)
        if "bound" in given:
            given["bound"] = checked("bound", given["bound"])
        return Choice(recipe=recipe, C=C, solver=solver, iterations=iterations, **given)  # type: ignore[arg-type]

    @property
    def usual_solver(self) -> bool:
        """Whether the solver is the usual one, said or not."""
        return self.solver is None or (isinstance(self.solver, str) and self.solver == "fast")

    def is_bare(self, *but: str) -> bool:
        """Return whether nothing is chosen, but for what is named."""
        return all(getattr(self, f.name) is None for f in fields(self) if f.name not in but)

    def parts(self, task: str) -> tuple[Parts, str | None]:
        """Return the parts of the recipe with what was chosen in their place, and the recipe's name."""
        if not (self.solver is None or isinstance(self.solver, str) or callable(self.solver)):
            raise InputError(f"A solver is a name, as 'fast', or one of your own, as CONTRIBUTING.md has it; got {self.solver!r:.80}.")
        recipe = None if self.recipe is None else recipe_named(self.recipe)
        if recipe is None and isinstance(self.solver, str) and self.solver == "paper":  # one word for all of the paper
            recipe = recipe_named("mahendran2016")
        parts = DEFAULTS[task] if recipe is None else recipe.parts(task)
        if recipe is not None and self.solver not in (None, parts.solver) and self.stages is None:
            parts = parts.with_given(solver=self.solver)
            parts = Parts(**{**vars(parts), "stages": None})  # another solver has its own
        given = {name: getattr(self, name) for name in ("C", "parameterization", "transform", "regularizers", "solver", "iterations")}
        if self.bound is not None:
            given["bound"] = PixelBall(self.bound).radius
        if self.objective is not None:
            given["objective"] = parts_of(self.objective)
        if self.stages is not None:
            given["stages"] = self.stages if not isinstance(self.stages, list) else tuple(self.stages)
        return parts.with_given(**given), None if recipe is None else recipe.name


def recipe_for_layer(phi: Representation, choice: Choice, share: float = 0.5) -> Choice:
    """Return the choice with the recipe for deep layers, where Φ is one and nothing was chosen: docs/recognition.md has what it gives.

    A solver, "fast" too, is a choice: it minimises the energy of the paper. share: as of `is_deep`.
    """
    bare = choice.is_bare("iterations", "quality")
    return replace(choice, recipe=NATURAL) if bare and is_deep(phi, share) else choice


def recipe_for_classes(phi: Representation, units: list[Unit], choice: Choice) -> Choice:
    """Return the choice with the recipe for classes, where classes are asked for and nothing was chosen: docs/recognition.md.

    Where a recipe shows views of a lower resolution, a network that takes images of one size alone is shown views of that size.
    """
    bare = choice.usual_solver and choice.is_bare("iterations", "quality", "solver")
    if bare and is_of_classes(phi) and not any(is_direction(u) or isinstance(u, tuple) for u in units):
        choice = replace(choice, recipe=NATURAL, solver=None)
    if choice.recipe is not None and choice.transform is None:
        view = recipe_named(choice.recipe).parts("maximize").transform
        if isinstance(view, RandomView) and not _takes(phi, view.resolution):
            choice = replace(choice, transform=replace(view, resolution=1.0))
    return choice


def check_quality(quality: str | None, iterations: int | None) -> None:
    """Raise InputError for what is no quality, and where both say how long a run takes."""
    if quality is None:
        return
    evaluations_at(quality, 1)
    if iterations is not None:
        raise InputError(f"quality {quality!r} and iterations {iterations!r} both say how long the run is: leave one of them out.")


def is_deep(phi: Representation, share: float = 0.5) -> bool:
    """Return whether a unit of Φ, a layer of a convolutional network, sees at least this share of the sides of the network's images."""
    network = phi.network
    if not isinstance(network, Network) or network.space.size is None:
        return False
    known = [float(layer.receptive_field) for layer in network.layers() if layer.receptive_field is not None]
    reach = float(phi.receptive_field or max(known, default=0.0))  # one without a field of its own joins all places, of what it can see
    return reach >= share * max(network.space.size)


def is_of_classes(phi: Representation) -> bool:
    """Return whether the units of Φ are the classes of a network whose scores are known.

    That is its last layer, where the network says which layer has the scores, or where the last one has one for each class and is no
    softmax or sigmoid.
    """
    network = phi.network
    if not isinstance(network, Network):
        return False
    return phi.name == network.layers()[-1].name and layer_of_scores(network) is not None


def _takes(phi: Representation, resolution: float) -> bool:
    """Return whether Φ takes images of a lower resolution than its network's own."""
    size = phi.space.size
    if size is None:
        return True
    height, width = (max(1, round(resolution * n)) for n in size)
    try:
        phi(torch.zeros(1, phi.space.count, height, width))
    except Exception:  # whatever a module says to images of another size
        return False
    return True


def _check(named: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise InputError, with what to say instead, for a part that is none."""
    known = list(PartArguments.__annotations__)
    for name in named:
        if name not in known:
            nearest = get_close_matches(name, known, 1)
            guess = f"Did you mean {nearest[0]!r}?" if nearest else "help(preimage.invert) lists them."
            raise InputError(f"There is no argument {name!r}. {f'Say {_MOVED[name]}.' if name in _MOVED else guess}")
    wanted: dict[str, tuple[Any, str]] = {
        "parameterization": (Parameterization, "one of preimage's parameterizations, as Fourier() of preimage.energy.fourier"),
        "transform": (Transform, "one of preimage's transforms, as Jitter(4) or Crops()"),
        "regularizers": (Mapping, "regularizers by name, as {'tv-beta': TVBeta()}, or {} for none"),
        "stages": (Sequence, "a list of at least one preimage.Stage, as [Stage(300)]"),
    }
    for name, (kind, words) in wanted.items():
        if name in given and (isinstance(given[name], str) or not isinstance(given[name], kind)):
            raise InputError(f"{name} is {words}; got {given[name]!r:.80}.")
    for name, regularizer in given.get("regularizers", {}).items():
        if not isinstance(name, str) or not callable(regularizer):
            raise InputError(f"A regularizer is a function from images (B, C, H, W) to (B,); {name!r} is {regularizer!r:.80}.")
