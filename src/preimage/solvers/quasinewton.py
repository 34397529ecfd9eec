"""A quasi-Newton search that knows images: limited-memory BFGS around a diagonal in frequency and in place, learned on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..energy.regularizers import squared_norm
from .memory import take

MEMORY = 20  # pairs of steps and changes of the gradient
WHOLE = 5  # so many are kept as they are, which is fastest, and more in a type of half the width
HALF = {torch.float64: torch.float32, torch.float32: torch.bfloat16}
BANDS = 10  # bands of frequency for each colour component, and one of all that is finer
FADE = 0.7  # what an estimate keeps of its past whenever it learns
EAGER, EVERY = 12, 3  # it learns from so many steps at first, and then from every third
PRIOR = 0.05  # weight of the first guess in a band, in mean weights of a band
FLOOR = 0.1  # weight of a uniform image in the estimate in place
NEIGHBOURHOOD = 3  # places over which the estimate in place is averaged, as many along a side as there are `few` cosines
_LEARNED = ("steps", "changes", "places", "step_places", "change_places", "gains", "rest")  # what `Curvature` keeps
_PAIR = ("s", "y", "rho")  # names of what a pair has, in a state
FIRST_STEP = 5.0  # root mean square of the first step, in grey levels
WINDOW = 10  # evaluations over which an energy has to fall by more than the tolerance


class Inverse(Protocol):
    """An estimate of each sample's inverse Hessian that learns on the way; images, steps and gradients are (B, C, H, W)."""

    def __call__(self, gradient: Tensor) -> Tensor: ...

    def learn(self, s: Tensor, y: Tensor) -> None:
        """From a step s and the change of the gradient y."""

    def state(self) -> dict[str, Tensor]:
        """What it has learned."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what another one had learned."""


class Descent:
    """Where to look next, for some samples: `ask` gives a trial image, `tell` its energy and gradient.

    A trial that does not lower the energy is not taken, but what it says about curvature is: no line search, one evaluation a step,
    and the energy of the image kept never rises. x: (B, C, H, W); samples do not influence each other. inverse: what the pairs
    correct, `Curvature` or `Level`. memory: pairs kept. first_step: root mean square of the first step, in grey levels. tolerance: a
    sample whose energy fell by no more than this share of it over the last ten trials is `settled`: it stays where it is; 0: none is.
    """

    def __init__(
        self,
        x: Tensor,
        energy: Tensor,
        gradient: Tensor,
        inverse: Inverse,
        memory: int = MEMORY,
        first_step: float = FIRST_STEP,
        tolerance: float = 0.0,
    ) -> None:
        self.x, self.energy = x, energy
        self.gradient = gradient.clone()  # products over a part of a larger batch may have other last bits
        self._inverse, self._pairs, self._first_step = inverse, Pairs(memory), first_step
        self._shorter = torch.ones_like(energy)
        self._tolerance, self._recent = tolerance, energy.new_full((WINDOW + 1, len(energy)), float("inf"))
        self._recent[-1] = energy

    @property
    def settled(self) -> Tensor:
        """Which samples have nothing more to gain that the tolerance counts, (B,)."""
        if not self._tolerance:
            return torch.zeros_like(self.energy, dtype=torch.bool)
        return self._recent[0] - self.energy <= self._tolerance * self.energy.abs()

    def ask(self, rate: float = 1.0) -> Tensor:
        """The next image to evaluate (before any bound). rate: of the step that the curvature says."""
        step = self._pairs.solve(self.gradient, self._inverse)
        if not len(self._pairs):
            size = step.square().mean(dim=(1, 2, 3)).sqrt()
            step = step * column(self._first_step / size.clamp(min=1e-30))
        if self._tolerance:
            step = torch.where(column(self.settled), 0.0, step)
        return torch.addcmul(self.x, column(self._shorter * rate), step, value=-1)

    def tell(self, x: Tensor, energy: Tensor, gradient: Tensor) -> None:
        """What was found at the trial image x."""
        s, y = x - self.x, gradient - self.gradient
        convex = self._pairs.add(s, y)
        self._inverse.learn(s, y)
        better = (energy < self.energy) & ~self.settled
        self._shorter = torch.where(better, 1.0, self._shorter * torch.where(convex, 0.7, 0.3))
        self.x, self.gradient = chosen(better, x, self.x), chosen(better, gradient, self.gradient)
        self.energy = torch.where(better, energy, self.energy)
        self._recent = torch.cat([self._recent[1:], self.energy[None]])

    def state(self) -> dict[str, Tensor]:
        """See `Memory`. Nothing here is ever changed in place."""
        own = {"x": self.x, "energy": self.energy, "gradient": self.gradient, "shorter": self._shorter}
        if self._tolerance:
            own["recent"] = self._recent
        return own | self._pairs.state() | self._inverse.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Memory`."""
        self.x, self.energy = take(state, "x", self.x), take(state, "energy", self.energy)
        self.gradient, self._shorter = take(state, "gradient", self.gradient), take(state, "shorter", self._shorter)
        if self._tolerance:
            self._recent = take(state, "recent", self._recent)
        self._pairs.load(state, self.x)
        self._inverse.load(state)


class Level:
    """One number: ⟨s, y⟩/⟨y, y⟩ of the last step along which the gradient rose (Nocedal & Wright, Eq. 7.20), as L-BFGS has it."""

    def __init__(self, like: Tensor) -> None:
        self._scale = like.new_ones(len(like))

    def __call__(self, gradient: Tensor) -> Tensor:
        return column(self._scale) * gradient

    def learn(self, s: Tensor, y: Tensor) -> None:
        along = dot(s, y)
        self._scale = torch.where(along > 0, along / dot(y, y).clamp(min=1e-38), self._scale)

    def state(self) -> dict[str, Tensor]:
        """See `Inverse`."""
        return {"scale": self._scale}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Inverse`."""
        self._scale = take(state, "scale", self._scale)


class Curvature:
    """A diagonal estimate of the inverse Hessian, P·T'·diag(1/D)·T·P, T: cosine transform of decorrelated colours.

    D is the curvature in each band of frequency and colour component, √(Σ|Ty|²/Σ|Ts|²) over recent steps s and their changes of
    gradient y; P² the same in each place for what D leaves. The first guess is D ~ f^1.5, between the data term's and TV's f². What
    is finer than a third of the highest frequency along a side is one band, and places are three pixels wide: a third of the work.
    like: (B, C, H, W). waves: those of this size, where they are there already.
    """

    def __init__(self, like: Tensor, waves: Waves | None = None) -> None:
        self._waves, self._seen = waves or Waves(like), 0
        self._guess = self._waves.centres.pow(1.5).expand(*like.shape[:2], -1)
        self._steps = self._changes = torch.zeros_like(self._guess)
        self._places = torch.ones_like(like[:, :1])
        self._scale(*self._waves.root(self._guess))
        self._step_places = self._change_places = torch.zeros_like(self._gains[:, :1])
        self._neighbours = _windows(torch.ones_like(self._step_places[:1]))

    def __call__(self, gradient: Tensor) -> Tensor:
        """The estimate of the inverse Hessian times a gradient."""
        placed = gradient * self._places
        return self._waves.back(self._waves.forth(placed).mul_(self._gains), placed, self._rest).mul_(self._places)

    def learn(self, s: Tensor, y: Tensor) -> None:
        """From a step s and the change of the gradient y; each pair counts the same however long it is."""
        self._seen += 1
        if self._seen > EAGER and self._seen % EVERY:
            return
        waves = self._waves
        weight = column(1.0 / dot(s, s).clamp(min=1e-30))
        s_waves, y_waves = waves.forth(s), waves.forth(y)
        self._steps = FADE * self._steps + weight[..., 0] * waves.power(s_waves, s)
        self._changes = FADE * self._changes + weight[..., 0] * waves.power(y_waves, y)
        root, rest = waves.root(self._curvatures())
        self._scale(root, rest)
        s_flat, y_flat = waves.small(s_waves.div_(root)), waves.small(y_waves.mul_(root))
        self._step_places = FADE * self._step_places + weight * squared_norm(s_flat)
        self._change_places = FADE * self._change_places + weight * squared_norm(y_flat)
        a, b = (_windows(places).div_(self._neighbours) for places in (self._step_places, self._change_places))
        uniform = (FLOOR * a.mean(dim=(1, 2, 3), keepdim=True)).clamp(min=1e-30)
        places = ((a + uniform) / (b + uniform)).sqrt().sqrt()
        self._places = F.interpolate(places, size=s.shape[2:], mode="bilinear")

    def state(self) -> dict[str, Tensor]:
        """See `Inverse`."""
        return {name: getattr(self, f"_{name}") for name in _LEARNED} | {"seen": torch.tensor(self._seen)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Inverse`."""
        for name in _LEARNED:
            setattr(self, f"_{name}", take(state, name, getattr(self, f"_{name}")))
        self._seen = int(take(state, "seen", torch.tensor(0)))

    def _scale(self, root: Tensor, rest: Tensor) -> None:
        """1/D of what is finer, from its root, and by how much each wave's differs."""
        self._rest = rest.square()
        self._gains = root.square().sub_(self._rest)

    def _curvatures(self) -> Tensor:
        """D, (B, C, bands + 1): where there were few steps in a band, drawn to the first guess at the level of the others."""
        tiny = 1e-30
        found = (self._changes.clamp(min=tiny) / self._steps.clamp(min=tiny)).sqrt().log()
        guess = self._guess.log()
        total = self._steps.sum(dim=(1, 2), keepdim=True).clamp(min=tiny)
        guess = guess + ((found - guess) * self._steps).sum(dim=(1, 2), keepdim=True) / total
        weight = PRIOR * self._steps.mean(dim=(1, 2), keepdim=True).clamp(min=tiny)
        return ((found * self._steps + guess * weight) / (self._steps + weight)).exp()


class Pairs:
    """Recent steps s and changes of gradient y, and the two-loop recursion over them (Nocedal & Wright, Algorithm 7.4).

    memory: pairs kept, more than WHOLE of them in a type of half the width, which docs/solvers.md finds to change nothing else.
    """

    def __init__(self, memory: int = MEMORY) -> None:
        self._memory = memory
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []

    def __len__(self) -> int:
        return len(self._pairs)

    def add(self, s: Tensor, y: Tensor) -> Tensor:
        """Remember a pair; (B,) where its curvature is clearly positive. Elsewhere it counts nothing."""
        kept = [t.to(self._type(t.dtype)) for t in (s, y)]
        s, y = (t.to(s.dtype) for t in kept)
        along = dot(s, y)
        convex = along > 1e-10 * (dot(s, s) * dot(y, y)).sqrt()
        self._pairs.append((kept[0], kept[1], torch.where(convex, 1.0 / along.clamp(min=1e-38), 0.0)))
        del self._pairs[: -self._memory]
        return convex

    def state(self) -> dict[str, Tensor]:
        """Return the pairs, the oldest first."""
        return {f"{name}{k}": t for k, pair in enumerate(self._pairs) for name, t in zip(_PAIR, pair, strict=True)}

    def load(self, state: Mapping[str, Tensor], like: Tensor) -> None:
        """Take over the pairs of another one. like: an image of theirs."""
        kept = torch.empty_like(like, dtype=self._type(like.dtype))
        likes = (kept, kept, like.new_empty(len(like)))
        count = sum(f"{_PAIR[0]}{k}" in state for k in range(self._memory))
        found = [[take(state, f"{name}{k}", one) for name, one in zip(_PAIR, likes, strict=True)] for k in range(count)]
        self._pairs = [(s, y, rho) for s, y, rho in found]

    def solve(self, gradient: Tensor, inverse: Callable[[Tensor], Tensor]) -> Tensor:
        """The estimate of the inverse Hessian times a gradient."""
        q, factors = gradient, []
        for s, y, rho in reversed(self._pairs):
            factors.append(rho * dot(s.to(q.dtype), q))
            q = torch.addcmul(q, column(factors[-1]), y.to(q.dtype), value=-1)
        q = inverse(q)
        for (s, y, rho), factor in zip(self._pairs, reversed(factors), strict=True):
            q.addcmul_(column(factor - rho * dot(y.to(q.dtype), q)), s.to(q.dtype))
        return q

    def _type(self, of: torch.dtype) -> torch.dtype:
        return HALF[of] if self._memory > WHOLE else of


class Waves:
    """The coarser cosines of decorrelated colours, in bands of frequency, for images of one size; all that is finer is one band more.

    like: (B, C, H, W). Coefficients are (B, C, K, L), `few` of each side. One object serves all samples. centres: (bands + 1,), the
    frequency of each band in cycles per pixel.
    """

    def __init__(self, like: Tensor) -> None:
        channels, height, width = like.shape[1:]
        self._few = few(height), few(width)
        self._rows, self._columns = (cosines(n)[: few(n)].to(like) for n in (height, width))
        self._turned_columns = self._columns.T.contiguous()  # products with it are up to a third faster than with the other
        self._few_rows, self._few_columns = (cosines(n).to(like) for n in self._few)
        self._colours = opponents(channels).to(like)
        weights, centres = bands(height, width)
        self._bands, self.centres = weights.T.contiguous().to(like), centres.to(like)

    def forth(self, x: Tensor) -> Tensor:
        """Images -> coefficients."""
        return self._turned(self._colours, self._rows @ (x @ self._turned_columns))

    def back(self, waves: Tensor, x: Tensor, scale: Tensor) -> Tensor:
        """Coefficients -> images, and the colours of x, each component multiplied by its scale, (B, C, 1, 1), added to them."""
        images = self._rows.T @ (self._turned(self._colours.T, waves) @ self._columns)
        mixed = self._colours.T @ (scale[..., 0] * self._colours)
        return images.add_(self._turned(mixed, x))

    def small(self, waves: Tensor) -> Tensor:
        """Coefficients -> images of as many pixels, in decorrelated colours."""
        return self._few_rows.T @ (waves @ self._few_columns)

    def power(self, waves: Tensor, x: Tensor) -> Tensor:
        """Coefficients of images x -> the sum of their squares in each band, (B, C, bands + 1), last what these leave of x."""
        squares, pixels = waves.square().flatten(2), x.flatten(2)
        all_bands = ((self._colours @ (pixels @ pixels.mT)) * self._colours).sum(dim=2)
        return torch.cat([squares @ self._bands.T, (all_bands - squares.sum(dim=2)).clamp(min=0)[..., None]], dim=2)

    def root(self, curvatures: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, bands + 1) -> the root of one over the curvature of each coefficient, and of all that is finer, (B, C, 1, 1)."""
        logs = curvatures.log().mul_(-0.5)
        return (logs[..., :-1] @ self._bands).exp_().view(*logs.shape[:2], *self._few), logs[..., -1:, None].exp()

    def _turned(self, colours: Tensor, waves: Tensor) -> Tensor:
        return (colours @ waves.flatten(2)).view_as(waves)


def cosines(n: int) -> Tensor:
    """The orthonormal cosine transform of n samples (DCT-II) as a matrix: C @ x; C.T @ C is the identity. Its borders do not wrap.

    >>> (cosines(4) @ torch.ones(4, dtype=torch.float64)).round().abs()
    tensor([2., 0., 0., 0.], dtype=torch.float64)
    """
    k, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(math.pi * k * (2 * i + 1) / (2 * n)) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


def opponents(channels: int) -> Tensor:
    """Orthonormal colours: brightness, red against blue, green against both; for other than 3 channels the channels themselves."""
    if channels != 3:
        return torch.eye(channels)
    return F.normalize(torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]]), dim=1)


def few(n: int) -> int:
    """How many of the n cosines along a side have a coefficient of their own: a third, and a multiple of 16, which is faster.

    >>> few(227), few(24), few(9)
    (80, 16, 9)
    """
    return min(n, 16 * math.ceil(n / 3 / 16))


def bands(height: int, width: int) -> tuple[Tensor, Tensor]:
    """How much each of the coarser cosines belongs to each band, (K·L, bands), rows sum to 1; and frequencies, (bands + 1,).

    Those of the bands are even on a log scale; that of all finer cosines is their mean on this scale.
    """
    f = torch.hypot(torch.arange(height)[:, None] / (2 * height), torch.arange(width) / (2 * width))
    coarse = torch.zeros_like(f, dtype=torch.bool)
    coarse[: few(height), : few(width)] = True
    lowest = 0.5 / max(height, width)
    logs = f.clamp(min=lowest).log()
    centres = torch.linspace(math.log(lowest), max(logs[coarse].max().item(), math.log(lowest) + 1e-3), BANDS)
    place = (logs[coarse] - centres[0]) / (centres[1] - centres[0])
    weights = (1 - (place[:, None] - torch.arange(BANDS)).abs()).clamp(min=0)
    rest = logs[~coarse].mean() if not coarse.all() else centres[-1]
    return weights / weights.sum(dim=1, keepdim=True), torch.cat([centres, rest[None]]).exp()


def dot(a: Tensor, b: Tensor) -> Tensor:
    """(B,) inner products."""
    return torch.bmm(a.reshape(len(a), 1, -1), b.reshape(len(b), -1, 1)).view(-1)


def column(values: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)


def chosen(first: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Samples of a where `first` (B,) says so, else of b: b itself, or else in memory of their own, so that products have the same bits.

    Where asking does not wait for a device, what is all of one is not put together, which takes a third of the time.
    """
    if first.device.type == "cpu" and bool(first.all()) is bool(first.any()):
        return a.clone() if bool(first.all()) else b
    return torch.where(column(first), a, b)


def _windows(x: Tensor) -> Tensor:
    """Sums over a neighbourhood, rows and then columns."""
    height, width = x.shape[-2:]
    padded = F.pad(x, [NEIGHBOURHOOD // 2] * 4)
    rows = sum((padded[..., k : k + height, :] for k in range(1, NEIGHBOURHOOD)), start=padded[..., :height, :])
    return sum((rows[..., k : k + width] for k in range(1, NEIGHBOURHOOD)), start=rows[..., :width])
