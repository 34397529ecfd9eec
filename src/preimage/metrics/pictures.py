"""How a picture compares with another, or with natural ones, pixel by pixel; each sample by itself."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..pixels.images import LUMA, contrast_stretch

BINS = 18  # exp_naturalness.m
WINDOW, SIGMA = 11, 1.5  # Wang et al. 2004: a Gaussian of 11 x 11 pixels
K1, K2, PEAK = 0.01, 0.03, 255.0
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli & Bovik 2003


def through_png(images: Tensor) -> Tensor:
    """What the original's metrics read: each image (B, C, H, W) stretched to its own minimum and maximum and rounded to 8 bits.

    >>> through_png(torch.tensor([[[[-20.0, 0.0, 60.0]]]]))
    tensor([[[[  0.,  64., 255.]]]])
    """
    return contrast_stretch(images).round()


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of levels 0–255, both clipped to that range as a screen would: (B, C, H, W) -> (B,).

    >>> psnr(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 255.0))
    tensor([0.])
    """
    square = (images.clamp(0, 255) - reference.clamp(0, 255)).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(255.0**2 / square)


def ssim(images: Tensor, reference: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of levels 0–255, both clipped to that range: (B, C, H, W) -> (B,), 1 for the same.

    A Gaussian window of 11 x 11 pixels, sigma 1.5, at all places where it fits; K1 = 0.01, K2 = 0.03; the mean over the channels.
    Raises InputError for images of different shapes, or of less than 11 pixels.

    >>> x = torch.arange(0.0, 256.0).view(1, 1, 16, 16)
    >>> ssim(x, x), ssim(x, 255 - x) < 0
    (tensor([1.]), tensor([True]))
    """
    whole, _ = _similarity(*_screen(images, reference, WINDOW, "SSIM"))
    return whole.mean(dim=1).float()


def ms_ssim(images: Tensor, reference: Tensor) -> Tensor:
    """Multi-scale structural similarity (Wang, Simoncelli & Bovik 2003) of levels 0–255, clipped: (B, C, H, W) -> (B,).

    `ssim`'s window at five scales, each the 2 x 2 mean of the one before; contrast and structure at all of them, luminance at the
    last, to the powers 0.0448, 0.2856, 0.3001, 0.2363, 0.1333. Values below 0 count as 0. The mean over the channels.
    Raises InputError for images of different shapes, or of less than 176 pixels (11 at the last scale).

    >>> x = torch.arange(0.0, 200.0).expand(1, 1, 200, 200)
    >>> ms_ssim(x, x)
    tensor([1.])
    """
    x, y = _screen(images, reference, WINDOW * 2 ** (len(SCALES) - 1), "MS-SSIM")
    product = torch.ones(x.shape[:2], dtype=x.dtype, device=x.device)
    for k, power in enumerate(SCALES):
        whole, structure = _similarity(x, y)
        product = product * (whole if k == len(SCALES) - 1 else structure).clamp(min=0) ** power
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return product.mean(dim=1).float()


def naturalness(images: Tensor, originals: Tensor) -> Tensor:
    """How much of the original's gradient orientations an image has: Σ min(h_image, h_original), (B,) from 0 to 1 (exp_naturalness.m).

    images, originals: (B, 1 or 3, H, W) levels 0–255, of equal or different sizes; h is `gradient_histogram`. A flat image has no
    gradient and the value 0.

    >>> x = torch.arange(16.0).square().expand(2, 3, 16, 16)
    >>> naturalness(x, x)
    tensor([1., 1.])
    """
    return torch.minimum(gradient_histogram(images), gradient_histogram(originals)).sum(dim=1).float()


def gradient_histogram(images: Tensor) -> Tensor:
    """Orientations of the gradient, weighted by its magnitude: (B, 1 or 3, H, W) -> (B, 18) that sum to 1, or 0 for a flat image.

    MATLAB's imgradient of the grey image: Sobel's filters with a replicated border, direction atan2(−gy, gx) with y downwards. The
    first bin begins at −180°, the last one includes 180°. The original reads an 8-bit grey image; this one is not rounded.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError(f"Naturalness takes grey or RGB images (B, 1 or 3, H, W); got {tuple(images.shape)}.")
    x = images.double()
    if x.shape[1] == 3:
        x = (x * x.new_tensor(LUMA).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    # differences first: a flat part then has a gradient of exactly 0, and no direction of rounding
    across, down = x[..., :, 2:] - x[..., :, :-2], x[..., 2:, :] - x[..., :-2, :]
    gx = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    gy = down[..., :, :-2] + 2 * down[..., :, 1:-1] + down[..., :, 2:]
    turn = torch.atan2(-gy, gx) / (2 * math.pi) + 0.5
    bins = (turn * BINS).floor().long().clamp(0, BINS - 1).flatten(1)
    weight = torch.hypot(gx, gy).flatten(1)
    histogram = torch.zeros(len(x), BINS, dtype=x.dtype, device=x.device).scatter_add_(1, bins, weight)
    return histogram / histogram.sum(dim=1, keepdim=True).clamp(min=1e-12)


def roughness(images: Tensor, originals: Tensor) -> Tensor:
    """Total variation of an image over that of its original: the ratio of the mean steps from pixel to pixel, (B,), 1 for the same.

    images, originals: (B, C, H, W) levels 0–255, clipped to that range as a screen would, of equal or different sizes; a step is
    √(Δv² + Δh²) to the next pixel below and to the right, in each channel, as in R_TV with β = 1. What is rougher than a photograph
    has a value above 1, what is smoother one below. An original that is flat gives infinity.

    >>> x = torch.arange(16.0).square().expand(2, 3, 16, 16)
    >>> roughness(x, x), roughness(x / 2, x)
    (tensor([1., 1.]), tensor([0.5000, 0.5000]))
    """
    strength, reference = (_mean_step(i.double().clamp(0, 255)) for i in (images, originals))
    return (strength / reference).float()


def _mean_step(x: Tensor) -> Tensor:
    here = x[..., :-1, :-1]
    return torch.hypot(x[..., 1:, :-1] - here, x[..., :-1, 1:] - here).mean(dim=(1, 2, 3))


def _screen(images: Tensor, reference: Tensor, least: int, name: str) -> tuple[Tensor, Tensor]:
    """Both as a screen shows them, in float64: the variances are small differences of large squares."""
    if images.shape != reference.shape or images.ndim != 4:
        raise InputError(f"{name} compares images of one shape (B, C, H, W); got {tuple(images.shape)} and {tuple(reference.shape)}.")
    if min(images.shape[-2:]) < least:
        raise InputError(f"{name} needs images of at least {least} pixels a side; these have {images.shape[-2]}x{images.shape[-1]}.")
    return images.double().clamp(0, PEAK), reference.double().clamp(0, PEAK)


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The means over places of luminance·contrast·structure and of contrast·structure: (B, C, H, W) -> (B, C) each."""
    place = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    line = torch.exp(-(place**2) / (2 * SIGMA**2))
    line = line / line.sum()

    def blur(z: Tensor) -> Tensor:
        flat = z.flatten(0, 1).unsqueeze(1)
        flat = F.conv2d(F.conv2d(flat, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1))
        return flat.view(*z.shape[:2], *flat.shape[-2:])

    mx, my = blur(x), blur(y)
    vx, vy, vxy = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    structure = (2 * vxy + c2) / (vx + vy + c2)
    whole = structure * (2 * mx * my + c1) / (mx**2 + my**2 + c1)
    return whole.mean(dim=(2, 3)), structure.mean(dim=(2, 3))
