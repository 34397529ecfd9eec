"""Who is at what: claims on keys that end with the process that holds them, however it ends."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from ..errors import ResultFolderError
from ..files import reason

_OPEN: dict[Path, Claims] = {}
_GUARD = threading.Lock()


class Claims:
    """Claims on keys (hexadecimal, as sha256 gives them), each a lock on one byte of one file that never grows.

    The system frees the locks when the process ends, also by kill -9, so that no claim is ever left behind. Such locks belong to a
    process: within it, a set of names keeps its threads apart. Get one with `claims_of`.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ResultFolderError(f"No results can be written beside {str(path)!r}: {reason(error)}. Name another store.") from error
        self._mine: set[str] = set()

    def is_of(self, path: Path) -> bool:
        """Whether the file that is open is still the one of this name."""
        return os.path.samestat(os.fstat(self._file), path.stat())

    def take(self, key: str) -> bool:
        """Claim the key; False if anybody has it, here or in another process."""
        with _GUARD:
            if key in self._mine or not _lock(self._file, _offset(key), True):
                return False
            self._mine.add(key)
            return True

    def release(self, key: str) -> None:
        """Give the key back; one that is not held here is left alone."""
        with _GUARD:
            if key in self._mine:
                self._mine.discard(key)
                _lock(self._file, _offset(key), False)


def claims_of(path: Path) -> Claims:
    """The claims kept in this file. One for each file and process: closing a file a second time would free its locks."""
    path = path.resolve()
    with _GUARD:
        if path not in _OPEN or not (path.exists() and _OPEN[path].is_of(path)):
            _OPEN[path] = Claims(path)
        return _OPEN[path]


def _offset(key: str) -> int:
    return int(key[:15], 16)


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int, offset: int, take: bool) -> bool:
        os.lseek(file, offset, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK if take else msvcrt.LK_UNLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def _lock(file: int, offset: int, take: bool) -> bool:
        try:
            fcntl.lockf(file, (fcntl.LOCK_EX | fcntl.LOCK_NB) if take else fcntl.LOCK_UN, 1, offset)
        except BlockingIOError:
            return False
        except PermissionError:  # how some systems say the same
            return False
        except OSError as error:
            raise ResultFolderError(
                f"The store's folder takes no locks ({reason(error)}), so two runs could do the same work. Put it on another disk."
            ) from error
        return True
