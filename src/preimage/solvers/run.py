"""What a solver sees: stages, and a run that gives it gradients, records them, and keeps what is good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ..energy.energy import Energy, Problem
from ..energy.parameterizations import Coordinates, PixelCoordinates
from ..energy.terms import total
from ..energy.transforms import View
from ..errors import InputError
from ..pixels.pixelspace import PixelSpace
from ..ranges import checked
from ..registry import Registry
from .memory import Memory, State, unfit
from .monitor import Monitor

Tick = Callable[[int, Tensor], bool]


@dataclass(frozen=True)
class Stage:
    """A part of the run: how many iterations, at which multiple of the solver's rate, with a moving view (jitter) or a still one."""

    iterations: int
    rate: float = 1.0
    jitter: bool = True

    def __post_init__(self) -> None:
        checked("iterations", self.iterations)
        checked("rate", self.rate)


class Solver(Protocol):
    """Minimises run's energy from the coordinates z (B, ...) of its canvases; gives the last ones, or those of the centre crop.

    It asks for gradients through `run.gradient` alone, never changes z in place, and treats each sample by itself. With the paper's
    parameterization, pixels, z is the canvas x itself, (B, C, H+j-1, W+j-1).
    """

    def __call__(self, run: Run, z: Tensor, stages: Sequence[Stage], /) -> Tensor: ...


SOLVERS: Registry[Callable[..., Solver]] = Registry("solver", see="preimage invert --help")


_Kept = tuple[int, int, Tensor, Tensor, tuple[Tensor, Tensor, Tensor], int, dict[str, Tensor]]


class NothingLeft(Exception):
    """No sample has anything left to gain."""


class Run:
    """What a solver sees of the problem. Everything recorded stays on the device until the end."""

    def __init__(
        self,
        problem: Problem,
        x0: Tensor,
        generators: Sequence[torch.Generator],
        tick: Tick,
        batch: int,
        monitor: Monitor = Monitor(),  # noqa: B008 (frozen)
    ) -> None:
        self.energy, self.generators = problem.energy, generators
        self.transform, self._ball = problem.energy.transform, problem.ball
        self.space = problem.space or PixelSpace(channels=int(x0.shape[1]))
        self._from_noise, self._opened = problem.from_noise, problem.opened
        self.evaluations = 0
        self.frames: list[Tensor] = []
        self._tick, self._every, self._watch = tick, monitor.frames, monitor.watch
        self._records: list[Tensor] = []
        self.parts = [slice(k, k + batch) for k in range(0, len(x0), batch)]  # samples evaluated together
        self._parts = [(s, problem.energy.part(s)) for s in self.parts]
        self._written = _coordinates(problem, x0, self.parts, self.space)  # of each of the parts
        self._canvas = x0.shape[-2:]
        self.good_x = x0.detach()
        self.good = self.alive = self.alive_now = torch.ones(len(x0), dtype=torch.bool, device=x0.device)
        self.done, self._phase, self._finished = 0, 0, 0  # iterations that were done of a continued phase; which phase; those done now
        self._keeping, self._skip = monitor.keep_state, 0
        self._past: State | None = None
        self._kept: _Kept | None = None
        height, width = self.cropped(x0[:1]).shape[-2:]
        self.size = (height, width)  # of Φ's input

    def start(self, x0: Tensor) -> Tensor:
        """The coordinates of the canvases with which the run begins."""
        if self._from_noise:
            return torch.cat([w.start(x0[s], self.generators[s]) for w, s in zip(self._written, self.parts, strict=True)])
        return torch.cat([w.encode(x0[s]) for w, s in zip(self._written, self.parts, strict=True)])

    def continued(self, z: Tensor, state: State) -> Tensor:
        """The coordinates from which the run goes on, and all that it had by then. z: those of its start. Raises InputError."""
        samples = len(z)
        for name, found, allowed in (
            ("z", state.z, (z.shape, self.crop(z).shape)),
            ("best", state.best, (self.good_x.shape, self.cropped(self.good_x).shape)),
            ("records", state.records, (torch.Size([state.evaluations, len(self.energy.terms) + 1, samples]),)),
        ):
            if found.shape not in allowed or found.dtype != z.dtype:
                raise unfit(f"{name} is {tuple(found.shape)} of {found.dtype}")
        device = z.device
        self.good_x, self._records = state.best.to(device), list(state.records.to(device))
        self.good, self.alive, self.alive_now = state.verdicts.to(device)
        self.evaluations = state.evaluations
        self._phase = state.phase
        self.done = self._finished = self._skip = state.done
        self._past = state
        z = state.z.to(device)
        if self._keeping:
            self._kept = (state.phase, state.done, z, self.good_x, (self.good, self.alive, self.alive_now), self.evaluations, state.memory)
        return z

    def begin(self, phase: int, stages: Sequence[Stage]) -> bool:
        """Say which phase comes; whether there is anything left of it to do. Of one that is past its draws are made, as they were."""
        if phase < self._phase:
            self._skip = sum(s.iterations for s in stages)
            for stage in stages:
                self.draws(stage)
            self._skip = self.done
            return False
        if phase > self._phase:
            self._phase, self._past, self.done, self._skip, self._finished = phase, None, 0, 0, 0
        return True

    def restore(self, *memories: Memory) -> None:
        """For solvers, before the first step of each of their memories: what these held where the run was left."""
        if self._skip and self._past is not None:
            for number, memory in enumerate(memories):
                memory.load(self._past.of_memory(number))

    def keep(self, z: Tensor, *memories: Memory) -> None:
        """For solvers, after each iteration: the coordinates, and all that they carry along."""
        self._finished += 1
        if self._keeping:
            self.mark(z, memories)

    def mark(self, z: Tensor, memories: Sequence[Memory] = ()) -> None:
        """Remember that the run can go on from here."""
        found = {f"{number}.{name}": t for number, memory in enumerate(memories) for name, t in memory.state().items()}
        verdicts = (self.good, self.alive, self.alive_now)
        self._kept = (self._phase, self._finished, z, self.good_x, verdicts, self.evaluations, found)  # at once: Ctrl-C comes anywhere

    def state(self, plan: list[dict[str, Any]]) -> State | None:
        """Where the run can go on from, if that is kept, on the CPU."""
        if self._kept is None:
            return None
        phase, done, z, best, verdicts, evaluations, memory = self._kept
        recorded = self._records[:evaluations]
        records = torch.stack(recorded) if recorded else z.new_zeros(0, len(self.energy.terms) + 1, len(z))
        return State(
            plan=plan,
            phase=phase,
            done=done,
            z=z.cpu(),
            best=best.cpu(),
            verdicts=torch.stack(verdicts).cpu(),
            records=records.cpu(),
            memory={name: t.cpu() for name, t in memory.items()},
        )

    def crop(self, z: Tensor) -> Tensor:
        """The coordinates in which a still stage works: of the centre crop where they are pixels, else the same."""
        return self.cropped(z) if self.writes_pixels else z

    def opened(self, closed_slope: float, pool_share: float) -> AbstractContextManager[None]:
        """While entered, gradients pass closed ReLUs with a slope and are spread over max pooling's windows, if Φ can; values stay."""
        return nullcontext() if self._opened is None else self._opened(closed_slope, pool_share)

    def project(self, z: Tensor) -> Tensor:
        """Coordinates whose pixels keep the bound."""
        if len(self.parts) == 1 or self.writes_pixels:
            return self._written[0].project(z, self._ball)
        return torch.cat([w.project(z[s], self._ball) for w, s in zip(self._written, self.parts, strict=True)])

    def cropped(self, x: Tensor) -> Tensor:
        """The centre of a canvas, which is what Φ sees in the still view; a crop stays as it is."""
        return self.transform.crop(x).contiguous() if x.shape[-2:] == self._canvas else x

    def draws(self, stage: Stage) -> Sequence[Sequence[View]]:
        """For each iteration of a stage its views: drawn, or the still one. Of a stage that is continued, for those that are left."""
        done = min(self._skip, stage.iterations)
        self._skip -= done
        if not stage.jitter or self.transform.fixed:
            return [[[self.transform.still] * len(self.generators)]] * (stage.iterations - done)
        return self.transform.draw(self.generators, stage.iterations)[done:]

    def gradient(self, z: Tensor, views: Sequence[View] | None = None) -> Tensor:
        """The gradient of each sample's energy at z; views=None: the still one. Records, checks, shows."""
        return self.evaluate(z, views)[1]

    def evaluate(self, z: Tensor, views: Sequence[View] | None = None) -> tuple[Tensor, Tensor]:
        """Energy (B,) and gradient at z."""
        z = z.detach()
        done = [self._differentiate(part, w, z[s], views, s) for w, (s, part) in zip(self._written, self._parts, strict=True)]
        record, gradient, felt, x = (
            done[0] if len(done) == 1 else (torch.cat([d[k] for d in done], dim=-1 if k == 0 else 0) for k in range(4))
        )
        energy = record[-1]
        self.good = self.good & torch.isfinite(energy + gradient.flatten(1).sum(dim=1))
        self.alive = self.alive | felt if self._records else felt
        self.alive_now = felt
        self._keep(x)
        self._records.append(record)
        self.evaluations += 1
        if self._every and (self.evaluations - 1) % self._every == 0:
            self.frames.append(self.cropped(x).cpu())
        due = self._tick(self.evaluations, energy)
        if due or self.evaluations in (1, 20):
            self._stop_if_hopeless()
        if due and self._watch is not None and self._watch(self.evaluations, self.cropped(x), energy):
            raise KeyboardInterrupt
        return energy, self._where_good(gradient, 0.0)

    @property
    def writes_pixels(self) -> bool:
        """Whether the coordinates are pixels."""
        return isinstance(self._written[0], PixelCoordinates)

    def values(self, z: Tensor) -> Tensor:
        """Energy (B,) at z in the still view, for solvers that need no gradient. Records and shows; what is good they `remember`."""
        shown = self._shown(z)
        energies = self.energies(self.cropped(shown))
        self._records.append(torch.stack(list(energies.values())))
        self.evaluations += 1
        if self._every and (self.evaluations - 1) % self._every == 0:
            self.frames.append(self.cropped(shown).cpu())
        due = self._tick(self.evaluations, energies["total"])
        if due and self._watch is not None and self._watch(self.evaluations, self.cropped(shown), energies["total"]):
            raise KeyboardInterrupt
        return energies["total"]

    def remember(self, z: Tensor) -> None:
        """Take these coordinates' images for the best so far, for solvers that try many."""
        self._keep(self._shown(z))

    def _shown(self, z: Tensor) -> Tensor:
        """The images of all coordinates."""
        return torch.cat([w.show(z[s])[0] for w, s in zip(self._written, self.parts, strict=True)])

    def _differentiate(
        self, energy: Energy, written: Coordinates, z: Tensor, views: Sequence[View] | None, samples: slice
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For some samples: terms and total (terms + 1, b), gradient in z, whether the loss has a gradient (b,), and x (b, C, H, W)."""
        x, pull = written.show(z)
        if views is None and x.shape[-2:] == self._canvas and not self.transform.whole:
            views = [[self.transform.still] * len(self.generators)]
        terms, gradient, felt = energy.differentiate(x, None if views is None else [view[samples] for view in views])
        return torch.stack([*terms.values(), total(terms)]), pull(gradient), felt, x

    def energies(self, x: Tensor) -> dict[str, Tensor]:
        """Each term and the total, (B,), at crops x, without jitter."""
        with torch.no_grad():
            parts = [part(x[s]) for s, part in self._parts]
        terms = {name: torch.cat([p[name] for p in parts]) for name in self.energy.terms}
        return terms | {"total": total(terms)}

    def accept_final(self, z: Tensor) -> None:
        """Take the solver's last image, whose energy nobody has asked for yet, if it is finite."""
        x = self._shown(z)
        self.good = self.good & torch.isfinite(x).all(dim=3).all(dim=2).all(dim=1)
        self._keep(x)
        if self._every:
            self.frames.append(self.cropped(x).cpu())

    def trace(self) -> dict[str, Tensor]:
        """Term -> (T, B), on the CPU."""
        names = len(self.energy.terms) + 1
        table = torch.stack(self._records).cpu() if self._records else torch.zeros(0, names, len(self.good))
        return {name: table[:, i] for i, name in enumerate((*self.energy.terms, "total"))}

    def _keep(self, x: Tensor) -> None:
        """Remember each sample's last image with a finite energy."""
        if self.good_x.shape != x.shape:
            self.good_x = self.cropped(self.good_x)
        self.good_x = self._where_good(x, self.good_x)

    def _where_good(self, x: Tensor, other: Tensor | float) -> Tensor:
        """x for the samples that are good so far; on a CPU, where to ask costs nothing, without a copy if all are."""
        if self.good.device.type == "cpu" and bool(self.good.all()):
            return x
        return torch.where(self.good.view(-1, *[1] * (x.dim() - 1)), x, other)

    def _stop_if_hopeless(self) -> None:
        if not bool(self.good.any()) or (self.evaluations >= 20 and not bool(self.alive.any())):
            raise NothingLeft


def _coordinates(problem: Problem, x0: Tensor, parts: Sequence[slice], space: PixelSpace) -> list[Coordinates]:
    """The coordinates of each part of the samples: the same for all, or where they speak of the start those of its own."""
    first = problem.parameterization.begin(x0[parts[0]])
    if first is problem.parameterization:
        return [first.at(x0.shape[1:], space)] * len(parts)
    if problem.from_noise:
        raise InputError(f"{first} speaks of the image that the run begins with, and this begins with noise: give start=.")
    return [problem.parameterization.begin(x0[s]).at(x0.shape[1:], space) for s in parts]
