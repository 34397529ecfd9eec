"""VITAL: the distribution of every channel's values at several layers."""

from __future__ import annotations

import math

from ..energy.fourier import Fourier
from ..energy.resampling import RandomView
from ..energy.texture import Texture
from ..solvers.methods import Adam
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

RECIPES.register("gorgun2025")(
    Recipe(
        name="gorgun2025",
        source="A. Görgün, B. Schiele, J. Fischer, VITAL: more understandable feature visualization through distribution alignment and "
        "relevant information flow, 2025",
        sentence="An image of which every channel has the values of a photograph's, in order of size, at five layers up to the one named.",
        differs="The sorted values of one photograph instead of the mean over several of a class; units are not weighed by relevance.",
        invert=Parts(
            C=10.0,
            objective=(Texture(loss="sorted"),),
            parameterization=Fourier(start=1.4),
            transform=RandomView(low=0.8, degrees=0.0, noise=6.0),
            regularizers={},
            bound=math.inf,
            solver=Adam(rate=7.0),
            stages=(Stage(200),),
        ),
    )
)
