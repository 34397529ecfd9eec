"""Activation maximization: the image that excites a unit, a class or a direction most (IJCV Sect. 5)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..energy.losses import InnerProduct
from ..energy.parameterizations import Pixels
from ..errors import InputError
from ..methods.recipe import Recipe
from ..ranges import checked
from ..representations.base import Representation
from ..representations.units import Unit, as_indices, is_direction, unit_digest, unit_key, unit_targets
from ..solvers.compute import Computation, Compute
from ..solvers.monitor import Monitor
from ..solvers.run import Solver
from ..solvers.starts import noise, sample_seeds
from ..statistics.statistics import Statistics, load_statistics
from .choice import Choice, PartArguments, is_of_classes, recipe_for_classes
from .inputs import begins_as, describe_start, positive, restarted
from .reopen import minimize_open
from .result import MaximizationResult
from .resuming import Resume, check_start
from .task import Task
from .units import canvas_size, estimated_largest, from_largest, open_closed_units, recorded_largest

if TYPE_CHECKING:
    from typing_extensions import Unpack


def maximize(
    phi: Representation,
    unit: Unit | Sequence[Unit],
    C: float | None = None,
    restarts: int = 1,
    canvas: str | int | tuple[int, int] = "auto",
    solver: str | Solver | None = None,
    iterations: int | None = None,
    seed: int | Sequence[int] = 0,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = True,
    *,
    everywhere: bool = False,
    Z: float | Sequence[float] | None = None,
    stats: Statistics | str | os.PathLike[str] | None = None,
    recipe: str | Recipe | None = None,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
    monitor: Monitor = Monitor(),  # noqa: B008 (frozen)
    resume: Resume = None,
    **parts: Unpack[PartArguments],
) -> MaximizationResult:
    """Find the image that excites a unit most: minimise −C·⟨Φ(x), e_unit⟩/Z + R_α + R_TVβ (IJCV Sect. 5).

    A unit of a network layer that is closed at its start, so that no gradient reaches the image, is first opened with a gradient that
    passes closed ReLUs with slope 0.05; `Result.config["opened"]` lists the samples for which that was done, and the evaluations count it.
    One that closes on the way is tried again from other starts, then from photographs; `Result.config["reopened"]` says from which.

    Parameters
    ----------
    phi : representation
    unit : number, tuple, str, vector, mapping, or a list of these
        A channel, taken at the centre of the map; (channel, row, column), or (token, feature); a class name, for the last layer of a
        network that has them; a direction: a vector over channels, or {unit: weight}. A list is one image each, all in one batch.
    C : float
        Weight of the unit; default 10,000 (exp_maximization.m: weight 10000 / rf² / M, here C / Z with Z = M·rf²).
    restarts : int
        Images of each unit, from different starts; default 1.
    canvas : "auto", "receptive-field", "input", pixels or (height, width)
        "receptive-field" is the largest image for which 1.1 receptive fields of units fit (exp_maximization.m), "input" the network's
        own size; "auto" (default) is the receptive field where the layer has one below the input's size, else the input.
    solver, iterations, seed, device, dtype, progress : as of `invert`
    everywhere : bool
        Average a channel over the map instead of its central unit.
    Z : number above 0, one or one a unit
        The divisor; default M·rf² with M the unit's largest response to photographs (with everywhere=True its channel's largest mean)
        and rf the receptive field's side, at most the canvas's. What has a formula of its own, as "preimage2026", takes none.
    stats : `Statistics` of the network or their file
        For M (the paper takes every 1000th of ImageNet's training images); they know no means, so not with everywhere=True. Without
        them M is estimated from three photographs and noise, at least the 95 % quantile of the layer's units. `Result.config` has Z, M
        and "M_source", a value for each unit, and None for those that were not asked for.
    recipe : str, path of a JSON file, or Recipe
        As of `invert`. Default for the classes of a network that says where their scores are, if no part is chosen: "preimage2026".
    compute, monitor, resume : as of `invert`

    Other Parameters
    ----------------
    objective, parameterization, transform, regularizers, bound, stages, quality : as of `invert`
    start : "noise" (default), or an image or a `Result` to begin with

    Returns
    -------
    MaximizationResult : of restarts x units images; `activation` is ⟨Φ(x), e_unit⟩

    Raises
    ------
    InputError, OptimizationError, Interrupted : as `invert`

    Examples
    --------
    >>> import preimage
    >>> phi = preimage.from_callable(lambda x: x.mean(dim=(2, 3)), preimage.PixelSpace(8, "rgb"))
    >>> r = maximize(phi, [0, 2], progress=False)
    >>> r.images.mean(dim=(2, 3)).argmax(dim=1)
    tensor([0, 2])
    """
    computation = Computation(phi, device, dtype, compute)
    phi, like = computation.phi, computation.like
    choice, start = Choice.of(recipe, C, solver, iterations, parts), parts.get("start")
    units: list[Unit] = list(unit) if isinstance(unit, list) else [unit]  # type: ignore[list-item]
    if not units:
        raise InputError("maximize takes one unit or a list of at least one; got an empty list.")
    if Z is None and stats is None and not everywhere and canvas in ("auto", "input") and begins_as(start, "noise"):
        choice = recipe_for_classes(phi, units, choice)
    check_start(start, resume)
    task = Task("maximize", computation, choice, monitor, progress, resume=resume)
    divided = task.parts.takes_divisor
    if Z is not None and stats is not None:
        raise InputError("Z and stats both give the divisor: leave one out.")
    if Z is not None and not divided:
        raise InputError("Z divides the unit's answer, and what is asked here has a formula of its own, which takes none: leave Z out.")
    with computation.session():
        task.restarts = restarts = checked("restarts", restarts)
        keys = [unit_key(phi, u) for u in units]
        size = canvas_size(phi, canvas, like)
        phi0, labels = unit_targets(phi, units, size, everywhere, like)
        estimated = Z is None and (divided or stats is not None)
        M, source = _largest(phi, units, stats, size, like, everywhere) if estimated else (None, None)
        divisor = None if not divided else _divisors(Z, len(units)) if M is None else from_largest(phi, M, size)
        divisors = None if divisor is None else torch.tensor(divisor, dtype=torch.float64).repeat_interleave(restarts)
        seeds, generators = sample_seeds(seed, keys, restarts)
        target = phi0.repeat_interleave(restarts, dim=0)
        task.began = describe_start(start, task.parts.start)
        canvases = task.start_from(start, size, len(target))
        if task.past is not None:
            canvases = task.canvases_of(task.past, size, len(target))
            task.began, task.opened, task.spent = (task.past.about[k] for k in ("start", "opened", "spent"))
        elif canvases is None and (start or task.parts.start) == "image":
            raise InputError("This changes a given image so that it excites the unit, and no image was given: start=IMAGE, --start IMAGE.")
        elif canvases is None:
            task.from_noise = True
            canvases = noise(generators, (phi.space.count, *task.transform.canvas(size)), like)
            if not task.parts.objective and isinstance(task.parts.parameterization, Pixels):
                canvases, task.opened, task.spent = open_closed_units(phi, target, canvases, task.transform, generators)
        task.asked = {"restarts": restarts, "everywhere": everywhere, "unit": [_plain_unit(phi, u) for u in units]}
        task.asked |= {"Z": divisor} if divided else {}
        loss = InnerProduct(1.0 if divisors is None else divisors)
        found, took, again = minimize_open(task, loss, target, canvases, seeds, size)
        found.evaluations += task.spent
        activation = task.activation(found, loss, target, 1.0 if divisors is None else divisors)
    record = {
        "start": task.began,
        "restarts": restarts,
        "unit": [_plain_unit(phi, u) for u in units],
        "everywhere": everywhere,
        "of_classes": is_of_classes(phi) and all(isinstance(_plain_unit(phi, u), int) for u in units),
        "canvas": list(size),
    }
    return task.result(
        MaximizationResult,
        found,
        took,
        labels=restarted(labels, restarts),
        seeds=seeds,
        activation=activation,
        more=record | {"Z": divisor, "M": M, "M_source": source, "opened": task.opened, "reopened": again},
    )


def _largest(
    phi: Representation,
    units: list[Unit],
    stats: Statistics | str | os.PathLike[str] | None,
    size: tuple[int, int],
    like: Tensor,
    everywhere: bool,
) -> tuple[list[float], str]:
    if stats is None:
        return estimated_largest(phi, units, size, like, everywhere)
    if everywhere:
        raise InputError("stats hold the largest answers of single units, and everywhere=True asks for a channel's mean: leave stats out.")
    if any(is_direction(u) for u in units):
        raise InputError("stats hold the largest answers of single units, and a direction is none: leave stats out.")
    wanted = [as_indices(phi, u) for u in units]
    return recorded_largest(phi, wanted, stats if isinstance(stats, Statistics) else load_statistics(stats))


def _divisors(Z: float | Sequence[float] | None, units: int) -> list[float]:
    given = list(Z) if isinstance(Z, Sequence) else [Z] * units
    if len(given) != units:
        raise InputError(f"{len(given)} divisors Z for {units} units: give one number, or one for each unit.")
    return [positive("Z", z) for z in given]


def _plain_unit(phi: Representation, unit: Unit) -> Any:
    if isinstance(unit, Mapping):
        return {str(k): float(v) for k, v in unit.items()}
    if is_direction(unit):
        return f"direction {unit_digest(unit)}"
    indices = as_indices(phi, unit)
    return indices[0] if len(indices) == 1 else list(indices)
