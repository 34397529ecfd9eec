"""What can go wrong, by who can mend it: the caller's arguments, a file, a folder, the optimisation, an absent extra."""

from __future__ import annotations

from typing import Any


class PreimageError(Exception):
    """Any error that preimage raises on purpose; its text says what came, what was wanted and what to do."""


class InputError(PreimageError, ValueError):
    """An argument that cannot be used as it is."""


class UnknownName(PreimageError, KeyError):
    """A name that stands for nothing; the text lists the nearest ones."""

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0])


class ImageError(InputError):
    """A file or an array that is no usable image."""


class ResultFolderError(PreimageError, OSError):
    """A folder that cannot take a result."""


class OptimizationError(PreimageError, RuntimeError):
    """The minimisation gave no usable image for any sample."""


class MissingExtra(PreimageError, ImportError):
    """An optional dependency is absent; the text names the extra to install."""


def how_to_install(extra: str) -> str:
    """The command that adds an extra. The one place that says where preimage is installed from: until it is on an index, its source.

    >>> how_to_install("app")
    "pip install '.[app]' in the folder of preimage's source"
    """
    return f"pip install '.[{extra}]' in the folder of preimage's source"


def missing_extra(needs: str, extra: str, more: str = "") -> MissingExtra:
    """The error for an absent extra. needs: what needs which package; more: what else can be done, with its own comma.

    >>> print(missing_extra("The interactive page needs Gradio", "app"))
    The interactive page needs Gradio, the extra preimage[app]: pip install '.[app]' in the folder of preimage's source.
    """
    return MissingExtra(f"{needs}, the extra preimage[{extra}]: {how_to_install(extra)}{more}.")


class FetchError(PreimageError, OSError):
    """A file that had to be fetched and could not be; the text names it, where to get it and where to put it."""


class PreimageWarning(UserWarning):
    """The result stands, but something about it should be known."""


def first_line(error: Exception) -> str:
    """What a library's error says first, short enough to be quoted in another.

    >>> first_line(ValueError("bad\\nat line 3"))
    'bad'
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def whole(name: str, value: Any, least: int) -> int:
    """value, if it is a whole number of at least `least`; InputError otherwise.

    >>> whole("batch", 3, 1)
    3
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is a whole number of at least {least}; got {value!r}.")
    return value


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a task. `result` is what had been found by then (a `Result`), or None if nothing had.

    >>> Interrupted(None).result is None
    True
    """

    def __init__(self, result: Any) -> None:
        super().__init__("interrupted")
        self.result = result
