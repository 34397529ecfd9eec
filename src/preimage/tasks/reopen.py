"""Units that close on the way: tried again from other starts, then from photographs, before they are given up."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..energy.losses import InnerProduct
from ..energy.objectives import Activate
from ..energy.terms import FeatureTerm
from ..errors import OptimizationError, PreimageWarning
from ..pixels.images import reference_images
from ..representations.base import features_of
from ..solvers.loop import Minimum
from ..solvers.starts import generator, noise
from .restarts import longer
from .task import Task
from .units import closed_samples, open_closed_units

NOISES = 4  # other random starts that are tried
_ENDED_CLOSED = (
    "the unit has closed: its answer has no gradient in the network itself at the image that was found. Try another seed, or the layer "
    "before the ReLU."
)


def minimize_open(
    task: Task, loss: InnerProduct, target: Tensor, start: Tensor, seeds: Sequence[int], size: tuple[int, int]
) -> tuple[Minimum, float, dict[str, str]]:
    """Minimise as `Task.minimize`, and try the samples again whose unit closes; what each was found from, by its number.

    A sample is tried alone, so that it does not matter which others failed: from `NOISES` other random starts, then from the packaged
    photographs, the one that excites it most first. The evaluations count the attempts of the sample that took most. Raises
    OptimizationError, with what was tried, where no sample has a result.
    """
    if task.sequential:  # a sample that is tried alone would not know the restarts before it
        return *task.minimize((loss, target), start, seeds, size), {}
    failure: OptimizationError | None = None
    found: Minimum | None = None
    took = 0.0
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            found, took = task.minimize((loss, target), start, seeds, size)
            found = _closed_in_the_end(task, target, found)
        except OptimizationError as error:
            failure = error
    if found is not None and (found.interrupted or not any(_closed(s) for s in found.status)):
        _say_again(said)
        return found, took, {}
    status = [str(failure)] * len(target) if found is None else found.status
    singles: dict[int, Minimum] = {}
    again: dict[str, str] = {}
    spent, stopped = 0, False
    for b, state in enumerate(status):
        if found is not None and not _closed(state):
            continue
        attempts = 0
        for name, canvas in _starts(task, target[b : b + 1], start[b : b + 1], seeds[b], size):
            one = _attempt(task, loss, target, canvas, seeds[b], size, b)
            if one is None:
                continue
            attempts += one.evaluations
            stopped = one.interrupted
            if one.status == ["ok"]:
                singles[b], again[str(b)] = one, name
            if stopped or b in singles:
                break
        spent = max(spent, attempts)
        if stopped:
            break
    if found is None and not singles:
        assert failure is not None
        raise OptimizationError(f"{failure} {NOISES} other random starts and the packaged photographs were tried too.") from failure
    merged = _merged(found, singles, len(target), start, task, str(failure))
    merged.evaluations += spent
    merged.interrupted = stopped
    wrong = [f"sample {b}: {s}" for b, s in enumerate(merged.status) if s != "ok"]
    if wrong:
        warnings.warn("; ".join(wrong[:3]) + (f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""), PreimageWarning, stacklevel=4)
    return merged, took, again


def _closed(status: str) -> bool:
    return "closed" in status or "gradient of the loss was exactly zero" in status


def _closed_in_the_end(task: Task, target: Tensor, found: Minimum) -> Minimum:
    """The minimum, whose units that are closed at their images are not ok.

    Where the gradient passes closed ReLUs in every step it never vanishes, so that the run itself does not see a unit close.
    """
    if not (task.parts.closed_slope and task.phi.can_open and _asks_for_the_unit(task)) or found.interrupted:
        return found
    closed = closed_samples(FeatureTerm(InnerProduct(), task.phi, target, 1.0), found.canvas, task.transform)
    return replace(found, status=[_ENDED_CLOSED if b in closed and s == "ok" else s for b, s in enumerate(found.status)])


def _asks_for_the_unit(task: Task) -> bool:
    """Whether what is asked is the answer of the unit that the task was given, beside whatever else; a margin asks before any ReLU."""
    asked = task.parts.objective
    return not asked or any(isinstance(o, Activate) and o.takes_divisor() for o in asked)


def _starts(task: Task, target: Tensor, like: Tensor, seed: int, size: tuple[int, int]) -> list[tuple[str, Tensor]]:
    """Names and canvases to begin with, (1, C, H, W) each."""
    found = []
    for k in range(1, NOISES + 1):
        drawn = [generator(seed, f"again {k}")]
        canvas = noise(drawn, tuple(like.shape[1:]), like)
        found.append((f"noise {k}", open_closed_units(task.phi, target, canvas, task.transform, drawn)[0]))
    space = task.phi.space
    if not isinstance(space.channels, int) or space.count in (1, 3):
        photographs = torch.cat([space.encode(p, size=size) for p in reference_images()]).to(like)
        answers = -InnerProduct(1.0)(features_of(task.phi, photographs), target.expand(len(photographs), *target.shape[1:]))
        found += [(f"photograph {int(k)}", task.canvas_of(photographs[int(k) : int(k) + 1])) for k in answers.argsort(descending=True)]
    return found


def _attempt(task: Task, loss: InnerProduct, target: Tensor, canvas: Tensor, seed: int, size: tuple[int, int], b: int) -> Minimum | None:
    Z = loss.Z[b : b + 1] if isinstance(loss.Z, Tensor) else loss.Z
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PreimageWarning)
        try:
            own = InnerProduct(Z, loss.mask), target[b : b + 1]
            return _closed_in_the_end(task, own[1], task.minimize(own, canvas, [seed], size, once_more=True)[0])
        except OptimizationError:
            return None


def _merged(found: Minimum | None, singles: dict[int, Minimum], count: int, start: Tensor, task: Task, failure: str) -> Minimum:
    """One minimum of all samples, in their order; what failed keeps its own image, or its start."""
    if found is None:
        one = next(iter(singles.values()))
        blank = replace(
            one,
            x=task.transform.crop(start).contiguous(),
            canvas=start,
            energy={k: v.new_full((count,), float("nan")) for k, v in one.energy.items()},
            trace={k: v.new_full((len(v), count), float("nan")) for k, v in one.trace.items()},
            status=[failure] * count,
            frames=[f.expand(count, *f.shape[1:]).clone() for f in one.frames],
        )
        found = blank
    length = max([len(found.trace["total"]), *(len(s.trace["total"]) for s in singles.values())])
    out = replace(
        found,
        x=found.x.clone(),
        energy={k: v.clone() for k, v in found.energy.items()},
        trace={k: longer(v, length) for k, v in found.trace.items()},
        status=[f"{s} Other starts were tried too." if _closed(s) else s for s in found.status],
    )
    for b, one in singles.items():
        out.x[b] = one.x[0]
        for k in out.energy:
            out.energy[k][b] = one.energy[k][0]
            out.trace[k][:, b] = longer(one.trace[k], length)[:, 0]
        out.status[b] = "ok"
    return out


def _say_again(said: Sequence[warnings.WarningMessage]) -> None:
    for warning in said:
        warnings.warn(warning.message, warning.category, stacklevel=4)
