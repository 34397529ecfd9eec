"""Ours: decorrelated Fourier coordinates within the range of pictures, one strongly moving view a step, a class against its rivals."""

from __future__ import annotations

import math
from dataclasses import replace

from ..energy.feature_statistics import FeatureStatistics
from ..energy.fourier import Fourier
from ..energy.keep_classes import KeepClasses
from ..energy.margin import Distinguish
from ..energy.objectives import Activate, Match
from ..energy.resampling import RandomView
from ..energy.transforms import Jitter
from ..solvers.methods import Adam
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

RATE, START = 7.0, 1.4  # in grey levels: .05 and .01 in the units of lucid
SLOPE = 0.1  # of the gradient at closed ReLUs: without it what is drawn depends on which units of one network are closed
SHARE = 0.5  # of the gradient at max pooling: it reaches all places that a view moved by a pixel would have taken
BETAS = (0.5, 0.99)  # a short memory for gradients, as every view is another

_PARTS = Parts(C=1.0, parameterization=Fourier(start=START), regularizers={}, bound=math.inf, solver=Adam(rate=RATE))

RECIPES.register("preimage2026")(
    Recipe(
        name="preimage2026",
        source="preimage; the coordinates are those of Olah, Mordvintsev, Schubert, Feature visualization, Distill 2017",
        sentence="Images of classes that other networks recognise, and inversions of deep layers in natural colours: a moving view in "
        "every step, Fourier coordinates, decorrelated colours, for inversions also the classes that the features say, for classes the "
        "margin to the ten strongest rivals and the statistics of photographs' features, a gradient that passes closed ReLUs and spreads "
        "at max pooling; caricatures that keep the photograph's colours.",
        invert=replace(
            _PARTS,
            C=20.0,
            objective=(Match(), KeepClasses(weight=0.25, required=False)),
            parameterization=Fourier(decay=1.4, start=2.7),
            transform=Jitter(13),
            solver=Adam(rate=13.5, betas=BETAS),
            stages=(Stage(150),),
            closed_slope=SLOPE,
            pool_share=SHARE,
        ),
        maximize=replace(
            _PARTS,
            objective=(Distinguish(share=0.8), FeatureStatistics(weight=0.5, required=False)),
            transform=RandomView(low=0.25, degrees=15.0, noise=0.0, flip=True, aspect=1.7, resolution=0.72),
            solver=Adam(rate=8.4, betas=BETAS),
            stages=(Stage(150),),
            closed_slope=SLOPE,
            pool_share=SHARE,
        ),
        caricature=replace(_PARTS, transform=Jitter(13), stages=(Stage(60),), start="image"),
    )
)

RECIPES.register("preimage2026-units")(
    Recipe(
        name="preimage2026-units",
        source="preimage; the coordinates are those of Olah, Mordvintsev, Schubert, Feature visualization, Distill 2017",
        sentence="Images of a channel of a deep layer in the colours of photographs: the paper's question and its weight, of the central "
        "unit on a jittered canvas, in Fourier coordinates, with the statistics of photographs' features around it and a gradient that "
        "passes closed ReLUs and spreads at max pooling.",
        maximize=replace(
            _PARTS,
            C=1e4,  # with Z = M·rf², as the paper's
            objective=(Activate(), FeatureStatistics(weight=1.6e-5, required=False)),
            transform=Jitter(16),
            solver=Adam(rate=8.4, betas=BETAS),
            stages=(Stage(100),),
            closed_slope=SLOPE,
            pool_share=SHARE,
        ),
    )
)
