"""The original's route to its numbers: 8-bit pictures whose contrast was stretched (vl_imsc), read again."""

from __future__ import annotations

from torch import Tensor

from ..images import contrast_stretch


def stretched(images: Tensor) -> Tensor:
    """Levels (B, C, H, W) as the PNG of the original holds them: each image from its minimum to its maximum on 0–255, in whole levels.

    >>> import torch
    >>> stretched(torch.tensor([[[[10.0, 20.2, 30.0]]]]))
    tensor([[[[  0., 130., 255.]]]])
    """
    return contrast_stretch(images).round()
