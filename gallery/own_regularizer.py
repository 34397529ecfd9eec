# %% [markdown]
"""A regularizer of your own: images that like to be their own mirror image.

One sees: `mirror.png`, what SqueezeNet calls a tree frog, with the paper's two regularizers on the left, and on the right with a
third one that counts differences between left and right. Any function from images (B, C, H, W) to one number each will do; it is
recorded with the result under its name.
"""

# %%
from __future__ import annotations

from dataclasses import dataclass

from shared import arguments, side_by_side
from torch import Tensor

import preimage


# %%
@dataclass(frozen=True)
class Mirror(preimage.Regularizer):
    """The mean squared difference of x (B, C, H, W) to its mirror image, in units of `scale` grey levels -> (B,)."""

    scale: float = 20.0

    def __call__(self, x: Tensor) -> Tensor:
        return ((x - x.flip(-1)) / self.scale).square().mean(dim=(1, 2, 3))


# %%
given = arguments(__doc__, name="own_regularizer", size=160, iterations=150)
phi = preimage.load_network("squeezenet1_1", size=given.size).layer("pool10")
paper: dict[str, preimage.Regularizer] = {"alpha-norm": preimage.AlphaNorm(), "tv-beta": preimage.TVBeta()}
found = [
    preimage.maximize(phi, "tree frog", regularizers=terms, iterations=given.iterations, progress=False)
    for terms in (paper, {**paper, "mirror": Mirror()})
]
side_by_side(given.out / "mirror.png", [result.images[0] for result in found])
for result in found:
    asymmetry = Mirror()(result.images).item()
    print(f"activation {result.activation.item():.3g}, asymmetry {asymmetry:.3g}, terms {', '.join(result.energy)}")
found[1].save(given.out / "result", overwrite=True)
