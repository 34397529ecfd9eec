"""Ours for layers that a linear map can invert: the paper's energy from a learned inverse's answer, and near to it."""

from __future__ import annotations

from ..energy.regularizers import AlphaNorm, TVBeta
from ..inverses.nearby import Nearby
from .recipe import RECIPES, Parts, Recipe

# Chosen on eight photographs at fire4; docs/inverses.md has what others give. Where the answer of an inverse says what is natural, total
# variation has less to say.
WEIGHT = 30.0  # of nearness
VARIATION = 0.1  # of the paper's weight of total variation

RECIPES.register("inverse2026")(
    Recipe(
        name="inverse2026",
        source="preimage; maps from features to images are those of Dosovitskiy, Brox, Inverting visual representations with convolutional "
        "networks, CVPR 2016, here linear and in closed form",
        sentence="Inversions that begin with a learned inverse's answer and stay near it: nearer to the photograph, in fewer evaluations.",
        invert=Parts(
            start="inverse",
            iterations=80,
            regularizers={
                "alpha-norm": AlphaNorm(),
                "tv-beta": TVBeta(V=TVBeta().V / VARIATION**0.5),
                "nearby": Nearby(WEIGHT, to="start"),
            },
        ),
    )
)
