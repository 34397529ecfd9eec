"""Ours: decorrelated Fourier coordinates within the range of pictures, one strongly moving view a step, a class against its rivals."""

from __future__ import annotations

import math
from dataclasses import replace

from ..energy.fourier import Fourier
from ..energy.margin import Distinguish
from ..energy.resampling import RandomView
from ..energy.transforms import Jitter
from ..solvers.methods import Adam
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

NOISE = 0.02 * 255  # grey levels; more hides the details by which a class is told from its relatives
RATE, START = 7.0, 1.4  # in grey levels: .05 and .01 in the units of lucid
SLOPE = 0.2  # of the gradient at closed ReLUs: without it what is drawn depends on which units of one network are closed

_PARTS = Parts(C=1.0, parameterization=Fourier(start=START), regularizers={}, bound=math.inf, solver=Adam(rate=RATE))

RECIPES.register("preimage2026")(
    Recipe(
        name="preimage2026",
        source="preimage; the coordinates are those of Olah, Mordvintsev, Schubert, Feature visualization, Distill 2017",
        sentence="Images of classes that other networks recognise, and inversions of deep layers in natural colours: a moving view in "
        "every step, Fourier coordinates, decorrelated colours, for classes the margin to the ten strongest rivals and a gradient that "
        "passes closed ReLUs; caricatures that keep the photograph's colours.",
        invert=replace(_PARTS, C=20.0, transform=Jitter(13), stages=(Stage(150),), closed_slope=SLOPE),
        maximize=replace(
            _PARTS,
            objective=(Distinguish(),),
            transform=RandomView(low=0.5, degrees=15.0, noise=NOISE, resolution=0.72),
            stages=(Stage(100),),
            closed_slope=SLOPE,
        ),
        caricature=replace(_PARTS, transform=Jitter(13), stages=(Stage(60),), start="image"),
    )
)
