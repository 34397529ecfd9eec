"""The figure and the table of binary descriptors in docs/shallow.md: python docs/make_binary_figure.py (some minutes on one core)

Five photographs of scikit-image, grey, 96x96 pixels, from the bits of BRIEF and FREAK (all settings at their defaults) in the energy and
by binary iterative hard thresholding, and from their differences by total variation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import skimage.data
import torch
from torch import Tensor

import preimage
from preimage.methods.dangelo2012 import from_bits, from_differences
from preimage.pixels.images import to_pil
from preimage.representations.binary import BinaryDescriptor

SIDE = 96
PHOTOGRAPHS = ("camera", "astronaut", "chelsea", "coffee", "rocket")
COLUMNS = ("energy, bits", "thresholding, bits", "total variation, differences")


def photograph(name: str) -> np.ndarray:
    """The middle square of a photograph, grey, reduced."""
    picture = PIL.Image.fromarray(getattr(skimage.data, name)()).convert("L")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return np.asarray(picture.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), PIL.Image.Resampling.LANCZOS))


def images_of(phi: BinaryDescriptor, levels: np.ndarray) -> list[Tensor]:
    """One image of each column, canonical."""
    differences = phi.differences(phi.space.encode(levels))
    found = preimage.invert(phi, levels, release=torch.sign, iterations=100, progress=False)
    energy = found.images - phi.space.mean_colour
    size = (SIDE, SIDE)
    return [energy, from_bits(phi, differences.sign(), size), from_differences(phi, differences, size)]


def alike(a: Tensor, b: Tensor) -> float:
    """The correlation of two images, which knows neither brightness nor contrast."""
    a, b = a.flatten() - a.mean(), b.flatten() - b.mean()
    return float(a @ b / (a.norm() * b.norm()))


def main() -> None:
    rows = []
    print(f"| photograph | descriptor | {' | '.join(COLUMNS)} | bits right: energy, thresholding |\n|---|---|---|---|---|---|")
    for name in PHOTOGRAPHS:
        row = [photograph(name)]
        for phi in (preimage.BRIEF(), preimage.FREAK()):
            x0 = phi.space.encode(row[0])
            bits, images = phi.differences(x0).sign(), images_of(phi, row[0])
            right = [float((phi.differences(x).sign() == bits).float().mean()) for x in images[:2]]
            numbers = " | ".join(f"{alike(x, x0):.3f}" for x in images)
            print(f"| {name} | {phi.name} | {numbers} | {100 * right[0]:.1f} %, {100 * right[1]:.1f} % |", flush=True)
            row += [np.asarray(to_pil(phi.space.decode(x)[0])) for x in images]
        rows.append(np.concatenate([np.pad(tile, 2, constant_values=255) for tile in row], axis=1))
    PIL.Image.fromarray(np.concatenate(rows)).save(Path(__file__).parent / "images" / "binary.jpg", quality=88)


if __name__ == "__main__":
    main()
