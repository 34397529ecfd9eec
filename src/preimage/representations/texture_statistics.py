"""The statistics of Portilla and Simoncelli, which describe a texture."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..pixels.pixelspace import PixelSpace
from .base import Representation
from .filters import AXES
from .steerable import SteerablePyramid, pad

REACH = 3  # places to either side, of 7x7 neighbourhoods
FLAT = 1e-4  # grey levels squared: what is added to variances under a root, so that a flat image has finite slopes


class TextureStatistics(nn.Module, Representation):
    r"""Describe a texture by 710 numbers a channel, moments and correlations of a complex steerable pyramid's coefficients, and of colours.

    x: (B, C, H, W) -> (B, D). Three channels are turned to grey and two differences of colours first, orthonormal (`filters.AXES`). Of each
    channel, as in the paper's Sect. 2 (N scales, K directions):

    - pixels: mean, variance, skewness, kurtosis, least, largest; the variance of the high residual;
    - of the low-pass image at each of N + 1 scales: variance, skewness, kurtosis, correlations with its neighbours;
    - of the magnitudes of each band: variance, correlations with neighbours, with other directions, and with the next coarser scale;
    - of real parts with real and imaginary parts of the next coarser scale, whose phases are doubled.

    And of every two channels the correlations of pixels, and of low-pass images and of magnitudes at the same scale and direction; in the
    paper, which is of grey textures, there are none. Neighbours are those of 7 x 7, on a torus, less where a band has fewer places.
    `measured` gives the numbers as they are; the features are these in units that compare: logarithms of standard deviations and of
    kurtosis, mean, least and largest in units of 40 grey levels, correlations and skewness as they are.

    space : PixelSpace
        Of the images, of at least 4 pixels a side.
    scales : int, default 4 (the paper's)
        At most; an image of less than 2ⁿ⁺¹ pixels a side has fewer.
    directions : int, default 4 (the paper's)

    Source: Portilla, Simoncelli, A parametric texture model based on joint statistics of complex wavelet coefficients, IJCV 40(1), 2000.

    >>> phi = TextureStatistics(PixelSpace(None, "grey"))
    >>> phi(torch.rand(2, 1, 128, 128)).shape
    torch.Size([2, 710])
    """

    jitter = 1
    name = "texture-statistics"
    receptive_field = None
    space: PixelSpace

    def __init__(self, space: PixelSpace, scales: int = 4, directions: int = 4) -> None:
        super().__init__()
        self.space, self.pyramid = space, SteerablePyramid(scales, directions)

    def extra_repr(self) -> str:
        return f"scales={self.pyramid.scales}, directions={self.pyramid.directions}"

    def pyramid_for(self, height: int, width: int) -> SteerablePyramid:
        """Return the pyramid of images of this size, of as many of the scales as they have."""
        return replace(self.pyramid, scales=max(1, min(self.pyramid.scales, min(height, width).bit_length() - 2)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) canonical images -> (B, D)."""
        return torch.cat([_comparable(name, values).flatten(1) for name, values in self.measured(x).items()], dim=1)

    def measured(self, x: Tensor) -> dict[str, Tensor]:
        """Return the numbers by name, each (B, C, …), those of two channels (B, pairs, …)."""
        if x.shape[1] == 3:
            x = torch.einsum("dc,bchw->bdhw", (AXES / AXES.norm(dim=1, keepdim=True)).to(x), x)
        pyramid = self.pyramid_for(x.shape[-2], x.shape[-1])
        high, bands, _ = pyramid(x)
        found = {f"pixel {k}": v for k, v in _moments(x).items()}
        found |= {"pixel mean": x.mean(dim=(2, 3)), "pixel least": x.amin(dim=(2, 3)), "pixel largest": x.amax(dim=(2, 3))}
        found |= {"high variance": high.square().mean(dim=(2, 3)), "pixel channels": _between(x)}
        for k in range(pyramid.scales + 1):
            low = pyramid.lowpass(x, k)
            found |= {f"low {k} {name}": v for name, v in _moments(low).items()}
            found |= {f"low {k} neighbours": _neighbours(low), f"low {k} channels": _between(low)}
        sizes = [_magnitude(band) for band in bands]
        for k, size in enumerate(sizes):
            found |= {f"magnitude {k} variance": size.square().mean(dim=(3, 4)), f"magnitude {k} neighbours": _neighbours(size)}
            found |= {f"magnitude {k} directions": _upper(_correlations(size, size)), f"magnitude {k} channels": _between(size)}
            if k + 1 < len(sizes):
                doubled = _doubled(_enlarged(bands[k + 1], size))
                both = torch.cat([doubled.real, doubled.imag], dim=2)
                found[f"magnitude {k} coarser"] = _correlations(size, _magnitude(doubled))
                found[f"real {k} coarser"] = _correlations(bands[k].real, both)
        return {name: values for name, values in found.items() if values.numel()}


def _comparable(name: str, values: Tensor) -> Tensor:
    if name.endswith("variance"):
        return 0.5 * torch.log(values + FLAT)
    if name.endswith("kurtosis"):
        return torch.log(values + 1e-3)
    return values / 40.0 if name in ("pixel mean", "pixel least", "pixel largest") else values


def _moments(x: Tensor) -> dict[str, Tensor]:
    """Variance, skewness and kurtosis over the places of images (B, C, H, W)."""
    x = x - x.mean(dim=(2, 3), keepdim=True)
    square = x.square()
    variance = square.mean(dim=(2, 3))
    safe = variance + FLAT
    return {
        "variance": variance,
        "skewness": (square * x).mean(dim=(2, 3)) / safe**1.5,
        "kurtosis": square.square().mean(dim=(2, 3)) / safe.square(),
    }


def _magnitude(band: Tensor) -> Tensor:
    """The magnitudes of complex coefficients, less their mean."""
    size = (band.real.square() + band.imag.square() + 1e-12).sqrt()
    return size - size.mean(dim=(-2, -1), keepdim=True)


def _neighbours(x: Tensor) -> Tensor:
    """The correlations of (..., h, w) with itself moved, on a torus: (..., 24) where there are 7 x 7 places or more."""
    height, width = x.shape[-2:]
    x = x - x.mean(dim=(-2, -1), keepdim=True)
    waves = torch.fft.rfft2(x)
    sums: Tensor = torch.fft.irfft2(waves.real.square() + waves.imag.square(), s=(height, width))
    down, right = (min(REACH, (n - 1) // 2) for n in (height, width))
    rows = sums[..., : down + 1, :]
    around = torch.cat([rows[..., width - right :], rows[..., : right + 1]], dim=-1)  # from `right` places left to `right` places right
    near = around.flatten(-2)[..., right + 1 :]  # without the place itself, and those left of it, which are as those right of it
    return near / (sums[..., :1, 0] + FLAT * height * width)


def _correlations(x: Tensor, y: Tensor) -> Tensor:
    """The correlations of (B, C, K, h, w) and (B, C, L, h, w), (B, C, K, L)."""
    x, y = x.flatten(3), y.flatten(3)
    roots = [(v.square().mean(dim=3) + FLAT).sqrt() for v in (x, y)]
    return x @ y.mT / x.shape[3] / (roots[0].unsqueeze(3) * roots[1].unsqueeze(2))


def _between(x: Tensor) -> Tensor:
    """The correlations of every two channels (B, C, ..., h, w) at the same place, (B, pairs, ...)."""
    x = x - x.mean(dim=(-2, -1), keepdim=True)
    square = x.square().mean(dim=(-2, -1)) + FLAT
    pairs = [(i, j) for i in range(x.shape[1]) for j in range(i)]
    if not pairs:
        return x.new_zeros(len(x), 0)
    return torch.stack([(x[:, i] * x[:, j]).mean(dim=(-2, -1)) / (square[:, i] * square[:, j]).sqrt() for i, j in pairs], dim=1)


def _upper(matrix: Tensor) -> Tensor:
    """What is above the diagonal of (..., K, K)."""
    rows, columns = torch.triu_indices(matrix.shape[-2], matrix.shape[-1], offset=1)
    return matrix[..., rows, columns]


def _enlarged(band: Tensor, like: Tensor) -> Tensor:
    """A band on the places of the next finer scale."""
    found: Tensor = torch.fft.ifft2(pad(torch.fft.fft2(band, norm="ortho"), (like.shape[-2], like.shape[-1])), norm="ortho")
    return found


def _doubled(band: Tensor) -> Tensor:
    """Coefficients of the same magnitude and twice the phase."""
    return band.square() / (band.real.square() + band.imag.square() + 1e-12).sqrt()
