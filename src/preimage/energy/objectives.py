"""What is asked of the features, as data: each objective names a formula, a representation and where its target comes from."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..plain import FILE
from ..registry import Registry
from ..representations.base import Representation, as_representation, features_of
from ..representations.natural import Centred, centred
from ..representations.through import Through
from ..representations.units import unit_targets
from ..representations.vectors import load_direction
from .losses import LOSSES, InnerProduct, Loss, SquaredNorm
from .styles import GramMatrix
from .terms import DataTerm, FeatureTerm, Sum

OBJECTIVES: Registry[type[Objective]] = Registry("objective", see="docs/parts.md")

Of = Representation | str | None


@dataclass
class Given:
    """What a task knows when its objectives get their targets.

    phi: the task's representation. x0: the images shown to it, canonical, one a sample (B, C, H, W) or None. size: of Φ's input in pixels.
    samples: how many. like: the device and the type. main: the loss and target (1 or B, ...) of the task's own question, made by it.
    layer: gives a layer of the task's network by its name. scores: the classes' scores before any ReLU or softmax, where the task is about
    classes and its network says which layer has them. encode: reads a picture as the task's pixels, (1, C, H, W). prepare: makes a
    representation that is not the task's own ready for many calls, where the task computes. earlier: the images that the restarts before
    this one have found, canonical, n for each sample (B, n, C, H, W), where an objective is `sequential`.
    """

    phi: Representation
    size: tuple[int, int]
    samples: int
    like: Tensor
    x0: Tensor | None = None
    main: tuple[Loss, Tensor] | None = None
    layer: Callable[[str], Representation] | None = None
    encode: Callable[[Any], Tensor] | None = None
    scores: Representation | None = None
    prepare: Callable[[Representation], Representation] = lambda phi: phi
    earlier: Tensor | None = None

    def representation(self, of: Of) -> Representation:
        """Return the task's Φ for None, a layer of its network for a name, and any other through the task's pixels."""
        if of is None:
            return self.phi
        if isinstance(of, str):
            if self.layer is None:
                raise InputError(f"An objective names the layer {of!r}, and {self.phi.name} belongs to no network: give a Layer.")
            return self.prepare(self.in_pixels(self.layer(of)))
        found = as_representation(of)
        return found if found is self.phi else self.prepare(self.in_pixels(found))

    def in_pixels(self, phi: Representation) -> Representation:
        """Return a representation as one of images in the task's pixels: itself where they are its own."""
        if phi.space == self.phi.space:
            return phi
        if isinstance(self.phi, Centred) and phi.space == self.phi.inner.space:
            return centred(phi)
        return Through(phi, self.phi.space)


@dataclass(frozen=True)
class Objective(ABC):
    """A question to the features of one representation, with its weight; `2 * a + b` adds them up.

    of : the representation that is asked: the task's own (None), a layer of its network by name, or any representation, also of another
        network, which then sees the same image in its own pixels
    weight : of the term beside others; the task's C multiplies all of them
    """

    of: Of = None
    weight: float = 1.0
    revision = 1
    sequential: ClassVar[bool] = False  # whether restarts run one after the other, each given the images of those before it

    @property
    def losses(self) -> tuple[str, ...]:
        """The names of the registered losses that it takes, whose revisions decide an image too; none where it says none."""
        return ()

    def __post_init__(self) -> None:
        if not (self.weight > 0 and np.isfinite(self.weight)):
            raise InputError(f"The weight of an objective is a number above 0; got {self.weight!r}.")

    def takes_divisor(self) -> bool:
        """Return whether its formula may be that of the task's own question (`Given.main`), with the divisor Z of that."""
        return True

    @abstractmethod
    def bind(self, given: Given) -> tuple[Loss, Representation, Tensor]:
        """Return the formula, the representation and the target features (1 or B, ...)."""

    def term(self, given: Given, C: float) -> FeatureTerm:
        """Return C·weight·ℓ(Φ(x), Φ0), with the target known."""
        loss, phi, target = self.bind(given)
        return FeatureTerm(loss, phi, target, C * self.weight, name=phi.name)

    def terms(self, given: Given, C: float) -> list[FeatureTerm]:
        """Return all terms of the objective: one, unless it asks several layers at once."""
        return [self.term(given, C)]

    def __rmul__(self, weight: float) -> Objective:
        return replace(self, weight=weight * self.weight)

    def __add__(self, other: Objective | Objectives) -> Objectives:
        return Objectives((self, *parts_of(other)))


@dataclass(frozen=True)
class Objectives:
    """Several objectives added up."""

    parts: tuple[Objective, ...]

    def __rmul__(self, weight: float) -> Objectives:
        return Objectives(tuple(weight * p for p in self.parts))

    def __add__(self, other: Objective | Objectives) -> Objectives:
        return Objectives((*self.parts, *parts_of(other)))


def data_term(objective: Objective | Objectives | Sequence[Objective], given: Given, C: float) -> DataTerm:
    """Return the terms of objectives, their targets known, each with the weight C times its own."""
    parts = parts_of(objective)
    terms = [term for part in parts for term in part.terms(given, C)]
    return terms[0] if len(terms) == 1 else Sum(terms)


def parts_of(objective: Any) -> tuple[Objective, ...]:
    """Return the objectives of a sum or a list, or the one that there is. Raises InputError for anything else."""
    if isinstance(objective, Objectives):
        return objective.parts
    parts = (objective,) if isinstance(objective, Objective) else tuple(objective) if isinstance(objective, (list, tuple)) else ()
    if not parts or not all(isinstance(p, Objective) for p in parts):
        raise InputError(f"An objective is Match(…), Activate(…), … or a weighted sum of them; got {objective!r}.")
    return parts


def picture_features(given: Given, phi: Representation, picture: Any, what: str) -> Tensor:
    """Return the features of a picture, or of the task's own images where there is none.

    `what` begins the message of the InputError that says that neither is there.
    """
    if picture is not None:
        if given.encode is None:
            raise InputError(f"{what} of a picture of its own cannot be asked for here.")
        return features_of(phi, given.encode(picture).to(given.like))
    if given.x0 is None:
        raise InputError(f"{what} needs features to compare with: this task has no image, so give image=.")
    return features_of(phi, given.x0)


@OBJECTIVES.register("match", examples=[{}, {"loss": "cosine"}])
@dataclass(frozen=True)
class Match(Objective):
    """Have the features of an image (inversion): ℓ(Φ(x), Φ(x0)), by default ‖Φ(x) − Φ(x0)‖²/‖Φ(x0)‖², IJCV Eq. (4).

    image : path or None
        Whose features; default the task's own image.
    loss : str
        The name of a loss of features and target, default "euclidean".
    """

    image: str | None = field(default=None, metadata=FILE)
    loss: str = "euclidean"

    @property
    def losses(self) -> tuple[str, ...]:
        return (self.loss,)

    def takes_divisor(self) -> bool:
        return self.of is None and self.image is None and self.loss == "euclidean"

    def bind(self, given: Given) -> tuple[Loss, Representation, Tensor]:
        phi = given.representation(self.of)
        if self.of is None and self.image is None and given.main is not None and self.loss == "euclidean":
            return given.main[0], phi, given.main[1]
        return LOSSES[self.loss](), phi, picture_features(given, phi, self.image, "To match features")


@OBJECTIVES.register("activate", examples=[{"unit": 1}])
@dataclass(frozen=True)
class Activate(Objective):
    """Excite a unit, channel, class or direction (activation maximization): −⟨Φ(x), e⟩/Z, IJCV Eq. (5).

    unit : number, class name, (channel, row, column) or None
        Which; default what the task was asked for. {unit: weight} is a sum; a negative weight asks for what a unit does not like.
    direction : vector over channels (or features), its file (.npy, .safetensors), or None
        Instead of a unit: the inner product with it, at the centre of a map.
    everywhere : bool
        The mean over the map instead of its central unit.
    Z : number above 0
        The divisor.
    """

    unit: Any = None
    direction: Any = field(default=None, compare=False, metadata=FILE)
    everywhere: bool = False
    Z: float = 1.0

    @property
    def losses(self) -> tuple[str, ...]:
        return ("inner-product",)

    def takes_divisor(self) -> bool:
        return self.unit is None and self.direction is None

    def bind(self, given: Given) -> tuple[Loss, Representation, Tensor]:
        phi = given.representation(self.of)
        if self.unit is None and self.direction is None:
            if given.main is None or self.of is not None:
                raise InputError("Activate needs a unit=… or a direction=…, as its representation is not the task's own.")
            return given.main[0], phi, given.main[1]
        wanted: Any = self.unit if self.direction is None else self.direction
        if self.direction is not None and isinstance(wanted, (str, os.PathLike)):
            wanted = load_direction(wanted)
        return InnerProduct(self.Z), phi, unit_targets(phi, [wanted], given.size, self.everywhere, given.like)[0]


@OBJECTIVES.register("exaggerate")
@dataclass(frozen=True)
class Exaggerate(Objective):
    """Exaggerate what is seen in an image (caricature): −⟨Φ(x), Φ₊⟩/‖Φ₊‖², Φ₊ = max(Φ(x0), 0), IJCV Sect. 6."""

    @property
    def losses(self) -> tuple[str, ...]:
        return ("inner-product",)

    def takes_divisor(self) -> bool:
        return self.of is None

    def bind(self, given: Given) -> tuple[Loss, Representation, Tensor]:
        phi = given.representation(self.of)
        if self.of is None and given.main is not None and isinstance(given.main[0], InnerProduct):
            return given.main[0], phi, given.main[1]
        return InnerProduct(None), phi, picture_features(given, phi, None, "To exaggerate an image").clamp(min=0)


@OBJECTIVES.register("dream", examples=[{}, {"weight": 0.5}])
@dataclass(frozen=True)
class Dream(Objective):
    """Excite whatever an image excites: −‖Φ(x)‖²/‖Φ(x0)‖², −1 at the image itself (DeepDream: Mordvintsev, Olah, Tyka 2015).

    image : path or None
        Which image is the scale; default the task's own. The run begins where the task's `start` says.
    """

    image: str | None = field(default=None, metadata=FILE)

    @property
    def losses(self) -> tuple[str, ...]:
        return ("squared-norm",)

    def takes_divisor(self) -> bool:
        return False

    def bind(self, given: Given) -> tuple[Loss, Representation, Tensor]:
        phi = given.representation(self.of)
        return SquaredNorm(), phi, picture_features(given, phi, self.image, "To dream")


@OBJECTIVES.register("gram", examples=[{}, {"weight": 0.5}])
@dataclass(frozen=True)
class Gram(Objective):
    """Have the texture of an image: ‖G − G0‖²/‖G0‖², G = FFᵀ/n of the channels F at n places (Gatys, Ecker, Bethge 2015).

    image : path or None
        Whose texture; default the task's own image.
    """

    image: str | None = field(default=None, metadata=FILE)

    @property
    def losses(self) -> tuple[str, ...]:
        return ("gram",)

    def takes_divisor(self) -> bool:
        return False

    def bind(self, given: Given) -> tuple[Loss, Representation, Tensor]:
        phi = given.representation(self.of)
        return GramMatrix(), phi, picture_features(given, phi, self.image, "To match a texture")
