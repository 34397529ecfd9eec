"""The paper's tables and figures: one file a family. `EXPERIMENTS` has them by name, in the order in which a page shows them."""

from __future__ import annotations

from importlib import import_module

from ..registry import Registry
from .base import EXPERIMENTS, Experiment

__all__ = ["EXPERIMENTS", "Experiment", "known_experiments"]

_FAMILIES = (
    "inversion", "restarts", "neighbourhood", "groups", "variants", "no_regularizer", "errors", "pixel_errors", "consistency",
    "naturalness", "spread", "neurons", "classes", "caricature", "hog",
)  # fmt: skip


def known_experiments() -> Registry[type[Experiment]]:
    """The registry with every family of this package in it."""
    for family in _FAMILIES:
        import_module(f".{family}", __package__)
    return EXPERIMENTS
