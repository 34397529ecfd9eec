"""Numbers that say how good a pre-image is, on float images and features, never on stretched PNGs."""

from __future__ import annotations

import torch
from torch import Tensor


def normalised_error(features: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Reconstruction error :math:`\|M\odot(\Phi-\Phi_0)\| / \|M\odot\Phi_0\|`, IJCV Sect. 5.1 (the root of the code's `error`).

    features, target: (B, ...), mask broadcastable to one sample -> (B,), 0 for a perfect inversion.

    >>> normalised_error(torch.tensor([[3.0, 3.0]]), torch.tensor([[3.0, 4.0]]))
    tensor([0.2000])
    """
    m = 1.0 if mask is None else mask.to(features)
    difference, reference = ((features - target) * m).flatten(1), (target * m).flatten(1)
    error: Tensor = torch.linalg.vector_norm(difference, dim=1) / torch.linalg.vector_norm(reference, dim=1)
    return error


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of levels 0–255, both clipped to that range as a screen would: (B, C, H, W) -> (B,).

    >>> psnr(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), 255.0))
    tensor([0.])
    """
    square = (images.clamp(0, 255) - reference.clamp(0, 255)).square().mean(dim=(1, 2, 3))
    return 10 * torch.log10(255.0**2 / square)
