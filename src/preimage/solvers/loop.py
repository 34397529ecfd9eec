"""minimize(problem, x0): the loop that every solver shares: record, watch, project, crop, stop; nothing goes wrong silently."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..bars import progress_bar
from ..energy.energy import Energy, Problem
from ..energy.transforms import Jitter
from ..errors import InputError, OptimizationError, PreimageWarning
from .memory import State
from .methods import BY_LENGTH, GO_ON
from .monitor import Monitor
from .plans import Plan, plan_of
from .run import NothingLeft, Run, Solver, Stage, Tick
from .state import check_plan


@dataclass
class Minimum:
    """What `minimize` found.

    x: canonical (B, C, H, W), the centre of the canvas. energy: term -> (B,) at x, without jitter, and "total".
    trace: term -> (T, B), each as it was when its gradient was taken, with jitter. evaluations: gradients taken per sample.
    status: "ok", or what is wrong with the sample. canvas: x with the jitter border that the
    last stage had. interrupted: Ctrl-C came first. frames: the crop every so often. state: from which it goes on, if that was asked for.
    """

    x: Tensor
    energy: dict[str, Tensor]
    trace: dict[str, Tensor]
    evaluations: int
    status: list[str]
    canvas: Tensor
    interrupted: bool = False
    frames: list[Tensor] = field(default_factory=list)
    state: State | None = None


def minimize(
    problem: Problem | Energy,
    x0: Tensor,
    *,
    solver: str | Solver = "fast",
    stages: Sequence[Stage] = (Stage(100),),
    iterations: int | None = None,
    plan: Plan | None = None,
    generators: Sequence[torch.Generator] | None = None,
    progress: bool = False,
    title: str = "minimize",
    batch: int | None = None,
    monitor: Monitor = Monitor(),  # noqa: B008 (frozen)
    resume: State | None = None,
) -> Minimum:
    """Minimise an energy over images, from the canvases x0.

    Parameters
    ----------
    problem : `Problem`, or an `Energy`, whose images are then pixels within the paper's bound
    x0 : (B, C, H, W), as large as the energy's transform asks of a canvas
    solver : "fast", a registered name, "name:setting=value", or a solver
    stages : what it is to do, one after the other
    iterations : scales the stages to this sum
    plan : instead of these three, solvers one after the other
    generators : one for each sample, for what its views draw; default seeded 0 for each
    progress, title : whether a bar is shown, and what it is called
    batch : samples evaluated together; default 1 on a CPU, so that no bit of a sample depends on the others, all on an accelerator
    monitor : `Monitor`: frames of the crop; watch, called at most five times a second and after the last iteration, with the crops
        (B, C, H, W) as they are and their energies (B,), both still on the device; keep_state, at a few copies of the images
    resume : the state of an earlier run of the same problem, from which this one goes on with the same bits; its plan may be longer

    Returns
    -------
    Minimum : on Ctrl-C too, with what was found so far. A sample with a NaN, a gradient that is exactly zero, an energy that rose or
        a loss that did not move is named in `status` and in a PreimageWarning.

    Raises
    ------
    OptimizationError : if no sample has a finite energy and a gradient
    InputError : for a state that does not fit, and for a solver that keeps none where one is asked for

    >>> from ..energy.losses import Euclidean
    >>> from ..energy.terms import FeatureTerm
    >>> energy = Energy(FeatureTerm(Euclidean(), lambda x: x, torch.full((1, 1, 8, 8), 50.0), C=100.0))
    >>> found = minimize(energy, torch.zeros(1, 1, 8, 8), solver="paper", iterations=60)
    >>> bool((found.x.mean() - 50).abs() < 2), found.evaluations, found.status
    (True, 60, ['ok'])
    """
    keep_freed_memory()
    problem = Problem(problem) if isinstance(problem, Energy) else problem
    plan = plan_of(solver, stages, iterations) if plan is None else plan
    if generators is None:
        generators = [torch.Generator().manual_seed(0) for _ in x0]
    if monitor.keep_state:
        _check_kept(plan)
    if resume is not None:
        check_plan(resume, plan, problem.energy.transform, BY_LENGTH)
    run: Run | None = None
    try:
        with _bar(plan.iterations, title, progress, 0 if resume is None else resume.evaluations) as tick:
            run = Run(problem, x0, generators, tick, batch or (1 if x0.device.type == "cpu" else len(x0)), monitor)
            with suppress(NothingLeft):
                z = run.start(x0.detach())
                if resume is not None:
                    z = run.continued(z, resume)
                elif monitor.keep_state:
                    run.mark(z)
                for number, phase in enumerate(plan.phases):
                    if run.begin(number, phase.stages):
                        z = phase.solver(run, z, phase.stages)
                run.accept_final(z)
        return _found(run, plan, interrupted=False)
    except KeyboardInterrupt:
        if run is None or run.evaluations == 0:
            raise
    return _found(run, plan, interrupted=True)  # wherever the signal came, while the result was put together too


def _check_kept(plan: Plan) -> None:
    for phase in plan.phases:
        if not isinstance(phase.solver, GO_ON):
            known = ", ".join(kind.__name__ for kind in GO_ON)
            raise InputError(f"The solver {phase.solver!r} keeps no state, so its run cannot be continued. Those that do: {known}.")


def _found(run: Run, plan: Plan, interrupted: bool) -> Minimum:
    """What the run has so far, with its energies and its verdicts."""
    x = run.cropped(run.good_x)
    terms, trace = run.energies(x), run.trace()
    status = _status(run, terms, trace, interrupted)
    return Minimum(x, terms, trace, run.evaluations, status, run.good_x, interrupted, run.frames, run.state(plan.record()))


@cache
def keep_freed_memory() -> None:
    """Let glibc keep what is freed, up to 64 MB, instead of giving it back to the system at each evaluation and asking for it anew.

    It raises both of its limits, for good, when a block just under 32 MiB is freed (mallopt(3), M_MMAP_THRESHOLD); nothing is written to
    the block, so it costs nothing. Elsewhere it does no harm. docs/performance.md has what it gives.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)


@contextmanager
def _bar(length: int, title: str, shown: bool, done: int = 0) -> Iterator[Tick]:
    """A function to call after each evaluation; it reads the energy, and so waits for the device, five times a second at most."""
    bar: Any = None
    try:
        shown = bool(shown)
    except (ValueError, RuntimeError):  # of several values
        raise InputError(f"progress is True or False; got {shown!r:.80}.") from None
    if shown:
        bar = progress_bar(total=length, initial=done, desc=title, unit="it")
    last = [0.0, done]

    def tick(count: int, energy: Tensor) -> bool:
        now = time.monotonic()
        if now - last[0] < 0.2 and count < length:
            return False
        if bar is not None:
            bar.set_postfix_str(f"energy {energy.mean().item():.4g}", refresh=False)
            bar.update(min(count, length) - int(last[1]))
        last[:] = [now, min(count, length)]
        return True

    with nullcontext() if bar is None else bar:
        yield tick


def _status(run: Run, final: Mapping[str, Tensor], trace: Mapping[str, Tensor], interrupted: bool) -> list[str]:
    """Each sample's verdict; warns of those that are not ok, and raises if none has a result."""
    if not run.evaluations:  # nothing was searched for
        return ["ok" if g else f"the start has no finite energy. {_NAN}" for g in torch.isfinite(final["total"]).tolist()]
    good, alive, still_alive = run.good.cpu(), run.alive.cpu(), run.alive_now.cpu()
    start, end, end_loss = trace["total"][0], final["total"].cpu(), final["loss"].cpu()
    if not isinstance(run.transform, Jitter):  # one strongly moving view says little: the first and the last quarter of them
        some = max(1, len(trace["total"]) // 4)
        start = torch.maximum(start, trace["total"][:some].mean(dim=0))
        end = torch.minimum(end, trace["total"][-some:].mean(dim=0))
    moved = (trace["loss"] - trace["loss"][0]).abs().amax(dim=0) > 1e-7 * trace["loss"][0].abs()
    moved |= (end_loss - trace["loss"][0]).abs() > 1e-7 * trace["loss"][0].abs()
    status = []
    for b in range(len(good)):
        if not good[b] or not torch.isfinite(end[b]):
            status.append(f"the energy became NaN or infinite {_where(trace, b)}: the last finite image is given. {_NAN}")
        elif not alive[b]:
            status.append(f"the gradient of the loss was exactly zero at every step. {_CEILING if end_loss[b] < 0 else ''}{_DEAD}")
        elif not still_alive[b] and end_loss[b] < 0:
            status.append(f"the gradient of the loss is zero in the end. {_CEILING}Nothing more can be gained from it.")
        elif not still_alive[b]:
            status.append(f"the gradient of the loss vanished on the way: the unit has closed. {_DEAD}")
        elif not moved[b]:
            status.append(f"the loss did not move from {trace['loss'][0, b].item():.6g}. {_STUCK}")
        elif end[b] > start[b] + 1e-3 * start[b].abs() and not interrupted:
            status.append(f"the energy rose from {start[b].item():.6g} to {end[b].item():.6g}: diverged. {_DIVERGED}")
        else:
            status.append("ok")
    wrong = [f"sample {b}: {s}" for b, s in enumerate(status) if s != "ok"]
    if not bool((good & alive).any()):
        raise OptimizationError("No sample could be optimised; " + "; ".join(dict.fromkeys(s for s in status)))
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        warnings.warn("; ".join(wrong[:3]) + more, PreimageWarning, stacklevel=5)
    return status


def _where(trace: Mapping[str, Tensor], b: int) -> str:
    bad = (~torch.isfinite(trace["total"][:, b])).nonzero()
    if not len(bad):
        return "in its gradient"
    t = int(bad[0])
    terms = [n for n, v in trace.items() if n != "total" and not torch.isfinite(v[t, b])]
    return f"at iteration {t} ({', '.join(terms) or 'total'})"


_NAN = "Look for NaN in the weights or the representation, or take a smaller step or float64."
_CEILING = "The unit answers, and no small change of the image changes its answer: it is at its ceiling (as HOG's 0.4), or a constant. "
_DEAD = (
    "The unit does not respond to anything near the start image (a dead unit, or one behind a closed ReLU). Try another seed, "
    "the layer before the ReLU, a Layer with leak=0.05, or check that the representation is differentiable."
)
_STUCK = "Raise C, or check that the representation is differentiable and that the start is not already a solution."
_DIVERGED = "Take a smaller rate (a solver instance instead of its name), or solver='paper', whose steps are bounded."
