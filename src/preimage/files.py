"""Files and folders that are whole or not there, also after a power cut, and whose names lead nowhere else."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, cast

from .errors import InputError, PreimageError, ResultFolderError

_PLAIN = re.compile(r"\w[\w.+-]{0,199}")  # letters, digits, dot, dash, plus and underscore; the first is no dot


def is_plain_name(name: object) -> bool:
    """Say whether this is the name of a file in a folder of ours: nothing that leads out of it, is hidden, or cannot be written.

    >>> is_plain_name("tree-frog.png"), is_plain_name("../x"), is_plain_name(".x"), is_plain_name(3), is_plain_name("a" * 300)
    (True, False, False, False, False)
    """
    return isinstance(name, str) and _PLAIN.fullmatch(name) is not None and name.isprintable()


def is_own_file(path: Path) -> bool:
    """Say whether this is a regular file itself, not a link to one, a folder, a pipe or a device."""
    return path.is_file() and not path.is_symlink()


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Give a binary file that takes its name only when all of it is on the disk; on any error nothing is left behind.

    Raises ResultFolderError where it cannot be written.
    """
    path = Path(path)
    part = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:150]}.", suffix=".part", delete=False) as file:
            part = Path(file.name)
            yield cast(IO[bytes], file)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)
        part.replace(path)
        sync_folder(path.parent)
    except BaseException as error:
        if part is not None:
            with suppress(OSError):
                part.unlink()
        if isinstance(error, OSError) and not isinstance(error, PreimageError):
            raise ResultFolderError(f"{str(path)!r} cannot be written: {reason(error)}. Make room, or name another place.") from error
        raise


def sync_file(path: Path) -> None:
    """Wait until a file's content is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until a folder's names are on the disk, where the system can say so."""
    with suppress(OSError):  # some systems and shares open no folder
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def reason(error: OSError) -> str:
    """What the system says went wrong.

    >>> reason(OSError(28, "No space left on device"))
    'No space left on device'
    """
    return error.strerror or str(error)


def check_file(path: str | os.PathLike[str]) -> None:
    """Can a file be written there? Asked before hours of work, not after.

    Raises InputError for a folder and for a file in none, ResultFolderError where nothing can be written.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder. Name a file in it.")
    if not path.absolute().parent.is_dir():
        raise InputError(f"There is no folder {str(path.absolute().parent)!r} to write to.")
    try:
        tempfile.TemporaryFile(dir=path.absolute().parent).close()
    except OSError as error:
        raise ResultFolderError(f"{str(path)!r} cannot be written: {reason(error)}. Name another place.") from error


def read_own(path: Path, largest: int) -> bytes:
    """Read a regular file of at most so many bytes; a link, a pipe or a device is not opened. Raises ResultFolderError."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ResultFolderError(f"{str(path)!r} is no regular file.")
            found = file.read(largest + 1)
    except OSError as error:
        if isinstance(error, PreimageError):
            raise
        linked = " is a link, which is not followed here" if path.is_symlink() else f" cannot be read: {reason(error)}"
        raise ResultFolderError(f"{str(path)!r}{linked}.") from error
    if len(found) > largest:
        raise ResultFolderError(f"{str(path)!r} is larger than the {largest:,} bytes that it should have at most.")
    return found
