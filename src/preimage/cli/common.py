"""What every command needs: errors as one line with an honest exit code, tables, folders, saving."""

from __future__ import annotations

import json
import os
import select
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import ImageError, InputError, Interrupted, PreimageError, ResultFolderError, UnknownName

if TYPE_CHECKING:
    from ..tasks.result import Result

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
UNREAD = 141  # as of a command that SIGPIPE ended: 128 + 13


@contextmanager
def guard() -> Iterator[None]:
    """Every error ends in one line on stderr and an honest exit code; PREIMAGE_DEBUG=1 shows where it came from."""
    plain = warnings.showwarning
    warnings.showwarning = lambda message, *rest, **more: print(f"preimage: warning: {one_line(message)}", file=sys.stderr)
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except KeyboardInterrupt:
        print("preimage: interrupted before there was anything to save", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        if isinstance(error, BrokenPipeError) and unread():
            raise
        if os.environ.get("PREIMAGE_DEBUG"):
            raise
        mine = isinstance(error, PreimageError)
        text = one_line(error) if mine else f"{type(error).__name__}: {one_line(error)} (PREIMAGE_DEBUG=1 shows where)"
        print(f"preimage: error: {text}", file=sys.stderr)
        usage = isinstance(error, (InputError, UnknownName)) and not isinstance(error, ImageError)
        raise typer.Exit(USAGE if usage else FAILED) from None
    finally:
        warnings.showwarning = plain


def unread() -> bool:
    """Whether nobody reads our standard output any more, as when `head` has seen enough."""
    if sys.__stdout__ is None or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(sys.__stdout__.fileno(), 0)  # errors alone
    return any(event & select.POLLERR for _, event in poll.poll(0))


def one_line(message: object) -> str:
    return " ".join(str(message).split())


def table(keys: list[str], rows: list[list[Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([dict(zip(keys, [_plain(v) for v in row], strict=True)) for row in rows], ensure_ascii=False))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    printed = Table(box=SIMPLE_HEAD, pad_edge=False)
    for key, example in zip(keys, rows[0], strict=True):
        # a name is to be copied: not broken if it can be helped
        whole = min(max(len(str(row[0])) for row in rows), 24) if key == keys[0] else None
        printed.add_column(key, justify="right" if isinstance(example, int) else "left", overflow="fold", min_width=whole)
    for row in rows:
        printed.add_row(*map(str, row))
    console = Console()
    with console.capture() as text:  # rich would end the process itself when nobody reads
        console.print(printed)
    typer.echo(text.get(), nl=False)


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, str)) else float(value)


@contextmanager
def saving(out: Path, overwrite: bool, labels: list[str]) -> Iterator[Any]:
    """A function that saves a result and prints its captions; what was found before Ctrl-C is saved too."""

    def save(result: Result) -> None:
        if len(labels) == len(result.labels):
            result.labels = labels
        result.save(out, overwrite=overwrite)
        typer.echo("\n".join([*result.captions(), f"{result.evaluations} evaluations an image. Saved in {out}/"]))

    try:
        yield save
    except Interrupted as stop:
        if stop.result is None:
            raise
        save(stop.result)
        raise typer.Exit(INTERRUPTED) from None


@contextmanager
def resumable() -> Iterator[None]:
    """Around a command of many jobs, which Ctrl-C ends with a line that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("preimage: interrupted; the finished jobs are kept, and the same command goes on from there", err=True)
        raise typer.Exit(INTERRUPTED) from None


def names_in(text: str) -> list[str]:
    """The names of a list with commas.

    >>> names_in("fire2, fire4,")
    ['fire2', 'fire4']
    """
    return [name for part in text.split(",") if (name := part.strip())]


def make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultFolderError(f"Nothing can be written to {str(out)!r}: {error.strerror or error}.") from error
