"""package.module:function: a network that a function of one's own gives."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import InputError
from ..pixels.pixelspace import PixelSpace
from .network import SOURCES, Network, NetworkCard, Source


def open_card(name: str) -> NetworkCard:
    """The card of what a function without arguments returns: a module, (module, PixelSpace), a Network or a NetworkCard.

    The module is looked for on the Python path and, after it, in the current folder. The function is called with torch's seed at 0.
    Raises InputError for a module or function that is not there, or that returns something else.
    """
    place, _, attribute = name.partition(":")
    with _here(), torch.random.fork_rng(devices=[]):
        try:
            found: Any = import_module(place)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{place}.".startswith(f"{error.name}."):
                raise
            raise InputError(f"There is no Python module {place!r}, on the Python path or in this folder ({error}).") from error
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise InputError(f"{place!r} has no {attribute!r}. A network of one's own is named package.module:function.")
            found = getattr(found, part)
        torch.manual_seed(0)  # after the import, which may draw too
        value = found if isinstance(found, (nn.Module, NetworkCard, Network)) else _call(name, found)
    return _card(name, value)


def _call(name: str, function: Any) -> Any:
    if not callable(function):
        return function
    try:
        signature(function).bind()
    except TypeError as error:
        raise InputError(f"{name} must be callable without arguments ({error}). Write a function that chooses them.") from error
    return function()


def _card(name: str, value: Any) -> NetworkCard:
    if isinstance(value, NetworkCard):
        return value
    if isinstance(value, Network):
        return replace(value.card, name=name, build=lambda: value.module, whole=True)
    module, space = value if isinstance(value, tuple) and len(value) == 2 else (value, None)
    if not isinstance(module, nn.Module) or not isinstance(space, (PixelSpace, type(None))):
        got = f"({', '.join(type(v).__name__ for v in value)})" if isinstance(value, tuple) else type(value).__name__
        raise InputError(f"{name} gave {got}; wanted an nn.Module, (nn.Module, PixelSpace), a Network or a NetworkCard.")
    return NetworkCard(name, space, lambda: module, whole=True, source="a function of one's own")


@contextmanager
def _here() -> Iterator[None]:
    """The current folder at the end of the Python path, so that it hides nothing that is installed."""
    folder = str(Path.cwd())
    if folder in sys.path or "" in sys.path:
        yield
        return
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


SOURCES.register("function")(
    Source(
        form="package.module:function",
        matches=lambda name: re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", name) is not None,
        open=open_card,
        about="a function on the Python path or in this folder; it returns an nn.Module, or (nn.Module, PixelSpace)",
        imports=True,
    )
)
