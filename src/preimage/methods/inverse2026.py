"""Ours for layers that a linear map can invert: the paper's energy from a learned inverse's answer, and near to it."""

from __future__ import annotations

from ..energy.regularizers import AlphaNorm, TVBeta
from ..inverses.nearby import Nearby
from .recipe import RECIPES, Parts, Recipe

WEIGHT = 10.0  # of nearness, chosen on eight photographs at fire4; docs/inverses.md has what others give

RECIPES.register("inverse2026")(
    Recipe(
        name="inverse2026",
        source="preimage; maps from features to images are those of Dosovitskiy, Brox, Inverting visual representations with convolutional "
        "networks, CVPR 2016, here linear and in closed form",
        sentence="Inversions that begin with a learned inverse's answer and stay near it: nearer to the photograph, in fewer evaluations.",
        invert=Parts(
            start="inverse",
            regularizers={"alpha-norm": AlphaNorm(), "tv-beta": TVBeta(), "nearby": Nearby(WEIGHT, to="start")},
        ),
    )
)
