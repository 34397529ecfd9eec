"""What of a layer's features leaves the house: quantised to a few bits, with noise added, or both."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..errors import InputError
from ..seeds import generator


class Release(Protocol):
    """Features (B, ...) -> what is released of them (B, ...); sample b depends on features[b] alone."""

    def __call__(self, features: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class Quantised:
    """Each sample's features rounded to 2^bits levels, evenly from its smallest to its largest value (affine quantisation).

    Raises InputError unless bits is from 1 to 16.

    >>> Quantised(1)(torch.tensor([[0.0, 0.4, 0.6, 1.0]]))
    tensor([[0., 0., 1., 1.]])
    """

    bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 16:
            raise InputError(f"Features are quantised to 1 to 16 bits; got {self.bits}.")

    def __call__(self, features: Tensor) -> Tensor:
        flat = features.flatten(1)
        low, high = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)
        step = ((high - low) / (2**self.bits - 1)).clamp(min=torch.finfo(flat.dtype).tiny)
        rounded: Tensor = ((flat - low) / step).round() * step + low
        return rounded.view_as(features)


@dataclass(frozen=True)
class Noisy:
    """Gaussian noise on each sample's features; its standard deviation is `amount` times their root mean square.

    The noise is drawn from the features' own bits: the same features are released with the same noise, alone and in any batch.
    Raises InputError unless amount is above 0.

    >>> x = torch.ones(2, 10000)
    >>> Noisy(0.5)(x).std().round(decimals=1)
    tensor(0.5000)
    """

    amount: float

    def __post_init__(self) -> None:
        if not 0 < self.amount < float("inf"):
            raise InputError(f"The amount of noise on features is a number above 0; got {self.amount!r}.")

    def __call__(self, features: Tensor) -> Tensor:
        samples = []
        for x in features:
            digest = hashlib.sha256(x.detach().cpu().contiguous().numpy().tobytes()).digest()
            own = generator(int.from_bytes(digest[:6], "big"), "noise on features")
            scale = self.amount * x.square().mean().sqrt()
            samples.append(x + scale * torch.randn(x.shape, generator=own).to(x))
        return torch.stack(samples)


@dataclass(frozen=True)
class InTurn:
    """One release after another."""

    parts: Sequence[Release]

    def __call__(self, features: Tensor) -> Tensor:
        for part in self.parts:
            features = part(features)
        return features


def parse_release(text: str) -> Release:
    """A release as it is written on the command line and in a job: "bits:8", "noise:0.1", or both in turn, "noise:0.1,bits:8".

    Raises InputError for anything else.

    >>> parse_release("bits:4")
    Quantised(bits=4)
    """
    parts: list[Release] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(?:bits:(?P<bits>\d{1,3})|noise:(?P<noise>\d*\.?\d+(?:e-?\d+)?))\s*", part)
        if match is None:
            raise InputError(f"A release of features is bits:N, noise:AMOUNT, or several with commas; got {text!r}.")
        parts.append(Quantised(int(match["bits"])) if match["bits"] else Noisy(float(match["noise"])))
    return parts[0] if len(parts) == 1 else InTurn(tuple(parts))
