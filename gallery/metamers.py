# %% [markdown]
"""Stimuli for an experiment: pictures that a model cannot tell from a photograph, though every pixel differs.

One sees: `metamers.png`, a photograph and four images with the same statistics of an early layer: the mean of each of its channels
and of each product of two, over all places (a Gram matrix, as Gatys et al. 2015 use for textures). Where things are is free, what
they are made of is not. The numbers say how well the statistics match and how far the images are from each other in grey levels,
both of which a stimulus set needs. Each restart has its own seed (`Result.seeds`), so that any of them can be made again.
"""

# %%
from __future__ import annotations

import torch
from shared import arguments, side_by_side
from torch import Tensor

import preimage
from preimage.metrics import pairwise_distance, rms


# %%
class Statistics(preimage.Wrapped):
    """Means and mean products of a layer's channels: a representation of its own, made of another."""

    def __call__(self, x: Tensor) -> Tensor:
        maps = self.inner(x).flatten(2)
        products = maps @ maps.transpose(1, 2) / maps.shape[2]
        return torch.cat([maps.mean(dim=2, keepdim=True), products], dim=2)


# %%
given = arguments(__doc__, name="metamers", size=128, iterations=200)
layer = preimage.load_network("squeezenet1_1", size=given.size).layer("fire2")
phi = Statistics(layer, name=f"statistics of {layer.name}", receptive_field=None)
photograph = preimage.images.reference_images()[0]
result = preimage.invert(phi, photograph, C=1e4, restarts=4, iterations=given.iterations, progress=False)

# %%
side_by_side(given.out / "metamers.png", [result.originals[0], *result.images])
result.save(given.out / "result", overwrite=True)
print(f"statistics differ by {', '.join(f'{error:.1%}' for error in result.error.tolist())}")
print(f"to the photograph: {', '.join(f'{d:.0f}' for d in rms(result.images, result.originals).tolist())} grey levels")
print(f"between restarts: {pairwise_distance(result.images[None]).item():.0f} grey levels; seeds {result.seeds}")
