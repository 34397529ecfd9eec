"""The classes that a network would see in an image, by its features alone, as a question beside them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError, whole
from ..networks.network import Network
from ..representations.base import Representation, features_of
from ..representations.passes import layer_of
from .losses import LOSSES, Euclidean, Loss
from .margin import Margin, margin
from .objectives import OBJECTIVES, Given, Objective
from .terms import FeatureTerm


@LOSSES.register("expected-margin", examples=[{}, {"share": 0.5, "rivals": 1}])
@dataclass(frozen=True)
class ExpectedMargin(Loss):
    r"""Classes with weights against their rivals: :math:`-\left(\sum_c p_c l_c - s \cdot \frac1k \sum_{r \in R_k} l_r\right) / Z`.

    features, target: (B, C[, h, w]) -> (B,); the target has the weights p ≥ 0, not all 0, over a map in sum. l is the mean of each channel
    over its map, R_k the k largest of those without a weight, found anew for each image; p is divided by its sum. With one weight it is
    `Margin`.

    Parameters
    ----------
    share : float, default 0.8
        The rivals' weight s; 0 is the scores alone.
    rivals : int, default 10
        How many, k; at most all others.
    Z : float, default 20
        The divisor.

    Raises
    ------
    InputError
        For what `Margin` refuses, and weights below 0 or all 0.

    Examples
    --------
    >>> ExpectedMargin(share=0.5, rivals=1, Z=1.0)(torch.tensor([[7.0, 5.0, 2.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
    tensor([-5.])
    """

    share: float = 0.8
    rivals: int = 10
    Z: float = 20.0
    same_shape = False  # the means over the maps are compared

    def __post_init__(self) -> None:
        Margin(self.share, self.rivals, self.Z)

    def scale(self, target: Tensor) -> Tensor:
        if bool((target < 0).any()) or not bool((target.flatten(1).sum(dim=1) > 0).all()):
            raise InputError("The target of an expected margin is a weight for each class, 0 or above and not all 0.")
        return torch.full((len(target),), self.Z, dtype=target.dtype, device=target.device)

    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        scale = self.scale(target) if scale is None else scale
        scores = features.flatten(2).mean(dim=2) if features.dim() > 2 else features
        each = target.flatten(2).sum(dim=2) if target.dim() > 2 else target
        weights = (each / each.sum(dim=1, keepdim=True)).expand_as(scores)
        return -margin(scores, weights, self.share, self.rivals) / scale


@OBJECTIVES.register("keep-classes", examples=[])
@dataclass(frozen=True)
class KeepClasses(Objective):
    r"""Show the classes that the features of an image say: `ExpectedMargin` of the network's scores, the weights those of Φ0.

    The weights are the softmax of the scores that the rest of the network gives for the target features of the task, and for nothing else
    of the image: of the `places` first classes, 0 for others. So nothing is known of the image but its features, released ones where those
    are the target. For layers through which alone the scores see the image, as those of a chain and those between the blocks of a residual
    network, and without a mask.

    Parameters
    ----------
    places : int, default 5
        How many classes have a weight.
    share, rivals, Z : as of `ExpectedMargin`
    required : bool, default True
        Whether to refuse a representation of which that is not known; else it goes without this objective.
    """

    places: int = 5
    share: float = 0.8
    rivals: int = 10
    Z: float = 20.0
    required: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("places", self.places, 1)

    @property
    def losses(self) -> tuple[str, ...]:
        return ("expected-margin",)

    def bind(self, given: Given) -> tuple[Loss, Representation, Tensor]:
        found = self._found(given)
        if found is None:
            raise InputError(
                f"What classes features of {given.phi.name} say is not known: it needs a layer of a network with scores of classes, which "
                "see the image through this layer alone, and all of the features."
            )
        return found

    def terms(self, given: Given, C: float) -> list[FeatureTerm]:
        found = self.bind(given) if self.required else self._found(given)
        if found is None:
            return []
        loss, scores, weights = found
        return [FeatureTerm(loss, scores, weights, C * self.weight, name=scores.name)]

    def _found(self, given: Given) -> tuple[Loss, Representation, Tensor] | None:
        """The formula, the layer with the scores, and the weights of the classes (1 or B, C)."""
        network, phi0 = given.phi.network, _known_features(given)
        name = layer_of_scores(network) if isinstance(network, Network) else None
        if phi0 is None or name is None or name == given.phi.name:
            return None
        scores = given.representation(name)
        here, there = layer_of(given.phi), layer_of(scores)
        if here is None or there is None:
            return None
        blank = given.like.new_zeros(1, given.phi.space.count, *given.size)
        each = [here.go_on(phi0[b : b + 1], there, blank) for b in range(len(phi0))]
        known = [e.flatten(2).mean(dim=2) if e.dim() > 2 else e for e in each if e is not None]
        if len(known) < len(each) or known[0].shape[1] < 2:
            return None
        chances = torch.cat(known).softmax(dim=1)
        best = chances.topk(min(self.places, chances.shape[1] - 1), dim=1)
        weights = torch.zeros_like(chances).scatter(1, best.indices, best.values)
        return ExpectedMargin(self.share, self.rivals, self.Z), scores, weights


def _known_features(given: Given) -> Tensor | None:
    """What the task's features are to be: its target where it has one, else those of its image; None where a mask hides some."""
    if given.main is not None and isinstance(given.main[0], Euclidean):
        return given.main[1] if given.main[0].mask is None else None
    return None if given.x0 is None else features_of(given.phi, given.x0)


def layer_of_scores(network: Network) -> str | None:
    """Return the layer whose channels' means are the scores of the classes, before any softmax; None where no layer is known to have them.

    That is the one that the network says, or its last, where that has one number for each class and is no softmax or sigmoid.

    >>> from preimage import load_network
    >>> layer_of_scores(load_network("squeezenet1_1"))
    'conv10'
    """
    if network.card.scores is not None:
        return network.card.scores
    last = network.layers()[-1]
    counted = len(network.classes) > 1 and tuple(last.shape) == (len(network.classes),)
    return last.name if counted and not any(k in last.kind for k in ("oftmax", "igmoid")) else None
