"""The table of a store's records: one SQLite file made of the store's files, or none but in memory where no file can be had."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar

from ..files import is_own_file

COLUMNS = ("experiment", "status", "task", "network", "layer", "image", "unit", "C", "restart", "variant")
MORE = ("config", "metrics", "reason", "created", "seconds", "measured")
_ALL = ("key", *COLUMNS, *MORE)
T = TypeVar("T")


class Table:
    """The table in a file. fill: called to make it again from the files, when it was lost, damaged or cannot be used.

    On a full disk, in a folder that cannot be written or on a share without locks it is kept in memory instead: the files are the truth.
    """

    def __init__(self, path: Path, fill: Callable[[], None]) -> None:
        self.path, self._fill = path, fill
        self._memory: sqlite3.Connection | None = None

    def read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """The rows that a query gives."""
        return self._do(lambda connection: connection.execute(query, values).fetchall())

    def put(self, rows: Iterable[Sequence[Any]]) -> None:
        """Add rows of all columns, in place of those with their keys."""
        given = list(rows)
        if given:
            places = ",".join("?" * len(_ALL))
            self._do(lambda connection: connection.executemany(f"INSERT OR REPLACE INTO records VALUES ({places})", given))

    def drop(self, keys: Iterable[str]) -> None:
        """Remove the rows of these keys."""
        given = [(key,) for key in keys]
        if given:
            self._do(lambda connection: connection.executemany("DELETE FROM records WHERE key = ?", given))

    def check(self) -> None:
        """Throw away a file that is damaged or holds anything but this table, so that it is made again."""
        if self._memory is None and self.path.exists():
            with suppress(sqlite3.DatabaseError), closing(self._connect()) as connection:
                columns = tuple(row[1] for row in connection.execute("PRAGMA table_info(records)"))
                others = connection.execute("SELECT count(*) FROM sqlite_master WHERE type IN ('view', 'trigger')").fetchone()
                if connection.execute("PRAGMA quick_check").fetchone() == ("ok",) and columns == _ALL and others == (0,):
                    return
            self.throw_away()

    def throw_away(self) -> None:
        """Remove the file, where that can be; else go on in memory, and empty."""
        try:
            self.path.unlink(missing_ok=True)
            self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)
            if self._memory is not None:
                self._go_on_in_memory()
        except OSError:
            self._go_on_in_memory()

    def _do(self, act: Callable[[sqlite3.Connection], T]) -> T:
        """One transaction; where the file refuses it, in memory, filled again from the store's files."""
        if self._memory is None:
            try:
                with closing(self._connect()) as connection, connection:
                    return act(connection)
            except sqlite3.OperationalError as error:
                if "malformed JSON" in str(error):
                    self.throw_away()
                else:
                    self._go_on_in_memory()
            except sqlite3.DatabaseError:
                self.throw_away()
            self._fill()
        if self._memory is None:
            with closing(self._connect()) as connection, connection:
                return act(connection)
        with self._memory:
            return act(self._memory)

    def _go_on_in_memory(self) -> None:
        """Begin an empty table in memory, which is closed with this one: Python 3.13 warns of what nobody has closed."""
        if self._memory is not None:
            self._memory.close()
        self._memory = _database(":memory:")
        weakref.finalize(self, self._memory.close)

    def _connect(self) -> sqlite3.Connection:
        if (self.path.exists() and not is_own_file(self.path)) or self.path.is_symlink():
            raise sqlite3.OperationalError(f"{str(self.path)!r} is no file of the store's own")
        return _database(self.path)


def _database(path: Path | str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=60.0, check_same_thread=path != ":memory:")  # the collector's thread may close that
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA synchronous = OFF")  # the files are the truth
        connection.execute(f"CREATE TABLE IF NOT EXISTS records (key PRIMARY KEY, {', '.join((*COLUMNS, *MORE))})")
        connection.execute("SELECT count(*) FROM records").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection
