"""The picture of docs/directions.md: python docs/make_directions.py (a minute on one core)

What SqueezeNet's fire6 has seen together in the three photographs that come with the package: four directions by non-negative
factorisation of its channels, the strongest first, and the image that each likes most.
"""

from __future__ import annotations

from pathlib import Path

import preimage
from preimage.pixels.images import reference_images, write_png

if __name__ == "__main__":
    import torch

    phi = preimage.load_network("squeezenet1_1", size=160).layer("fire6")
    directions = preimage.factor_channels(phi, reference_images(), 4)
    found = preimage.maximize(phi, list(directions), canvas="input", progress=False)
    gap = torch.full((3, found.images.shape[2], 6), 255.0)
    strip = [part for image in found.images for part in (image, gap)][:-1]
    write_png(Path(__file__).parent / "images" / "directions.png", torch.cat(strip, dim=2))
    print([len(reference_images()), *found.activation.tolist()])
