"""FRAME: a texture is the histograms of what filters answer."""

from __future__ import annotations

import math

from ..energy.fourier import Fourier
from ..energy.frame import FilterHistograms
from ..energy.transforms import Jitter
from ..solvers.methods import Adam
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

RECIPES.register("zhu1998")(
    Recipe(
        name="zhu1998",
        source="S. C. Zhu, Y. N. Wu, D. Mumford, Filters, random fields and maximum entropy (FRAME): towards a unified theory for texture "
        "modeling, IJCV 27(2), 1998",
        sentence="A texture of a photograph by the histograms of what centre-surround and Gabor filters answer; no network is asked.",
        differs="An image with the histograms is looked for by descent in Fourier coordinates, not drawn from the field by Gibbs sampling; "
        "all filters are taken at once instead of chosen one by one, on grey and two colour differences, each "
        "by itself, and values beyond the bins are pulled back; no spectrum analysers. Fine grey textures are reached; larger things, flat "
        "areas and the joint colours of a coloured texture are not.",
        invert=Parts(
            C=1e4,
            objective=(FilterHistograms(),),
            parameterization=Fourier(start=1.4),
            transform=Jitter(1),
            regularizers={},
            bound=math.inf,
            solver=Adam(rate=7.0),
            stages=(Stage(100),),
        ),
    )
)
