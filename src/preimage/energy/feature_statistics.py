"""How strong the channels of a network are on photographs, and how much they vary, as a prior of images."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import as_file, files
from typing import Any

from torch import Tensor, nn

from ..errors import InputError
from ..networks.network import Network, weights_hash
from ..plain import FILE
from ..representations.base import Representation, features_of
from ..statistics.statistics import load_statistics
from .batch_norm import normalisations
from .losses import LOSSES, Loss
from .objectives import OBJECTIVES, Given, Objective
from .styles import with_statistics
from .terms import FeatureTerm

Known = Mapping[str, tuple[Tensor, Tensor]]  # layer -> mean and standard deviation of each channel, (C,)


@OBJECTIVES.register("feature-statistics", examples=[])
@dataclass(frozen=True)
class FeatureStatistics(Objective):
    r"""Excite channels as photographs do: over the layers the mean of :math:`\|\mu-\mu_0\|/\|\mu_0\| + \|\sigma-\sigma_0\|/\|\sigma_0\|`.

    μ, σ: mean and standard deviation of each channel over the places of an image's features; μ₀, σ₀: over photographs. These are,
    in this order: of `file`, as `preimage statistics NET photos/ -o FILE` writes one; those that the package carries for its
    embedded SqueezeNet; those that the network's batch normalisations have kept of their training images, of what they are given.

    Parameters
    ----------
    layers : names, default ()
        Of the network; by default all that the file has, and of what a network brings itself the later half.
    file : path or None
        Of the network's statistics.
    required : bool, default True
        Whether a network of which no statistics are known is refused; else it goes without this objective.

    Source: Yin et al. 2020 (DeepInversion), with batch normalisation alone and a batch's statistics; here each image has its own.
    """

    layers: tuple[str, ...] = ()
    file: str | None = field(default=None, metadata=FILE)
    required: bool = True

    @property
    def losses(self) -> tuple[str, ...]:
        return ("mean-deviation-norms",)

    def takes_divisor(self) -> bool:
        return False

    def bind(self, given: Given) -> tuple[Loss, Representation, Tensor]:
        raise InputError("FeatureStatistics asks several layers at once: take its terms.")

    def terms(self, given: Given, C: float) -> list[FeatureTerm]:
        network = given.phi.network
        known = None if not isinstance(network, Network) else self._known(network, given)
        if not known:
            if self.required or self.file is not None:
                raise InputError(
                    f"No statistics of photographs are known for {given.phi.name}: make some with "
                    "preimage statistics NET photos/ -o FILE, and say feature-statistics:file=FILE."
                )
            return []
        if missing := [name for name in self.layers if name not in known]:
            raise InputError(f"There are no statistics of {missing[0]!r}; there are of {', '.join(known)}.")
        chosen = {name: known[name] for name in self.layers} if self.layers else known
        loss, weight = LOSSES["mean-deviation-norms"](), C * self.weight / len(chosen)
        return [
            FeatureTerm(loss, given.representation(name), _target(mean, deviation, given.like), weight, name=f"statistics of {name}")
            for name, (mean, deviation) in chosen.items()
        ]

    def _known(self, network: Network, given: Given) -> Known | None:
        if self.file is not None:
            return statistics_in(self.file, network)
        return carried(network) or kept_by_normalisations(given)


def _target(mean: Tensor, deviation: Tensor, like: Tensor) -> Tensor:
    return with_statistics(mean.to(like), deviation.to(like), (2, 1))


def statistics_in(path: str | os.PathLike[str], network: Network) -> Known:
    """Read means and deviations of the layers of a network from a file that `preimage statistics` wrote.

    Raises
    ------
    InputError : for another file, an unfinished one, one of other weights or pixels, and one without a layer whose channels vary
    """
    try:
        stats = load_statistics(path)
    except InputError as error:
        raise InputError(f"{str(path)!r} holds no statistics of a network that can be used here. {error}") from error
    try:
        stats.check(weights_hash(network.module), network.space.to_dict())
    except InputError as error:
        raise InputError(
            f"{str(path)!r} has the statistics of other weights or pixels than those of {network.card.name}. {error}"
        ) from error
    found = {name: (layer.mean, layer.std) for name, layer in stats.layers.items() if float(layer.std.norm()) > 0}
    if not found:
        raise InputError(f"{str(path)!r} has no layer whose channels vary.")
    return found


def carried(network: Network) -> Known | None:
    """Return the statistics that the package carries for an embedded network, or None: for others, and for other weights.

    >>> import preimage
    >>> list(carried(preimage.load_network("squeezenet1_1")))
    ['fire5', 'fire6', 'fire7', 'fire8', 'fire9']
    """
    place = files("preimage").joinpath(f"data/statistics-{network.card.name}.safetensors")
    if "/" in network.card.name or not place.is_file():
        return None
    known, weights = _read(network.card.name)
    return known if weights == weights_hash(network.module) else None


@lru_cache
def _read(name: str) -> tuple[Known, str]:
    from safetensors import safe_open

    with (
        as_file(files("preimage").joinpath(f"data/statistics-{name}.safetensors")) as path,
        safe_open(path, framework="pt") as file,
    ):
        about = file.metadata()
        layers = json.loads(about["layers"])
        return {n: (file.get_tensor(f"mean:{n}"), file.get_tensor(f"deviation:{n}")) for n in layers}, about["weights_sha256"]


def kept_by_normalisations(given: Given) -> Known | None:
    """Return what the later half of the batch normalisations on the way to the task's layer have kept of what they are given.

    By the names of the layers that give it to them, so that one pass serves all. None where there is none.
    """
    network = given.phi.network
    module: nn.Module | None = getattr(network, "module", None)
    all_ = normalisations(module)
    if module is None or not all_:
        return None
    made: dict[int, str] = {}
    outputs: list[Any] = []  # kept, so that no two have one id
    fed: dict[str, Any] = {}

    def note(name: str) -> Any:
        def keep(layer: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                outputs.append(output)
                made[id(output)] = name

        return keep

    def note_input(layer: nn.Module, args: Sequence[Any]) -> None:
        if args and (name := made.get(id(args[0]))):
            fed[name] = layer

    handles = [m.register_forward_hook(note(n)) for n, m in module.named_modules() if n and not list(m.children())]
    handles += [m.register_forward_pre_hook(note_input) for m in all_]
    try:
        features_of(given.phi, given.like.new_zeros(1, given.phi.space.count, *given.size))
    finally:
        for handle in handles:
            handle.remove()
    later = list(fed.items())[len(fed) // 2 :]
    found = {name: (m.running_mean.detach(), m.running_var.detach().clamp(min=0).sqrt()) for name, m in later}
    return {n: (mean, deviation) for n, (mean, deviation) in found.items() if float(deviation.norm()) > 0}
