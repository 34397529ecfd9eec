"""Plug-in inversion: augmentations take the place of priors."""

from __future__ import annotations

import math

from ..energy.octaves import Octaves
from ..energy.parameterizations import Box
from ..energy.regularizers import TVBeta
from ..energy.scores import Probability
from ..energy.views import Colour, Compose
from ..solvers.methods import Adam
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

RECIPES.register("ghiasi2022")(
    Recipe(
        name="ghiasi2022",
        source="A. Ghiasi, H. Kazemi, S. Reich, C. Zhu, M. Goldblum, T. Goldstein, Plug-in inversion: model-agnostic inversion for vision "
        "with data augmentations, ICML 2022",
        sentence="A class's probability, of an image that is seen coarse before fine, shifted and with random colours; little variation.",
        differs="Two views a step instead of 32; the coarse views show the whole image instead of its centre; 200 steps.",
        maximize=Parts(
            C=1.0,
            objective=(Probability(),),
            parameterization=Box(start=0.34),
            transform=Compose((Octaves(count=7, ratio=1.25, shift=32), Colour(gain=0.6, shift=20.0, tint=40.0, views=2))),
            regularizers={"tv-beta": TVBeta(beta=1.0)},
            bound=math.inf,
            solver=Adam(rate=4.0, schedule="constant"),
            stages=(Stage(200),),
        ),
    )
)
