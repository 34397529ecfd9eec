"""Direct ascent synthesis: one image as the sum of many, from a single pixel to the full resolution."""

from __future__ import annotations

from dataclasses import replace

from ..energy.levels import MultiResolution
from ..energy.objectives import Match
from ..energy.resampling import RandomView
from ..energy.scores import Score
from ..solvers.ascent import Ascent
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

_PARTS = Parts(
    C=1.0,
    parameterization=MultiResolution(levels=8),
    transform=RandomView(low=0.7, high=1.0, degrees=0.0, noise=20.0, views=2),
    regularizers={},
    bound=160.0,
    solver=Ascent(rate=1.0, measure="rms", momentum=0.5),
    stages=(Stage(100), Stage(50, rate=0.3)),
)

RECIPES.register("fort2025")(
    Recipe(
        name="fort2025",
        source="S. Fort, J. Whitaker, Direct ascent synthesis: revealing hidden generative capabilities in discriminative models, 2025",
        sentence="Gradient ascent on all levels of a sum of resolutions at once, seen in noisy crops.",
        differs="Resolutions halve from level to level instead of one for every width; the pixels' bound keeps the range, not a tanh.",
        invert=replace(_PARTS, objective=(Match(loss="cosine"),)),
        maximize=replace(_PARTS, objective=(Score(),)),
    )
)
