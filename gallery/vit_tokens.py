# %% [markdown]
"""Tokens of a vision transformer: what the patches keep, and what the class token keeps.

One sees: `tokens.png`, a photograph, what comes back from the patches of the first and the last block, and from the class token of the
last block alone. The transformer is a small one with random weights, so this shows what its *architecture* lets through:
a grid of tokens has a place for everything, while one token of 192 numbers does not. For trained weights say
`preimage.load_network("timm/vit_tiny_patch16_224")` where they can be downloaded. Needs timm: pip install '.[timm]'
"""

# %%
from __future__ import annotations

import timm
import torch
from shared import arguments, side_by_side

import preimage

BLOCKS = 4

# %%
given = arguments(__doc__, name="vit_tokens", size=96, iterations=200)
torch.manual_seed(0)
model = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=given.size, patch_size=8, depth=BLOCKS)
space = preimage.PixelSpace.imagenet(given.size)
photograph = next(p for p in preimage.images.reference_images() if "chelsea" in p)

# %%
found = []
for name in ("blocks.0:grid", f"blocks.{BLOCKS - 1}:grid", f"blocks.{BLOCKS - 1}:cls"):
    phi = preimage.Layer(model, name, space=space)
    found.append(preimage.invert(phi, photograph, iterations=given.iterations, progress=False))
    print(f"{phi.name}: shape {phi.shape}, error {found[-1].error.item():.1%}")
side_by_side(given.out / "tokens.png", [found[0].originals[0], *(result.images[0] for result in found)])
