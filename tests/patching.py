"""Functions of the system replaced for a test, wherever the standard library has them."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest


def patch_os(monkeypatch: pytest.MonkeyPatch, name: str, function: Callable[..., Any]) -> None:
    """Replace os.NAME, also in the pathlib of Python 3.10, which keeps references of its own."""
    monkeypatch.setattr(os, name, function)
    patch_pathlib(monkeypatch, name, function)


def patch_pathlib(monkeypatch: pytest.MonkeyPatch, name: str, function: Callable[..., Any]) -> None:
    """Replace what the pathlib of Python 3.10 calls by that name; that of later versions looks it up in os and io."""
    accessor = getattr(pathlib, "_NormalAccessor", None)
    if accessor is not None and hasattr(accessor, name):
        monkeypatch.setattr(accessor, name, staticmethod(function))
