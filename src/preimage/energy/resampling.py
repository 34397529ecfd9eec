"""Views resampled from the canvas: crops, turns, scales and mirrors, each view with one bilinear sampling."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..plain import LATER
from .chance import check_between, check_count, check_order, noisy, seeds_of
from .transforms import TRANSFORMS, Draw, Transform, View

Map = tuple[float, float, float, float, float, float]
"""(a, b, c, d, e, f): a pixel of a view at (p, q) from its centre is taken from (a p + b q + c, d p + e q + f) from the canvas's."""

_PADDINGS = ("reflection", "border", "zeros")


class Resampling(Transform):
    """A transform that takes each pixel from a place of the canvas that depends on it affinely, by bilinear sampling.

    x: (B, C, H, W) -> (B, C, h, w), h = H - 2·border, w = W - 2·border. Outside of the canvas there is what `padding` says. A member
    whose views can be smaller than the part of the canvas that they show averages over the pixels in between (`shrinks`). A member
    gives `place`; all samples are resampled at once, and no bit of one depends on the others (on a CPU).
    """

    border: int
    padding: str
    resolution: float = 1.0

    @abstractmethod
    def sampling_map(self, draw: Draw, canvas: tuple[int, int], size: tuple[int, int]) -> Map:
        """Return where a draw takes its pixels from."""

    @property
    def shrinks(self) -> float:
        """How many pixels of a canvas without border go at most into one of the view, along a side."""
        return 1.0

    @property
    def still(self) -> Draw:
        """The centre of the canvas as it is, without the border."""
        return ()

    @property
    def whole(self) -> bool:
        return self.border == 0

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        return size[0] + 2 * self.border, size[1] + 2 * self.border

    def __call__(self, x: Tensor, view: View) -> Tensor:
        """x (B, C, H, W), one draw a sample -> (B, C, h, w)."""
        height, width = x.shape[-2] - 2 * self.border, x.shape[-1] - 2 * self.border
        if height < 1 or width < 1:
            raise InputError(f"A canvas of {x.shape[-2]}x{x.shape[-1]} pixels has nothing inside a border of {self.border}.")
        if all(draw == () for draw in view):
            return x[..., self.border : self.border + height, self.border : self.border + width]
        height, width = (max(1, round(self.resolution * n)) for n in (height, width))
        if any(draw == () for draw in view):
            return torch.cat([Resampling.__call__(self, x[b : b + 1], [draw]) for b, draw in enumerate(view)])
        canvas = (x.shape[-2], x.shape[-1])
        fine = max(1, int(self.shrinks * max(canvas[0] / height, canvas[1] / width) + 0.5))
        maps = [self.sampling_map(draw, canvas, (height, width)) for draw in view]
        return resample(x, maps, (height, width), self.padding, fine)

    def _check(self) -> None:
        if not isinstance(self.border, int) or isinstance(self.border, bool) or self.border < 0:
            raise InputError(f"The border is a whole number of pixels on each side, 0 for none; got {self.border!r}.")
        if self.padding not in _PADDINGS:
            raise InputError(f"padding is one of {', '.join(_PADDINGS)}; got {self.padding!r}.")
        check_count("views", self.views)


def resample(x: Tensor, maps: Sequence[Map], size: tuple[int, int], padding: str = "reflection", fine: int = 1) -> Tensor:
    """Take each pixel of a view from where its sample's map says, bilinearly; differentiable in x, and linear.

    Parameters
    ----------
    x : (B, C, H, W)
    maps : one a sample
    size : (h, w) of the view
    padding : what is outside of the canvas: "reflection", "border" or "zeros"
    fine : the view is sampled at as many places along each side of a pixel, and their mean taken

    Returns
    -------
    Tensor : (B, C, h, w)

    >>> x = torch.arange(4.0).view(1, 1, 2, 2)
    >>> resample(x, [(0.0, 1.0, 0.0, 1.0, 0.0, 0.0)], (2, 2))[0, 0]
    tensor([[0., 2.],
            [1., 3.]])
    """
    (height, width), (rows, columns) = x.shape[-2:], (size[0] * fine, size[1] * fine)
    p = (torch.arange(rows, device=x.device, dtype=x.dtype).add_(0.5) / fine - size[0] / 2).view(1, -1, 1)
    q = (torch.arange(columns, device=x.device, dtype=x.dtype).add_(0.5) / fine - size[1] / 2).view(1, 1, -1)
    a, b, c, d, e, f = torch.tensor(maps, dtype=x.dtype, device=x.device).T[:, :, None, None]
    grid = torch.stack([(d * p + e * q + f) * (2 / width), (a * p + b * q + c) * (2 / height)], dim=-1)
    out = F.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    return out if fine == 1 else F.avg_pool2d(out, fine)


@TRANSFORMS.register("crops", examples=[{}, {"low": 0.3, "high": 0.6, "views": 2}, {"border": 3, "low": 1.0}])
@dataclass(frozen=True)
class Crops(Resampling):
    r"""Random crops brought to the size of Φ's input, T x = x[window] resampled, as in augmented feature visualization.

    x: (B, C, h + 2·border, w + 2·border) -> (B, C, h, w). low, high: between which the side of a window is drawn evenly, as shares of the
    canvas's; the window lies anywhere inside the canvas with the same chance and has its aspect ratio. border: pixels that the
    canvas is larger than Φ's input, on each side. views: crops a step; the loss is their mean.
    Source: the crops with which networks are trained (Szegedy et al. 2015), shown to Φ here.

    >>> crops = Crops(low=0.5)
    >>> crops(torch.ones(2, 3, 8, 8), [(0.5, 0.0, 0.0), (1.0, 0.0, 0.0)]).shape
    torch.Size([2, 3, 8, 8])
    """

    low: float = 0.5
    high: float = 1.0
    views: int = 1
    border: int = 0
    padding: str = "reflection"

    def __post_init__(self) -> None:
        check_order("low", self.low, "high", self.high, 1.0)
        self._check()

    @property
    def shrinks(self) -> float:
        return self.high

    @property
    def fixed(self) -> bool:
        return self.border == 0 and self.low == 1.0

    def sample(self, generator: torch.Generator, count: int) -> list[Draw]:
        """Draw (side, row, column): shares of the canvas, and of the room that the window has."""
        drawn = torch.rand((count, 3), generator=generator, dtype=torch.float64).tolist()
        return [(self.low + (self.high - self.low) * s, row, column) for s, row, column in drawn]

    def sampling_map(self, draw: Draw, canvas: tuple[int, int], size: tuple[int, int]) -> Map:
        return _window(draw, canvas, size)


@TRANSFORMS.register(
    "affine",
    examples=[{}, {"degrees": 30.0, "scale": (0.5, 0.9), "shift": 0.1, "shear": 10.0, "flip": True}, {"padding": "border", "border": 2}],
)
@dataclass(frozen=True)
class Affine(Resampling):
    r"""Turn, scale, shift, shear and mirror at random about the centre: T x(p) = x(A⁻¹(p − t)), A = scale · turn · shear · mirror.

    x: (B, C, h + 2·border, w + 2·border) -> (B, C, h, w). degrees: the angle is drawn evenly within ±degrees. scale: (lo, hi), above
    1 enlarges. shift: within ± this share of the view's sides. shear: within ± degrees. flip: mirrored left to right in half of the
    views. Views that show the canvas at less than two thirds of its size are averaged over the pixels in between.
    Source: Olah, Mordvintsev, Schubert 2017 (lucid), who turn by up to 5° and scale by .9 to 1.1; one resampling here instead of one each.

    >>> Affine(degrees=0, scale=(1.0, 1.0), flip=True)(torch.arange(3.0).view(1, 1, 1, 3), [(0.0, 1.0, 0.0, 0.0, 0.0, True)])
    tensor([[[[2., 1., 0.]]]])
    """

    degrees: float = 15.0
    scale: tuple[float, float] = (0.9, 1.1)
    shift: float = 0.0
    shear: float = 0.0
    flip: bool = False
    views: int = 1
    border: int = 0
    padding: str = "reflection"

    def __post_init__(self) -> None:
        if not isinstance(self.scale, tuple) or len(self.scale) != 2:
            raise InputError(f"scale is the smallest and the largest scale, as (0.9, 1.1); got {self.scale!r}.")
        check_order("the first scale", self.scale[0], "the second", self.scale[1], math.inf)
        for name, limit in (("degrees", 180.0), ("shift", 1.0), ("shear", 80.0)):
            check_between(name, getattr(self, name), 0.0, limit)
        self._check()

    @property
    def shrinks(self) -> float:
        return 1.0 / self.scale[0]

    @property
    def fixed(self) -> bool:
        return not (self.degrees or self.shift or self.shear or self.flip) and self.scale == (1.0, 1.0)

    def sample(self, generator: torch.Generator, count: int) -> list[Draw]:
        """Draw (degrees, scale, down, right, shear, mirrored); down and right as shares of the view's sides."""
        draws: list[Draw] = []
        for turn, size, down, right, shear, mirror in torch.rand((count, 6), generator=generator, dtype=torch.float64).tolist():
            angle, scale = self.degrees * (2 * turn - 1), self.scale[0] + (self.scale[1] - self.scale[0]) * size
            shift = self.shift * (2 * down - 1), self.shift * (2 * right - 1)
            draws.append((angle, scale, *shift, self.shear * (2 * shear - 1), bool(self.flip and mirror < 0.5)))
        return draws

    def sampling_map(self, draw: Draw, canvas: tuple[int, int], size: tuple[int, int]) -> Map:
        angle, scale, down, right, shear, mirrored = draw
        a, b, d, e = _turn(angle)
        slant, sign = math.tan(math.radians(shear)), -1.0 if mirrored else 1.0
        # A⁻¹ = mirror · shear⁻¹ · turn⁻¹ / scale, rows first
        rows = a / scale, b / scale
        columns = sign * (d - slant * a) / scale, sign * (e - slant * b) / scale
        shift = down * size[0], right * size[1]
        start = [-(m[0] * shift[0] + m[1] * shift[1]) for m in (rows, columns)]
        return (*rows, start[0], *columns, start[1])


@TRANSFORMS.register(
    "random-view",
    examples=[{}, {"noise": 0.0, "flip": True, "views": 2}, {"border": 2, "low": 0.4, "degrees": 40.0}, {"noise": 0.0, "aspect": 1.7}],
)
@dataclass(frozen=True)
class RandomView(Resampling):
    r"""One strongly moving view a step: a random crop, turned, stretched and mirrored, in a single resampling, and noise on it.

    x: (B, C, h + 2·border, w + 2·border) -> (B, C, h, w). low, high, border, views: of the crop, as in `Crops`. degrees: the crop
    is turned about its centre by up to ± as many. resolution: the moving views' sides as a share of Φ's input: smaller ones cost less, and
    Φ must take them; the still view has all pixels. flip: mirrored left to right in half of the views. aspect: the crop's width over
    its height is drawn between 1/aspect and aspect, evenly in its logarithm, at the same area. noise: standard deviation of the noise
    in grey levels, as in `Noise`. The same as Compose((Crops(…), Affine(…), Noise(…))) but for what lies
    outside of the crop, which is what the photograph has there and no reflection.

    >>> RandomView().sample(torch.Generator().manual_seed(0), 1)[0][0] >= 0.5
    True
    """

    low: float = 0.5
    high: float = 1.0
    degrees: float = 15.0
    flip: bool = False
    noise: float = 0.05 * 255
    views: int = 1
    border: int = 0
    padding: str = "reflection"
    resolution: float = 1.0
    aspect: float = field(default=1.0, metadata=LATER)

    def __post_init__(self) -> None:
        check_order("low", self.low, "high", self.high, 1.0)
        check_between("degrees", self.degrees, 0.0, 180.0)
        check_between("noise", self.noise, 0.0, math.inf)
        check_between("aspect", self.aspect, 1.0, 10.0)
        check_between("resolution", self.resolution, 0.05, 1.0)
        self._check()

    @property
    def shrinks(self) -> float:
        return self.high

    @property
    def fixed(self) -> bool:
        return self.border == 0 and self.low == self.aspect == 1.0 and not (self.degrees or self.flip or self.noise)

    def sample(self, generator: torch.Generator, count: int) -> list[Draw]:
        """Draw (side, row, column, degrees, mirrored, seed of the noise), and the width over the height where it is not 1."""
        numbers = 5 if self.aspect == 1.0 else 6
        drawn = torch.rand((count, numbers), generator=generator, dtype=torch.float64).tolist()
        seeds = seeds_of(generator, count)
        return [
            (
                *(self.low + (self.high - self.low) * s, row, column, self.degrees * (2 * turn - 1)),
                *(bool(self.flip and mirror < 0.5), seed),
                *(self.aspect ** (2 * u - 1) for u in stretch),
            )
            for (s, row, column, turn, mirror, *stretch), seed in zip(drawn, seeds, strict=True)
        ]

    def sampling_map(self, draw: Draw, canvas: tuple[int, int], size: tuple[int, int]) -> Map:
        rows, _, top, _, columns, left = _window(draw[:3], canvas, size)
        a, b, d, e = _turn(draw[3])
        sign = -1.0 if draw[4] else 1.0
        if len(draw) > 6:
            rows, columns = rows / draw[6] ** 0.5, columns * draw[6] ** 0.5
        return rows * a, rows * b, top, columns * sign * d, columns * sign * e, left

    def __call__(self, x: Tensor, view: View) -> Tensor:
        seen = super().__call__(x, view)
        return noisy(seen, self.noise, [None if draw == () else draw[5] for draw in view])


def _window(draw: tuple[float, float, float], canvas: tuple[int, int], size: tuple[int, int]) -> Map:
    """Where the pixels of an upright window are taken from. draw: its side, and where it lies in the room that it has."""
    side, row, column = draw
    steps = side * canvas[0] / size[0], side * canvas[1] / size[1]
    return steps[0], 0.0, (row - 0.5) * (1 - side) * canvas[0], 0.0, steps[1], (column - 0.5) * (1 - side) * canvas[1]


def _turn(degrees: float) -> tuple[float, float, float, float]:
    """The inverse of a rotation of (row, column) to the left, as a matrix row by row."""
    angle = math.radians(degrees)
    return math.cos(angle), math.sin(angle), -math.sin(angle), math.cos(angle)
