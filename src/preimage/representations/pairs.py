"""A representation of which only pairs of images and features are known: nothing of its weights, its layers and its gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..pixels.pixelspace import PixelSpace
from .base import Representation


class Pairs(Representation):
    """A function of canonical images that is called and never looked into.

    Parameters
    ----------
    function : callable
        Canonical images (B, C, H, W) -> features (B, ...); no gradient is asked of it.
    space : PixelSpace
        The pixels that it takes.
    name : str
        What results and errors call it.

    Examples
    --------
    >>> phi = Pairs(lambda x: x.mean(dim=(2, 3)), PixelSpace(4, "grey"), "a box")
    >>> phi(torch.ones(2, 1, 4, 4)).shape, phi.module is None
    (torch.Size([2, 1]), True)
    """

    receptive_field = None

    def __init__(self, function: Callable[[Tensor], Tensor], space: PixelSpace, name: str) -> None:
        self._function, self.space, self.name = function, space, name

    def __call__(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            return self._function(x).to(x)
