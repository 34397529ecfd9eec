"""Images as a sum of levels of pixels, each half as fine as the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..pixels.pixelspace import PixelSpace
from .parameterizations import PARAMETERIZATIONS, Coordinates, Parameterization
from .regularizers import PixelBall


@PARAMETERIZATIONS.register("multi-resolution", examples=[{}, {"levels": 2}])
@dataclass(frozen=True)
class MultiResolution(Parameterization):
    r"""Pixels at several resolutions, added up: :math:`x = \sum_l \text{up}(z_l)`, up being bilinear.

    z: (B, C, H + ⌈H/2⌉ + ⌈H/4⌉ …, W), the levels below each other, what is beside a coarse one unused; x: (B, C, H, W) canonical. A step on
    a coarse level moves many pixels together, so that large structures come first. levels: how many; those that would have less than 2
    pixels along a side are left out. An image is encoded by residuals, the coarsest level first, and decoded to itself.
    Source: Burt and Adelson 1983 (the Laplacian pyramid); as coordinates lucid's `lowres_tensor`.

    >>> written = MultiResolution(levels=3).at((1, 8, 6), PixelSpace((8, 6), "grey"))
    >>> x = torch.arange(48.0).view(1, 1, 8, 6)
    >>> written.encode(x).shape, bool(torch.allclose(written.decode(written.encode(x)), x, atol=1e-4))
    (torch.Size([1, 1, 14, 6]), True)
    """

    levels: int = 5

    def __post_init__(self) -> None:
        if not isinstance(self.levels, int) or isinstance(self.levels, bool) or self.levels < 1:
            raise InputError(f"levels is a whole number of at least 1; got {self.levels!r}.")

    def at(self, shape: Sequence[int], space: PixelSpace) -> LevelCoordinates:
        return LevelCoordinates(int(shape[1]), int(shape[2]), self.levels)


class LevelCoordinates(Coordinates):
    """See `MultiResolution`."""

    def __init__(self, height: int, width: int, levels: int) -> None:
        sizes = [(-(-height // 2**k), -(-width // 2**k)) for k in range(levels)]
        self._sizes = sizes[:1] + [s for s in sizes[1:] if min(s) >= 2]

    def encode(self, x: Tensor) -> Tensor:
        levels, rest = [], x
        for size in reversed(self._sizes[1:]):
            level = F.interpolate(rest, size, mode="bilinear", antialias=True, align_corners=False)
            levels.append(F.pad(level, (0, x.shape[3] - size[1])))
            rest = rest - _up(level, self._sizes[0])
        return torch.cat([rest, *reversed(levels)], dim=2)

    def decode(self, z: Tensor) -> Tensor:
        height, width = self._sizes[0]
        x, top = z[..., :height, :], height
        for rows, columns in self._sizes[1:]:
            x = x + _up(z[..., top : top + rows, :columns], (height, width))
            top += rows
        return x if len(self._sizes) > 1 else x.view_as(x)

    def project(self, z: Tensor, ball: PixelBall) -> Tensor:
        """Return coordinates of the image on the bound: its finest level takes up what is too much."""
        x = self.decode(z)
        return torch.cat([z[..., : x.shape[2], :] + (ball(x) - x), z[..., x.shape[2] :, :]], dim=2)


def _up(level: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(level, size, mode="bilinear", align_corners=False)
