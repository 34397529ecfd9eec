"""A network whose channel 0 is built to answer to vertical red stripes, 1 to horizontal red ones, 2 to vertical green ones, 3 to light."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torch import nn

import preimage

SIZE, PERIOD = 32, 6
SPACE = preimage.PixelSpace(SIZE, "rgb", scale=1.0, mean=0.5, std=0.25)
KINDS = ("red-vertical", "red-horizontal", "green-vertical", "noise", "plain")


def build() -> tuple[nn.Module, preimage.PixelSpace]:
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 13), nn.ReLU())
    wave = torch.tensor([1.0 if k % PERIOD < PERIOD // 2 else -1.0 for k in range(13)])
    wave = wave - wave.mean()
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
        for k in range(3):  # one colour and not the others
            module[0].weight[k, :, 0, 0] = -0.5
            module[0].weight[k, k, 0, 0] = 1.0
        module[0].weight[3, :, 0, 0] = 1 / 3
        module[2].weight[0, 0] = wave[None, :] / 13  # stripes that run down: the wave goes along the row
        module[2].weight[1, 0] = wave[:, None] / 13
        module[2].weight[2, 1] = wave[None, :] / 13
        module[2].weight[3, 3] = 1 / 169
    return module, SPACE


def picture(kind: str, seed: int) -> np.ndarray:
    """uint8 (32, 32, 3): stripes at any phase with some noise, noise alone, or one colour."""
    rng = np.random.default_rng([KINDS.index(kind), seed])
    if kind == "noise":
        return rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    if kind == "plain":
        return np.broadcast_to(rng.integers(0, 256, 3), (SIZE, SIZE, 3)).astype(np.uint8)
    colour, way = kind.split("-")
    wave = (np.arange(SIZE) + rng.integers(PERIOD)) % PERIOD < PERIOD // 2
    levels = np.full((SIZE, SIZE, 3), 40.0)
    levels[..., 0 if colour == "red" else 1] += 170.0 * (wave[None, :] if way == "vertical" else wave[:, None])
    return (levels + rng.normal(0, 12, levels.shape)).clip(0, 255).astype(np.uint8)


def write(folder: Path, each: int = 4, kinds: tuple[str, ...] = KINDS) -> Path:
    """So many pictures of each kind in one folder, whose names tell the kind."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in kinds:
        for k in range(each):
            PIL.Image.fromarray(picture(kind, k)).save(folder / f"{kind}-{k}.png")
    return folder
