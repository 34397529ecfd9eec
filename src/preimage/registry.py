"""Names for things that users choose by name: networks, solvers, regularizers."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

from .errors import InputError, UnknownName

T = TypeVar("T")
E = TypeVar("E")


class Registry(Generic[T]):
    """A table of named things of one kind.

    kind: what one entry is, in words, for messages. see: the command or page that lists them.

    >>> shapes: Registry[type] = Registry("shape", see="shapes.txt")
    >>> @shapes.register("round")
    ... class Disc: ...
    >>> shapes["round"] is Disc
    True
    >>> shapes["rond"]
    Traceback (most recent call last):
    preimage.errors.UnknownName: No shape named 'rond'. Did you mean 'round'? See: shapes.txt
    """

    def __init__(self, kind: str, see: str) -> None:
        self.kind = kind
        self.see = see
        self._entries: dict[str, T] = {}
        self._examples: dict[str, tuple[Mapping[str, Any], ...]] = {}

    def register(self, name: str, examples: Sequence[Mapping[str, Any]] = ({},)) -> Callable[[E], E]:
        """Decorator. examples: keyword arguments with which the contract tests build it. Raises ValueError on a taken name."""

        def keep(entry: E) -> E:
            if name in self._entries:
                raise ValueError(f"The {self.kind} {name!r} is registered already, as {self._entries[name]!r}")
            self._entries[name] = entry  # type: ignore[assignment]
            self._examples[name] = tuple(examples)
            return entry

        return keep

    def __getitem__(self, name: str) -> T:
        """The entry. Raises UnknownName (a KeyError) with the nearest names."""
        if name not in self._entries:
            raise unknown(self.kind, name, list(self._entries), self.see)
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def revision(self, name: str) -> int:
        """The revision of the entry: a whole number that it raises when its values change, 1 where it says none."""
        found = getattr(self[name], "revision", 1)
        return int(found)

    def examples(self, name: str) -> tuple[Mapping[str, Any], ...]:
        """Keyword arguments that build the entry, for contract tests and pages."""
        return self._examples[name]


def only_known(given: Mapping[str, Any], known: Iterable[str], function: str) -> Mapping[str, Any]:
    """Return the arguments of a group, if the group has them all. function: whose help lists them. Raises InputError.

    >>> only_known({"sede": 1}, ["seed", "device"], "preimage.audit")
    Traceback (most recent call last):
    preimage.errors.InputError: There is no argument 'sede'. Did you mean 'seed'? help(preimage.audit) lists them all.
    """
    names = list(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            raise InputError(
                f"There is no argument {name!r}. {f'Did you mean {near[0]!r}? ' if near else ''}help({function}) lists them all."
            )
    return given


def unknown(kind: str, name: str, known: Sequence[str], see: str) -> UnknownName:
    """The error for a name that is not in `known`, with up to five near matches.

    >>> print(unknown("layer", "fire", ["fire2", "conv1"], "preimage layers NET"))
    No layer named 'fire'. Did you mean 'fire2'? See: preimage layers NET
    """
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    near += [k for k in known if name.lower() in k.lower() and k not in near][: 5 - len(near)]
    hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else f" Known: {', '.join(list(known)[:12])}."
    return UnknownName(f"No {kind} named {name!r}.{hint} See: {see}")
