"""The shallow representations by name, for the command line and for tests of what all of them must do."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import InputError
from ..registry import Registry
from .base import Representation
from .brief import BRIEF
from .codes import LLC, SparseCodes
from .dsift import DenseSIFT
from .encodings import VLAD, BagOfWords, FisherVector, SuperVector
from .freak import FREAK
from .hog import HOG
from .lbp import LBP
from .textons import Textons
from .vocabulary import Vocabulary

SHALLOW: Registry[Callable[[Vocabulary | None], Representation]] = Registry("shallow representation", "preimage invert-shallow --help")


def load_shallow(name: str, vocabulary: Vocabulary | None = None) -> Representation:
    """A shallow representation with its default settings: hog, hogb, dsift, lbp, brief, freak; with a vocabulary: bow, vlad,
    fisher, llc, scspm, super-vector, textons.

    Raises UnknownName for another name, InputError for a vocabulary that is missing, of no use or of the wrong kind.

    >>> load_shallow("hogb").name
    'hogb'
    """
    return SHALLOW[name](vocabulary)


def _plain(name: str, make: Callable[[], Representation]) -> None:
    def build(vocabulary: Vocabulary | None) -> Representation:
        if vocabulary is not None:
            raise InputError(f"{name} has no vocabulary: leave it out.")
        return make()

    SHALLOW.register(name)(build)


def _worded(name: str, option: str, make: Callable[[Vocabulary], Representation]) -> None:
    def build(vocabulary: Vocabulary | None) -> Representation:
        if vocabulary is None:
            raise InputError(f"{name} needs a vocabulary. Learn one: preimage vocabulary IMAGES… {option} -o FILE")
        return make(vocabulary)

    SHALLOW.register(name)(build)


_plain("hog", HOG)
_plain("hogb", lambda: HOG(bilinear=True))
_plain("dsift", DenseSIFT)
_plain("lbp", LBP)
_plain("brief", BRIEF)
_plain("freak", FREAK)
_worded("bow", "--kind kmeans", BagOfWords)
_worded("vlad", "--kind kmeans", VLAD)
_worded("fisher", "--kind gmm", FisherVector)
_worded("llc", "--kind kmeans", LLC)
_worded("scspm", "--kind kmeans", SparseCodes)
_worded("super-vector", "--kind kmeans", SuperVector)
_worded("textons", "--textons", Textons)
