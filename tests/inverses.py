"""What the tests of several kinds of inverses share: pictures to fit on, and whether two inverses are the same."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from preimage.inverses import LearnedInverse


def blurred(seed: int, cells: int, side: int) -> np.ndarray:
    """A grey picture of few numbers, uint8 (side, side): noise of cells x cells, enlarged."""
    x = torch.randn(1, 1, cells, cells, generator=torch.Generator().manual_seed(seed)) * 60 + 128
    return F.interpolate(x, (side, side), mode="bicubic").clamp(0, 255)[0, 0].byte().numpy()


def same(one: LearnedInverse, other: LearnedInverse) -> bool:
    """Whether two inverses have the same tensors, bit for bit, and the same record."""
    mine, theirs = one.tensors(), other.tensors()
    return one.about == other.about and list(mine) == list(theirs) and all(torch.equal(t, theirs[name]) for name, t in mine.items())
