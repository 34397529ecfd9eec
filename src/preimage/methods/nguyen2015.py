"""Fooling images: a class at all costs, with no prior at all."""

from __future__ import annotations

import math

from ..energy.parameterizations import Box
from ..energy.scores import Probability
from ..energy.transforms import Jitter
from ..solvers.ascent import Ascent
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

RECIPES.register("nguyen2015")(
    Recipe(
        name="nguyen2015",
        source="A. Nguyen, J. Yosinski, J. Clune, Deep neural networks are easily fooled, CVPR 2015, gradient ascent",
        sentence="The class's probability alone, from nearly the mean colour, by gradient ascent within 0–255: certain, and of nothing.",
        differs="Steps have a fixed length. The paper's two evolutionary encodings are not here.",
        maximize=Parts(
            C=1.0,
            objective=(Probability(),),
            parameterization=Box(start=0.05),
            transform=Jitter(1),
            regularizers={},
            bound=math.inf,
            solver=Ascent(rate=0.5, measure="rms"),
            stages=(Stage(100),),
        ),
    )
)
