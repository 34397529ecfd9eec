"""An energy with a moving view or another bound, for tests."""

from __future__ import annotations

import copy

from preimage.energy.energy import Energy, Problem
from preimage.energy.regularizers import PixelBall
from preimage.energy.transforms import Jitter, Transform


def problem(energy: Energy, jitter: Transform = Jitter(1), ball: PixelBall = PixelBall()) -> Problem:  # noqa: B008 (frozen)
    """The energy with this transform in place of its own, within this bound."""
    moved = copy.copy(energy)
    moved.transform = jitter
    return Problem(moved, ball=ball)
