"""A complex steerable pyramid by Fourier transforms, for images of any size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ..errors import InputError, whole


@dataclass(frozen=True)
class SteerablePyramid:
    r"""Cut images into bands of scale and direction, which together have the images' energy (a tight frame) and give them back.

    Radius r and angle θ are those of a frequency, r = 1 at half a wave a pixel. :math:`L_k(r) = \cos(\frac{\pi}{2}\log_2(2^{k+1} r))`
    where that logarithm is from 0 to 1, 1 below and 0 above; :math:`H_k^2 = 1 - L_k^2`. High residual: H_0. Band b of K at scale k of n:
    :math:`\sqrt2\, L_k H_{k+1} A(\theta - \pi b/K)` with :math:`A = \alpha \cos^{K-1}` on the half turn around 0 and
    :math:`\alpha = 2^{K-1} (K-1)! / \sqrt{K\,(2K-2)!}`, times :math:`(-i)^{K-1}`. Low residual: L_n. Scale k is kept on
    :math:`\lceil H/2^k \rceil \times \lceil W/2^k \rceil` places, which hold all its frequencies, by orthonormal transforms.

    scales : how many octaves n
    directions : how many K, at least 2

    Source: Portilla, Simoncelli, A parametric texture model based on joint statistics of complex wavelet coefficients, IJCV 40(1), 2000,
    Sect. 2.1 and appendix; there sizes are multiples of 2ⁿ, and here any will do.

    >>> x = torch.rand(1, 1, 20, 30)
    >>> pyramid = SteerablePyramid(scales=2)
    >>> high, bands, low = pyramid(x)
    >>> [tuple(b.shape) for b in bands], tuple(low.shape)
    ([(1, 1, 4, 20, 30), (1, 1, 4, 10, 15)], (1, 1, 5, 8))
    >>> bool((pyramid.back(high, bands, low) - x).abs().max() < 1e-5)
    True
    """

    scales: int = 4
    directions: int = 4

    def __post_init__(self) -> None:
        whole("scales", self.scales, 1)
        whole("directions", self.directions, 2)

    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return the size of the bands of each scale, and last that of the low residual. Raises InputError for too small images."""
        if min(height, width) < 2 ** (self.scales + 1):
            raise InputError(
                f"A pyramid of {self.scales} scales needs images of at least {2 ** (self.scales + 1)} pixels a side; got {height}x{width}. "
                "Take fewer scales."
            )
        return [(math.ceil(height / 2**k), math.ceil(width / 2**k)) for k in range(self.scales + 1)]

    def __call__(self, x: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Return of images (B, C, H, W) the high residual, the complex bands (B, C, K, h, w) of each scale, and the low residual."""
        sizes = self.sizes(*x.shape[-2:])
        waves = torch.fft.fft2(x, norm="ortho")
        high = _image(waves * self._high(x, sizes[0], 0))
        bands = [
            torch.fft.ifft2(crop(waves, size).unsqueeze(2) * self._band(x, k, size), norm="ortho") for k, size in enumerate(sizes[:-1])
        ]
        return high, bands, _image(crop(waves, sizes[-1]) * self.low(x, self.scales, sizes[-1]))

    def lowpass(self, x: Tensor, k: int) -> Tensor:
        """Return what the bands of scale k and coarser hold of images, on the places of scale k: L_k² of their waves."""
        size = self.sizes(*x.shape[-2:])[k]
        return _image(crop(torch.fft.fft2(x, norm="ortho"), size) * self.low(x, k, size).square())

    def back(self, high: Tensor, bands: list[Tensor], low: Tensor) -> Tensor:
        """Return the images that have these bands; the adjoint of `__call__`."""
        whole_size = (high.shape[-2], high.shape[-1])
        waves = torch.fft.fft2(high, norm="ortho") * self._high(high, whole_size, 0)
        sizes = self.sizes(*whole_size)
        for k, band in enumerate(bands):
            mask = self._band(high, k, sizes[k], whole_size).conj()
            waves = waves + pad((torch.fft.fft2(band, norm="ortho") * mask).sum(dim=2), whole_size)
        waves = waves + pad(torch.fft.fft2(low, norm="ortho") * self.low(high, self.scales, sizes[-1], whole_size), whole_size)
        return _image(waves)

    def low(self, like: Tensor, k: int, size: tuple[int, int], of: tuple[int, int] | None = None) -> Tensor:
        """Return L_k on the frequencies (h, w) that a scale of this size keeps of images of the size `of` (default that of `like`)."""
        return _lowpass(k, size, of or (like.shape[-2], like.shape[-1]), like.dtype).to(like)

    def _high(self, like: Tensor, size: tuple[int, int], k: int, of: tuple[int, int] | None = None) -> Tensor:
        return (1 - self.low(like, k, size, of).square()).clamp(min=0).sqrt()

    def _band(self, like: Tensor, k: int, size: tuple[int, int], of: tuple[int, int] | None = None) -> Tensor:
        """The complex filters (K, h, w) of a scale."""
        turned = _directions(self.directions, size, of or (like.shape[-2], like.shape[-1]), like.dtype).to(like)
        return turned * (self.low(like, k, size, of) * self._high(like, size, k + 1, of)) * (-1j) ** (self.directions - 1)


def crop(waves: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the lowest frequencies of a Fourier transform (..., H, W), as many as an image of this size has."""
    for dim, kept in zip((-2, -1), size, strict=True):
        if waves.shape[dim] != kept:
            first, last = (kept + 1) // 2, kept // 2
            waves = torch.cat([waves.narrow(dim, 0, first), waves.narrow(dim, waves.shape[dim] - last, last)], dim=dim)
    return waves


def pad(waves: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a Fourier transform with zeros at higher frequencies, as an image of this size has it; the adjoint of `crop`."""
    for dim, wanted in zip((-2, -1), size, strict=True):
        if (kept := waves.shape[dim]) != wanted:
            first, last = (kept + 1) // 2, kept // 2
            between = list(waves.shape)
            between[dim] = wanted - kept
            waves = torch.cat([waves.narrow(dim, 0, first), waves.new_zeros(between), waves.narrow(dim, first, last)], dim=dim)
    return waves


@lru_cache(maxsize=64)
def _lowpass(k: int, size: tuple[int, int], of: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """L_k, computed in float64."""
    with torch.inference_mode(False):
        y, x = _frequencies(size, of)
        octaves = torch.log2(torch.hypot(x, y).clamp(min=1e-9) * 2 ** (k + 1)).clamp(0, 1)
        return torch.where(octaves >= 1, 0.0, torch.cos(math.pi / 2 * octaves)).to(dtype)


@lru_cache(maxsize=64)
def _directions(count: int, size: tuple[int, int], of: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """√2 A for each direction (K, h, w), computed in float64."""
    order = count - 1
    alpha = 2**order * math.factorial(order) / math.sqrt(count * math.factorial(2 * order))
    with torch.inference_mode(False):
        y, x = _frequencies(size, of)
        cosines = torch.stack([torch.cos(torch.atan2(y, x) - math.pi * b / count) for b in range(count)])
        found: Tensor = (math.sqrt(2) * alpha * cosines.clamp(min=0) ** order).to(dtype)
    return found


def _frequencies(size: tuple[int, int], of: tuple[int, int]) -> list[Tensor]:
    """Of images of the size `of`, those that an image of `size` has: y and x, 1 at half a wave a pixel."""
    lines = [torch.fft.fftfreq(m, 1 / m, dtype=torch.float64, device="cpu") * 2 / n for m, n in zip(size, of, strict=True)]
    return list(torch.meshgrid(*lines, indexing="ij"))


def _image(waves: Tensor) -> Tensor:
    found: Tensor = torch.fft.ifft2(waves, norm="ortho").real
    return found
