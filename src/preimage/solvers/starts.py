"""Where each sample begins: its own seed, made of what it is and not of where it stands, and the original's random start."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..ranges import checked
from ..seeds import generator as generator
from ..seeds import hash_to_int

START = 80.0 / math.sqrt(3)  # B/√3: the 95 % quantile of the random start (nnpreimage.m)


@dataclass(frozen=True)
class EachSeed:
    """Several numbers, of which each gives the image that it gives alone: one image of every request for each of them."""

    numbers: tuple[int, ...]


def sample_seeds(seed: int | Sequence[int] | EachSeed, keys: Sequence[str], restarts: int) -> tuple[list[int], list[torch.Generator]]:
    """One seed for each sample, made of what the sample is and not of where it stands in the batch; and its generator."""
    if isinstance(seed, (int, float, np.number)):
        seed = checked("seed", seed)
        seeds = [hash_to_int(f"{seed} {key} {r}") for key in keys for r in range(restarts)]
    elif isinstance(seed, EachSeed):
        if len(seed.numbers) != restarts:
            raise InputError(f"{len(seed.numbers)} seeds of which each gives an image are as many restarts; got {restarts}.")
        seeds = [hash_to_int(f"{checked('seed', s)} {key} 0") for key in keys for s in seed.numbers]
    else:
        seeds = [checked("seed", s) for s in _listed(seed)]
        if len(seeds) != len(keys) * restarts:
            raise InputError(f"{len(seeds)} seeds for {len(keys) * restarts} samples: give one number, or one for each sample.")
    return seeds, [generator(s, "start") for s in seeds]


def _listed(seed: Any) -> list[Any]:
    """Seeds that were given one by one."""
    if isinstance(seed, (str, bytes, bool)) or not isinstance(seed, (Sequence, np.ndarray)):
        raise InputError(f"seed is a whole number of at least 0, or a list of them; got {seed!r:.80}.")
    return list(seed)


def noise(generators: Sequence[torch.Generator], shape: tuple[int, ...], like: Tensor) -> Tensor:
    """nnpreimage.m's start: uniform in [-1, 1], divided by its 95 % quantile, times B/√3; each sample from its own generator.

    generators: one a sample. shape: (C, H, W) of one. like: gives the device and the type.
    """
    samples = []
    for own in generators:
        x = torch.rand(shape, generator=own) * 2 - 1
        samples.append(x / float(np.quantile(x.numpy(), 0.95)) * START)
    return torch.stack(samples).to(like)
