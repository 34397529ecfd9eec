"""Attacks of an audit by name, from what their attacker is assumed to know: each is plain data that becomes settings of jobs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..methods.recipe import NATURAL, recipe_named
from ..registry import Registry
from ..representations.release import known_part, parse_release
from ..tasks.choice import is_deep

if TYPE_CHECKING:
    from .base import Study

STRENGTHS = (20.0, 100.0)  # of smoothness: the larger is better for early layers, the smaller for late ones
_OWN: dict[str, Any] = {"recipe": None, "objective": (), "transform": (), "parameterization": None, "prior": (), "solver": "fast"}

Settings = Mapping[str, Any]


class Attack(ABC):
    """A way to get images back from features.

    Attributes
    ----------
    knows : str
        What its attacker is assumed to know, for people; the features themselves are known to all.
    learns : None, "photographs" or "pairs"
        What its inverse is fitted with: nothing, the layer and photographs, or pairs of images and features alone.
    kind : str
        Of its inverse, as `fit_inverse` takes it.
    above : tuple of str
        Attacks whose attackers know no more than this one's: it should recover at least as much.
    """

    knows: ClassVar[str]
    learns: ClassVar[str | None] = None
    kind: ClassVar[str] = "linear"
    above: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def settings(self, study: Study, layer: str) -> list[Settings]:
        """Return the settings of its jobs on a layer, one for each try; of several the best fit counts. Empty where it is not for it."""

    def knowledge(self, release: str) -> list[bool]:
        """Return its forms on released features: not knowing the protection, and knowing it, where that is another attack."""
        return [False, True] if self.learns or known_part(parse_release(release))[0] is not None else [False]


ATTACKS: Registry[type[Attack]] = Registry("attack", see="docs/audit.md")


@ATTACKS.register("smoothness")
@dataclass(frozen=True)
class Smoothness(Attack):
    """Inversion with the paper's energy, or the study's own recipe, at several C."""

    C: Sequence[float] = STRENGTHS
    knows = "the network's weights, and of images only that they are smooth"

    def settings(self, study: Study, layer: str) -> list[Settings]:
        return [{"C": float(C)} for C in self.C]


@ATTACKS.register("natural")
@dataclass(frozen=True)
class Natural(Attack):
    """Inversion by the recipe preimage2026, on layers whose units see at least half of the image."""

    knows = "the network's weights, and the colours and spectrum of natural images"

    def settings(self, study: Study, layer: str) -> list[Settings]:
        if not is_deep(study.phi(layer)):
            return []
        return [_OWN | {"recipe": NATURAL, "C": recipe_named(NATURAL).parts("invert").C}]


@ATTACKS.register("inverse")
@dataclass(frozen=True)
class InverseAlone(Attack):
    """The answer of a linear inverse that was fitted on photographs."""

    knows = "the network and photographs"
    learns = "photographs"
    above: ClassVar[tuple[str, ...]] = ("pairs",)

    def settings(self, study: Study, layer: str) -> list[Settings]:
        return [_OWN | {"C": 100.0, "start": "inverse", "iterations": 0}]


@ATTACKS.register("collages")
@dataclass(frozen=True)
class LearnedFromCollages(InverseAlone):
    """The answer of a linear inverse that was fitted on collages of the photographs too, coloured anew, and on three times the crops."""

    kind = "linear:collages=true"
    above: ClassVar[tuple[str, ...]] = ("pairs", "inverse")


@ATTACKS.register("pairs")
@dataclass(frozen=True)
class PairsAlone(InverseAlone):
    """The answer of an inverse that was fitted on images and their features, without any knowledge of the network."""

    knows = "photographs and their features; neither weights nor layers"
    learns = "pairs"
    above = ()


@ATTACKS.register("inverse-descent")
@dataclass(frozen=True)
class InverseDescent(Attack):
    """A search that begins with a linear inverse's answer and stays near it: the recipe inverse2026."""

    knows = "the network's weights and photographs"
    learns = "photographs"
    above = ("pairs", "inverse", "smoothness")

    def settings(self, study: Study, layer: str) -> list[Settings]:
        return [_OWN | {"recipe": "inverse2026", "C": recipe_named("inverse2026").parts("invert").C, "start": "inverse"}]

    def knowledge(self, release: str) -> list[bool]:
        return [True]  # from another inverse than that of what was released it would begin further away


@ATTACKS.register("upconv")
@dataclass(frozen=True)
class UpconvAlone(InverseAlone):
    """The answer of an up-convolutional inverse, a small network that was trained on photographs (Dosovitskiy & Brox 2016)."""

    kind = "upconv"


@ATTACKS.register("layer-by-layer")
@dataclass(frozen=True)
class LayerByLayer(InverseAlone):
    """The answer of inverses in turn: deep features to an earlier layer's, and from there to the image."""

    kind = "layerwise"


DEFAULT = ("smoothness", "natural", "inverse", "collages", "inverse-descent")
