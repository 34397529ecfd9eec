"""Feature visualization: decorrelated Fourier coordinates and a slightly moving view."""

from __future__ import annotations

import math

from ..energy.fourier import Fourier
from ..energy.resampling import Affine
from ..energy.scores import Score
from ..energy.transforms import Jitter
from ..energy.views import Compose
from ..solvers.methods import Adam
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

RATE, START = 7.0, 1.4  # grey levels: .05 and .01 in the units of the original's coordinates

RECIPES.register("lucid2017")(
    Recipe(
        name="lucid2017",
        source="C. Olah, A. Mordvintsev, L. Schubert, Feature visualization, Distill 2017, and their library lucid",
        sentence="A unit in Fourier coordinates with decorrelated colours, shifted, scaled by .9 to 1.1 and turned by up to 10°; Adam.",
        differs="Scales and angles are drawn evenly instead of from lists, in one resampling; the margin of 12 pixels is not added.",
        maximize=Parts(
            C=1.0,
            objective=(Score(),),
            parameterization=Fourier(start=START),
            transform=Compose((Affine(degrees=10.0, scale=(0.9, 1.1), padding="zeros"), Jitter(12))),
            regularizers={},
            bound=math.inf,
            solver=Adam(rate=RATE, betas=(0.9, 0.999), schedule="constant"),
            stages=(Stage(512),),
        ),
    )
)
