"""The solvers: the paper's, Adam on pixels and in 1/f-scaled Fourier coordinates, and two quasi-Newton descents."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..energy.fourier import spectrum as spectrum
from ..energy.transforms import View
from ..errors import InputError
from .quasinewton import MEMORY, Curvature, Descent, Inverse, Level, Waves
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

    def __call__(self, run: Run, x: Tensor, stages: Sequence[Stage]) -> Tensor:
        for stage in stages:
            x = x if stage.jitter else run.crop(x)
            floor = 1.0 / (self.rate * stage.rate * run.size[0] * run.size[1])
            step = _adagrad(x, self.rho, floor)
            for views in run.draws(stage):
                x = run.project(x + step(run.gradient(x, views if stage.jitter else None)))
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

    def __call__(self, run: Run, x: Tensor, stages: Sequence[Stage]) -> Tensor:
        step = _adam(x, self.betas)
        for views, rate in _schedule(run, stages) if self.schedule == "cosine" else _constant(run, stages):
            x = run.project(x - self.rate * rate * step(run.gradient(x, views)))
        return x


@SOLVERS.register("descent")
@dataclass(frozen=True)
class Descend:
    """L-BFGS around an estimate of the curvature in bands of frequency and in places, learned on the way (`preimage.solvers.quasinewton`).

    One evaluation a step, no line search, and the energy of the image kept never rises; so the view has to stay still. A stage's rate
    multiplies its steps. memory: pairs kept. What each part gave is in docs/solvers.md.
    """

    memory: int = MEMORY

    def __call__(self, run: Run, z: Tensor, stages: Sequence[Stage]) -> Tensor:
        z = run.crop(z)
        waves = Waves(z)
        return _descend(run, z, stages, lambda part: Curvature(part, waves=waves), self.memory)


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

    def __call__(self, run: Run, x: Tensor, stages: Sequence[Stage]) -> Tensor:
        scale = spectrum(x.shape[-2], x.shape[-1]).to(x)
        adam = _adam(torch.view_as_real(torch.fft.rfft2(x)), self.betas)

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
        return x


@SOLVERS.register("lbfgs")
@dataclass(frozen=True)
class LBFGS:
    """Limited-memory BFGS: `Descend` with one number in place of its estimate of the curvature.

    One evaluation an iteration, and each sample its own pairs and step length. The energy must not change between steps, so the view
    stays still, at the centre of the canvas. A stage's rate multiplies its steps. memory: pairs kept.
    """

    memory: int = 10

    def __call__(self, run: Run, z: Tensor, stages: Sequence[Stage]) -> Tensor:
        return _descend(run, run.crop(z), stages, Level, self.memory)


STILL: tuple[type, ...] = (Descend, LBFGS)  # solvers whose view does not move, whatever a stage says


def _by_parts(run: Run, function: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
    """A transform of what is evaluated together, part by part: libraries take other paths for other numbers of images."""
    return function(batch) if len(run.parts) == 1 else torch.cat([function(batch[part]) for part in run.parts])


def _descend(run: Run, z: Tensor, stages: Sequence[Stage], inverse: Callable[[Tensor], Inverse], memory: int) -> Tensor:
    """Each part of the batch by itself, so that where samples are evaluated one by one no bit of one depends on the others."""
    energy, gradient = run.evaluate(z)
    searches = [Descent(z[part], energy[part], gradient[part], inverse(z[part]), memory) for part in run.parts]
    del gradient

    def step(rate: float) -> None:  # a function, so that nothing of a step is held while the next is evaluated
        trial = run.project(torch.cat([search.ask(rate) for search in searches]))
        energy, gradient = run.evaluate(trial)
        for part, search in zip(run.parts, searches, strict=True):
            search.tell(trial[part], energy[part], gradient[part])

    for rate in [s.rate for s in stages for _ in range(s.iterations)][1:]:
        step(rate)
    return torch.cat([search.x for search in searches])


def _schedule(run: Run, stages: Sequence[Stage]) -> Iterator[tuple[Sequence[View], float]]:
    """The views and the rate for each iteration of all stages: up along a line over the first tenth, then down along a cosine."""
    length = sum(s.iterations for s in stages)
    t = 0
    for stage in stages:
        for views in run.draws(stage):
            rise = min(1.0, (t + 1) / (WARM_UP * length))
            yield views, stage.rate * rise * 0.5 * (1 + math.cos(math.pi * t / length))
            t += 1


def _constant(run: Run, stages: Sequence[Stage]) -> Iterator[tuple[Sequence[View], float]]:
    """The views and the stage's own rate for each iteration of all stages."""
    for stage in stages:
        for views in run.draws(stage):
            yield views, stage.rate


def _adagrad(like: Tensor, rho: float, floor: float) -> Callable[[Tensor], Tensor]:
    """The step of `Paper`, a function with its sums inside; what it gives is its own, not to be written to."""
    accumulator, momentum = torch.zeros_like(like), torch.zeros_like(like)

    def step(g: Tensor) -> Tensor:
        accumulator.mul_(rho).addcmul_(g, g)
        return momentum.mul_(rho).sub_(g / accumulator.sqrt().add_(floor))

    return step


def _adam(like: Tensor, betas: tuple[float, float]) -> Callable[[Tensor], Tensor]:
    """Adam's direction (Kingma & Ba 2015, Algorithm 1), a function with the averages inside."""
    state = [torch.zeros_like(like), torch.zeros_like(like)]
    count = [0]

    def step(g: Tensor) -> Tensor:
        count[0] += 1
        state[0].lerp_(g, 1 - betas[0])
        state[1].mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
        root = (state[1] / (1 - betas[1] ** count[0])).sqrt_().add_(1e-12)
        return torch.div(state[0], root, out=root).mul_(1 / (1 - betas[0] ** count[0]))

    return step
