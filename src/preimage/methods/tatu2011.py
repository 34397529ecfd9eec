"""Two images of one HOG: Tatu, Lauze, Nielsen, Kimia, Exploring the representation capabilities of the HOG descriptor, ICCV workshops 2011.

They show that images which look nothing alike can have one HOG. Here a picture is changed as little as may be until it has another's.

What differs: the search is ours, one energy of the distance to the picture and of that of the features, by Adam within 0–255; the HOG has
one cell's histogram under the mean of four normalisations, as Felzenszwalb et al. 2010 have it, where Dalal and Triggs list all four.

It works because that HOG knows no sign: fine stripes along the image's edges are all that it asks for, and the picture's own light and dark
stay. The directed bins of `HOG()` count how much a cell brightens from one side to the other, which stripes do not; with them the features
are found less closely, and the picture is lost where they are followed further (docs/shallow.md has both).
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager

from torch import Tensor

from ..energy.parameterizations import Box
from ..energy.transforms import Jitter
from ..errors import whole
from ..inverses.nearby import Nearby
from ..representations.base import RepresentationLike, Wrapped
from ..representations.relus import Leaky
from ..solvers.methods import Adam
from ..solvers.run import Stage
from .recipe import Parts, Recipe


def disguise(weight: float = 1.0, rate: float = 2.0, steps: int = 300) -> Recipe:
    r"""Return the recipe that changes a picture p until it has the features of an image, those past their ceiling too.

    It minimises :math:`1000\,\|\Phi(x)-\Phi_0\|^2/\|\Phi_0\|^2 + w\|x-p\|^2/(80^2 HW)`; p is what `invert` begins with (`start=`).

    Parameters
    ----------
    weight : float, default 1
        w. Less of it finds the features more closely and leaves less of the picture.
    rate : float, default 2
        Adam's first step, in grey levels.
    steps : int, default 300
        Evaluations of Φ.

    Raises
    ------
    InputError
        For wrong settings.

    References
    ----------
    Tatu, Lauze, Nielsen, Kimia 2011

    Examples
    --------
    >>> import PIL.Image, preimage
    >>> astronaut, cat = (PIL.Image.open(p).convert("L").resize((40, 40)) for p in preimage.images.reference_images()[:2])
    >>> phi = PastCeiling(preimage.HOG(bilinear=True, directed=False))
    >>> found = preimage.invert(phi, astronaut, recipe=disguise(rate=4.0, steps=80), start=cat, progress=False)
    >>> bool(found.error < 0.25)
    True
    """
    parts = Parts(
        C=1000.0,
        parameterization=Box(),
        transform=Jitter(1),
        regularizers={"nearby": Nearby(weight=weight, to="start")},
        bound=math.inf,
        solver=Adam(rate=rate),
        stages=(Stage(whole("steps", steps, 1)),),
        closed_slope=1.0,
    )
    return Recipe("tatu2011", "Tatu et al. 2011", "A picture with the features of an image.", invert=parts)


class PastCeiling(Wrapped):
    """A representation whose gradient can pass its bounds: each value of a HOG is clamped, and bins that are once there would stay there.

    A HOG does not say so of itself, as for a maximum a unit at its ceiling is where it should be.

    >>> import preimage
    >>> phi = PastCeiling(preimage.HOG(bilinear=True, directed=False))
    >>> phi.can_open, phi.name
    (True, 'hogb-undirected')
    """

    def __init__(self, inner: RepresentationLike) -> None:
        super().__init__(inner)
        self.can_open = True

    def __call__(self, x: Tensor) -> Tensor:
        return self.inner(x)

    def opened(self, slope: float, pool_share: float = 0.0) -> AbstractContextManager[None]:
        """Let the gradient pass every clamp with this slope; the values stay."""
        return self.inner.opened(slope, pool_share) if self.inner.can_open else Leaky(slope, opened=True, pool_share=pool_share)
