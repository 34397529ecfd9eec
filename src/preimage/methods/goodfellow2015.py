"""One step of the gradient's sign: the fast adversarial example."""

from __future__ import annotations

import math

from ..energy.parameterizations import Box
from ..energy.scores import Probability
from ..energy.transforms import Jitter
from ..solvers.ascent import Ascent
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

EPSILON = 0.007 * 255  # of the paper's Fig. 1: one step of an 8-bit picture after the network's own scaling

RECIPES.register("goodfellow2015")(
    Recipe(
        name="goodfellow2015",
        source="I. Goodfellow, J. Shlens, C. Szegedy, Explaining and harnessing adversarial examples, ICLR 2015, Sect. 4",
        sentence="A given image plus ε in each pixel, with the sign that makes the class more probable: x + ε sign(∇ log p_c).",
        differs="It goes towards the class asked for, not away from the image's own.",
        maximize=Parts(
            C=1.0,
            objective=(Probability(),),
            parameterization=Box(),
            transform=Jitter(1),
            regularizers={},
            bound=math.inf,
            solver=Ascent(rate=EPSILON, measure="sign"),
            stages=(Stage(1),),
            start="image",
        ),
    )
)
