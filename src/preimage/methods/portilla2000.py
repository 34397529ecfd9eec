"""A texture is moments and correlations of a steerable pyramid's coefficients."""

from __future__ import annotations

import math

from ..energy.fourier import Fourier
from ..energy.portilla import SameTextureStatistics
from ..energy.transforms import Jitter
from ..solvers.methods import LBFGS
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

RECIPES.register("portilla2000")(
    Recipe(
        name="portilla2000",
        source="J. Portilla, E. P. Simoncelli, A parametric texture model based on joint statistics of complex wavelet coefficients, "
        "IJCV 40(1), 2000",
        sentence="A texture of a photograph by moments and correlations of its bands of scale and direction; no network is asked.",
        differs="All numbers at once by quasi-Newton descent, not by setting one after the other in turn; variances and kurtosis are "
        "compared as logarithms. The original is of grey textures: here colours are grey and two differences, each by itself, and beside "
        "them the correlations of these at the same place.",
        invert=Parts(
            C=1.0,
            objective=(SameTextureStatistics(),),
            parameterization=Fourier(start=1.4),
            transform=Jitter(1),
            regularizers={},
            bound=math.inf,
            solver=LBFGS(),
            stages=(Stage(300),),
        ),
    )
)
