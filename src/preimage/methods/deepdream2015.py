"""DeepDream: more of whatever a layer sees in a photograph, from coarse to fine."""

from __future__ import annotations

import math

from ..energy.objectives import Dream
from ..energy.octaves import Octaves
from ..energy.parameterizations import Box
from ..solvers.ascent import Ascent
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

RECIPES.register("deepdream2015")(
    Recipe(
        name="deepdream2015",
        source="A. Mordvintsev, C. Olah, M. Tyka, Inceptionism: going deeper into neural networks, 2015, and its notebook",
        sentence="‖Φ(x)‖² from the photograph: ten steps in each of four octaves, each seen with a random shift of up to 32 pixels.",
        differs="The image has its full size throughout and Φ sees it reduced; the original enlarges what an octave has added.",
        caricature=Parts(
            C=1.0,
            objective=(Dream(),),
            parameterization=Box(),
            transform=Octaves(count=4, ratio=1.4, shift=32, enlarged=False),
            regularizers={},
            bound=math.inf,
            solver=Ascent(rate=1.5, measure="mean"),
            stages=(Stage(40),),
            start="image",
        ),
    )
)
