"""A representation that sees an image which is written in the pixels of another one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..pixels.images import LUMA
from ..pixels.pixelspace import PixelSpace
from .base import Representation, Wrapped


class Through(Wrapped):
    """Φ of another network on images in the pixels of this one: means exchanged, colours made grey or repeated, its own size.

    inner: what is asked. space: the pixels of the images that it is given, canonical (B, C, H, W). Raises InputError where the channels
    of the two cannot be converted.

    >>> from .base import from_callable
    >>> grey = from_callable(lambda x: x, PixelSpace(8, "grey", mean=100.0))
    >>> Through(grey, PixelSpace(8, "rgb", mean=(110.0, 110.0, 110.0)))(torch.zeros(1, 3, 8, 8)).unique()
    tensor([10.])
    """

    def __init__(self, inner: Representation, space: PixelSpace) -> None:
        super().__init__(inner)
        self._own, self.space = inner.space, space
        if {inner.space.count, space.count} - {1, 3} and inner.space.count != space.count:
            raise InputError(f"{inner.name} takes {inner.space.count} channels and the image has {space.count}: these cannot be converted.")

    def __call__(self, x: Tensor) -> Tensor:
        return self.inner(self.shown(x))

    def unit_named(self, name: str) -> int:
        """Find the unit of a class name: the units are the inner representation's."""
        return self.inner.unit_named(name)

    def shown(self, x: Tensor) -> Tensor:
        """Return what the inner representation is shown of images x, in its own pixels."""
        levels = self.space.decode(x)
        if self._own.count != self.space.count:
            levels = levels.expand(-1, 3, -1, -1) if self._own.count == 3 else _grey(levels)
        size = self._own.size
        if size is not None and tuple(size) != tuple(levels.shape[-2:]):
            levels = F.interpolate(levels, size=tuple(size), mode="bilinear", antialias=True, align_corners=False)
        return levels - self._own.decode(torch.zeros_like(levels[:, :, :1, :1]))


def _grey(levels: Tensor) -> Tensor:
    return (levels * torch.tensor(LUMA).to(levels).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
