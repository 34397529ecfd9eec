"""g, how an image is written: x = g(z). A parameterization is plain values; `at` gives its coordinates for one canvas."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..pixels.pixelspace import PixelSpace
from ..registry import Registry
from .pull import pull
from .regularizers import PixelBall

PARAMETERIZATIONS: Registry[type[Parameterization]] = Registry("parameterization", see="docs/parts.md")


class Coordinates(ABC):
    """z <-> x on canvases of one size: z is (B, ...) with four dimensions, x canonical (B, C, H, W); samples apart."""

    @abstractmethod
    def encode(self, x: Tensor) -> Tensor:
        """Return the coordinates z whose image is (nearest to) x."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Return the canonical image of z, differentiable."""

    def start(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Return where a run from noise begins. x: the paper's random canvases, from the same generators; here taken as they are."""
        return self.encode(x)

    def show(self, z: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Return the image of z, without a graph, and its pull-back: a function from gradients in x to gradients in z."""
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            x = self.decode(leaf)
        return x.detach(), lambda gradient: pull([x], leaf, [gradient])

    def project(self, z: Tensor, ball: PixelBall) -> Tensor:
        """Return coordinates whose image keeps the bound on its pixels, by default without a look where g keeps one itself."""
        return z


class Parameterization(ABC):
    """A frozen dataclass of plain values. revision: raised when the values change, so that stores compute anew."""

    revision: int = 1

    def begin(self, x: Tensor) -> Parameterization:
        """Return the parameterization of a run that begins with these canvases (B, C, H, W); by default the same for all."""
        return self

    @abstractmethod
    def at(self, shape: Sequence[int], space: PixelSpace) -> Coordinates:
        """Return its coordinates for canvases of this shape, (C, H, W), of canonical pixels of this space."""


@PARAMETERIZATIONS.register("pixels")
@dataclass(frozen=True)
class Pixels(Parameterization):
    """The pixels themselves, z = x, as in the paper: no graph, and the bound by projection after each step (IJCV Sect. 3.3)."""

    def at(self, shape: Sequence[int], space: PixelSpace) -> PixelCoordinates:
        return PixelCoordinates()


@PARAMETERIZATIONS.register("box", examples=[{}, {"low": 20.0, "high": 220.0, "start": 0.3}, {"high": math.inf}])
@dataclass(frozen=True)
class Box(Parameterization):
    """Pixels that stay between two levels: z = x, each channel clipped to low–high after every step, the bound kept as for `Pixels`.

    low, high: in grey levels 0–255 as a picture has them, infinite for no limit; the mean colour must lie between them. start: which share
    of the paper's random canvas a run from noise begins with: 0 is the mean colour alone. Source: the box of Szegedy et al. 2014.

    >>> written = Box().at((1, 1, 2), PixelSpace((1, 2), "grey", mean=100.0))
    >>> written.project(torch.tensor([[[[-120.0, 200.0]]]]), PixelBall(math.inf))
    tensor([[[[-100.,  155.]]]])
    """

    low: float = 0.0
    high: float = 255.0
    start: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise InputError(f"A box has a low level below its high one; got {self.low!r} and {self.high!r}.")
        if not 0 <= self.start < math.inf:
            raise InputError(f"start is the share of the random canvas to begin with, a number of at least 0; got {self.start!r}.")

    def at(self, shape: Sequence[int], space: PixelSpace) -> PixelCoordinates:
        mean = space.mean_colour
        if not bool(((mean >= self.low) & (mean <= self.high)).all()):
            raise InputError(f"The mean colour {[round(m, 1) for m in mean.flatten().tolist()]} is not inside {self.low:g}–{self.high:g}.")
        return PixelCoordinates((self.low - mean, self.high - mean), self.start)


class PixelCoordinates(Coordinates):
    """See `Pixels` and `Box`. within: the least and the largest value of each channel, (1, C, 1, 1) each. share: of the random canvas."""

    def __init__(self, within: tuple[Tensor, Tensor] | None = None, share: float = 1.0) -> None:
        self._within, self._share = within, share

    def encode(self, x: Tensor) -> Tensor:
        return x

    def start(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Return the random canvas, or this share of it."""
        return x if self._share == 1.0 else self._share * x

    def decode(self, z: Tensor) -> Tensor:
        return z

    def show(self, z: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """See `Coordinates.show`."""
        return z.detach(), lambda gradient: gradient

    def project(self, z: Tensor, ball: PixelBall) -> Tensor:
        """Return the pixels within the bound, and then within the box, which has the mean colour in it: the bound holds on."""
        if self._within is None:
            return ball(z)
        low, high = self._within
        return ball(z).clamp(low.to(z), high.to(z))
