"""Fooling images: a class at all costs, with no prior at all, by gradient ascent or by evolution."""

from __future__ import annotations

import math

from ..energy.parameterizations import Box
from ..energy.scores import Probability
from ..energy.transforms import Jitter
from ..solvers.ascent import Ascent
from ..solvers.evolution import Evolution
from ..solvers.run import Solver, Stage
from .recipe import RECIPES, Parts, Recipe

_SOURCE = "A. Nguyen, J. Yosinski, J. Clune, Deep neural networks are easily fooled, CVPR 2015, "
_ALONE = "The champion of one class has one child a step, instead of an archive of champions of all classes for which a child may win any"


def _parts(start: float, solver: Solver, steps: int) -> Parts:
    return Parts(
        C=1.0,
        objective=(Probability(),),
        parameterization=Box(start=start),
        transform=Jitter(1),
        regularizers={},
        bound=math.inf,
        solver=solver,
        stages=(Stage(steps),),
    )


RECIPES.register("nguyen2015")(
    Recipe(
        name="nguyen2015",
        source=_SOURCE + "gradient ascent",
        sentence="The class's probability alone, from nearly the mean colour, by gradient ascent within 0–255: certain, and of nothing.",
        differs="Steps have a fixed length.",
        maximize=_parts(0.05, Ascent(rate=0.5, measure="rms"), 100),
    )
)
RECIPES.register("nguyen2015-direct")(
    Recipe(
        name="nguyen2015-direct",
        source=_SOURCE + "evolution, direct encoding",
        sentence="The class's probability alone, by evolution of noise, pixel by pixel, without a gradient.",
        differs=f"{_ALONE}; red, green and blue in place of hue, saturation and value; 1,000 children instead of 20,000 generations.",
        maximize=_parts(2.5, Evolution("direct"), 1000),
    )
)
RECIPES.register("nguyen2015-cppn")(
    Recipe(
        name="nguyen2015-cppn",
        source=_SOURCE + "evolution, indirect encoding",
        sentence="The class's probability alone, by evolution of a small network that paints patterns (CPPN), without a gradient.",
        differs=f"{_ALONE}; the chances of changes are our own, as the paper does not give them; 1,000 children, not 5,000 generations.",
        maximize=_parts(1.0, Evolution("cppn"), 1000),
    )
)
