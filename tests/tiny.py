"""A network of two small layers by name, `tests.tiny:build`, the same in every process."""

from __future__ import annotations

import torch
from torch import nn

import preimage


def build() -> tuple[nn.Module, preimage.PixelSpace]:
    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 6, 5, stride=2), nn.ReLU(), nn.Conv2d(6, 8, 3))
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.02)
    return module, preimage.PixelSpace(size=24, channels="rgb", scale=255.0, mean=(120.0, 110.0, 100.0))


def deeper() -> tuple[nn.Module, preimage.PixelSpace]:
    """One whose second layer has a coarser map than its first."""
    generator = torch.Generator().manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU())
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.05)
    return module, preimage.PixelSpace(size=24, channels="rgb", scale=255.0, mean=(120.0, 110.0, 100.0))


def again() -> tuple[nn.Module, preimage.PixelSpace]:
    """The same under another name."""
    return build()
