"""Terms: weights times losses of the features of an image, added up. What an energy asks of Φ, with its targets known."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ..errors import InputError
from ..representations.base import derived
from ..representations.passes import features_together
from .losses import Loss, as_loss
from .pull import pull

Phi = Callable[[Tensor], Tensor]


class DataTerm(ABC):
    """A function from what Φ is shown, canonical (B, C, h, w), to named terms (B,): sample b depends on x[b] alone.

    The first name is "loss", the sum of all; names "loss.NAME" are its parts, where there are several.
    """

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """The names of the terms, "loss" first."""

    @property
    @abstractmethod
    def features(self) -> Sequence[FeatureTerm]:
        """The terms of one Φ each that it consists of."""

    @abstractmethod
    def __call__(self, seen: Tensor) -> dict[str, Tensor]:
        """Return the terms at an image."""

    @abstractmethod
    def differentiate(self, seen: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the terms at an image that takes gradients, and the gradient of "loss" in it."""

    @abstractmethod
    def part(self, samples: slice) -> DataTerm:
        """Return the terms of some of the samples."""

    def __add__(self, other: DataTerm) -> Sum:
        return Sum([*self.features, *other.features])


class FeatureTerm(DataTerm):
    """C·ℓ(Φ(x), Φ0) of one representation.

    Parameters
    ----------
    loss : Loss, or a function (features, target) -> (B,)
        What is asked of the features.
    phi : representation, or any function of canonical images (B, C, H, W) -> (B, ...)
    phi0 : the target features, one a sample or one for all (1, ...)
    C : weight, above 0; default 100 (IJCV Sect. 4)
    name : what it is called beside others
    gradient_phi : what stands for phi where gradients are taken, as one in a lower precision

    >>> from .losses import Euclidean
    >>> term = FeatureTerm(Euclidean(), lambda x: 2 * x, torch.full((1, 1, 2, 2), 8.0), C=10.0)
    >>> term(torch.full((2, 1, 2, 2), 4.0))["loss"].tolist()
    [0.0, 0.0]
    """

    def __init__(
        self,
        loss: Loss | Callable[[Tensor, Tensor], Tensor],
        phi: Phi,
        phi0: Tensor,
        C: float = 100.0,
        name: str = "loss",
        gradient_phi: Phi | None = None,
    ) -> None:
        if not (C > 0 and math.isfinite(C)):
            raise InputError(f"C is the weight of the loss, a number above 0; got {C!r}. The paper uses 1 to 300, and 100 by default.")
        self.loss, self.phi, self.phi0, self.C, self.name, self.gradient_phi = as_loss(loss), phi, phi0, float(C), name, gradient_phi
        self._weight = self.C / self.loss.scale(phi0)
        self._one = torch.ones((), dtype=self._weight.dtype, device=self._weight.device)

    @property
    def names(self) -> tuple[str, ...]:
        return ("loss",)

    @property
    def features(self) -> Sequence[FeatureTerm]:
        return (self,)

    def __call__(self, seen: Tensor) -> dict[str, Tensor]:
        return {"loss": self.value(self.checked(self.phi(seen)))}

    def differentiate(self, seen: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the term and its gradient, without a graph of ℓ where ℓ knows its derivative."""
        with derived([self.phi]):
            features = self.checked((self.gradient_phi or self.phi)(seen))
        values, slope = self.slope(features)
        return {"loss": values}, _pulled([features], seen, [slope], [self.phi])

    def value(self, features: Tensor) -> Tensor:
        """Return C·ℓ of features, (B,)."""
        return self.loss(features, self.phi0, self._one) * self._weight

    def slope(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return C·ℓ of features (B,) and its gradient in them."""
        with torch.no_grad():
            return self.loss.differentiate(features, self.phi0, (1.0 / self._weight).expand(len(features)))

    def part(self, samples: slice) -> FeatureTerm:
        out = copy.copy(self)
        if len(self.phi0) > 1:
            out.phi0, out._weight = self.phi0[samples], self._weight[samples]
        return out

    def checked(self, features: Tensor) -> Tensor:
        """Return the features, checked against the target, which takes their memory format."""
        if self.loss.same_shape and features.shape[1:] != self.phi0.shape[1:]:
            raise InputError(
                f"Φ(x) has shape {tuple(features.shape[1:])} and the target {tuple(self.phi0.shape[1:])}: "
                "the canvas and the target do not belong together. A transform that shows another size (resolution=…) needs a question "
                "without places, as the objective distinguish."
            )
        if features.dim() == self.phi0.dim() == 4 and features.stride()[1] == 1 and self.phi0.stride()[1] != 1:
            self.phi0 = self.phi0.contiguous(memory_format=torch.channels_last)
        return features


class Sum(DataTerm):
    """Several terms added up; those of one representation share its pass, and so do layers of one network.

    >>> from .losses import Euclidean
    >>> a, b = (FeatureTerm(Euclidean(), lambda x: x, torch.full((1, 1, 2, 2), t), C=1.0, name=n) for n, t in (("a", 2.0), ("b", 4.0)))
    >>> {k: v.item() for k, v in (a + b)(torch.full((1, 1, 2, 2), 4.0)).items()}
    {'loss': 1.0, 'loss.a': 1.0, 'loss.b': 0.0}
    """

    def __init__(self, terms: Sequence[FeatureTerm]) -> None:
        if not terms:
            raise InputError("A sum of terms has at least one.")
        self._terms = list(terms)
        self._titles = [f"loss.{n}" for n in _distinct([t.name for t in terms])]

    @property
    def names(self) -> tuple[str, ...]:
        return "loss", *self._titles

    @property
    def features(self) -> Sequence[FeatureTerm]:
        return self._terms

    def __call__(self, seen: Tensor) -> dict[str, Tensor]:
        given = features_together([t.phi for t in self._terms], seen)
        return self._named([t.value(t.checked(f)) for t, f in zip(self._terms, given, strict=True)])

    def differentiate(self, seen: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        with derived([t.phi for t in self._terms]):
            given = features_together([t.gradient_phi or t.phi for t in self._terms], seen)
        found = [t.slope(t.checked(f)) for t, f in zip(self._terms, given, strict=True)]
        gradient = _pulled(given, seen, [slope for _, slope in found], [t.phi for t in self._terms])
        return self._named([values for values, _ in found]), gradient

    def part(self, samples: slice) -> Sum:
        return Sum([t.part(samples) for t in self._terms])

    def _named(self, values: Sequence[Tensor]) -> dict[str, Tensor]:
        return {"loss": torch.stack(list(values)).sum(dim=0)} | dict(zip(self._titles, values, strict=True))


def _pulled(features: Sequence[Tensor], seen: Tensor, slopes: Sequence[Tensor], phis: Sequence[Phi]) -> Tensor:
    """The gradient in what Φ was shown. Raises InputError where the graph does not lead back to it."""
    with derived(phis):
        return pull(features, seen, slopes)


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of the terms, (B,); the parts of a term, named with a dot, are in it already."""
    return torch.stack([v for k, v in terms.items() if "." not in k]).sum(dim=0)


def _distinct(names: Sequence[str]) -> list[str]:
    """Names as they are, numbered where they repeat.

    >>> _distinct(["fire4", "fire4", "fire9"])
    ['fire4', 'fire4 2', 'fire9']
    """
    return [n if names[:k].count(n) == 0 else f"{n} {names[:k].count(n) + 1}" for k, n in enumerate(names)]
