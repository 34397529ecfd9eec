"""Portilla's and Simoncelli's description of a texture as a question."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ..errors import InputError, whole
from ..plain import FILE
from ..representations.base import Representation
from ..representations.texture_statistics import TextureStatistics
from .losses import Euclidean, Loss
from .objectives import OBJECTIVES, Given, Objective, picture_features


@OBJECTIVES.register("texture-statistics", examples=[{"scales": 1}, {"scales": 2, "directions": 2}])
@dataclass(frozen=True)
class SameTextureStatistics(Objective):
    """Have the texture of an image as Portilla and Simoncelli describe it: ‖s − s0‖² of `TextureStatistics`. The network is not asked.

    image : path or None
        Whose texture; default the task's own image.
    scales, directions : as of `TextureStatistics`
    """

    image: str | None = field(default=None, metadata=FILE)
    scales: int = 4
    directions: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("scales", self.scales, 1)
        whole("directions", self.directions, 2)

    @property
    def losses(self) -> tuple[str, ...]:
        return ("euclidean",)

    def takes_divisor(self) -> bool:
        return False

    def bind(self, given: Given) -> tuple[Loss, Representation, Tensor]:
        if self.of is not None:
            raise InputError("The pyramid sees the pixels and no layer: leave of= out.")
        phi = given.prepare(TextureStatistics(given.phi.space, self.scales, self.directions))
        return Euclidean(normalise=False), phi, picture_features(given, phi, self.image, "To match a texture's statistics")
