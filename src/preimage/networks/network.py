"""A network: a module with its pixel space, layer names and class names; and the registry from which one is loaded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..images import ImageLike
from ..pixelspace import PixelSpace
from ..registry import Registry, unknown
from ..representations.cnn import Layer, LayerInfo, evaluating, layers, parse_name, with_title
from .fetch import RemoteFile, check


@dataclass(frozen=True)
class NetworkCard:
    """What is known of a network before it is loaded.

    build: makes the module with random weights. weights: reads its trained weights as a state dict, or None if there are none.
    names: its own layer names -> the module's dotted names, in order. classes: gives the class names in order.
    file: where trained weights that do not come with a package can be had, with `preimage fetch NAME`. adopt: such a file, by its
    path -> the card with the weights, pixels and classes of the file.
    """

    name: str
    space: PixelSpace
    build: Callable[[], nn.Module] = field(repr=False)
    weights: Callable[[], Mapping[str, Tensor]] | None = field(default=None, repr=False)
    names: Mapping[str, str] = field(default_factory=dict, repr=False)
    classes: Callable[[], list[str]] | None = field(default=None, repr=False)
    file: RemoteFile | None = field(default=None, repr=False)
    adopt: Callable[[str | os.PathLike[str]], NetworkCard] | None = field(default=None, repr=False)
    sha256: str = ""
    source: str = ""
    licence: str = ""
    paper: str = ""


@dataclass(frozen=True)
class Source:
    """A way to name networks that are not registered one by one.

    form: what such a name looks like, for help and errors. matches: whether a name is of this form (nothing is opened for it).
    open: the name -> a card; raises InputError for what it cannot read and MissingExtra for a library that is not installed.
    """

    form: str
    matches: Callable[[str], bool] = field(repr=False)
    open: Callable[[str], NetworkCard] = field(repr=False)


NETWORKS: Registry[NetworkCard] = Registry("network", see="preimage networks")
SOURCES: Registry[Source] = Registry("source of networks", see="preimage networks")
_FAMILIES = ("squeezenet", "classic", "matconvnet")  # one file a family or a source in this folder; it registers when it is imported


def load_network(
    name: str | os.PathLike[str],
    weights: str | os.PathLike[str] | None = "default",
    *,
    seed: int = 0,
    device: str | torch.device | None = None,
) -> Network:
    """A network by name.

    name: a registered one, or the path of a MatConvNet file (FILE.mat).
    weights: "default", the trained ones of its card; a .safetensors file or a .pt/.pth checkpoint (a plain state dict, read
    without running code) that fits exactly; for a classic network, its .mat file; None, random initialisation from `seed`.
    Raises UnknownName for the name, InputError for weights that do not fit (with the list of what is wrong), FetchError for trained
    weights that were not fetched.

    >>> net = load_network("squeezenet1_1", weights=None)
    >>> net.layer("fire4").shape
    (256, 28, 28)
    """
    card = find_card(os.fspath(name))
    origin = "random" if weights is None else str(weights)
    card, weights = _adopted(card, weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = card.build()
    if weights is not None:
        _fill(module, _weights(card, weights), f"the weights {str(weights)!r} of {name}")
    return Network(module.eval().to(device or "cpu"), card, f"{origin}{f' (seed {seed})' if weights is None else ''}")


def _adopted(card: NetworkCard, weights: str | os.PathLike[str] | None) -> tuple[NetworkCard, str | os.PathLike[str] | None]:
    """Where the weights are in a file that says more than weights: the card of that file, and its "default" weights."""
    if card.adopt is None or weights is None:
        return card, weights
    if str(weights) == "default" and card.file is not None:
        return card.adopt(check(card.file, net=card.name)), "default"
    return (card.adopt(weights), "default") if str(weights).lower().endswith(".mat") else (card, weights)


def known_networks() -> list[NetworkCard]:
    """Every registered card, by name."""
    registry = _registered()
    return [registry[name] for name in registry]


def find_card(name: str) -> NetworkCard:
    """The card of a registered name, or the one that the source of such names opens. Raises UnknownName with the forms of names."""
    registry = _registered()
    if name in registry:
        return registry[name]
    for source in SOURCES:
        if SOURCES[source].matches(name):
            return SOURCES[source].open(name)
    return registry[name]


def _registered() -> Registry[NetworkCard]:
    """The registry with every family of this package in it."""
    for family in _FAMILIES:
        import_module(f".{family}", __package__)
    return NETWORKS


class Network:
    """A module, its pixel space and its names. Made by `load_network`.

    module: the nn.Module. space: its PixelSpace. classes: names of the classes in order, empty if it has none.
    """

    def __init__(self, module: nn.Module, card: NetworkCard, weights: str) -> None:
        self.module, self.card, self.space, self.weights = module, card, card.space, weights
        self.classes: list[str] = card.classes() if card.classes else []
        self._infos: list[LayerInfo] | None = None

    def __repr__(self) -> str:
        return f"Network({self.card.name!r}, weights={self.weights!r}, size={self.space.size}, {len(self.layers())} layers)"

    def layers(self, every: bool = False) -> list[LayerInfo]:
        """The layers that have a name of the network's own, in order; with every=True all modules, by their dotted names too."""
        if self._infos is None:
            self._infos = layers(self.module, self.space)
        own = {dotted: name for name, dotted in self.card.names.items()}
        if every or not own:
            return [with_title(i, own.get(i.name, i.name)) for i in self._infos]
        return [with_title(i, own[i.name]) for i in self._infos if i.name in own]

    def layer(self, name: str, **options: Any) -> Layer:
        """A layer as a representation; `options` are those of `Layer`. Raises UnknownName with the nearest names."""
        dotted, *_ = parse_name(name)
        target = self.card.names.get(dotted)
        if target is None:
            modules = [n for n, _ in self.module.named_modules() if n]
            if dotted not in modules:
                raise unknown(f"layer of {self.card.name}", dotted, [*self.card.names, *modules], f"preimage layers {self.card.name}")
            target = dotted
        return ClassifierLayer(self, target + name[len(dotted) :], title=name, **options)

    def predict(self, image: ImageLike) -> Tensor:
        """Class probabilities (B, classes), the softmax of the module's output.

        image: whatever `PixelSpace.encode` takes. Raises InputError if the network gives no vector of scores.
        """
        device = next((p.device for p in self.module.parameters()), torch.device("cpu"))
        x = self.space.encode(image).to(device)
        with torch.no_grad(), evaluating(self.module):
            scores = self.module(self.space.to_network(x).clone())
        if not isinstance(scores, Tensor) or scores.ndim != 2:
            raise InputError(f"{self.card.name} gives no vector of class scores.")
        return scores.softmax(dim=1)

    def top(self, image: ImageLike, count: int = 5) -> list[list[tuple[str, float]]]:
        """The most likely classes of each image with their probabilities, best first."""
        best = self.predict(image).topk(count, dim=1)
        return [
            [(self.class_name(int(i)), float(p)) for p, i in zip(values, indices, strict=True)]
            for values, indices in zip(best.values, best.indices, strict=True)
        ]

    def class_name(self, index: int) -> str:
        return self.classes[index] if index < len(self.classes) else str(index)

    def class_index(self, name: str) -> int:
        """The index of a class by its name, whatever the case; a part of the name will do where only one class has it.

        Raises InputError for a name that several classes share, with their indices, and UnknownName for none.
        """
        return find_class(name, self.classes, self.card.name)


class ClassifierLayer(Layer):
    """A layer that knows its network, so that its units can be called by class names where it is the last one."""

    def __init__(self, network: Network, name: str, **options: Any) -> None:
        super().__init__(network.module, name, space=network.space, **options)
        self.network = network

    def unit_named(self, name: str) -> int:
        """The unit of a class. Raises InputError unless this layer has one unit for each class."""
        channels = self.shape[0] if self.shape else 0
        if not self.network.classes or channels != len(self.network.classes):
            raise InputError(
                f"Layer {self.name!r} has {channels} channels and no class names: give the unit as a number, "
                f"or choose the last layer ({self.network.layers()[-1].name!r})."
            )
        return self.network.class_index(name)


def find_class(name: str, classes: list[str], of: str) -> int:
    """See `Network.class_index`.

    >>> find_class("Tree Frog", ["tree frog", "tailed frog"], "a network")
    0
    >>> find_class("frog", ["tree frog", "tailed frog"], "a network")
    Traceback (most recent call last):
    preimage.errors.InputError: 2 classes of a network are called 'frog': 0 tree frog, 1 tailed frog. Give the whole name or the number.
    """
    wanted = name.strip().lower()
    for match in (lambda c: c == wanted, lambda c: wanted in c):
        found = [i for i, c in enumerate(classes) if match(c.lower())] if wanted else []
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(f"{i} {classes[i]}" for i in found[:12]) + (", …" if len(found) > 12 else "")
            raise InputError(f"{len(found)} classes of {of} are called {name!r}: {some}. Give the whole name or the number.")
    raise unknown(f"class of {of}", name, classes, "the network's classes")


def weights_hash(module: nn.Module) -> str:
    """sha256 over the names, types, shapes and values of a module's state, for a result's record.

    >>> weights_hash(nn.Identity())[:8]
    'e3b0c442'
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _weights(card: NetworkCard, weights: str | os.PathLike[str]) -> Mapping[str, Tensor]:
    if str(weights) == "default":
        if card.weights is None:
            raise InputError(f"{card.name} comes without trained weights. Give a file (weights=PATH) or weights=None for random ones.")
        return card.weights()
    path = Path(weights)
    if not path.is_file():
        raise InputError(f"There is no weights file {str(path)!r}. Give 'default', a .safetensors or .pt file, or None for random weights.")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise InputError(f"{str(path)!r} is no safetensors file, or damaged ({error}).") from None
    if path.suffix in (".pt", ".pth"):
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            first = str(error).strip().splitlines()[0]
            raise InputError(
                f"{str(path)!r} is no plain checkpoint of tensors ({first}). Files with code are refused: save the model's state_dict()."
            ) from None
        state = state.get("state_dict", state) if isinstance(state, Mapping) else state
        if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
            raise InputError(f"{str(path)!r} holds no state dict. Save the model's state_dict().")
        return state
    raise InputError(f"Weights come as .safetensors, .pt or .pth; got {str(path)!r}.")


def _fill(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Exactly these tensors, or an error that lists every difference."""
    wanted = module.state_dict()
    wrong = [f"missing {k}" for k in wanted if k not in state] + [f"unexpected {k}" for k in state if k not in wanted]
    wrong += [
        f"{k} is {tuple(state[k].shape)} instead of {tuple(v.shape)}" for k, v in wanted.items() if k in state and state[k].shape != v.shape
    ]
    wrong += [f"{k} holds NaN or infinite values" for k, v in state.items() if v.is_floating_point() and not bool(v.isfinite().all())]
    if wrong:
        more = f" and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise InputError(f"{what[0].upper()}{what[1:]} do not fit: {'; '.join(wrong[:8])}{more}.")
    module.load_state_dict(dict(state))
