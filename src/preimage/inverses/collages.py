"""Collages of photographs, coloured anew: many different pictures to learn from where there are few photographs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .photographs import Crops

PIECES = 8  # that a collage has at most
PLAIN = 0.35  # share of the pieces that are of one colour
SIDES = (0.08, 0.5)  # half the size of a piece, of the picture's height
SOFT = (0.5, 4.0)  # pixels over which the edge of a piece goes from one to the other
_RED, _GREEN, _BLUE = (1.0, 0.0), (-0.5, math.sqrt(3) / 2), (-0.5, -math.sqrt(3) / 2)  # directions in the plane of hues
_SPREADS = {"gamma": 0.3, "light": 0.15, "tint": 0.15, "hue": 0.5, "saturation": 0.3, "cast": 0.12}
_CAST = 0.3  # share of the pictures that get a colour where they had none


@dataclass(frozen=True)
class Collages(Crops):
    """Crops of photographs, every other one a collage: pieces of other crops lie on it, and all of them are coloured anew.

    A picture of shapes that cover one another is the "dead leaves" model of natural images (Lee, Mumford & Huang, Occlusion models for
    natural images, IJCV 2001); that networks can learn from such pictures alone showed Baradad et al. (Learning to see by looking at
    noise, NeurIPS 2021). Here the leaves are cut of photographs. Crop n is made of the seed and n alone, as of `Crops`.

    >>> from preimage import PixelSpace
    >>> photographs = [np.random.default_rng(k).integers(0, 256, (40, 40, 3), dtype=np.uint8) for k in range(2)]
    >>> Collages(photographs, PixelSpace(32), (32, 32), seed=0)[1].shape
    torch.Size([1, 3, 32, 32])
    """

    def __getitem__(self, n: int) -> Tensor:
        crop = super().__getitem__(n // 2)
        if n % 2 == 0:
            return crop
        rng = np.random.default_rng([self.seed, n, len(self.photographs)])
        levels = recoloured(self.space.decode(crop), rng)
        for _ in range(int(rng.integers(PIECES + 1))):
            if rng.random() < PLAIN:
                colour = torch.from_numpy(rng.uniform(0, 255, (1, levels.shape[1], 1, 1))).to(levels)
                first, last = (float(v) for v in rng.uniform(0.5, 1.0, 2))
                piece = colour.expand_as(levels) * torch.linspace(first, last, levels.shape[2]).view(-1, 1).to(levels)
            else:
                piece = recoloured(self.space.decode(super().__getitem__(int(rng.integers(2**31)))), rng)
            levels = torch.lerp(levels, piece, _shape(rng, (levels.shape[2], levels.shape[3])).to(levels))
        return levels - self.space.mean_colour


def recoloured(levels: Tensor, rng: np.random.Generator) -> Tensor:
    """Levels (1, N, H, W) in other colours: gamma, brightness and the tint of the light, and of RGB hue and saturation, drawn at random."""
    draw = {name: float(rng.normal(0, spread)) for name, spread in _SPREADS.items()}
    tint = torch.from_numpy(np.exp(rng.normal(0, _SPREADS["tint"], levels.shape[1]))).to(levels).view(1, -1, 1, 1)
    found = (levels / 255).clamp(1e-4, 1.0) ** math.exp(draw["gamma"]) * tint * math.exp(draw["light"])
    if levels.shape[1] == 3:
        hues = torch.tensor([_RED, _GREEN, _BLUE]).to(levels)
        turned = torch.tensor([[math.cos(draw["hue"]), -math.sin(draw["hue"])], [math.sin(draw["hue"]), math.cos(draw["hue"])]]).to(levels)
        mean = found.mean(dim=1, keepdim=True)
        # the three directions are a frame of the plane whose inverse is two thirds of its transpose
        mixed = hues @ turned @ hues.T * (2 / 3 * math.exp(draw["saturation"]))
        cast = hues @ torch.from_numpy(rng.normal(0, _SPREADS["cast"], 2)).to(levels) if rng.random() < _CAST else torch.zeros(3).to(levels)
        found = mean + torch.einsum("ij,bjhw->bihw", mixed, found - mean) + cast.view(1, 3, 1, 1) * mean
    return (found * 255).clamp(0.0, 255.0)


def _shape(rng: np.random.Generator, size: tuple[int, int]) -> Tensor:
    """An ellipse, a rectangle or a triangle anywhere in the picture, as the weight of each pixel (H, W) from 0 to 1."""
    row, column = (float(rng.uniform(0, side)) for side in size)
    radius = size[0] * math.exp(rng.uniform(*np.log(SIDES)))
    stretch, angle = math.exp(rng.normal(0, 0.4)), rng.uniform(0, math.pi)
    y, x = torch.meshgrid(torch.arange(size[0]) - row, torch.arange(size[1]) - column, indexing="ij")
    u = (x * math.cos(angle) + y * math.sin(angle)) / radius * stretch
    v = (y * math.cos(angle) - x * math.sin(angle)) / radius / stretch
    kind = int(rng.integers(3))
    if kind == 0:
        distance = (u.square() + v.square()).sqrt()
    elif kind == 1:
        distance = torch.maximum(u.abs(), v.abs())
    else:
        distance = torch.maximum(torch.maximum(v, -v / 2 + u * (math.sqrt(3) / 2)), -v / 2 - u * (math.sqrt(3) / 2))
    return torch.sigmoid((1 - distance) * radius / rng.uniform(*SOFT))
