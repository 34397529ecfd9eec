"""Names of layers, and the tensors that a module's output holds, however deep."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from ..errors import InputError

_DEPTH, _OBJECTS = 8, 2  # of containers in containers; of objects that are none, whose attributes may lead anywhere


class Path(tuple[Any, ...]):
    """The keys to a tensor inside containers, outermost first; it is written as Python would have it, ``maps][0``."""

    def __str__(self) -> str:
        return "][".join(str(k) for k in self)


class FieldName(str):
    """The name of a field of a named tuple, which has a position too."""

    position: int

    def __new__(cls, name: str, position: int) -> FieldName:
        made = super().__new__(cls, name)
        made.position = position
        return made


def tensors_in(output: Any) -> dict[Any, Tensor]:
    """The tensors of a module's output by the key that chooses each, a `Path` inside containers; None where the output is itself one.

    >>> import torch
    >>> x = torch.zeros(1)
    >>> list(map(str, tensors_in({"maps": (x, x), "last": x})))
    ['maps][0', 'maps][1', 'last']
    """
    if isinstance(output, Tensor):
        return {None: output}
    return {path[0] if len(path) == 1 else Path(path): tensor for path, tensor in _walk(output, (), set())}


def _walk(value: Any, path: tuple[Any, ...], above: set[int]) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    for key, inner in _items(value, len(path)):
        if isinstance(inner, Tensor):
            yield (*path, key), inner
        elif len(path) < _DEPTH and id(inner) not in above:
            yield from _walk(inner, (*path, key), above | {id(inner)})


def _items(value: Any, depth: int) -> list[tuple[Any, Any]]:
    """What is in a container, by key; nothing for anything else."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [(FieldName(n, i), v) for i, (n, v) in enumerate(zip(value._fields, value, strict=True))]
    if isinstance(value, (tuple, list)):
        return list(enumerate(value))
    if isinstance(value, (type, ModuleType, nn.Module)):
        return []
    if is_dataclass(value):
        return [(f.name, getattr(value, f.name)) for f in fields(value) if hasattr(value, f.name)]
    return list(vars(value).items()) if depth < _OBJECTS and hasattr(value, "__dict__") else []


def find_key(key: Any, keys: Collection[Any]) -> Any:
    """The one of the keys that is meant: itself, or as it is written, or the position of a named tuple's field. KeyError for none.

    >>> find_key(0, ["0", "pool"]), find_key("(1, 2)", [(1, 2)])
    ('0', (1, 2))
    """
    for candidate in keys:
        if candidate == key and type(candidate) is type(key):
            return candidate
    for candidate in keys:
        if candidate == key or str(candidate) == str(key) or (isinstance(candidate, FieldName) and candidate.position == key):
            return candidate
    raise KeyError(key)


def only_key(keys: Collection[Any]) -> Any:
    """The key of the only tensor; of the only one that is not inside another container. KeyError where there is a choice."""
    for some in ([k for k in keys if not isinstance(k, Path)], list(keys)):
        if len(some) == 1:
            return some[0]
        if some:
            break
    raise KeyError


def only_tensor(output: Any, preferred: str = "") -> Tensor | None:
    """A module's output where it is one tensor or holds one, or the one under the preferred key; None where that is no choice."""
    choices = tensors_in(output)
    if preferred in choices:
        return choices[preferred]
    try:
        return choices[only_key(choices)]
    except KeyError:
        return None


def parse_name(name: str, known: Collection[str] | None = None) -> tuple[str, int | str | None, int | None, str | None]:
    """ "dotted[key]#call:part" -> its four parts. With the names that are `known`, the longest of them that the name can begin with.

    >>> parse_name("layer1.0.relu#1"), parse_name("lstm[0]"), parse_name("blocks.3:cls")
    (('layer1.0.relu', None, 1, None), ('lstm', 0, None, None), ('blocks.3', None, None, 'cls'))
    >>> parse_name("a:0", known=["a:0"]), parse_name("maps[x[0]]", known=["maps"])
    (('a:0', None, None, None), ('maps', 'x[0]', None, None))
    """
    if known is not None:
        for dotted in sorted((n for n in known if name.startswith(n)), key=len, reverse=True):
            match = re.fullmatch(r"(\[(?P<key>.*)\])?(#(?P<call>\d+))?(:(?P<part>\w+))?", name[len(dotted) :], re.DOTALL)
            if match is not None:
                return dotted, _number(match["key"]), None if match["call"] is None else int(match["call"]), match["part"]
    match = re.fullmatch(r"(?P<name>[^\[#:]*)(\[(?P<key>.*)\])?(#(?P<call>\d+))?(:(?P<part>\w+))?", name, re.DOTALL)
    if match is None:
        raise InputError(f"A layer is named dotted.name, dotted.name[output], dotted.name#call or dotted.name:part; got {name!r}")
    return match["name"], _number(match["key"]), None if match["call"] is None else int(match["call"]), match["part"]


def _number(key: str | None) -> int | str | None:
    return int(key) if key is not None and key.isdecimal() and key.isascii() else key
