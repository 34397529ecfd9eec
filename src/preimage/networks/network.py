"""A network: a module with its pixel space, layer names and class names; and the registry from which one is loaded."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, UnknownName
from ..pixels.images import ImageLike
from ..pixels.pixelspace import PixelSpace
from ..registry import Registry, unknown
from ..representations.cnn import Layer
from ..representations.listing import LayerInfo, layers, with_title
from ..representations.outputs import only_tensor, parse_name
from ..representations.sessions import evaluating
from .checkpoints import fill, foreign_format, read_state
from .fetch import RemoteFile, check
from .labels import check_count, read_labels

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NetworkCard:
    """What is known of a network before it is loaded.

    space: the pixels that it takes; None where its source does not say, and the caller must. build: makes the module with random
    weights. weights: reads its trained weights as a state dict, or None if there are none. whole: `build` gives the trained module
    itself (a program, a function's own), and there is no random one. names: its own layer names -> the module's dotted names, in
    order. classes: gives the class names in order. resize: (module, (height, width)) -> the module that takes this size, where it
    must be changed for it. size: the (height, width) of a file that says nothing else of its pixels.
    scores: the layer whose channels' means are the scores of the classes, before any ReLU or softmax, where it is not the last.
    made_for: space -> the module, where it cannot be made before its pixels are known.
    file: where trained weights that do not come with a package can be had, with `preimage fetch NAME`. adopt: such a file, by its
    path -> the card with the weights, pixels and classes of the file. gradients: whether they pass through it; not where it is run by
    a program that gives none.
    """

    name: str
    space: PixelSpace | None
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
    whole: bool = False
    resize: Callable[[nn.Module, tuple[int, int]], nn.Module] | None = field(default=None, repr=False)
    size: tuple[int, int] | None = None
    scores: str | None = None
    made_for: Callable[[PixelSpace], nn.Module] | None = field(default=None, repr=False)
    gradients: bool = True


@dataclass(frozen=True)
class Source:
    """A way to name networks that are not registered one by one.

    form: what such a name looks like, for help and errors. matches: whether a name is of this form (nothing is opened for it).
    open: the name -> a card; raises InputError for what it cannot read and MissingExtra for a library that is not installed.
    about: one line for the list of sources. program: whether what is so named can run code of whoever made it; it is opened on
    trust only. imports: whether opening the name runs Python code that it leads to; whoever types the name has chosen it, but a file
    or a folder that names it has not, so `named_by_file` asks for trust. alike: whole names of this form for a name without it,
    as "torchvision/resnet50" for "resnet50"; asked only where a name is known to nobody.
    """

    form: str
    matches: Callable[[str], bool] = field(repr=False)
    open: Callable[[str], NetworkCard] = field(repr=False)
    about: str = ""
    program: Callable[[str], bool] = field(default=lambda name: False, repr=False)
    imports: bool = False
    alike: Callable[[str], list[str]] = field(default=lambda name: [], repr=False)


NETWORKS: Registry[NetworkCard] = Registry("network", see="preimage networks")
SOURCES: Registry[Source] = Registry("source of networks", see="preimage networks")
_FAMILIES = (  # one file a family or a source in this folder; it registers when it is imported
    "squeezenet",
    "classic",
    "matconvnet",
    "efficientnet_lite0",
    "from_torchvision",
    "from_timm",
    "from_transformers",
    "from_onnx",
    "from_programs",
    "from_function",
)


def load_network(
    name: str | os.PathLike[str] | NetworkCard,
    weights: str | os.PathLike[str] | None = "default",
    *,
    space: PixelSpace | None = None,
    size: int | tuple[int, int] | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    trust: bool = False,
    labels: str | os.PathLike[str] | Sequence[str] | None = None,
) -> Network:
    """A network by name, or by its card.

    name: a registered one (`preimage networks` lists them and these forms): torchvision/NAME[:WEIGHTS], timm/NAME[.TAG],
    transformers/FOLDER-OR-ID, FILE.mat (MatConvNet), FILE.onnx, FILE.pt2 or FILE.ts (programs), package.module:function.
    weights: "default", the trained ones of its card; a .safetensors file or a .pt/.pth checkpoint (a plain state dict, read
    without running code) that fits exactly; for a classic network, its .mat file; None, random initialisation from `seed`.
    space: the pixels that it takes, instead of its own; needed where the source does not say. size: another input size.
    labels: the names of its classes, a list or a file (one a line, .json, a transformers config, .mat, .onnx), instead of its own.
    trust: run a program of somebody else's. A .pt2 or TorchScript file can do anything that you can.
    Raises UnknownName for the name, InputError for weights that do not fit (with the list of what is wrong), for a missing space
    and for a size that the network cannot take, MissingExtra and FetchError for what is not here.

    >>> net = load_network("squeezenet1_1", weights=None)
    >>> net.layer("fire4").shape
    (256, 28, 28)
    """
    card = name if isinstance(name, NetworkCard) else find_card(os.fspath(name) if isinstance(name, os.PathLike) else name, trust)
    origin = f"random (seed {seed})" if weights is None else str(weights)
    card, weights = _adopted(card, weights)
    if weights is None and card.whole:
        raise InputError(f"{card.name} comes with its weights and has no random initialisation: leave weights as 'default'.")
    pixels = _space(card, space, size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = card.build()
    if weights is not None and not (card.whole and str(weights) == "default"):
        state = _trained(card) if str(weights) == "default" else read_state(weights)
        fill(module, state, f"the weights {str(weights)!r} of {card.name}")
    if pixels != card.space:
        module = _taking(module.eval(), card, pixels)
    _log.info("network %s, weights %s, pixels %s", card.name, origin, pixels)
    network = Network(module.eval().to(device or "cpu"), replace(card, space=pixels), origin)
    if labels is not None:
        network.classes = read_labels(labels)
        last = network.layers()[-1]
        check_count(network.classes, last.shape[0] if last.shape else 1, card.name)
    return network


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
    return [registry[name] for name in sorted(registry)]


def known_sources() -> list[Source]:
    """Every form of name that is not one network's."""
    _registered()
    return [SOURCES[name] for name in SOURCES]


def find_card(name: str, trust: bool = False) -> NetworkCard:
    """The card of a registered name, or the one that the source of such names opens.

    Raises UnknownName with the forms of names, InputError for a program without `trust`.
    """
    if not isinstance(name, str):
        raise InputError(f"A network is given by its name, a file or a NetworkCard; got {name!r:.80}.")
    registry = _registered()
    if name in registry:
        return registry[name]
    if (known := foreign_format(name)) is not None:
        raise InputError(f"{name!r} is {known}.")
    for source in known_sources():
        if source.matches(name):
            if not trust and source.program(name):
                raise InputError(
                    f"{name!r} is a program, which can do on this computer whatever you can. Where you trust whoever made it, say so: "
                    "load_network(…, trust=True), or --trust on the command line."
                )
            return source.open(name)
    forms = ", ".join(source.form for source in known_sources())
    whole = [n for source in known_sources() for n in source.alike(name)]
    if whole:
        near = dict.fromkeys([*same_name(name, registry), *whole, *get_close_matches(name, registry, 2)])
        raise UnknownName(f"No network named {name!r}. Did you mean {' or '.join(repr(n) for n in near)}? See: preimage networks")
    raise UnknownName(f"{unknown('network', name, list(registry), 'preimage networks')}. Other networks are named {forms}.")


def same_name(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names that are this one but for case, dashes, dots and underscores.

    >>> same_name("ResNet-50", ["resnet50", "resnet501"])
    ['resnet50']
    """

    def bare(text: str) -> str:
        return "".join(c for c in text.lower() if c.isalnum())

    return [k for k in known if bare(k) == bare(name)]


def named_by_file(name: str, trust: bool) -> str:
    """Return the name of a network that stands in a file or folder, not on a command line. Raises InputError if it would run code unasked.

    >>> named_by_file("squeezenet1_1", trust=False)
    'squeezenet1_1'
    >>> named_by_file("os:abort", trust=False)
    Traceback (most recent call last):
    preimage.errors.InputError: The network is named 'os:abort', which is Python code ...
    """
    if trust or name in _registered():
        return name
    source = next((s for s in known_sources() if s.matches(name)), None)
    if source is not None and (source.imports or source.program(name)):
        what = "Python code of your own or somebody else's" if source.imports else "a program"
        raise InputError(
            f"The network is named {name!r}, which is {what}: it can do on this computer whatever you can, and a folder may name any. "
            "Where you trust whoever made the folder, say so: trust=True, or --trust on the command line."
        )
    return name


def _space(card: NetworkCard, space: PixelSpace | None, size: int | tuple[int, int] | None) -> PixelSpace:
    """The pixels that the network is to take. Raises InputError where nobody says."""
    if space is None and card.space is None:
        takes = f" of {card.size[0]}x{card.size[1]}" if card.size else ""
        example = card.size[0] if card.size else 224
        raise InputError(
            f"{card.name} does not say which pixels{takes} it takes (order of channels, scale, mean). Give its space: "
            f"space=preimage.PixelSpace.imagenet({example}), or --space imagenet:{example}, or the one it was trained with, "
            f"as --space size={example},channels=rgb,scale=1,mean=0.5,std=0.5"
        )
    chosen = space or card.space
    assert chosen is not None
    return chosen if size is None else replace(chosen, size=size)  # type: ignore[arg-type]


def _trained(card: NetworkCard) -> Mapping[str, Tensor]:
    if card.weights is None:
        raise InputError(f"{card.name} comes without trained weights. Give a file (weights=PATH) or weights=None for random ones.")
    return card.weights()


def _taking(module: nn.Module, card: NetworkCard, space: PixelSpace) -> nn.Module:
    """The module, made to take a space that is not its card's. Raises InputError with the module's reason if it cannot."""
    if space.size is None:
        raise InputError(f"The pixel space of {card.name} needs a size.")
    try:
        if card.made_for is not None:
            module = card.made_for(space)
        if card.resize is not None and (card.space is None or card.space.size != space.size):
            module = card.resize(module, space.size)
        first = next((t for t in module.parameters() if t.is_floating_point()), torch.zeros(0))
        with torch.no_grad(), evaluating(module):
            module(torch.zeros(1, space.count, *space.size, device=first.device, dtype=first.dtype))
    except InputError:
        raise
    except Exception as error:  # whatever a module raises on an image of another size
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        own = card.size if card.space is None else card.space.size
        wanted = f"; its own size is {own[0]}x{own[1]}" if own else ""
        raise InputError(
            f"{card.name} cannot take {space.count} channels of {space.size[0]}x{space.size[1]} pixels{wanted} ({reason})."
        ) from error
    return module


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
        if card.space is None:
            raise InputError(f"The card of {card.name} has no pixel space: give it one.")
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
        return [with_title(i, own[i.name]) for i in self._infos if i.name in own and not _is_shape(i)]

    def layer(self, name: str, **options: Any) -> Layer:
        """A layer as a representation, "" for the whole network; `options` are those of `Layer`. Raises UnknownName, with the nearest."""
        modules = [n for n, _ in self.module.named_modules(remove_duplicate=False) if n]
        dotted, *_ = parse_name(name, {"", *self.card.names, *modules})
        target = self.card.names.get(dotted)
        if target is None:
            if dotted and dotted not in modules:
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
            scores = only_tensor(self.module(self.space.to_network(x).clone()), "logits")
        if scores is None or scores.ndim != 2:
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


def _is_shape(info: LayerInfo) -> bool:
    """Whether a node of a graph computes sizes and not features: it gives no entry for an image, and depends on none."""
    return info.shape == () and info.field is None


class ClassifierLayer(Layer):
    """A layer that knows its network, so that its units can be called by class names where it is the last one."""

    network: Network

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
        flat = tensor.reshape(-1)
        if flat.stride() != (1,):  # one number that was expanded counts as contiguous with a stride of 0
            flat = flat.clone(memory_format=torch.contiguous_format)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()
