"""Gradient ascent on a sphere: the first images of units of deep networks."""

from __future__ import annotations

import math

from ..energy.scores import Score
from ..energy.transforms import Jitter
from ..solvers.ascent import Ascent
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

NORM = 60.0  # grey levels: about the contrast of photographs, as ρ was that of the training images

RECIPES.register("erhan2009")(
    Recipe(
        name="erhan2009",
        source="D. Erhan, Y. Bengio, A. Courville, P. Vincent, Visualizing higher-layer features of a deep network, 2009",
        sentence="The image of a fixed norm that excites a unit most, by plain gradient ascent; no other prior.",
        differs="Steps have a fixed length, as the slopes of deep networks span orders of magnitude; a class is taken by its score.",
        maximize=Parts(
            C=1.0,
            objective=(Score(),),
            transform=Jitter(1),
            regularizers={},
            bound=math.inf,
            solver=Ascent(rate=4.0, measure="rms", norm=NORM),
            stages=(Stage(150), Stage(50, rate=0.25)),
        ),
    )
)
