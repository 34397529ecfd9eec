"""The statistics of an image at several layers at once, and the values of each channel whatever their places."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from ..errors import InputError, whole
from ..plain import FILE
from ..representations.base import Representation
from .losses import LOSSES, Loss
from .objectives import OBJECTIVES, Given, Match, Objective
from .terms import FeatureTerm


@LOSSES.register("sorted")
@dataclass(frozen=True)
class Sorted(Loss):
    r"""The values of each channel, in order of size: :math:`\|\text{sort}(\Phi)-\text{sort}(\Phi_0)\|^2 / \|\Phi_0\|^2`.

    features, target: (B, C, H, W), or tokens (B, T, D) -> (B,); sorted over the places of each channel, so that it does not see where
    anything is and sees all of how often each strength occurs. A target that is zero raises InputError.
    Source: Görgün, Schiele, Fischer 2025 (VITAL), who compare with the mean of sorted features of several photographs, not over their norm.

    >>> import torch
    >>> x = torch.rand(1, 3, 4, 4)
    >>> Sorted()(x.flip(-1), x)
    tensor([0.])
    """

    def scale(self, target: Tensor) -> Tensor:
        scale = target.flatten(1).square().sum(dim=1)
        if not bool((scale > 0).all()):
            raise InputError("The target features are all zero: there is nothing to match. Choose another layer or another image.")
        return scale

    def __call__(self, features: Tensor, target: Tensor, scale: Tensor | None = None) -> Tensor:
        scale = self.scale(target) if scale is None else scale
        ordered = (_channels(f).sort(dim=2).values for f in (features, target))
        a, b = ordered
        return (a - b).square().sum(dim=(1, 2)) / scale


@OBJECTIVES.register("texture", examples=[{}, {"loss": "sorted", "layers": 2}])
@dataclass(frozen=True)
class Texture(Objective):
    """Have the statistics of an image at several layers: the mean of ℓ over `layers` of the network, the task's own among them.

    layers : int, default 5
        How many at most, evenly spread over the maps that the network's own list has up to the task's layer; after ReLUs and pooling
        where there are any, as in Gatys, Ecker, Bethge 2015. A representation that belongs to no network is asked alone.
    loss : str, default "gram"
        The name of a loss: gram, mean-deviation, sorted.
    image : path or None
        Whose statistics; default the task's own image.
    """

    layers: int = 5
    loss: str = "gram"
    image: str | None = field(default=None, metadata=FILE)

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("layers", self.layers, 1)

    @property
    def losses(self) -> tuple[str, ...]:
        return (self.loss,)

    def takes_divisor(self) -> bool:
        return False

    def bind(self, given: Given) -> tuple[Loss, Representation, Tensor]:
        return Match(of=self.of, image=self.image, loss=self.loss).bind(given)

    def terms(self, given: Given, C: float) -> list[FeatureTerm]:
        own = given.representation(self.of)
        names = _spread(own, self.layers)
        asked = [replace(self, of=name, weight=self.weight / (len(names) + 1)) for name in names]
        last = replace(self, weight=self.weight / (len(names) + 1))
        return [part.term(given, C) for part in (*asked, last)]


def _spread(phi: Representation, count: int) -> list[str]:
    """Layers before phi that have maps, evenly, count - 1 of them where there are as many."""
    layers = getattr(phi.network, "layers", None)
    if layers is None:
        return []
    infos = list(layers())
    left_out = ("Dropout", "Conv", "BatchNorm") if any("ReLU" in info.kind for info in infos) else ("Dropout",)
    before: list[str] = []
    for info in infos:
        if info.name == phi.name:
            break
        if len(info.shape) == 3 and min(info.shape[1:]) > 1 and "/" not in info.name and not any(k in info.kind for k in left_out):
            before.append(info.name)
    else:
        return []
    some = min(count - 1, len(before))
    return [before[round((k + 0.5) * len(before) / some - 0.5)] for k in range(some)]


def _channels(features: Tensor) -> Tensor:
    """(B, C, H, W) or tokens (B, T, D) -> (B, C, n)."""
    if features.dim() == 3:
        return features.mT
    if features.dim() < 2:
        raise InputError(f"Channels are sorted over places; got features of shape {tuple(features.shape)}.")
    return features.flatten(2) if features.dim() > 2 else features.unsqueeze(2)
