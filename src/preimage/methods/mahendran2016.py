"""Natural pre-images as published: pixels, a jittered view, R_α + R_TVβ, the bound, decayed AdaGrad with momentum."""

from __future__ import annotations

from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

RECIPES.register("mahendran2016")(
    Recipe(
        name="mahendran2016",
        source="A. Mahendran, A. Vedaldi, Visualizing deep convolutional neural networks using natural pre-images, IJCV 120(3), 2016",
        sentence="The energy and the solver of the paper, exactly: 300 jittered iterations, for inversions 50 more at the centre.",
        invert=Parts(C=100.0, solver="paper", stages=(Stage(300), Stage(50, rate=0.1, jitter=False))),
        maximize=Parts(C=1.0e4, solver="paper", stages=(Stage(300),)),
        caricature=Parts(C=1.0, solver="paper", stages=(Stage(300),), start="image"),
    )
)
