# %% [markdown]
"""Objectives: what else can be asked of features than one layer's copy or one unit's answer.

One sees: `objectives.png`, from left to right a photograph found again from two layers at once, early and late; a flamingo as two
networks agree on it; the texture of the photograph, a cat, by Gram matrices of three layers; and what a random direction of a layer
looks for.
`diversity.png`: four answers to one question, each pushed away from those before it, below the four without that.
"""

# %%
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from shared import arguments, side_by_side

import preimage

# %%
given = arguments(__doc__, name="objectives", size=160, iterations=60)
net = preimage.load_network("squeezenet1_1", size=given.size)
other = preimage.load_network("efficientnet-lite0")
cat = next(p for p in preimage.images.reference_images() if Path(p).stem == "chelsea")
length: dict[str, Any] = {"iterations": given.iterations, "progress": False}
common: dict[str, Any] = {"recipe": "preimage2026", **length}

# %% Two layers of one network, which share one pass: edges of the one, parts of the other
both = preimage.Match() + 0.5 * preimage.Match("fire3")
two_layers = preimage.invert(net.layer("fire9"), cat, objective=both, **common)
print({name: round(value.item(), 3) for name, value in two_layers.energy.items()})

# %% A class that two networks agree on; the second sees the same image in its own pixels. The recipe opens closed ReLUs for
# SqueezeNet's sake; the deeper second network gives a clean gradient only without that.
own = preimage.recipes()["preimage2026"]
assert own.maximize is not None
unopened = replace(own, maximize=replace(own.maximize, closed_slope=0.0))
agree = preimage.Distinguish() + preimage.Distinguish(other.layer(other.layers()[-1].name), unit="flamingo")
two_networks = preimage.maximize(net.layer("pool10"), "flamingo", objective=agree, recipe=unopened, **length)

# %% A texture: how channels go together at three layers, and not where; of pixels, as the recipe would spread the few colours it finds
texture = sum((preimage.Gram(of, image=cat) for of in ("fire2", "fire4")), preimage.Gram("conv1", image=cat))
style = preimage.invert(net.layer("fire4"), cat, objective=texture, C=1000.0, **length)

# %% A direction: the answer is the inner product with a vector over channels
vector = torch.randn(net.layer("fire8").shape[0], generator=torch.Generator().manual_seed(0))
direction = preimage.maximize(
    net.layer("fire8"), vector, objective=preimage.Activate(), transform=preimage.Jitter(13), canvas="input", C=20.0, **common
)
side_by_side(given.out / "objectives.png", [result.images[0] for result in (two_layers, two_networks, style, direction)])

# %% Four different answers: each restart is given the earlier ones, and pushed away from their textures
alone = preimage.maximize(net.layer("pool10"), "giant panda", restarts=4, **common)
apart = [*own.maximize.objective, 2.0 * preimage.Diversity("fire4")]  # beside what the recipe asks by itself
different = preimage.maximize(net.layer("pool10"), "giant panda", restarts=4, objective=apart, **common)
print("activations without and with:", [[round(a, 1) for a in r.activation.tolist()] for r in (alone, different)])
rows = [torch.cat(list(images), dim=2) for images in (different.images, alone.images)]
side_by_side(given.out / "diversity.png", [torch.cat(rows, dim=1)])
