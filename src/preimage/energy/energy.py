"""The one energy: E(z) = Σ C·ℓ(Φ(T x), Φ0) + Σ regularizers(x), x = g(z), per sample and per term."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import InputError
from ..pixels.pixelspace import PixelSpace
from .parameterizations import Parameterization, Pixels
from .regularizers import AlphaNorm, OfSamples, PixelBall, Regularizer, TVBeta, add_gradient
from .terms import DataTerm
from .transforms import Jitter, Transform, View


class Energy:
    r"""E(x) = C·ℓ(Φ(T x), Φ0) + R_α(x) + R_TVβ(x): a function from canonical images to a dict of (B,) terms.

    Parameters
    ----------
    data : what is asked of the features, a `FeatureTerm` or a `Sum` of them; its first name is "loss" and includes C
    regularizers : by name; their values are added as they are; default the paper's two
    transform : what Φ is shown of x; default the whole of it, unmoved. The regularizers see all of x.

    Sample b of every term depends on x[b] alone.

    >>> from .losses import Euclidean
    >>> from .terms import FeatureTerm
    >>> energy = Energy(FeatureTerm(Euclidean(), lambda x: 2 * x, torch.full((1, 1, 2, 2), 8.0), C=10.0))
    >>> {k: v.tolist() for k, v in energy(torch.full((2, 1, 2, 2), 4.0)).items()}["loss"]
    [0.0, 0.0]
    """

    def __init__(
        self,
        data: DataTerm,
        regularizers: Mapping[str, Regularizer] | None = None,
        transform: Transform = Jitter(1),  # noqa: B008 (frozen)
    ) -> None:
        if not isinstance(data, DataTerm):
            raise InputError(
                f"An energy is made of terms, as Energy(FeatureTerm(loss, phi, target)); got {type(data).__name__} in their place."
            )
        self.data, self.transform = data, transform
        paper: dict[str, Regularizer] = {"alpha-norm": AlphaNorm(), "tv-beta": TVBeta()}
        self.regularizers = paper if regularizers is None else dict(regularizers)
        if taken := [n for n in self.regularizers if n in ("loss", "total") or "." in n]:
            raise InputError(f"A regularizer cannot be called {taken}: the energy has these names itself; dots are for parts of a term.")

    @property
    def terms(self) -> tuple[str, ...]:
        """The names of the terms in their order: "loss" and its parts, then the regularizers."""
        return *self.data.names, *self.regularizers

    def __call__(self, x: Tensor, views: Sequence[View] | None = None) -> dict[str, Tensor]:
        """Return the terms at x. views: what Φ is shown of it, the mean over them; None: x itself, which is no larger than that."""
        seen = [x] if views is None else [self.transform(x, view) for view in views]
        return _mean([self.data(s) for s in seen]) | {name: regularizer(x) for name, regularizer in self.regularizers.items()}

    def differentiate(self, x: Tensor, views: Sequence[View] | None = None) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Return the terms as `__call__` gives them, the gradient of their sum (B, C, H, W), and whether the loss has one (B,).

        Only Φ, and those parts that do not know their derivative, have a graph, which ends with the call.
        """
        if views is None:
            terms, seen = self.data.differentiate(x.detach().requires_grad_())
            gradient, felt = seen.clone(memory_format=torch.contiguous_format), _felt(seen)
        else:
            gradient, felt, found = torch.zeros_like(x), torch.zeros(len(x), dtype=torch.bool, device=x.device), []
            for view in views:
                window, add = self.transform.show(x, view)
                terms, seen = self.data.differentiate(window.requires_grad_())
                add(gradient, seen if len(views) == 1 else seen / len(views))
                felt = felt | _felt(seen)
                found.append(terms)
            terms = _mean(found)
        terms = terms | {name: add_gradient(regularizer, x, gradient) for name, regularizer in self.regularizers.items()}
        return terms, gradient, felt

    def part(self, samples: slice) -> Energy:
        """Return the energy of some of the samples."""
        out = copy.copy(self)
        out.data = self.data.part(samples)
        out.regularizers = {n: r.part(samples) if isinstance(r, OfSamples) else r for n, r in self.regularizers.items()}
        return out


@dataclass(frozen=True)
class Problem:
    """An energy and how its images are written: all that a solver has to solve.

    Parameters
    ----------
    energy : `Energy`
    parameterization : x = g(z); default the pixels themselves
    ball : the bound on each pixel's colour norm, kept after every step; default the paper's 160 grey levels
    space : the pixels of x, which a parameterization with a range of its own must know
    from_noise : whether a run begins with the parameterization's own noise instead of with the canvases; for pixels they are the same
    opened : `Representation.opened` of the Φ whose gradient may pass closed ReLUs for a while; None where none can
    """

    energy: Energy
    parameterization: Parameterization = field(default_factory=Pixels)
    ball: PixelBall = field(default_factory=PixelBall)
    space: PixelSpace | None = None
    from_noise: bool = False
    opened: Callable[[float, float], AbstractContextManager[None]] | None = None


def _felt(gradient: Tensor) -> Tensor:
    return gradient.abs().amax(dim=(1, 2, 3)) != 0


def _mean(found: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Of each term over the views."""
    if len(found) == 1:
        return found[0]
    return {name: torch.stack([f[name] for f in found]).mean(dim=0) for name in found[0]}
