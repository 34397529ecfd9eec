"""DeepInversion: a class's probability and the statistics that batch normalisation has kept of the training images."""

from __future__ import annotations

import math

from ..energy.batch_norm import BatchNormStatistics
from ..energy.octaves import Octaves
from ..energy.parameterizations import Box
from ..energy.regularizers import TVBeta
from ..energy.scores import Probability
from ..solvers.methods import Adam
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

RECIPES.register("yin2020")(
    Recipe(
        name="yin2020",
        source="H. Yin, P. Molchanov, J. Alvarez, Z. Li, A. Mallya, D. Hoiem, N. Jha, J. Kautz, Dreaming to distill: data-free knowledge "
        "transfer via DeepInversion, CVPR 2020, Eqs. (2) to (4)",
        sentence="A class's probability, little variation, and at every batch normalisation the mean and variance of the training images.",
        differs="Statistics are of each image by itself instead of a batch's; 300 steps, no mirrored views, no norm of the image. A "
        "network without batch normalisation is refused.",
        maximize=Parts(
            C=20.0,
            objective=(Probability(), BatchNormStatistics(weight=0.01)),
            parameterization=Box(),
            transform=Octaves(count=1, shift=30),
            regularizers={"tv-beta": TVBeta(beta=1.0)},
            bound=math.inf,
            solver=Adam(rate=14.0, betas=(0.5, 0.9)),
            stages=(Stage(300),),
        ),
    )
)
