"""Gradient ascent with decay, blur and clipping of pixels, in the four combinations that were published."""

from __future__ import annotations

import math

from ..energy.parameterizations import Box
from ..energy.scores import Score
from ..energy.transforms import Jitter
from ..solvers.ascent import TidiedAscent
from ..solvers.run import Stage
from .recipe import RECIPES, Parts, Recipe

START = 0.34  # of the random canvas: a standard deviation of 10 grey levels

# what each is called here -> decay, width of the blur, every how many steps, percentile of the norm, of the contribution; and our rate
PRESETS = {
    "norm": (0.0, 0.5, 4, 50.0, 0.0, 4.0),
    "decay": (0.3, 0.0, 1, 20.0, 0.0, 20.0),
    "blur": (0.0001, 1.0, 4, 0.0, 0.0, 4.0),
    "contribution": (0.0, 0.5, 4, 0.0, 90.0, 4.0),
}
_WORDS = {
    "norm": "a slight blur, and half of the pixels set to the mean colour",
    "decay": "strong decay, and a fifth of the pixels set to the mean colour",
    "blur": "a blur every four steps",
    "contribution": "a slight blur, and all but the tenth of the pixels that contributes most set to the mean colour",
}

for _name, (_decay, _blur, _every, _norm, _contribution, _rate) in PRESETS.items():
    RECIPES.register(f"yosinski2015-{_name}")(
        Recipe(
            name=f"yosinski2015-{_name}",
            source="J. Yosinski, J. Clune, A. Nguyen, T. Fuchs, H. Lipson, Understanding neural networks through deep visualization, ICML "
            "workshop 2015, Table 1",
            sentence=f"Gradient ascent with {_WORDS[_name]}.",
            differs="Steps have a fixed length in grey levels instead of a rate for each network and layer.",
            maximize=Parts(
                C=1.0,
                objective=(Score(),),
                parameterization=Box(start=START),
                transform=Jitter(1),
                regularizers={},
                bound=math.inf,
                solver=TidiedAscent(_rate, _decay, _blur, _every, _norm, _contribution),
                stages=(Stage(300),),
            ),
        )
    )
