"""Feature accentuation: what of a photograph excites a unit, made more of."""

from __future__ import annotations

import math

from ..energy.fourier import Fourier
from ..energy.resampling import RandomView
from ..energy.scores import Score
from ..inverses.nearby import Nearby
from ..solvers.methods import Adam
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

RECIPES.register("hamblin2024")(
    Recipe(
        name="hamblin2024",
        source="C. Hamblin, T. Fel, S. Saha, T. Konkle, G. Alvarez, Feature accentuation: revealing 'what' features respond to in natural "
        "images, 2024",
        sentence="A given image, changed in Fourier coordinates so that it excites a unit, and kept near itself.",
        differs="Near in pixels instead of in features of an early layer; one crop of 50–100 % of the side a step.",
        maximize=Parts(
            C=1.0,
            objective=(Score(),),
            parameterization=Fourier(),
            transform=RandomView(low=0.5, degrees=0.0, noise=6.0),
            regularizers={"nearby": Nearby(weight=40.0, to="start")},
            bound=math.inf,
            solver=Adam(rate=3.0),
            stages=(Stage(100),),
            start="image",
        ),
    )
)
