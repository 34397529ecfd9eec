"""minimize(energy, x0): the loop that every solver shares: record, watch, project, crop, stop; nothing goes wrong silently."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor

from ..energy.energy import Energy, total
from ..energy.regularizers import Jitter, PixelBall
from ..errors import InputError, OptimizationError, PreimageWarning
from ..registry import Registry

Offsets = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Stage:
    """A part of the run: how many iterations, at which multiple of the solver's rate, with a jittered or a fixed view."""

    iterations: int
    rate: float = 1.0
    jitter: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.iterations, int) or self.iterations < 1:
            raise InputError(f"iterations is a whole number of at least 1; got {self.iterations!r}")


class Solver(Protocol):
    """Minimises run's energy from the canvas x (B, C, H+j-1, W+j-1); gives the last canvas, or its centre crop.

    It asks for gradients through `run.gradient` alone, never changes x in place, and treats each sample by itself.
    """

    def __call__(self, run: Run, x: Tensor, stages: Sequence[Stage]) -> Tensor: ...


SOLVERS: Registry[Callable[..., Solver]] = Registry("solver", see="preimage invert --help")


@dataclass
class Minimum:
    """What `minimize` found.

    x: canonical (B, C, H, W), the centre of the canvas. energy: term -> (B,) at x, without jitter, and "total".
    trace: term -> (T, B), each as it was when its gradient was taken, with jitter. evaluations: gradients taken per sample.
    status: "ok", or what is wrong with the sample. canvas: x with the jitter border that the
    last stage had. interrupted: Ctrl-C came first. frames: the crop every so often.
    """

    x: Tensor
    energy: dict[str, Tensor]
    trace: dict[str, Tensor]
    evaluations: int
    status: list[str]
    canvas: Tensor
    interrupted: bool = False
    frames: list[Tensor] = field(default_factory=list)


def minimize(
    energy: Energy,
    x0: Tensor,
    *,
    solver: str | Solver = "fast",
    stages: Sequence[Stage] = (Stage(100),),
    iterations: int | None = None,
    jitter: Jitter = Jitter(1),  # noqa: B008 (frozen)
    ball: PixelBall = PixelBall(),  # noqa: B008 (frozen)
    generators: Sequence[torch.Generator] | None = None,
    progress: bool = False,
    title: str = "minimize",
    frames: int = 0,
    batch: int | None = None,
    watch: Watch | None = None,
) -> Minimum:
    """Minimise E over canonical images from the canvas x0 (B, C, H+j-1, W+j-1).

    solver: a name in `SOLVERS` or a solver. iterations: scales the stages to this sum. generators: one for each sample, for its
    jitter; the default is seeded 0 for each. frames: keep the crop every so many iterations, 0 for none.
    batch: samples evaluated together; None is 1 on a CPU,
    so that no bit of a sample depends on the others, and all on an accelerator.
    watch: called from the loop at most five times a second, and after the last iteration, with the evaluations so far, the crops
    (B, C, H, W) and their energies (B,), both still on the device; if it returns True the loop ends as with Ctrl-C.
    Ctrl-C ends the loop and gives what was found so far. A sample with a NaN, a gradient that is exactly zero, an energy
    that rose or a loss that did not move is named in `status` and in a PreimageWarning; if no sample has a finite energy and a
    gradient, OptimizationError says why.

    >>> from .energy import Euclidean
    >>> energy = Energy(Euclidean(), lambda x: x, torch.full((1, 1, 8, 8), 50.0), C=100.0)
    >>> found = minimize(energy, torch.zeros(1, 1, 8, 8), solver="paper", iterations=60)
    >>> bool((found.x.mean() - 50).abs() < 2), found.evaluations, found.status
    (True, 60, ['ok'])
    """
    keep_freed_memory()
    method = load_solvers()[solver]() if isinstance(solver, str) else solver
    stages = stages if iterations is None else scaled(stages, iterations)
    if generators is None:
        generators = [torch.Generator().manual_seed(0) for _ in x0]
    length = sum(s.iterations for s in stages)
    with _bar(length, title, progress) as tick:
        run = Run(energy, x0, jitter, ball, generators, tick, frames, batch or (1 if x0.device.type == "cpu" else len(x0)), watch)
        interrupted = False
        try:
            run.look(method(run, x0.detach(), stages))
        except _NothingLeft:
            pass
        except KeyboardInterrupt:
            if run.evaluations == 0:
                raise
            interrupted = True
        x = run.crop(run.good_x)
    terms = run.energies(x)
    trace = run.trace()
    status = _status(run, terms, trace, interrupted)
    return Minimum(x, terms, trace, run.evaluations, status, run.good_x, interrupted, run.frames)


class Run:
    """What a solver sees of the problem. Everything recorded stays on the device until the end."""

    def __init__(
        self,
        energy: Energy,
        x0: Tensor,
        jitter: Jitter,
        ball: PixelBall,
        generators: Sequence[torch.Generator],
        tick: Tick,
        every: int,
        batch: int,
        watch: Watch | None = None,
    ) -> None:
        self.energy, self.jitter, self.ball, self.generators = energy, jitter, ball, generators
        self.evaluations = 0
        self.frames: list[Tensor] = []
        self._tick, self._every, self._watch = tick, every, watch
        self._records: list[Tensor] = []
        self.parts = [slice(k, k + batch) for k in range(0, len(x0), batch)]  # samples evaluated together
        self._parts = [(s, energy.part(s)) for s in self.parts]
        self._canvas = x0.shape[-2:]
        self.good_x = x0.detach()
        self.good = self.alive = self.alive_now = torch.ones(len(x0), dtype=torch.bool, device=x0.device)

    def crop(self, x: Tensor) -> Tensor:
        """The centre of a canvas, which is what Φ sees without jitter; a crop stays as it is."""
        return self.jitter.crop(x).contiguous() if x.shape[-2:] == self._canvas else x

    def offsets(self, stage: Stage) -> Iterator[Offsets]:
        """One set of jitter offsets for each iteration of a stage: drawn, or the centre's."""
        if not stage.jitter or self.jitter.amount == 1:
            return iter([[self.jitter.centre] * len(self.generators)] * stage.iterations)
        return iter(self.jitter.draw(self.generators, stage.iterations))

    def gradient(self, x: Tensor, offsets: Offsets | None = None) -> Tensor:
        """The gradient of each sample's energy at x; offsets=None: x is a crop already. Records, checks, shows."""
        return self.evaluate(x, offsets)[1]

    def evaluate(self, x: Tensor, offsets: Offsets | None = None) -> tuple[Tensor, Tensor]:
        """Energy (B,) and gradient at x."""
        x = x.detach()
        done = [self._differentiate(part, x[s], None if offsets is None else offsets[s]) for s, part in self._parts]
        record, gradient, alive = (
            done[0] if len(done) == 1 else (torch.cat([d[k] for d in done], dim=-1 if k == 0 else 0) for k in range(3))
        )
        energy = record[-1]
        self.good = self.good & torch.isfinite(energy + gradient.sum(dim=(1, 2, 3)))
        self.alive = self.alive | alive if self._records else alive
        self.alive_now = alive
        self._keep(x)
        self._records.append(record)
        self.evaluations += 1
        if self._every and (self.evaluations - 1) % self._every == 0:
            self.frames.append(self.crop(x).cpu())
        due = self._tick(self.evaluations, energy)
        if due or self.evaluations in (1, 20):
            self._stop_if_hopeless()
        if due and self._watch is not None and self._watch(self.evaluations, self.crop(x), energy):
            raise KeyboardInterrupt
        return energy, self._where_good(gradient, 0.0)

    def _differentiate(self, energy: Energy, x: Tensor, offsets: Offsets | None) -> tuple[Tensor, Tensor, Tensor]:
        """For some samples: terms and total (terms + 1, b), gradient (b, C, H, W), and whether the loss has a gradient (b,)."""
        terms, gradient, seen = energy.differentiate(x, None if offsets is None else self.jitter, offsets or ())
        return torch.stack([*terms.values(), total(terms)]), gradient, seen.abs().amax(dim=(1, 2, 3)) != 0

    def energies(self, x: Tensor) -> dict[str, Tensor]:
        """Each term and the total, (B,), at crops x, without jitter."""
        with torch.no_grad():
            parts = [part(x[s]) for s, part in self._parts]
        terms = {name: torch.cat([p[name] for p in parts]) for name in self.energy.terms}
        return terms | {"total": total(terms)}

    def look(self, x: Tensor) -> None:
        """Take the solver's last image, whose energy nobody has asked for yet, if it is finite."""
        self.good = self.good & torch.isfinite(x).all(dim=3).all(dim=2).all(dim=1)
        self._keep(x)
        if self._every:
            self.frames.append(self.crop(x).cpu())

    def trace(self) -> dict[str, Tensor]:
        """Term -> (T, B), on the CPU."""
        table = torch.stack(self._records).cpu()
        return {name: table[:, i] for i, name in enumerate((*self.energy.terms, "total"))}

    def _keep(self, x: Tensor) -> None:
        """Remember each sample's last image with a finite energy."""
        if self.good_x.shape != x.shape:
            self.good_x = self.crop(self.good_x)
        self.good_x = self._where_good(x, self.good_x)

    def _where_good(self, x: Tensor, other: Tensor | float) -> Tensor:
        """x for the samples that are good so far; on a CPU, where to ask costs nothing, without a copy if all are."""
        if self.good.device.type == "cpu" and bool(self.good.all()):
            return x
        return torch.where(self.good.view(-1, 1, 1, 1), x, other)

    def _stop_if_hopeless(self) -> None:
        if not bool(self.good.any()) or (self.evaluations >= 20 and not bool(self.alive.any())):
            raise _NothingLeft


@cache
def keep_freed_memory() -> None:
    """Let glibc keep what is freed, up to 64 MB, instead of giving it back to the system at each evaluation and asking for it anew.

    It raises both of its limits, for good, when a block just under 32 MiB is freed (mallopt(3), M_MMAP_THRESHOLD); nothing is written to
    the block, so it costs nothing. Elsewhere it does no harm. docs/performance.md has what it gives.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)


def scaled(stages: Sequence[Stage], iterations: int) -> list[Stage]:
    """The same stages in the same proportions, `iterations` in all; a stage that rounds to nothing is left out.

    >>> [s.iterations for s in scaled([Stage(300), Stage(50)], 70)]
    [60, 10]
    >>> [s.iterations for s in scaled([Stage(300), Stage(50)], 1)]
    [1]
    """
    if not isinstance(iterations, int) or iterations < 1:
        raise InputError(f"iterations is a whole number of at least 1; got {iterations!r}")
    whole = sum(s.iterations for s in stages)
    ends, done = [], 0
    for stage in stages:
        done += stage.iterations
        ends.append(round(iterations * done / whole))
    counts = [b - a for a, b in zip([0, *ends], ends, strict=False)]
    return [replace(s, iterations=n) for s, n in zip(stages, counts, strict=True) if n > 0]


def load_solvers() -> Registry[Callable[..., Solver]]:
    """The registry with the solvers of this package in it."""
    from .. import solvers  # noqa: F401

    return SOLVERS


Tick = Callable[[int, Tensor], bool]
Watch = Callable[[int, Tensor, Tensor], "bool | None"]


class _NothingLeft(Exception):
    """No sample has anything left to gain."""


@contextmanager
def _bar(length: int, title: str, shown: bool) -> Iterator[Tick]:
    """A function to call after each evaluation; it reads the energy, and so waits for the device, five times a second at most."""
    bar: Any = None
    if shown:
        from tqdm.auto import tqdm

        bar = tqdm(total=length, desc=title, unit="it", dynamic_ncols=True)
    last = [0.0, 0]

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
    good, alive, still_alive = run.good.cpu(), run.alive.cpu(), run.alive_now.cpu()
    start, end = trace["total"][0], final["total"].cpu()
    moved = (trace["loss"] - trace["loss"][0]).abs().amax(dim=0) > 1e-7 * trace["loss"][0].abs()
    moved |= (final["loss"].cpu() - trace["loss"][0]).abs() > 1e-7 * trace["loss"][0].abs()
    status = []
    for b in range(len(good)):
        if not good[b] or not torch.isfinite(end[b]):
            status.append(f"the energy became NaN or infinite {_where(trace, b)}: the last finite image is given. {_NAN}")
        elif not alive[b]:
            status.append(f"the gradient of the loss was exactly zero at every step. {_DEAD}")
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
        warnings.warn("; ".join(wrong[:3]) + more, PreimageWarning, stacklevel=4)
    return status


def _where(trace: Mapping[str, Tensor], b: int) -> str:
    bad = (~torch.isfinite(trace["total"][:, b])).nonzero()
    if not len(bad):
        return "in its gradient"
    t = int(bad[0])
    terms = [n for n, v in trace.items() if n != "total" and not torch.isfinite(v[t, b])]
    return f"at iteration {t} ({', '.join(terms) or 'total'})"


_NAN = "Look for NaN in the weights or the representation, or take a smaller step or float64."
_DEAD = (
    "The unit does not respond to anything near the start image (a dead unit, or one behind a closed ReLU). Try another seed, "
    "the layer before the ReLU, leak=0.05, or check that the representation is differentiable."
)
_STUCK = "Raise C, or check that the representation is differentiable and that the start is not already a solution."
_DIVERGED = "Take a smaller rate (a solver instance instead of its name), or solver='paper', whose steps are bounded."
