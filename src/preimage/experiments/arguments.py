"""Arguments that functions about many images share, by name, as groups that editors and type checkers know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from ..registry import only_known


class RunArguments(TypedDict, total=False):
    """How the jobs of a store run."""

    iterations: int | None
    seed: int
    device: str
    precision: str
    workers: int | None
    progress: bool


class StudyArguments(RunArguments, total=False):
    """The same, and how the one network of a study is opened and its images are found."""

    weights: str
    space: str | None
    size: str | None
    trust: bool
    solver: str


def divided(given: Mapping[str, Any], group: type[Any], function: str) -> tuple[dict[str, Any], int | None, bool]:
    """Return the settings of a study that were given, how many processes compute, and whether bars are shown.

    Raises
    ------
    InputError : for a name that the group does not have
    """
    settings = dict(only_known(given, group.__annotations__, function))
    return settings, settings.pop("workers", None), settings.pop("progress", True)
