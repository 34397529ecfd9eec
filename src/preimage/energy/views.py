"""Views that keep their place: noise and colours; and several transforms after each other."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import InputError
from .chance import check_between, check_count, noisy, seeds_of
from .resampling import Affine, Crops
from .transforms import TRANSFORMS, Draw, Transform, View


@TRANSFORMS.register("noise", examples=[{}, {"level": 3.0, "views": 2}])
@dataclass(frozen=True)
class Noise(Transform):
    r"""Show Φ the image with noise on it, anew at each step: T x = x + level·n, n ~ N(0, 1) in each pixel and channel.

    x: (B, C, H, W) -> the same. level: in grey levels. A draw is the seed of its noise, which is made on the CPU: the same on
    every device. Source: Smilkov et al. 2017 (SmoothGrad); Santurkar et al. 2019 for images made this way.

    >>> bool((Noise(2.0)(torch.zeros(1, 1, 2, 2), [7]) == Noise(2.0)(torch.zeros(1, 1, 2, 2), [7])).all())
    True
    """

    level: float = 0.05 * 255
    views: int = 1

    def __post_init__(self) -> None:
        check_between("level", self.level, 0.0, math.inf)
        check_count("views", self.views)

    @property
    def fixed(self) -> bool:
        return self.level == 0

    @property
    def still(self) -> Draw:
        """No noise."""
        return None

    def sample(self, generator: torch.Generator, count: int) -> list[Draw]:
        return list(seeds_of(generator, count))

    def __call__(self, x: Tensor, view: View) -> Tensor:
        return noisy(x, self.level, view)


@TRANSFORMS.register("colour", examples=[{}, {"gain": 0.5, "shift": 0.0}, {"gain": 0.0, "shift": 5.0, "tint": 20.0}])
@dataclass(frozen=True)
class Colour(Transform):
    r"""Change contrast, brightness and tint at random: T x = g·x + s + t_k, g in 1 ± gain, s in ± shift, t_k in ± tint.

    x: (B, C, H, W) canonical -> the same, so that contrast changes about the mean colour. gain: a share below 1. shift: of all channels, in
    grey levels. tint: of each channel by itself, in grey levels. All are drawn evenly.
    Source: the colour changes with which networks are trained (Howard 2013); dreamlens and torch-dreams show them to Φ.

    >>> Colour()(torch.full((1, 3, 1, 1), 10.0), [(1.5, 2.0, None)]).flatten()
    tensor([17., 17., 17.])
    """

    gain: float = 0.2
    shift: float = 10.0
    tint: float = 10.0
    views: int = 1

    def __post_init__(self) -> None:
        check_between("gain", self.gain, 0.0, 1.0)
        check_between("shift", self.shift, 0.0, math.inf)
        check_between("tint", self.tint, 0.0, math.inf)
        check_count("views", self.views)

    @property
    def fixed(self) -> bool:
        return not (self.gain or self.shift or self.tint)

    @property
    def still(self) -> Draw:
        """No change."""
        return (1.0, 0.0, None)

    def sample(self, generator: torch.Generator, count: int) -> list[Draw]:
        """Draw (gain, shift, seed of the tints)."""
        drawn = torch.rand((count, 2), generator=generator, dtype=torch.float64).tolist()
        seeds = seeds_of(generator, count)
        return [(1 + self.gain * (2 * g - 1), self.shift * (2 * s - 1), seed) for (g, s), seed in zip(drawn, seeds, strict=True)]

    def __call__(self, x: Tensor, view: View) -> Tensor:
        gains, shifts, seeds = zip(*view, strict=True)
        gain = torch.tensor(gains, dtype=x.dtype, device=x.device).view(-1, 1, 1, 1)
        tints = [[0.0] * x.shape[1] if seed is None else self._tints(seed, x.shape[1]) for seed in seeds]
        offset = [[shift + tint for tint in row] for shift, row in zip(shifts, tints, strict=True)]
        return x * gain + torch.tensor(offset, dtype=x.dtype, device=x.device)[..., None, None]

    def _tints(self, seed: int, channels: int) -> list[float]:
        drawn = torch.rand(channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return [self.tint * (2 * d - 1) for d in drawn.tolist()]


@TRANSFORMS.register("compose", examples=[{}, {"parts": (Crops(low=0.6, views=2), Noise(4.0))}, {"parts": (Affine(border=2), Colour())}])
@dataclass(frozen=True)
class Compose(Transform):
    """Show Φ the image after several transforms, the first one first: T = T_n ∘ … ∘ T_1.

    parts: transforms; at most one of them with more than one view a step. The canvas is as large as all of them together ask.

    >>> Compose((Crops(views=4), Noise())).views
    4
    """

    parts: tuple[Transform, ...] = ()
    views: int = field(init=False, default=1, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.parts, tuple) or not all(isinstance(part, Transform) for part in self.parts):
            raise InputError(f"Compose takes a tuple of transforms, as (Crops(), Noise()); got {self.parts!r}.")
        many = [part.views for part in self.parts if part.views != 1]
        if len(many) > 1:
            raise InputError(f"Of the transforms of a Compose at most one has more than one view; got {many}.")
        object.__setattr__(self, "views", many[0] if many else 1)

    @property
    def fixed(self) -> bool:
        return all(part.fixed for part in self.parts)

    @property
    def whole(self) -> bool:
        return all(part.whole for part in self.parts)

    @property
    def still(self) -> Draw:
        """All of them still."""
        return tuple(part.still for part in self.parts)

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        for part in reversed(self.parts):
            size = part.canvas(size)
        return size

    def sample(self, generator: torch.Generator, count: int) -> list[Draw]:
        """Draw (first's draw, second's draw, …)."""
        drawn = [part.sample(generator, count) for part in self.parts]
        return list(zip(*drawn, strict=True)) if drawn else [()] * count

    def __call__(self, x: Tensor, view: View) -> Tensor:
        for k, part in enumerate(self.parts):
            x = part(x, [draw[k] for draw in view])
        return x.view_as(x)
