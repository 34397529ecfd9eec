"""A concept as a direction: what the features of some pictures have that those of others have not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, missing_extra
from ..networks.network import weights_hash
from ..ranges import checked
from ..representations.base import RepresentationLike, as_representation
from ..representations.vectors import save_direction
from .features import channel_vectors, pictures_of

METHODS = ("logistic", "mean")
_LEAST = 4  # pictures of each side: one is held out


@dataclass(frozen=True)
class Concept:
    """Two directions of unit length over the channels of a layer, and how well each tells pictures apart that it was not made of.

    vectors: "logistic", the weights of a logistic regression, and "mean", the difference of the means. accuracy: of each, on the pictures
    that were held out, each side counting half; 0.5 is chance. held_out: how many pictures that were. layer, network, weights_sha256: of
    what.
    """

    vectors: Mapping[str, Tensor] = field(repr=False)
    accuracy: Mapping[str, float]
    held_out: int
    layer: str
    network: str | None = None
    weights_sha256: str | None = None
    use: str = "logistic"

    @property
    def direction(self) -> Tensor:
        """The vector (C,) of the method that was chosen, as `maximize` takes it."""
        return self.vectors[self.use]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write both vectors and the record as one .safetensors file, which `load_direction` and `--direction` read."""
        about = {k: getattr(self, k) for k in ("accuracy", "held_out", "layer", "network", "weights_sha256", "use")}
        save_direction(path, self.vectors, about | {"accuracy": dict(self.accuracy)})


def learn_concept(
    phi: RepresentationLike, positives: Any, negatives: Any, *, use: str = "logistic", held_out: float = 0.25, seed: int = 0
) -> Concept:
    """Learn the direction in a layer that tells some pictures from others (a concept activation vector).

    Parameters
    ----------
    phi : representation
        Whose channels; the places of a map are averaged.
    positives, negatives : files, folders, or lists of pictures
        With the concept and without it, at least four each. Whatever else tells them apart is learned as well.
    use : "logistic" or "mean"
        Which of the two vectors is the direction. Both are made.
    held_out : float
        The part of each side that the accuracy is measured on and nothing is learned from, default 0.25.
    seed : int
        Which pictures are held out.

    Returns
    -------
    Concept

    Raises
    ------
    InputError
        For too few pictures, and for features that are the same on both sides.
    MissingExtra
        Without scikit-learn.

    References
    ----------
    Kim, Wattenberg, Gilmer, Cai, Wexler, Viegas, Sayres: Interpretability beyond feature attribution: quantitative testing with concept
    activation vectors, ICML 2018, Sect. 3.2.
    """
    if use not in METHODS:
        raise InputError(f"A direction is made by {' or '.join(METHODS)}; got {use!r}.")
    if not 0.0 < held_out <= 0.5:
        raise InputError(f"held_out is a part of the pictures, above 0 and at most 0.5; got {held_out!r}.")
    known = as_representation(phi)
    sides = [channel_vectors(known, pictures_of(p, w)).double() for p, w in ((positives, "positives"), (negatives, "negatives"))]
    if min(map(len, sides)) < _LEAST:
        raise InputError(
            f"A concept needs at least {_LEAST} pictures with it and {_LEAST} without; got {len(sides[0])} and {len(sides[1])}."
        )
    generator = torch.Generator().manual_seed(checked("seed", seed))
    orders = [torch.randperm(len(s), generator=generator) for s in sides]
    cuts = [max(1, round(held_out * len(s))) for s in sides]
    learn = [s[o[c:]] for s, o, c in zip(sides, orders, cuts, strict=True)]
    test = [s[o[:c]] for s, o, c in zip(sides, orders, cuts, strict=True)]
    apart = learn[0].mean(dim=0) - learn[1].mean(dim=0)
    if not bool(apart.any()):
        raise InputError(f"The features of {known.name} are the same for both sides: choose another layer or other pictures.")
    vectors = {"logistic": _logistic(*learn), "mean": apart / apart.norm()}
    network, module = known.network, known.module
    return Concept(
        {name: v.float() for name, v in vectors.items()},
        {name: _accuracy(v, learn, test) for name, v in vectors.items()},
        sum(cuts),
        known.name,
        network.card.name if hasattr(network, "card") else None,
        None if module is None else weights_hash(module),
        use,
    )


def _logistic(positives: Tensor, negatives: Tensor) -> Tensor:
    """The weights, in the features' own units, of a regression on features of unit variance with a ridge of 1."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise missing_extra("A concept is learned by scikit-learn", "shallow") from None
    x = torch.cat([positives, negatives])
    spread = x.std(dim=0, unbiased=False)
    spread = torch.where(spread > 1e-9 * spread.max(), spread, torch.inf)  # a feature that never changes tells nothing
    sides = [1] * len(positives) + [0] * len(negatives)
    fitted = LogisticRegression(max_iter=1000, class_weight="balanced").fit(((x - x.mean(dim=0)) / spread).numpy(), sides)
    weights = torch.from_numpy(fitted.coef_[0]) / spread
    unit: Tensor = weights / weights.norm()
    return unit


def _accuracy(vector: Tensor, learn: list[Tensor], test: list[Tensor]) -> float:
    """Of the halfway point between the two sides' means along the vector, on pictures that were not learned from."""
    border = sum(float((side @ vector).mean()) for side in learn) / 2
    right = [float(((test[0] @ vector) > border).double().mean()), float(((test[1] @ vector) < border).double().mean())]
    return sum(right) / 2
