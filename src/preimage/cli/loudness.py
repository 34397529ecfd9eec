"""How much a command says: -v and -q, before the command's name or after it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .signals import tell


@dataclass
class Loudness:
    """How much a command says.

    verbose: 0 results and warnings; 1 also what is done; 2 also everything the library logs, and errors whole. quiet: no progress bar.
    """

    verbose: int = 0
    quiet: bool = False


_now = Loudness()


def set_loudness(loudness: Loudness) -> None:
    """Begin a call of the command line."""
    global _now
    _now = loudness


def loudness() -> Loudness:
    """How much the command that runs is to say."""
    return _now


@contextmanager
def logged() -> Iterator[None]:
    """Show on stderr what the library logs, if that was asked for, until the command ends."""
    if not _now.verbose:
        yield
        return
    log, handler = logging.getLogger("preimage"), _Told()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO if _now.verbose == 1 else logging.DEBUG)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


class _Told(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tell(f"preimage: {' '.join(record.getMessage().split())}")


class Commands(TyperGroup):
    """The commands, of which each takes -v, and -q where it has none of its own."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        command: Any = super().get_command(ctx, cmd_name)
        if command is not None and not isinstance(command, TyperGroup):
            known = {flag for parameter in command.params for flag in parameter.opts}
            command.params += [option for option in _options() if not known.intersection(option.opts)]
        return command


def _options() -> list[Any]:
    """-v and -q as typer makes them of a function's arguments; they reach no command as arguments."""
    one = typer.Typer(add_completion=False)
    one.command()(_loud)
    options = [p for p in typer.main.get_command(one).params if p.name != "help"]
    for option in options:
        option.expose_value = False
    return options


def _loud(
    verbose: Annotated[
        int,
        typer.Option("--verbose", "-v", count=True, callback=lambda n: _say_more(n), help="Say on stderr what is done; -vv: errors whole."),
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", callback=lambda q: _say_less(q), help="No progress bar.")] = False,
) -> None: ...


def _say_more(count: int) -> int:
    _now.verbose += count
    return count


def _say_less(quiet: bool) -> bool:
    _now.quiet |= quiet
    return quiet
