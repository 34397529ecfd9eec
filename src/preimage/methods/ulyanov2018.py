"""Deep image prior: an untrained network draws the image."""

from __future__ import annotations

import math
from dataclasses import replace

from ..energy.deep_prior import DeepPrior
from ..energy.scores import Score
from ..energy.transforms import Jitter
from ..solvers.methods import Adam
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

_PARTS = Parts(
    C=1.0,
    parameterization=DeepPrior(),
    transform=Jitter(1),
    regularizers={},
    bound=math.inf,
    solver=Adam(rate=4.0, betas=(0.9, 0.999), schedule="constant"),
    stages=(Stage(400),),
)

RECIPES.register("ulyanov2018")(
    Recipe(
        name="ulyanov2018",
        source="D. Ulyanov, A. Vedaldi, V. Lempitsky, Deep image prior, CVPR 2018, and its pre-images",
        sentence="The image is what an untrained convolutional network makes of fixed noise, and its weights are what moves.",
        differs="A network of 32 channels and 4 scales instead of 128 and 5, and 400 steps instead of thousands: it is to run on a CPU.",
        invert=_PARTS,
        maximize=replace(_PARTS, objective=(Score(),)),
    )
)
