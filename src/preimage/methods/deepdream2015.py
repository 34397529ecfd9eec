"""DeepDream: more of whatever a layer sees in a photograph, or of what a guide shows, from coarse to fine."""

from __future__ import annotations

import math
import os

from ..energy.guide import GuidedDream
from ..energy.objectives import Dream
from ..energy.octaves import Octaves
from ..energy.parameterizations import Box
from ..solvers.ascent import Ascent
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

RECIPES.register("deepdream2015")(
    Recipe(
        name="deepdream2015",
        source="A. Mordvintsev, C. Olah, M. Tyka, Inceptionism: going deeper into neural networks, 2015, and its notebook",
        sentence="‖Φ(x)‖² from the photograph: ten steps in each of four octaves, each seen with a random shift of up to 32 pixels.",
        differs="The image has its full size throughout and Φ sees it reduced; the original enlarges what an octave has added.",
        caricature=Parts(
            C=1.0,
            objective=(Dream(),),
            parameterization=Box(),
            transform=Octaves(count=4, ratio=1.4, shift=32, enlarged=False),
            regularizers={},
            bound=math.inf,
            solver=Ascent(rate=1.5, measure="mean"),
            stages=(Stage(40),),
            start="image",
        ),
    )
)


def guided_by(picture: str | os.PathLike[str]) -> Recipe:
    """Return a recipe for `caricature` that makes of a photograph what a guide shows: DeepDream with the guide's features.

    Parameters
    ----------
    picture : path
        The guide, of any size.

    Returns
    -------
    Recipe : "deepdream2015-guided", of Mordvintsev, Olah, Tyka 2015, the notebook's "Controlling dreams"

    Examples
    --------
    >>> guided_by("flowers.jpg").parts("caricature").objective
    (GuidedDream(of=None, weight=1.0, image='flowers.jpg'),)
    """
    dream = RECIPES["deepdream2015"]
    return Recipe(
        name="deepdream2015-guided",
        source=dream.source,
        sentence=f"At every place what {os.fspath(picture)} has most like it, from the photograph, in four octaves.",
        differs=dream.differs + " The guide is seen in the size that the network takes.",
        caricature=dream.parts("caricature").with_given(objective=(GuidedDream(image=os.fspath(picture)),)),
    )
