"""The class score less the image's squared norm, from the mean image."""

from __future__ import annotations

import math

from ..energy.parameterizations import Box
from ..energy.priors import L2
from ..energy.scores import Score
from ..energy.transforms import Jitter
from ..solvers.ascent import Ascent
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

RECIPES.register("simonyan2014")(
    Recipe(
        name="simonyan2014",
        source="K. Simonyan, A. Vedaldi, A. Zisserman, Deep inside convolutional networks: visualising image classification models and "
        "saliency maps, ICLR workshop 2014, Sect. 2",
        sentence="S_c(x) − λ‖x‖² from the mean colour, by gradient ascent with momentum.",
        differs="The paper gives neither λ nor the rate: λ is 1000 at a pixel norm of 80 grey levels, steps have a fixed length.",
        maximize=Parts(
            C=1.0,
            objective=(Score(),),
            parameterization=Box(low=-math.inf, high=math.inf, start=0.0),
            transform=Jitter(1),
            regularizers={"l2": L2(weight=1000.0)},
            bound=math.inf,
            solver=Ascent(rate=0.5, measure="rms", momentum=0.9),
            stages=(Stage(150), Stage(50, rate=0.25)),
        ),
    )
)
