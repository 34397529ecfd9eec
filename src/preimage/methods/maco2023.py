"""MACO: phases alone, the magnitudes being those of photographs."""

from __future__ import annotations

import math

from ..energy.fourier import FixedMagnitude
from ..energy.resampling import RandomView
from ..energy.scores import Score
from ..solvers.methods import Adam
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

NOISE = 0.08 * 127.5  # grey levels: .08 of the original's range from −1 to 1

RECIPES.register("maco2023")(
    Recipe(
        name="maco2023",
        source="T. Fel, T. Boissin, V. Boutin, A. Picard, P. Novello, J. Colin, D. Linsley, T. Rousseau, R. Cadène, L. Gardes, T. Serre, "
        "Unlocking feature visualization for deeper networks with magnitude constrained optimization, NeurIPS 2023",
        sentence="Only the phases of the Fourier coefficients move; Φ sees noisy crops of the image.",
        differs="Magnitudes are of 11 free photographs instead of ImageNet; two crops of 40–80 % of the side a step instead of 32 of a "
        "larger image; Adam instead of NAdam.",
        maximize=Parts(
            C=1.0,
            objective=(Score(),),
            parameterization=FixedMagnitude(),
            transform=RandomView(low=0.4, high=0.8, degrees=0.0, noise=NOISE, views=2),
            regularizers={},
            bound=math.inf,
            solver=Adam(rate=14.0, schedule="constant"),
            stages=(Stage(256),),
        ),
    )
)
