"""What every command needs: errors as one line with an honest exit code, tables, folders, saving."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import select
import sqlite3
import stat
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import typer

from ..errors import ImageError, InputError, Interrupted, PreimageError, ResultFolderError, UnknownName
from ..schemas import said
from . import signals
from .loudness import logged, loudness
from .signals import exit_code, obeying, tell

if TYPE_CHECKING:
    from ..studies.store import Store
    from ..tasks.result import Result

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
_SPARE: tuple[Callable[[], str | Path], ...] = (
    tempfile.gettempdir,
    Path.home,
    Path.cwd,
)  # where a result goes that cannot be saved in its folder
_REFUSED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO)
UNREAD = 141  # as of a command that SIGPIPE ended: 128 + 13


@contextmanager
def guard() -> Iterator[None]:
    """Every error ends in one line on stderr and an honest exit code; PREIMAGE_DEBUG=1 shows where it came from.

    SIGTERM and SIGHUP are as Ctrl-C in here.
    """
    plain = warnings.showwarning
    warnings.showwarning = lambda message, *rest, **more: tell(f"preimage: warning: {one_line(message)}")
    try:
        with obeying(), _told(), logged():
            yield
    finally:
        warnings.showwarning = plain


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except KeyboardInterrupt:
        tell("preimage: interrupted before there was anything to save")
        raise typer.Exit(exit_code() or INTERRUPTED) from None
    except Exception as error:
        if isinstance(error, BrokenPipeError) and unread():
            raise
        if os.environ.get("PREIMAGE_DEBUG") or loudness().verbose > 1:
            raise
        tell(f"preimage: error: {_in_words(error)}")
        usage = isinstance(error, (InputError, UnknownName)) and not isinstance(error, ImageError)
        raise typer.Exit(USAGE if usage else FAILED) from None


def _in_words(error: Exception) -> str:
    """One line; what the system refuses (a full disk, a folder that cannot be written) is nobody's bug and needs no trace."""
    if isinstance(error, PreimageError):
        return one_line(error)
    if isinstance(error, OSError) and error.errno in _REFUSED:
        named = f"{str(error.filename)!r}: " if error.filename is not None else ""
        return f"{named}{error.strerror}. Make room, or name another place."
    if isinstance(error, sqlite3.OperationalError):
        return f"The store's table cannot be used: {one_line(error)}. Is there room, and may its folder be written?"
    return f"{type(error).__name__}: {one_line(error)} (PREIMAGE_DEBUG=1 shows where)"


def unread() -> bool:
    """Whether nobody reads our standard output any more, as when `head` has seen enough."""
    return _closed(sys.__stdout__)


def _closed(stream: IO[str] | None) -> bool:
    if stream is None or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(stream.fileno(), 0)  # errors alone
    return any(event & select.POLLERR for _, event in poll.poll(0))


def let_go() -> None:
    """Give up what standard output and standard error have not taken: Python would complain of it when it ends, and exit with 120."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())
        except ValueError:  # closed
            continue


def one_line(message: object) -> str:
    return plain(" ".join(str(message).split()))


def plain(text: str) -> str:
    r"""A text from anywhere as a terminal may have it: nothing in it moves the cursor, colours or ends the line.

    >>> plain("a\x1b[31m\udce9")
    'a?[31m?'
    """
    return "".join(c if c.isprintable() else "?" for c in text)


def watched() -> bool:
    """Whether somebody may be looking at a progress bar: a file is no place for one, and -q asks for none."""
    if loudness().quiet:
        return False
    try:
        return sys.stderr is not None and not stat.S_ISREG(os.fstat(sys.stderr.fileno()).st_mode)
    except (OSError, ValueError):  # no real file, as in tests
        return True


def tell_json(kind: str, facts: Mapping[str, Any]) -> None:
    """Print what a machine is told, one line, in the schema of its kind: `preimage schema KIND`."""
    typer.echo(json.dumps(said(kind, facts), ensure_ascii=False, allow_nan=False))


def table(keys: list[str], rows: list[list[Any]]) -> None:
    """Print a table for people in the terminal's width: no word is broken. One too wide for that is printed row by row."""
    from rich.console import Console

    console = Console()
    cells = [[plain(str(cell)) for cell in row] for row in rows]
    widths = _widths(keys, cells, console.width)
    if widths is None:
        for first, *rest in cells:
            said = "; ".join(f"{key}: {cell}" for key, cell in zip(keys[1:], rest, strict=True) if cell)
            typer.echo(first)
            typer.echo(
                textwrap.fill(
                    said, console.width, initial_indent="  ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
                )
            )
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    printed = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for key, width, example in zip(keys, widths, rows[0] if rows else [""] * len(keys), strict=True):
        printed.add_column(Text(key), justify="right" if isinstance(example, int) else "left", width=width)
    for row in cells:
        printed.add_row(*map(Text, row))  # names are text, not rich's markup
    with console.capture() as text:  # rich would end the process itself when nobody reads
        console.print(printed)
    typer.echo(text.get(), nl=False)


def _widths(keys: list[str], cells: list[list[str]], room: int) -> list[int] | None:
    """Widths of columns in which no word is broken, as near to whole cells as there is room; None where there is not even so much.

    >>> _widths(["name", "what it is"], [["fire2", "a layer of a network"]], 24)
    [5, 17]
    >>> _widths(["name", "what it is"], [["fire2", "a layer of a network"]], 12)
    """
    columns = [[key, *(row[k] for row in cells)] for k, key in enumerate(keys)]
    widths = [max(len(word) for text in column for word in _unbroken(text)) for column in columns]
    wanted = [max(map(len, column)) for column in columns]
    left = room - sum(widths) - 2 * (len(keys) - 1)
    if left < 0:
        return None
    for k in sorted(range(len(keys)), key=lambda k: wanted[k]):  # those that are soon whole first
        more = min(left, wanted[k] - widths[k])
        widths[k], left = widths[k] + more, left - more
    return widths


def _unbroken(text: str) -> list[str]:
    """Return what must stay on one line: words, or all of a short text, as 12.3 s."""
    return text.split() if len(text) > 12 else [text]


@contextmanager
def saving(out: Path, overwrite: bool, files: list[Path]) -> Iterator[Any]:
    """A function that saves a result of these files and prints its captions; what was found before Ctrl-C is saved too.

    Raises typer.Exit at the end for a result that is not ok: it is saved, but no success.
    """
    wrong: list[str] = []
    sources = [source_of(file) for file in files]  # now: a file may be gone when the work is done

    def save(result: Result) -> None:
        if len(files) == len(result.labels):
            result.labels = [printable(file.stem) for file in files]
        result.config["files"] = sources
        keep(result, out, overwrite)
        wrong.extend(state for state in result.status if state != "ok")
        typer.echo("\n".join([*map(plain, result.captions()), f"{result.evaluations} evaluations an image. Saved in {out}/"]))

    from ..tasks.result import printable

    with saved_if_interrupted(save):
        yield save
    if wrong:
        raise typer.Exit(FAILED)


@contextmanager
def saved_if_interrupted(save: Callable[[Result], None]) -> Iterator[None]:
    """Save what a task had found when Ctrl-C ended it, and exit with the signal's code."""
    try:
        yield
    except Interrupted as stop:
        if stop.result is None:
            raise
        save(stop.result)
        raise typer.Exit(exit_code() or INTERRUPTED) from None


def tell_state(result: Result, folder: Path) -> None:
    """Say how an interrupted run goes on, where it can."""
    if result.interrupted and result.state is not None:
        tell(f"preimage: it goes on with: preimage again {folder} --continue")


def keep(result: Result, out: Path, overwrite: bool, video: str | None = None) -> None:
    """Save a result, whatever signals come meanwhile. Where it cannot be, save it elsewhere, say where, and exit with 1."""
    with signals.saving():
        try:
            result.save(out, overwrite=overwrite, video=video)
        except Exception as error:  # hours of work are in it
            tell(f"preimage: error: {_in_words(error)} {_rescue(result)}")
            raise typer.Exit(FAILED) from None
    if exit_code() and not result.interrupted:
        tell(f"preimage: ended while the result was saved in {out}/, which is whole")
        raise typer.Exit(exit_code())


def source_of(path: Path) -> dict[str, str]:
    """Which file was taken, for the record: its name as it was given, and the sha256 of its content."""
    from ..tasks.result import printable

    return {"path": printable(str(path)), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _rescue(result: Result) -> str:
    """Save a result in the first place that takes it; what became of it, in words."""
    for place in _SPARE:
        folder = None
        try:
            folder = Path(tempfile.mkdtemp(prefix="preimage-result-", dir=place()))
            return f"The result is kept in {result.save(folder)}/"
        except Exception:  # the next place may take it
            if folder is not None:
                folder.rmdir()
    return "It is lost: no other folder could be written either."


@contextmanager
def resumable() -> Iterator[None]:
    """Around a command of many jobs, which Ctrl-C ends with a line that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        tell("preimage: interrupted; the finished jobs are kept, and the same command goes on from there")
        raise typer.Exit(exit_code() or INTERRUPTED) from None


def tell_damaged(store: Store, most: int = 20) -> None:
    """Name the records that were set aside, and why."""
    for name, reason in list(store.damaged.items())[:most]:
        tell(f"preimage: warning: left out {plain(name)}: {one_line(reason)}")
    if len(store.damaged) > most:
        tell(f"preimage: warning: left out {len(store.damaged) - most} more; see the folder damaged/")


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
