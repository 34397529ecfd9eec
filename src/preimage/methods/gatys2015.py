"""Textures, and the style of one picture on the things of another, by Gram matrices at several layers."""

from __future__ import annotations

import math
import os

from ..energy.objectives import Match
from ..energy.parameterizations import Box
from ..energy.texture import Texture
from ..energy.transforms import Jitter
from ..solvers.methods import LBFGS
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

RECIPES.register("gatys2015")(
    Recipe(
        name="gatys2015",
        source="L. Gatys, A. Ecker, M. Bethge, Texture synthesis using convolutional neural networks, NIPS 2015",
        sentence="An image with the Gram matrices of a photograph at five layers up to the one named: its texture, at other places.",
        differs="Each layer's distance is over the norm of its Gram matrix, which takes the place of its weight; layers are spread evenly.",
        invert=Parts(
            C=100.0,
            objective=(Texture(),),
            parameterization=Box(),
            transform=Jitter(1),
            regularizers={},
            bound=math.inf,
            solver=LBFGS(),
            stages=(Stage(300),),
        ),
    )
)


def with_style_of(picture: str | os.PathLike[str], weight: float = 10.0, layers: int = 5) -> Recipe:
    """Return a recipe for `invert` that gives an image the style of a picture: Match + weight · Texture of the picture.

    Parameters
    ----------
    picture : path
        Whose style.
    weight : float, default 10
        Of the style beside the layer's own features; both are relative to the target's norm.
    layers : int, default 5
        How many layers the style is taken from.

    Returns
    -------
    Recipe : "gatys2015-style", of Gatys, Ecker, Bethge, A neural algorithm of artistic style, 2015

    Examples
    --------
    >>> [type(o).__name__ for o in with_style_of("waves.jpg").parts("invert").objective]
    ['Match', 'Texture']
    """
    texture = RECIPES["gatys2015"].parts("invert")
    style = Texture(weight=weight, layers=layers, image=os.fspath(picture))
    return Recipe(
        name="gatys2015-style",
        source="L. Gatys, A. Ecker, M. Bethge, A neural algorithm of artistic style, 2015",
        sentence=f"The layer's features of a photograph with the Gram matrices of {os.fspath(picture)}.",
        invert=texture.with_given(objective=(Match(), style)),
    )
