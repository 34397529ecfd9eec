"""Images as waves: Fourier coefficients divided by those of photographs, or their phases alone."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..pixels.pixelspace import PixelSpace
from ..plain import LATER
from .chance import check_between
from .colours import Planes, check_planes
from .parameterizations import PARAMETERIZATIONS, Coordinates, Parameterization
from .regularizers import PixelBall


@PARAMETERIZATIONS.register("fourier", examples=[{}, {"decay": 0.5, "colours": "plain"}, {"range": "none"}])
@dataclass(frozen=True)
class Fourier(Parameterization):
    r"""Fourier coefficients over the spectrum of photographs: :math:`x = 255\,\sigma(\tfrac{4}{255} M F^{-1}(s z)) - \text{mean}`.

    z: (B, 2C, H, W//2+1), real and imaginary parts; x: (B, C, H, W) canonical. s = 1/f^decay with root mean square 1/√2; M: see
    `colours.mixture`. A step of 1 in every coordinate moves pixels by about one grey level, mostly in large structures, so that solvers
    keep their rates: lucid's Adam at .05 is about `adam:rate=4`, the default here. colours: "plain" for M = 1. range: "none" for
    x = M F⁻¹(s z), then the bound is kept by projection. start: standard deviation of a run's start in grey levels.
    An image outside of 0–255 is encoded as the nearest in it. Source: Olah, Mordvintsev, Schubert 2017 (lucid's `fft_image`).

    >>> written = Fourier().at((3, 8, 6), PixelSpace((8, 6)))
    >>> z = written.encode(torch.full((1, 3, 8, 6), 60.0))
    >>> z.shape, written.decode(z).mean().round()
    (torch.Size([1, 6, 8, 4]), tensor(60.))
    """

    decay: float = 1.0
    colours: str = "decorrelated"
    range: str = "sigmoid"
    start: float = 0.75

    def __post_init__(self) -> None:
        check_planes(self.colours, self.range)
        check_between("decay", self.decay, 0.0, 4.0)
        check_between("start", self.start, 0.0, math.inf)

    def at(self, shape: Sequence[int], space: PixelSpace) -> FourierCoordinates:
        planes = Planes(int(shape[0]), space, self.colours, self.range)
        return FourierCoordinates(planes, spectrum(int(shape[1]), int(shape[2]), self.decay), int(shape[2]), self.start)


class FourierCoordinates(Coordinates):
    """See `Fourier`."""

    def __init__(self, planes: Planes, scale: Tensor, width: int, start: float) -> None:
        self._planes, self._scale, self._width, self._start = planes, scale / math.sqrt(2), width, start

    def encode(self, x: Tensor) -> Tensor:
        return self._waves(self._planes.back(x))

    def decode(self, z: Tensor) -> Tensor:
        real, imaginary = z.chunk(2, dim=1)
        waves = torch.complex(real, imaginary) * self._scale.to(z)
        return self._planes.forth(torch.fft.irfft2(waves, s=(z.shape[-2], self._width), norm="ortho"))

    def start(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Return normal noise in each coordinate, of each sample's own generator."""
        shape = (2 * x.shape[1], x.shape[2], x.shape[3] // 2 + 1)
        return torch.stack([torch.randn(shape, generator=g) for g in generators]).mul_(self._start).to(x)

    def project(self, z: Tensor, ball: PixelBall) -> Tensor:
        """Return z where pixels stay within 0–255 by themselves; else the coordinates of the image on the bound."""
        if self._planes.bounded:
            return z
        x = self.decode(z)
        return z + self._waves(self._planes.back(ball(x) - x))

    def _waves(self, planes: Tensor) -> Tensor:
        waves = torch.fft.rfft2(planes, norm="ortho") / self._scale.to(planes)
        return torch.cat([waves.real, waves.imag], dim=1)


@PARAMETERIZATIONS.register("fixed-magnitude", examples=[{}, {"colours": "plain"}])
@dataclass(frozen=True)
class FixedMagnitude(Parameterization):
    r"""Phases alone, with magnitudes that are given: :math:`x = 255\,\sigma(\tfrac{4}{255} M F^{-1}(m e^{i z / s})) - \text{mean}`.

    z: (B, C, H, W//2+1); x: (B, C, H, W) canonical. s: the standard deviation of the planes, so that a step of 1 in every coordinate moves
    pixels by about one grey level. A run from noise starts with phases drawn evenly. A given image is encoded by its phases.

    Parameters
    ----------
    colours : "decorrelated" (default) or "plain"
        "plain" for M = 1, all channels then with the magnitudes of grey, as always but for 3 channels.
    of : "photographs" (default) or "start"
        What m is. Of photographs: the mean magnitude at each frequency and direction of 11 free ones, in decorrelated colours or in grey
        (data/spectrum.json, made by docs/make_spectrum.py), nothing for the mean. Of the start: the magnitudes of what each sample begins
        with, so that its mean colours and its contrast at each scale stay and only the places of things change: a caricature in phases
        alone. What has no phase to choose, as the mean, stays with its sign. Magnitudes are those of the whole canvas before σ: a transform
        with a border adds one to it, `octaves:count=1,shift=13` and `crops` do not.
    image : tensor (B, C, H, W), optional
        The start, which a task fills in. Not part of equality.

    Source: Fel et al. 2023 (MACO, arXiv:2306.06805), whose magnitudes are those of ImageNet; here of few photographs, smoothed.

    >>> written = FixedMagnitude().at((3, 8, 6), PixelSpace((8, 6)))
    >>> a, b = (torch.fft.rfft2(written.planes(written.encode(torch.randn(1, 3, 8, 6) * s))).abs() for s in (1.0, 9.0))
    >>> bool(torch.allclose(a, b, rtol=1e-3, atol=1e-3))
    True
    """

    colours: str = "decorrelated"
    of: str = field(default="photographs", metadata=LATER)
    image: Tensor | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_planes(self.colours, "sigmoid")
        if self.of not in ("photographs", "start"):
            raise InputError(f'of is "photographs" or "start"; got {self.of!r}.')

    def begin(self, x: Tensor) -> FixedMagnitude:
        """Return the parameterization of a run that begins with these canvases."""
        return self if self.of != "start" else replace(self, image=x.detach())

    def at(self, shape: Sequence[int], space: PixelSpace) -> PhaseCoordinates:
        channels, height, width = (int(n) for n in shape)
        planes = Planes(channels, space, self.colours, "sigmoid")
        if self.of == "start":
            if self.image is None or tuple(self.image.shape[1:]) != (channels, height, width):
                raise InputError('FixedMagnitude(of="start") has the magnitudes of what a task begins with: use it in a task.')
            return PhaseCoordinates(planes, _signed_magnitudes(planes.back(self.image)), width)
        coloured = channels == 3 and self.colours == "decorrelated"
        magnitudes = torch.stack([photographic(height, width, k) for k in ((0, 1, 2) if coloured else (3,))])
        return PhaseCoordinates(planes, magnitudes[None], width)


class PhaseCoordinates(Coordinates):
    """See `FixedMagnitude`. magnitudes: (1 or B, 1 or C, H, W//2+1), those of waves that are their own conjugate with a sign."""

    def __init__(self, planes: Planes, magnitudes: Tensor, width: int) -> None:
        self._planes, self._magnitudes, self._width = planes, magnitudes, width
        self._twice = [0, width // 2] if width % 2 == 0 and width > 1 else [0]  # columns that hold a wave and its conjugate
        height = magnitudes.shape[2]
        power = magnitudes.double().square().mean(dim=1)
        power[:, _alone(height, width)] = 0.0
        weights = torch.full((power.shape[2],), 2.0, dtype=power.dtype, device=power.device)
        weights[self._twice] = 1.0
        unit = ((power * weights).sum(dim=(1, 2)) / (height * width)).sqrt()
        self._unit = unit.clamp(min=1e-6).view(-1, 1, 1, 1)

    def encode(self, x: Tensor) -> Tensor:
        waves: Tensor = torch.fft.rfft2(self._planes.back(x), norm="ortho")
        phases: Tensor = torch.angle(waves) * self._unit.to(x)
        return phases

    def decode(self, z: Tensor) -> Tensor:
        return self._planes.forth(self.planes(z))

    def planes(self, z: Tensor) -> Tensor:
        """Return the planes of these phases, whose magnitudes are the given ones exactly."""
        phases = z / self._unit.to(z)
        columns = list(phases.unbind(dim=-1))
        for k in self._twice:  # the image is real: a wave's conjugate has the opposite phase
            columns[k] = (columns[k] - columns[k].flip(-1).roll(1, dims=-1)) / 2
        phases = torch.stack(columns, dim=-1)
        waves = torch.polar(self._magnitudes.to(z).expand_as(phases), phases)
        image: Tensor = torch.fft.irfft2(waves, s=(z.shape[-2], self._width), norm="ortho")
        return image

    def start(self, x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Return phases drawn evenly, of each sample's own generator."""
        shape = (x.shape[1], x.shape[2], x.shape[3] // 2 + 1)
        drawn = torch.stack([torch.rand(shape, generator=g) for g in generators])
        phases: Tensor = drawn.mul_(2).sub_(1).mul_(math.pi * self._unit.to(drawn)).to(x)
        return phases


def _alone(height: int, width: int) -> Tensor:
    """Which waves of an rfft2 are their own conjugate, (H, W//2+1): the mean and the fastest ones, which have a sign and no phase."""
    found = torch.zeros(height, width // 2 + 1, dtype=torch.bool)
    for i in {0, height // 2} if height % 2 == 0 else {0}:
        for j in {0, width // 2} if width % 2 == 0 else {0}:
            found[i, j] = True
    return found


def _signed_magnitudes(planes: Tensor) -> Tensor:
    """Return the magnitudes of the waves of planes (B, C, H, W), with the sign of those that are real."""
    waves: Tensor = torch.fft.rfft2(planes, norm="ortho")
    magnitudes: Tensor = waves.abs()
    return torch.where(_alone(planes.shape[2], planes.shape[3]).to(planes.device), waves.real, magnitudes)


def spectrum(height: int, width: int, decay: float = 1.0) -> Tensor:
    """Return 1/f^decay on the grid of rfft2, (height, width//2+1), root mean square 1; the mean counts as the lowest frequency.

    >>> spectrum(4, 4).shape
    torch.Size([4, 3])
    """
    f = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None, :])
    scale = (1.0 / f.clamp(min=1.0 / max(height, width))).pow(decay)
    return scale / scale.square().mean().sqrt()


def photographic(height: int, width: int, plane: int) -> Tensor:
    """Return the mean magnitude of photographs on the grid of an orthonormal rfft2, (height, width//2+1), in float64.

    plane: 0, 1, 2 for those of `colours.mixture`, 3 for grey. Below the lowest frequency that was measured it goes on as 1/f. The mean,
    and waves that are their own conjugate, have no phase to choose and magnitude 0.

    >>> m = photographic(64, 64, 3)
    >>> m.shape, bool(m[1, 0] > m[20, 0] > 0), float(m[0, 0])
    (torch.Size([64, 33]), True, 0.0)
    """
    frequencies, table = _measured()
    v, h = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    f = np.hypot(v, h)
    row = np.interp(np.log(np.maximum(f, frequencies[0])), np.log(frequencies), np.arange(len(frequencies)))
    directions = table.shape[2]
    place = np.mod(np.arctan2(v, h) / math.pi, 1.0) * directions  # a wave and its conjugate have one direction
    low, left = np.minimum(row.astype(int), len(frequencies) - 2), place.astype(int) % directions
    a, b, logs = row - low, place - np.floor(place), np.log(table[plane])
    right = (left + 1) % directions
    near = (1 - b) * logs[low, left] + b * logs[low, right]
    far = (1 - b) * logs[low + 1, left] + b * logs[low + 1, right]
    out = np.exp((1 - a) * near + a * far) * np.maximum(frequencies[0] / np.maximum(f, 1e-12), 1.0)
    out[_alone(height, width).numpy()] = 0.0
    return torch.from_numpy(out)


@cache
def _measured() -> tuple[np.ndarray, np.ndarray]:
    """Frequencies (F,) in cycles a pixel, and magnitudes (4, F, directions)."""
    data = json.loads(files("preimage").joinpath("data/spectrum.json").read_text(encoding="utf-8"))
    return np.array(data["frequencies"]), np.array(data["magnitudes"])
