"""Plans: which solvers run, one after the other, for how long. The only place that knows what "fast" means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import Any

from ..errors import InputError
from ..plain import is_plain, parse, to_plain
from ..ranges import checked, is_zero
from ..registry import unknown
from .methods import STILL, Descend, FourierAdam
from .quasinewton import MEMORY
from .run import SOLVERS, Solver, Stage

PAPER_INVERT = (Stage(300), Stage(50, rate=0.1, jitter=False))  # nnpreimage.m
_ALIKE = (Stage(300),)
_STAGES: dict[str, dict[str, Sequence[Stage]]] = {
    "paper": {"invert": PAPER_INVERT, "maximize": _ALIKE, "caricature": _ALIKE},
    "adam": {"invert": (Stage(250), Stage(50, jitter=False)), "maximize": _ALIKE, "caricature": _ALIKE},
    "fast": {"invert": (Stage(100),), "maximize": (Stage(200),), "caricature": (Stage(100),)},
    "fourier-adam": {"invert": (Stage(60), Stage(240, jitter=False)), "maximize": (Stage(200),), "caricature": (Stage(100),)},
    "lbfgs": {"invert": (Stage(150),), "maximize": (Stage(150),), "caricature": (Stage(100),)},
    "descent": {"invert": (Stage(50),), "maximize": (Stage(100),), "caricature": (Stage(100),)},
}
_DEFAULT_STAGES: Mapping[str, Sequence[Stage]] = {"invert": (Stage(200),), "maximize": (Stage(200),), "caricature": (Stage(200),)}
# invert with "fast", measured in docs/solvers.md: up to a stride of FINE pixels exploring is better than descending; at a jitter above
# _DEEP a long run with jitter keeps more structure, while a run of less than _LONG iterations is better off descending at once
_FAST_DESCENT = (Stage(50, jitter=False),)  # HOG and dense SIFT know no contrast: on the way to lower energies it fades
_FAST_LONG = (Stage(60), Stage(240, jitter=False))
FINE, _DEEP, _LONG = 4.0, 1, 200
OPENED = 15  # evaluations of "fast" in which the descent's gradient passes what is closed
_SMALL, _FEW = 8.0, 4  # up to this stride so many pairs are as good as all of the descent's own, in a quarter of the time
REVISION = 4  # of what "fast" means, of the solvers' own stages and of QUALITIES: raised when they change
NORMAL = "normal"
QUALITIES: Mapping[str, float] = {"draft": 1 / 3, NORMAL: 1.0, "best": 3.0}
"""How many evaluations a run takes by the quality that is asked for, in those that it takes by itself."""


@dataclass(frozen=True)
class Phase:
    """One solver and its stages."""

    solver: Solver
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Plan:
    """What runs, in its order.

    phases: solvers with their stages. start_scale: what the original's random start is multiplied by.
    """

    phases: tuple[Phase, ...]
    start_scale: float = 1.0

    @property
    def iterations(self) -> int:
        """Of all phases."""
        return sum(s.iterations for p in self.phases for s in p.stages)

    def record(self) -> list[dict[str, Any]]:
        """Return plain values, for a result's record: what ran, whatever it was asked for as.

        >>> plan_of("fast", [Stage(10, jitter=False)]).record()[0]["solver"]["name"]
        'descent'
        """
        return [{"solver": solver_record(p.solver), "stages": [asdict(s) for s in p.stages]} for p in self.phases]


@dataclass(frozen=True)
class Asked:
    """What a plan depends on beside the solver: the task and what Φ declares.

    task: "invert", "maximize" or "caricature". stride, jitter: of Φ, in pixels. fast_rate: of Φ, None where it has none of its own.
    warm: whether the run begins near its end, as from a learned inverse; then there is nothing to explore.
    """

    task: str
    stride: float = 1.0
    jitter: int = 1
    fast_rate: float | None = None
    warm: bool = False


def plan_for(asked: Asked, solver: str | Solver = "fast", iterations: int | None = None, stages: Sequence[Stage] | None = None) -> Plan:
    """Return the plan of a task.

    Parameters
    ----------
    asked : the task and what Φ declares
    solver : "fast", a registered name, "name:setting=value", or a solver
    iterations : how many in all, the stages keeping their proportions; default the solver's own number; 0, where the run begins near
        its end, is no search at all
    stages : instead of the solver's own

    Raises
    ------
    InputError : for stages that are none, or a number of iterations below 1
    UnknownName : for a solver that is not registered

    >>> [s.iterations for p in plan_for(Asked("invert"), "paper").phases for s in p.stages]
    [300, 50]
    """
    if stages is not None and not (len(stages) and all(isinstance(s, Stage) for s in stages)):
        raise InputError(f"stages is a list of at least one preimage.Stage, as [Stage(300)]; got {stages!r}.")
    none = is_zero(iterations)
    if none and asked.warm:
        return Plan(())
    if iterations is not None and not none:  # of 0 `scaled` says what it needs
        iterations = checked("iterations", iterations)
    if solver != "fast":
        return plan_of(solver, stages or _own_stages(solver, asked.task), iterations)
    short = iterations is not None and iterations < _LONG
    explores = asked.task == "invert" and stages is None and not short and asked.jitter > _DEEP and not asked.warm
    if stages is None and asked.warm:
        stages = _FAST_DESCENT
    if stages is None:
        stages = _STAGES["fast"][asked.task]
        if asked.task == "invert" and asked.stride > FINE:
            stages = _FAST_LONG if explores else _FAST_DESCENT
    # deep units answer strongly to noise: a descent from it starts nearer to grey, by 1/j² for the paper's jitter j above 2
    scale = 1.0 if stages[0].jitter else 1.0 / max(2, asked.jitter) ** 2
    memory = _FEW if asked.stride <= _SMALL else MEMORY
    plan = plan_of("fourier-adam", stages, iterations) if explores else plan_of("fast", stages, iterations, asked.fast_rate, memory)
    return replace(plan, start_scale=scale)


def evaluations_at(quality: str, own: int) -> int:
    """Return how many evaluations a quality takes, of a plan that has so many of its own; an answer without a search stays one.

    Raises
    ------
    UnknownName : for what is no quality

    >>> [evaluations_at(q, 150) for q in QUALITIES]
    [50, 150, 450]
    """
    if not isinstance(quality, str) or quality not in QUALITIES:
        raise unknown("quality", str(quality), list(QUALITIES), "preimage invert --help")
    return max(round(QUALITIES[quality] * own), min(own, 1))


def plan_of(
    solver: str | Solver, stages: Sequence[Stage], iterations: int | None = None, fast_rate: float | None = None, memory: int = MEMORY
) -> Plan:
    """Return the plan of one solver and its stages; "fast" explores in moving stages and descends in still ones.

    iterations: the stages are scaled to this sum. fast_rate: of the exploration, instead of the solver's own. memory: pairs of the descent.

    >>> [type(p.solver).__name__ for p in plan_of("fast", [Stage(20), Stage(30, jitter=False)]).phases]
    ['FourierAdam', 'Descend']
    """
    stages = list(stages) if iterations is None else scaled(stages, iterations)
    if solver == "fast":
        explore = FourierAdam() if fast_rate is None else FourierAdam(fast_rate)
        groups = [(moving, tuple(group)) for moving, group in groupby(stages, key=lambda s: s.jitter)]
        return Plan(tuple(Phase(explore if moving else Descend(memory, opened=OPENED), group) for moving, group in groups))
    method = solver_named(solver) if isinstance(solver, str) else solver
    if not callable(method):
        raise InputError(f'solver is a name, "name:setting=value" or a solver; got {solver!r}. Known: fast, {", ".join(SOLVERS)}.')
    if isinstance(method, STILL):
        stages = [replace(s, jitter=False) for s in stages]
    return Plan((Phase(method, tuple(stages)),))


def solver_named(text: str) -> Solver:
    """Return the solver of a registered name or "name:setting=value".

    >>> solver_named("adam:rate=2")
    Adam(rate=2.0, betas=(0.9, 0.99), schedule='cosine')
    """
    found: Solver = parse(text, SOLVERS)
    return found


def solver_record(solver: Solver) -> Any:
    """Return a solver as plain values, or the text of one that is not registered."""
    return to_plain(solver, SOLVERS) if is_plain(solver, SOLVERS) else repr(solver)


def solver_names() -> list[str]:
    """Return what may be asked for by name.

    >>> solver_names()[:2]
    ['fast', 'paper']
    """
    return ["fast", *SOLVERS]


def _own_stages(solver: str | Solver, task: str) -> Sequence[Stage]:
    """The stages that a solver takes where nothing else is asked for."""
    name = solver.partition(":")[0] if isinstance(solver, str) else ""
    return _STAGES.get(name, _DEFAULT_STAGES)[task]


def scaled(stages: Sequence[Stage], iterations: int) -> list[Stage]:
    """The same stages in the same proportions, `iterations` in all; a stage that rounds to nothing is left out.

    >>> [s.iterations for s in scaled([Stage(300), Stage(50)], 70)]
    [60, 10]
    >>> [s.iterations for s in scaled([Stage(300), Stage(50)], 1)]
    [1]
    """
    if iterations == 0:
        raise InputError(
            "iterations is a whole number of at least 1; got 0 (0, the answer of a learned inverse itself, needs one to start from)"
        )
    iterations = checked("iterations", iterations)
    whole = sum(s.iterations for s in stages)
    ends, done = [], 0
    for stage in stages:
        done += stage.iterations
        ends.append(round(iterations * done / whole))
    counts = [b - a for a, b in zip([0, *ends], ends, strict=False)]
    return [replace(s, iterations=n) for s, n in zip(stages, counts, strict=True) if n > 0]
