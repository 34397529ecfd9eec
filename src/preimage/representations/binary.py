"""What BRIEF and FREAK share: pairs of means of an image's levels, compared softly, on a grid or at given places."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import InputError, whole
from ..pixels.pixelspace import PixelSpace
from . import gradients
from .base import Representation
from .receptive_field import Number

Keypoints = Sequence[tuple[int, int]]


class BinaryDescriptor(nn.Module, Representation):
    r"""The base of descriptors whose bits say which of two means is larger: :math:`\tanh((a_p(x) - b_p(x))/T)` for each pair p.

    A subclass says how far a descriptor reaches (`radius`, pixels on each side of its centre), how many `pairs` it has, and gives
    the `differences` at places (see `_differences`).

    Parameters
    ----------
    step : int
        Pixels from one descriptor of the grid to the next.
    keypoints : list of (row, column), optional
        Centres of the descriptors, the same in every image, instead of a grid.
    temperature : float
        T, in grey levels; at 0 the sign alone, whose derivative is 0 everywhere.
    """

    jitter = 1
    radius: int
    pairs: int

    def __init__(self, name: str, step: int, keypoints: Keypoints | None, temperature: float) -> None:
        super().__init__()
        if not 0 <= temperature < math.inf:
            raise InputError(f"temperature is in grey levels, 0 or more; got {temperature!r}.")
        self.step, self.temperature = whole("step", step, 1), float(temperature)
        self.keypoints = None if keypoints is None else tuple((whole("a row", r, 0), whole("a column", c, 0)) for r, c in keypoints)
        if self.keypoints is not None and not self.keypoints:
            raise InputError("keypoints names at least one (row, column), or is left out for a grid.")
        self.space = PixelSpace(size=None, channels="grey", scale=255.0, mean=(gradients.MIDDLE,))
        self.name = name
        self.stride: Number = self.step if self.keypoints is None else 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) grey levels -> (B, pairs, h, w), or (B, pairs, keypoints)."""
        found = self.differences(x)
        return found.sign() if self.temperature == 0 else torch.tanh(found / self.temperature)

    def differences(self, x: Tensor) -> Tensor:
        """Return what is compared, in grey levels, in the shape of the features: a linear function of x."""
        planes = gradients.grey_planes(x, (2 * self.radius + 1,) * 2, type(self).__name__)
        rows, columns, shape = self._places(x.shape[2], x.shape[3])
        return self._differences(planes, rows.to(x.device), columns.to(x.device)).reshape(len(x), self.pairs, *shape)

    def places(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return the centres (row, column) of the descriptors of an image, in the order of the features. Raises InputError."""
        rows, columns, _ = self._places(height, width)
        return list(zip(rows.tolist(), columns.tolist(), strict=True))

    @abstractmethod
    def _differences(self, planes: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """(B, H, W) and n centres -> (B, pairs, n)."""

    def _places(self, height: int, width: int) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        if self.keypoints is None:
            down, across = (torch.arange(self.radius, side - self.radius, self.step) for side in (height, width))
            rows, columns = torch.meshgrid(down, across, indexing="ij")
            return rows.flatten(), columns.flatten(), tuple(rows.shape)
        for row, column in self.keypoints:
            if not (self.radius <= row < height - self.radius and self.radius <= column < width - self.radius):
                raise InputError(
                    f"{type(self).__name__} sees {self.radius} pixels on each side of a keypoint, and ({row}, {column}) is nearer to "
                    f"the edge of an image of {height}x{width} pixels (height x width). Leave it out."
                )
        rows, columns = torch.tensor(self.keypoints).unbind(1)
        return rows, columns, (len(self.keypoints),)
