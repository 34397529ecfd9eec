"""g, how an image is written: x = g(z). A parameterization is plain values; `at` gives its coordinates for one canvas."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..pixels.pixelspace import PixelSpace
from ..registry import Registry
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
        return x.detach(), lambda gradient: torch.autograd.grad(x, leaf, gradient)[0]

    def project(self, z: Tensor, ball: PixelBall) -> Tensor:
        """Return coordinates whose image keeps the bound on its pixels, by default without a look where g keeps one itself."""
        return z


class Parameterization(ABC):
    """A frozen dataclass of plain values. revision: raised when the values change, so that stores compute anew."""

    revision: int = 1

    @abstractmethod
    def at(self, shape: Sequence[int], space: PixelSpace) -> Coordinates:
        """Return its coordinates for canvases of this shape, (C, H, W), of canonical pixels of this space."""


@PARAMETERIZATIONS.register("pixels")
@dataclass(frozen=True)
class Pixels(Parameterization):
    """The pixels themselves, z = x, as in the paper: no graph, and the bound by projection after each step (IJCV Sect. 3.3)."""

    def at(self, shape: Sequence[int], space: PixelSpace) -> PixelCoordinates:
        return PixelCoordinates()


class PixelCoordinates(Coordinates):
    """See `Pixels`."""

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, z: Tensor) -> Tensor:
        return z

    def show(self, z: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """See `Coordinates.show`."""
        return z.detach(), lambda gradient: gradient

    def project(self, z: Tensor, ball: PixelBall) -> Tensor:
        return ball(z)
