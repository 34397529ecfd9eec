"""The nearest image of another class: adversarial examples by L-BFGS in a box."""

from __future__ import annotations

import math

from ..energy.parameterizations import Box
from ..energy.scores import Probability
from ..energy.transforms import Jitter
from ..inverses.nearby import Nearby
from ..solvers.methods import LBFGS
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

RECIPES.register("szegedy2014")(
    Recipe(
        name="szegedy2014",
        source="C. Szegedy, W. Zaremba, I. Sutskever, J. Bruna, D. Erhan, I. Goodfellow, R. Fergus, Intriguing properties of "
        "neural networks, ICLR 2014, Sect. 4.1",
        sentence="A given image, changed as little as may be so that the network takes it for the class: −log p_c + c‖r‖² within 0–255.",
        differs="‖r‖ is squared, and c is one number instead of the smallest that a line search finds.",
        maximize=Parts(
            C=1.0,
            objective=(Probability(),),
            parameterization=Box(),
            transform=Jitter(1),
            regularizers={"nearby": Nearby(weight=30.0, to="start")},
            bound=math.inf,
            solver=LBFGS(),
            stages=(Stage(50),),
            start="image",
        ),
    )
)
