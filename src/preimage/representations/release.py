"""What of a layer's features leaves the house: protections by name, each a function from features to features of the same shape.

Where fewer numbers leave (a projection, a mean over cells), what is given is those numbers brought back to the layer's shape: an attacker
and the rest of the network know neither more nor less by it.
"""

from __future__ import annotations

import hashlib
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..registry import Registry
from ..seeds import generator
from .base import RepresentationLike, Wrapped


class Release(Protocol):
    """Features (B, ...) -> what is released of them (B, ...); sample b depends on features[b] alone."""

    def __call__(self, features: Tensor, /) -> Tensor: ...


class Protection(ABC):
    """A release with a name and one number: a frozen dataclass with one field.

    `smooth` says whether a gradient passes through it, so that an attacker who knows it can search through it; `argument` what stands
    behind its name, N for a whole number.
    """

    smooth: ClassVar[bool] = False
    argument: ClassVar[str] = "N"
    revision: ClassVar[int] = 1

    @abstractmethod
    def __call__(self, features: Tensor) -> Tensor:
        """Release features (B, ...): the same shape."""


PROTECTIONS: Registry[type[Protection]] = Registry("protection of features", see="docs/audit.md")


@PROTECTIONS.register("bits", examples=[{"bits": 3}])
@dataclass(frozen=True)
class Quantised(Protection):
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


@PROTECTIONS.register("noise", examples=[{"amount": 0.5}])
@dataclass(frozen=True)
class Noisy(Protection):
    """Gaussian noise on each sample's features; its standard deviation is `amount` times their root mean square.

    The noise is drawn from the features' own bits: the same features are released with the same noise, alone and in any batch.
    Raises InputError unless amount is above 0.

    >>> x = torch.ones(2, 10000)
    >>> Noisy(0.5)(x).std().round(decimals=1)
    tensor(0.5000)
    """

    amount: float
    argument = "AMOUNT"

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


@PROTECTIONS.register("topk", examples=[{"share": 0.25}])
@dataclass(frozen=True)
class TopK(Protection):
    """Of each sample's features the given share with the largest magnitudes; all others are 0.

    Raises InputError unless share is above 0 and at most 1.

    >>> TopK(0.5)(torch.tensor([[1.0, -3.0, 2.0, 0.5]]))
    tensor([[ 0., -3.,  2.,  0.]])
    """

    share: float
    smooth = True
    argument = "SHARE"

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"The share of features that are kept is above 0 and at most 1; got {self.share!r}.")

    def __call__(self, features: Tensor) -> Tensor:
        flat = features.flatten(1)
        kept = flat.abs().topk(max(1, round(self.share * flat.shape[1])), dim=1).indices
        mask = torch.zeros_like(flat).scatter_(1, kept, 1.0)
        return (flat * mask).view_as(features)


@PROTECTIONS.register("prune", examples=[{"share": 0.5}])
@dataclass(frozen=True)
class Pruned(Protection):
    """The given share of the channels is not released: they are 0. Which ones is drawn once, by a fixed seed, and no secret.

    Raises InputError unless share is from 0 to below 1.

    >>> Pruned(0.5)(torch.ones(1, 4, 2, 2)).sum().item()
    8.0
    """

    share: float
    smooth = True
    argument = "SHARE"

    def __post_init__(self) -> None:
        if not 0 <= self.share < 1:
            raise InputError(f"The share of channels that are left out is from 0 to below 1; got {self.share!r}.")

    def __call__(self, features: Tensor) -> Tensor:
        channels = _channels(features, "prune")
        left_out = torch.randperm(channels, generator=generator(0, "pruned channels"))[: round(self.share * channels)]
        kept = torch.ones(channels, device=features.device, dtype=features.dtype)
        kept[left_out.to(features.device)] = 0.0
        return features * kept.view(1, -1, *[1] * (features.ndim - 2))


@PROTECTIONS.register("project", examples=[{"count": 3}])
@dataclass(frozen=True)
class Projected(Protection):
    """Each place's channels projected to `count` random orthonormal directions, drawn once by a fixed seed and no secret.

    What is given is the projection brought back to the channels, PᵀP f, which says the same as the `count` numbers P f.
    Raises InputError for less than 1 direction; as many as there are channels or more change nothing.

    >>> f = torch.ones(1, 4, 2, 2)
    >>> once = Projected(2)(f)
    >>> torch.allclose(Projected(2)(once), once, atol=1e-6)
    True
    """

    count: int
    smooth = True

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"Features are projected to at least 1 direction; got {self.count}.")

    def __call__(self, features: Tensor) -> Tensor:
        channels = _channels(features, "project")
        onto = _projector(channels, min(self.count, channels)).to(features)
        out: Tensor = torch.einsum("dc,bc...->bd...", onto, features)
        return out


@PROTECTIONS.register("pool", examples=[{"side": 2}])
@dataclass(frozen=True)
class Pooled(Protection):
    """The mean over blocks of side x side cells of the map, repeated in each of them; blocks at the border may be smaller.

    Raises InputError for a side below 2, and for features without rows and columns.

    >>> Pooled(2)(torch.tensor([[[[1.0, 3.0], [5.0, 7.0]]]])).unique()
    tensor([4.])
    """

    side: int
    smooth = True

    def __post_init__(self) -> None:
        if self.side < 2:
            raise InputError(f"The mean is over blocks of at least 2 cells a side; got {self.side}.")

    def __call__(self, features: Tensor) -> Tensor:
        if features.ndim != 4:
            raise InputError(
                f"pool:{self.side} needs a map of features (B, C, h, w); got {tuple(features.shape)}. Choose another protection."
            )
        h, w = features.shape[2:]
        small = F.avg_pool2d(features, self.side, ceil_mode=True, count_include_pad=False)
        out: Tensor = small.repeat_interleave(self.side, dim=2).repeat_interleave(self.side, dim=3)[..., :h, :w]
        return out


def _channels(features: Tensor, name: str) -> int:
    if features.ndim < 2:
        raise InputError(f"{name} needs features with channels (B, C, ...); got {tuple(features.shape)}.")
    return int(features.shape[1])


@lru_cache(maxsize=16)
def _projector(channels: int, count: int) -> Tensor:
    """PᵀP (C, C) of `count` random orthonormal directions."""
    drawn = torch.randn(channels, count, generator=generator(0, "projection of channels"), dtype=torch.float64)
    basis = torch.linalg.qr(drawn).Q
    out: Tensor = (basis @ basis.T).float()
    return out


class Protected(Wrapped):
    """A representation whose features are released through a protection: what an attacker sees who knows it.

    inner: the representation. release: what its features go through, as `parse_release` gives it. Gradients pass where it lets them.

    >>> from ..pixels.pixelspace import PixelSpace
    >>> from .base import from_callable
    >>> phi = Protected(from_callable(lambda x: x, PixelSpace(4, "grey")), parse_release("bits:1"))
    >>> phi.name, len(phi(torch.randn(1, 1, 4, 4)).unique())
    ('<lambda> with Quantised(bits=1)', 2)
    """

    def __init__(self, inner: RepresentationLike, release: Release) -> None:
        super().__init__(inner, name=f"{inner.name} with {release!r}")
        self.release = release

    def __call__(self, x: Tensor) -> Tensor:
        return self.release(self.inner(x))


@dataclass(frozen=True)
class InTurn:
    """One release after another."""

    parts: Sequence[Release]

    def __call__(self, features: Tensor) -> Tensor:
        for part in self.parts:
            features = part(features)
        return features


def parse_release(text: str) -> Release:
    """A release as it is written on the command line and in a job: "bits:8", or several in turn, "noise:0.1,bits:8".

    Raises InputError for anything else.

    >>> parse_release("bits:4"), parse_release("topk:0.1")
    (Quantised(bits=4), TopK(share=0.1))
    """
    parts = [_parsed(part, text) for part in text.split(",")]
    return parts[0] if len(parts) == 1 else InTurn(tuple(parts))


def release_text(release: Release) -> str:
    """Return a release as `parse_release` reads it; what is no registered one as Python shows it.

    >>> release_text(parse_release("noise:0.25, bits:8"))
    'noise:0.25,bits:8'
    """
    names = {PROTECTIONS[name]: name for name in PROTECTIONS}
    parts = parts_of(release)
    if not parts or any(type(part) not in names for part in parts):
        return repr(release)
    return ",".join(f"{names[type(part)]}:{getattr(part, fields(part)[0].name)}" for part in parts)  # type: ignore[arg-type,index]


def parts_of(release: Release) -> tuple[Release, ...]:
    """Return the releases that are taken in turn: one, or those of an `InTurn`."""
    return tuple(release.parts) if isinstance(release, InTurn) else (release,)


def known_part(release: Release) -> tuple[Release | None, Release | None]:
    """Split a release into the part at its beginning that a search can go through, and the rest; None for nothing.

    >>> known_part(parse_release("pool:2,bits:4"))
    (Pooled(side=2), Quantised(bits=4))
    """
    parts = parts_of(release)
    count = next((k for k, part in enumerate(parts) if not getattr(part, "smooth", False)), len(parts))
    first, last = (None if not some else some[0] if len(some) == 1 else InTurn(some) for some in (parts[:count], parts[count:]))
    return first, last


def release_revisions(text: str) -> dict[str, int]:
    """Return the revisions of the protections of a release that were changed since they were first written, for a job's key."""
    names = [part.partition(":")[0].strip() for part in text.split(",")]
    return {f"protection {n}": PROTECTIONS.revision(n) for n in names if PROTECTIONS.revision(n) > 1}


def _parsed(part: str, text: str) -> Release:
    name, colon, number = part.strip().partition(":")
    if name not in PROTECTIONS or not colon or not re.fullmatch(r"\d*\.?\d+(?:e-?\d+)?", number) or not math.isfinite(float(number)):
        raise InputError(f"A release of features is {', '.join(_forms())}, or several with commas; got {text!r}.")
    make: Callable[[Any], Release] = PROTECTIONS[name]
    if make.argument != "N":  # type: ignore[attr-defined]
        return make(float(number))
    if not re.fullmatch(r"\d{1,6}", number):
        raise InputError(f"{name}:N takes a whole number (a release is {', '.join(_forms())}); got {text!r}.")
    return make(int(number))


def _forms() -> list[str]:
    return [f"{name}:{PROTECTIONS[name].argument}" for name in PROTECTIONS]
