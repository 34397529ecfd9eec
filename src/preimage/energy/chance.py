"""What transforms share: noise from seeds, the same on every device, and checks of settings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError


def noisy(x: Tensor, level: float, seeds: Sequence[int | None]) -> Tensor:
    """Add noise of these seeds to the samples; None for no noise."""
    if level == 0 or all(seed is None for seed in seeds):
        return x.view_as(x)
    shape = x.shape[1:]
    drawn = [torch.zeros(shape) if seed is None else torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return x + torch.stack(drawn).mul_(level).to(x)


def seeds_of(generator: torch.Generator, count: int) -> list[int]:
    """Return seeds for later draws, from a sample's generator."""
    return [int(seed) for seed in torch.randint(2**31 - 1, (count,), generator=generator).tolist()]


def check_count(name: str, value: int) -> None:
    """Raise InputError unless a setting is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} is a whole number of at least 1; got {value!r}.")


def check_between(name: str, value: float, low: float, high: float) -> None:
    """Raise InputError unless a setting is a number between two others."""
    if not (math.isfinite(value) and low <= value <= high):
        raise InputError(f"{name} is a number from {low:g} to {high:g}; got {value!r}.")


def check_order(first: str, low: float, second: str, high: float, limit: float) -> None:
    """Raise InputError unless two settings are numbers above 0 in order, up to a limit."""
    if not (math.isfinite(low) and math.isfinite(high) and 0 < low <= high <= limit):
        most = "" if math.isinf(limit) else f", at most {limit:g}"
        raise InputError(f"{first} and {second} are numbers above 0{most}, the first no larger than the second; got {low!r}, {high!r}.")
