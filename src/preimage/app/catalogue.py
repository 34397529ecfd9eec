"""What a visitor can choose: the networks of this server, their layers in order, their classes. Plain data: no weights are kept."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from ..errors import InputError
from ..networks.network import Network, load_network
from ..registry import unknown
from ..representations.listing import LayerInfo


@dataclass(frozen=True)
class Group:
    """Layers that follow each other and have the same map: title says which and from where to where."""

    title: str
    layers: tuple[LayerInfo, ...]


@dataclass(frozen=True)
class Entry:
    """One network: its input (height, width) and channels, layers in groups, class names, and the layer whose units are the classes."""

    name: str
    size: tuple[int, int]
    channels: int
    groups: tuple[Group, ...]
    classes: tuple[str, ...]
    class_layer: str | None

    def group(self, title: str) -> Group:
        """Raises UnknownName."""
        for group in self.groups:
            if group.title == title:
                return group
        raise unknown(f"part of {self.name}", title, [g.title for g in self.groups], "the list on the page")

    def layer(self, name: str) -> LayerInfo:
        """Raises UnknownName."""
        for info in (i for g in self.groups for i in g.layers):
            if info.name == name:
                return info
        raise unknown(f"layer of {self.name}", name, [i.name for g in self.groups for i in g.layers], "the list on the page")


class Catalogue:
    """The networks of one server. Each is opened when it is first asked for, described, and let go.

    how: for some of the names what `load_network` is to know beside them: weights, space, size, trust.
    """

    def __init__(self, names: Sequence[str], how: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        if not names:
            raise InputError("There is no network to show: name one with --net.")
        self.names = list(dict.fromkeys(names))
        self._how = how or {}
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()

    def load(self, name: str) -> Network:
        """A network of its own for whoever asks. Raises what `load_network` does."""
        return load_network(name, **self._how.get(name, {}))

    def entry(self, name: str) -> Entry:
        """Raises UnknownName for a network that this server does not offer, whatever else could be loaded by that name."""
        if name not in self.names:
            raise unknown("network on this page", name, self.names, "the list on the page")
        with self._lock:
            if name not in self._entries:
                self._entries[name] = describe(self.load(name))
            return self._entries[name]


def describe(network: Network) -> Entry:
    """The entry of a loaded network. Raises InputError if its images cannot be shown."""
    size, count = network.space.size, network.space.count
    if size is None or count not in (1, 3):
        raise InputError(f"{network.card.name} takes images of {count} channels, which no page can show.")
    infos = [i for i in network.layers() if i.shape]
    groups = [list(g) for _, g in groupby(infos, key=map_of)]
    return Entry(
        name=network.card.name,
        size=size,
        channels=count,
        groups=tuple(Group(_title(k, layers), tuple(layers)) for k, layers in enumerate(groups, start=1)),
        classes=tuple(network.classes),
        class_layer=class_layer(infos, len(network.classes)),
    )


def map_of(info: LayerInfo) -> tuple[int, ...]:
    """The grid on which a layer's channels lie: (rows, columns); () where there is none left."""
    return info.shape[1:] if len(info.shape) == 3 and info.shape[1:] != (1, 1) else ()


def class_layer(infos: Sequence[LayerInfo], classes: int) -> str | None:
    """The last layer, if it has one unit for each class; else None.

    >>> class_layer([LayerInfo("fc", "Linear", (10,), None, 1, 1, None)], 10)
    'fc'
    """
    last = infos[-1]
    return last.name if classes and last.shape[0] == classes else None


def _title(number: int, layers: Sequence[LayerInfo]) -> str:
    grid = " × ".join(map(str, map_of(layers[0])))
    ends = layers[0].name if len(layers) == 1 else f"{layers[0].name} to {layers[-1].name}"
    return f"{number}.  {grid or 'no positions left'}:  {ends}"
