"""Kinds of learned inverses, and how each is fitted: as objects, or as texts such as "linear:kernel=1" and "upconv:width=64"."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from ..plain import LATER, parse
from ..ranges import checked
from ..registry import Registry

KINDS: Registry[Any] = Registry("kind of inverse", see="docs/inverses.md")


@KINDS.register("linear")
@dataclass(frozen=True)
class Linear:
    """A ridge regression in closed form, from k x k cells of features to the patch of pixels under the middle one.

    Parameters
    ----------
    kernel : int, default 3
        k, odd; the photographs held out may choose 1.
    overlap : int, default 2
        Side of a patch in strides of the map.
    rank : int, optional
        Combinations of channels; by default 128, or all where there are fewer, or less where that would not fit into
        max_memory. The photographs held out may choose a half or a quarter of them.
    strengths : tuple of float
        λ to choose from, in mean variances of an input.
    collages : bool, default False
        Whether every other crop is a collage of crops, coloured anew (`inverses.collages`).

    >>> Linear(kernel=1)
    Linear(kernel=1, overlap=2, rank=None, strengths=(0.001, 0.01, 0.1, 1.0, 10.0), collages=False)
    """

    kernel: int = 3
    overlap: int = 2
    rank: int | None = None
    strengths: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
    collages: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        checked("kernel", self.kernel)
        checked("overlap", self.overlap)
        if self.rank is not None:
            checked("rank", self.rank)
        if self.kernel % 2 == 0:
            raise InputError(f"kernel is an odd number of cells; got {self.kernel}.")
        if not self.strengths or not all(s > 0 for s in self.strengths):
            raise InputError(f"strengths are numbers above 0, at least one; got {self.strengths!r}.")


@KINDS.register("upconv")
@dataclass(frozen=True)
class Upconv:
    """A small network of convolutions between which the map doubles, trained by Adam (Dosovitskiy & Brox, CVPR 2016).

    Parameters
    ----------
    width : int, default 128
        Channels at the map of the features.
    hidden : int, default 1024
        Of the dense layer, where the features have no places.
    batch : int, default 4
        Crops in a step.
    rate : float, default 1e-3
        Of Adam, after a twentieth of warm-up and along a cosine to 0.
    feature_loss : float, default 1
        Weight of ‖Φ(x) − Φ₀‖²/‖Φ₀‖² beside the image's ‖x − x₀‖²/(60²·size); 0 is the image's loss alone, as in the original. Not counted
        where of Φ only pairs are known.
    collages : bool, default False
        Whether every other crop is a collage of crops, coloured anew (`inverses.collages`).

    >>> Upconv(width=64).feature_loss
    1.0
    """

    width: int = 128
    hidden: int = 1024
    batch: int = 4
    rate: float = 1e-3
    feature_loss: float = 1.0
    collages: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        for name in ("width", "hidden", "batch", "rate"):
            checked(name, getattr(self, name))
        if not (math.isfinite(self.feature_loss) and self.feature_loss >= 0):
            raise InputError(f"feature_loss is a weight of at least 0; got {self.feature_loss!r}.")


@KINDS.register("layerwise")
@dataclass(frozen=True)
class Layerwise:
    """Ridge regressions from layer to layer, with ReLUs between them: deep features to an earlier layer's, and at last to the image.

    Parameters
    ----------
    through : tuple of names
        The layers that it goes through, the deepest first; by default the last one before each change of the stride.
    kernel, overlap, strengths
        As of `Linear`; features of layers are learned without overlap.
    collages : bool, default False
        Whether every other crop is a collage of crops, coloured anew (`inverses.collages`).

    >>> Layerwise(through=("fire5", "fire3")).kernel
    3
    """

    through: tuple[str, ...] = ()
    kernel: int = 3
    overlap: int = 2
    strengths: tuple[float, ...] = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
    collages: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        Linear(self.kernel, self.overlap, None, self.strengths)


def kind_of(kind: str | Linear | Upconv | Layerwise) -> Linear | Upconv | Layerwise:
    """Return how to fit, of a text or as it is.

    >>> kind_of("upconv:width=64,feature_loss=0").width
    64
    """
    found = parse(kind, KINDS) if isinstance(kind, str) else kind
    if not isinstance(found, (Linear, Upconv, Layerwise)):
        raise InputError(
            f"kind is 'linear', 'upconv', 'layerwise', one with settings as 'linear:kernel=1', "
            f"Linear(), Upconv() or Layerwise(); got {kind!r}."
        )
    return found
