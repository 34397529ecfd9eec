"""The solvers: the paper's, Adam on pixels and in 1/f-scaled Fourier coordinates, and two quasi-Newton descents."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ..energy.fourier import spectrum as spectrum
from ..energy.transforms import View
from ..errors import InputError
from ..plain import LATER
from ..ranges import checked, fraction
from .evolution import Evolution
from .memory import take
from .quasinewton import FIRST_STEP, MEMORY, Curvature, Descent, Inverse, Level, Waves
from .run import SOLVERS, Run, Stage

WARM_UP = 0.1  # of the run: full first steps would close the units that the start has open


@SOLVERS.register("paper")
@dataclass(frozen=True)
class Paper:
    r"""Decayed AdaGrad with momentum, exactly as published (IJCV Sect. 3.5; nnpreimage.m).

    G ← ρG + g², m ← ρm − g / (1/η + √G), x ← x + m, then the bound; η = rate·H·W with H·W the size of Φ's input.
    G and m start at 0 in each stage. A stage without jitter works on the centre crop of the canvas, a fresh problem.
    rate: 0.05·B²/α = 53.3 with B = 80 and α = 6. The step does not depend on the scale of E: with a steady gradient it
    tends to 3.16 grey levels. rho: momentum and decay.
    """

    rate: float = 0.05 * 80**2 / 6
    rho: float = 0.9

    def __post_init__(self) -> None:
        checked("rate", self.rate)
        fraction("rho", self.rho)

    def __call__(self, run: Run, x: Tensor, stages: Sequence[Stage]) -> Tensor:
        for stage in stages:
            x = x if stage.jitter else run.crop(x)
            floor = 1.0 / (self.rate * stage.rate * run.size[0] * run.size[1])
            step = _AdaGrad(x, self.rho, floor)
            run.restore(step)
            for views in run.draws(stage):
                x = run.project(x + step(run.gradient(x, views if stage.jitter else None)))
                run.keep(x, step)
        return x


@SOLVERS.register("adam")
@dataclass(frozen=True)
class Adam:
    """Adam on pixels, the step rising over the first tenth of the run and then falling to zero along a cosine.

    rate: first step in grey levels. A stage without jitter sees the centre of the canvas; the averages go on. schedule: "constant" for
    steps of one rate throughout.
    """

    rate: float = 4.0
    betas: tuple[float, float] = (0.9, 0.99)
    schedule: str = "cosine"

    def __post_init__(self) -> None:
        if self.schedule not in ("cosine", "constant"):
            raise InputError(f"schedule is cosine or constant; got {self.schedule!r}.")
        _check_adam(self.rate, self.betas)

    def __call__(self, run: Run, x: Tensor, stages: Sequence[Stage]) -> Tensor:
        step = _Adam(x, self.betas)
        run.restore(step)
        for views, rate in _schedule(run, stages) if self.schedule == "cosine" else _constant(run, stages):
            x = run.project(x - self.rate * rate * step(run.gradient(x, views)))
            run.keep(x, step)
        return x


@SOLVERS.register("descent")
@dataclass(frozen=True)
class Descend:
    """L-BFGS around an estimate of the curvature in bands of frequency and in places, learned on the way (`preimage.solvers.quasinewton`).

    One evaluation a step, no line search, and the energy of the image kept never rises; so the view has to stay still. A stage's rate
    multiplies its steps. memory: pairs kept. first_step: root mean square of the first step, of which no curvature is known, in grey
    levels. tolerance: a sample whose energy fell by no more than this share of it over the last ten evaluations stays where it is, and the
    run ends when all do; 0: it does all its iterations. opened: for so many evaluations, the first ones, the gradient passes closed ReLUs
    with closed_slope and is spread over windows of max pooling to the part pool_share, where Φ can be opened; the energies stay Φ's own.
    What each part gave is in docs/solvers.md.
    """

    revision = 2
    memory: int = MEMORY
    first_step: float = field(default=FIRST_STEP, metadata=LATER)
    tolerance: float = field(default=0.0, metadata=LATER)
    opened: int = field(default=0, metadata=LATER)
    closed_slope: float = field(default=0.1, metadata=LATER)
    pool_share: float = field(default=0.35, metadata=LATER)

    def __post_init__(self) -> None:
        checked("memory", self.memory)
        checked("first_step", self.first_step)
        checked("tolerance", self.tolerance)
        checked("opened", self.opened)
        checked("closed_slope", self.closed_slope)
        checked("pool_share", self.pool_share)

    def __call__(self, run: Run, z: Tensor, stages: Sequence[Stage]) -> Tensor:
        z = run.crop(z)
        inverse = partial(Curvature, waves=Waves(z))
        passes = partial(run.opened, self.closed_slope, self.pool_share)
        return _descend(run, z, stages, inverse, self.memory, self.first_step, self.tolerance, (self.opened, passes))


@SOLVERS.register("fourier-adam")
@dataclass(frozen=True)
class FourierAdam:
    """Adam on the Fourier coefficients of x divided by 1/f, the spectrum of natural images.

    Equal steps on these coordinates are steps of 1/f on the coefficients, so large structures move first and far, as they
    have to in a photograph. The coordinates span all images: nothing is left out, the energy is the same, only the path
    changes. rate: first step in units in which a coordinate's step moves pixels by about one grey level.
    """

    rate: float = 14.0
    betas: tuple[float, float] = (0.85, 0.9)

    def __post_init__(self) -> None:
        _check_adam(self.rate, self.betas)

    def __call__(self, run: Run, x: Tensor, stages: Sequence[Stage]) -> Tensor:
        scale = spectrum(x.shape[-2], x.shape[-1]).to(x)
        adam = _Adam(torch.view_as_real(torch.fft.rfft2(x)), self.betas)
        run.restore(adam)

        def forth(gradient: Tensor) -> Tensor:
            # the adjoint of irfft2 up to a factor 2 off the real columns, which Adam's own scaling takes away
            waves: Tensor = torch.fft.rfft2(gradient, norm="ortho").mul_(scale)
            return waves

        def back(z: Tensor) -> Tensor:
            image: Tensor = torch.fft.irfft2(z, s=x.shape[-2:], norm="ortho")
            return image

        def step(gradient: Tensor) -> Tensor:
            g = _by_parts(run, forth, gradient)
            return _by_parts(run, back, torch.view_as_complex(adam(torch.view_as_real(g))).mul_(scale))

        for views, rate in _schedule(run, stages):
            x = run.project(x - step(run.gradient(x, views)).mul_(self.rate * rate))
            run.keep(x, adam)
        return x


@SOLVERS.register("lbfgs")
@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS: `Descend` with one number in place of its estimate of the curvature.

    One evaluation an iteration, and each sample its own pairs and step length. The energy must not change between steps, so the view
    stays still, at the centre of the canvas. A stage's rate multiplies its steps. memory: pairs kept. tolerance: as of `Descend`.
    """

    memory: int = 10
    tolerance: float = field(default=0.0, metadata=LATER)

    def __post_init__(self) -> None:
        checked("memory", self.memory)
        checked("tolerance", self.tolerance)

    def __call__(self, run: Run, z: Tensor, stages: Sequence[Stage]) -> Tensor:
        return _descend(run, run.crop(z), stages, Level, self.memory, tolerance=self.tolerance)


SOLVERS.register("evolution", examples=[{}, {"rate": 0.5, "halved_every": 3}])(Evolution)  # here, so that the paper's is named first

STILL: tuple[type, ...] = (Descend, LBFGS, Evolution)  # solvers whose view does not move, whatever a stage says
BY_LENGTH: tuple[type, ...] = (Adam, FourierAdam)  # whose steps depend on how long the phase is
GO_ON: tuple[type, ...] = (Paper, Adam, Descend, FourierAdam, LBFGS, Evolution)  # who call `Run.keep`, so that their run can be continued


def _check_adam(rate: float, betas: tuple[float, float]) -> None:
    checked("rate", rate)
    if len(betas) != 2:
        raise InputError(f"betas are two numbers; got {betas!r}.")
    for beta in betas:
        fraction("Each of betas", beta)


def _by_parts(run: Run, function: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """A transform of what is evaluated together, part by part: libraries take other paths for other numbers of images."""
    return function(batch) if len(run.parts) == 1 else torch.cat([function(batch[part]) for part in run.parts])


def _descend(
    run: Run,
    z: Tensor,
    stages: Sequence[Stage],
    inverse: Callable[[Tensor], Inverse],
    memory: int,
    first_step: float = FIRST_STEP,
    tolerance: float = 0.0,
    opened: tuple[int, Callable[[], AbstractContextManager[None]]] = (0, nullcontext),
) -> Tensor:
    """Each part of the batch by itself, so that where samples are evaluated one by one no bit of one depends on the others.

    opened: for how many evaluations, and what is entered around each of them.
    """

    count, passes = opened

    def evaluate(number: int, z: Tensor) -> tuple[Tensor, Tensor]:
        with passes() if number < count else nullcontext():
            return run.evaluate(z)

    def search(z: Tensor, energy: Tensor, gradient: Tensor) -> Descent:
        return Descent(z, energy, gradient, inverse(z), memory, first_step, tolerance)

    if run.done:
        nothing = z.new_zeros(len(z))
        searches = [search(z[part], nothing[part], torch.zeros_like(z[part])) for part in run.parts]
        run.restore(*searches)
    else:
        energy, gradient = evaluate(0, z)
        searches = [search(z[part], energy[part], gradient[part]) for part in run.parts]
        del gradient
        run.keep(z, *searches)

    def step(number: int, rate: float) -> None:  # a function, so that nothing of a step is held while the next is evaluated
        trial = run.project(torch.cat([search.ask(rate) for search in searches]))
        energy, gradient = evaluate(number, trial)
        for part, search in zip(run.parts, searches, strict=True):
            search.tell(trial[part], energy[part], gradient[part])
        run.keep(z, *searches)

    rates = [s.rate for s in stages for _ in range(s.iterations)]
    for number in range(max(1, run.done), len(rates)):
        if tolerance and all(bool(search.settled.all()) for search in searches):
            break
        step(number, rates[number])
    return torch.cat([search.x for search in searches])


def _schedule(run: Run, stages: Sequence[Stage]) -> Iterator[tuple[Sequence[View], float]]:
    """The views and the rate for each iteration of all stages: up along a line over the first tenth, then down along a cosine."""
    length = sum(s.iterations for s in stages)
    end = 0
    for stage in stages:
        end += stage.iterations
        left = run.draws(stage)
        for t, views in enumerate(left, end - len(left)):
            rise = min(1.0, (t + 1) / (WARM_UP * length))
            yield views, stage.rate * rise * 0.5 * (1 + math.cos(math.pi * t / length))


def _constant(run: Run, stages: Sequence[Stage]) -> Iterator[tuple[Sequence[View], float]]:
    """The views and the stage's own rate for each iteration of all stages."""
    for stage in stages:
        for views in run.draws(stage):
            yield views, stage.rate


class _AdaGrad:
    """The step of `Paper`, with its sums; what it gives is its own, not to be written to."""

    def __init__(self, like: Tensor, rho: float, floor: float) -> None:
        self._rho, self._floor = rho, floor
        self._accumulator, self._momentum = torch.zeros_like(like), torch.zeros_like(like)

    def __call__(self, g: Tensor) -> Tensor:
        self._accumulator.mul_(self._rho).addcmul_(g, g)
        return self._momentum.mul_(self._rho).sub_(g / self._accumulator.sqrt().add_(self._floor))

    def state(self) -> dict[str, Tensor]:
        """See `Memory`."""
        return {"accumulator": self._accumulator.clone(), "momentum": self._momentum.clone()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Memory`."""
        self._accumulator = take(state, "accumulator", self._accumulator).clone()
        self._momentum = take(state, "momentum", self._momentum).clone()


class _Adam:
    """Adam's direction (Kingma & Ba 2015, Algorithm 1), with its averages."""

    def __init__(self, like: Tensor, betas: tuple[float, float]) -> None:
        self._betas, self._count = betas, 0
        self._mean, self._square = torch.zeros_like(like), torch.zeros_like(like)

    def __call__(self, g: Tensor) -> Tensor:
        self._count += 1
        first, second = self._betas
        self._mean.lerp_(g, 1 - first)
        self._square.mul_(second).addcmul_(g, g, value=1 - second)
        root = (self._square / (1 - second**self._count)).sqrt_().add_(1e-12)
        return torch.div(self._mean, root, out=root).mul_(1 / (1 - first**self._count))

    def state(self) -> dict[str, Tensor]:
        """See `Memory`."""
        return {"mean": self._mean.clone(), "square": self._square.clone(), "count": torch.tensor(self._count)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Memory`."""
        self._mean = take(state, "mean", self._mean).clone()
        self._square = take(state, "square", self._square).clone()
        self._count = int(take(state, "count", torch.tensor(0)))
