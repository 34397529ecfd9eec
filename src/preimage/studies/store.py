"""Where results are kept: a folder for each, written whole or not at all, found by the key of its job; and one table of them all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import InputError, ResultFolderError
from ..pixels import images as pictures
from ..tasks.result import TENSORS, Result, load_result, load_trace, new_folder
from .claims import Claims, claims_of
from .jobs import Job

MARK, TABLE, FACTS, PICTURE = "store.json", "index.sqlite", "job.json", "image.png"
_VERSION = 1
_PARTS = ("runs", "failed", "inputs", "summary")
_COLUMNS = ("experiment", "status", "task", "network", "layer", "image", "unit", "C", "restart", "variant")
_MORE = ("config", "metrics", "reason", "created", "seconds")
_STALE = 3600.0  # seconds after which a temporary name that belongs to no job is nobody's
_LEFTOVER = re.compile(r"\.(?P<key>[0-9a-f]{64})?.*\.(part|old)")


@dataclass(frozen=True)
class Record:
    """A row of the table: what is known of a job that has been run.

    status: "done" or "failed". config: the job's settings. metrics: its numbers, see `jobs.measure`. folder: of the result, None for
    a failure. reason: of a failure. created: when, in UTC (ISO 8601). seconds: that it took.
    """

    key: str
    experiment: str
    status: str
    config: dict[str, Any]
    metrics: dict[str, float] = field(default_factory=dict)
    folder: Path | None = None
    reason: str = ""
    created: str = ""
    seconds: float = 0.0

    @property
    def picture(self) -> Path:
        """The image as a PNG. Raises ResultFolderError for a failure."""
        if self.folder is None:
            raise ResultFolderError(f"Job {self.key[:12]} failed and has no picture: {self.reason}")
        return self.folder / PICTURE

    def facts(self) -> dict[str, Any]:
        """Plain values, as they are kept in a file; the folder is where the file is."""
        names = ("key", "experiment", "status", "config", "metrics", "reason", "created", "seconds")
        return {name: getattr(self, name) for name in names}


class Store:
    """Results of jobs in one folder. The files are the truth; the table `records` in index.sqlite is made of them and can be lost.

    runs/KE/KEY/: image.png, tensors.safetensors, result.json, job.json. failed/KEY.json. inputs/SHA.png and .safetensors: photographs,
    once each. summary/NAME/: what an experiment writes. Several processes may use one store at once: see `claims`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def open(path: str | os.PathLike[str], create: bool = True) -> Store:
        """The store in this folder; create: make one where there is nothing. Brings the table up to date with the files.

        Raises ResultFolderError for a folder with other things in it, one that cannot be written, and a later version's store.
        """
        folder = Path(path)
        try:
            if not (folder / MARK).is_file():
                if not create or (folder.exists() and not folder.is_dir()) or _foreign(folder):
                    wanted = (
                        "Name one, or a new or empty folder to make one." if create else "`preimage paper` and `preimage atlas` make them."
                    )
                    raise ResultFolderError(f"{str(folder)!r} is no store of results. {wanted}")
                for part in _PARTS:
                    (folder / part).mkdir(parents=True, exist_ok=True)
                _write_json(folder / MARK, {"preimage store": _VERSION})
            version = json.loads((folder / MARK).read_text(encoding="utf-8")).get("preimage store")
        except (OSError, ValueError, AttributeError) as error:
            if isinstance(error, ResultFolderError):
                raise
            raise ResultFolderError(f"No store can be opened in {str(folder)!r}: {error}.") from error
        if version != _VERSION:
            raise ResultFolderError(f"The store {str(folder)!r} is of version {version}; this preimage reads {_VERSION}. Update it.")
        store = Store(folder)
        store._check_table()
        store.refresh()
        return store

    @cached_property
    def claims(self) -> Claims:
        """Which jobs some live process is at."""
        return claims_of(self.path / "claims.lock")

    def folder(self, key: str) -> Path:
        """Where the result of this key is or would be."""
        return self.path / "runs" / key[:2] / key

    def done(self, key: str) -> bool:
        """Whether there is a result of this key."""
        return (self.folder(key) / FACTS).is_file()

    def records(self, **where: Any) -> list[Record]:
        """The rows, oldest first. where: only those with this experiment, status or value of a setting (None: without it).

        A setting is named as in `jobs.Job`: ``store.records(status="done", layer="fire4", C=100)``.
        """
        tests, values = [], []
        for name, value in where.items():
            if not re.fullmatch(r"\w+", name):
                raise InputError(f"{name!r} is no name of a setting.")
            column = name if name in ("key", "experiment", "status") else f"json_extract(config, '$.{name}')"
            tests.append(f"{column} IS ?" if value is None or not isinstance(value, (list, tuple)) else f"{column} = json(?)")
            values.append(json.dumps(list(value)) if isinstance(value, (list, tuple)) else value)
        clause = f" WHERE {' AND '.join(tests)}" if tests else ""
        query = f"SELECT key, status, {', '.join(_MORE)} FROM records{clause} ORDER BY created, key"
        with self._table() as table:
            rows = table.execute(query, values).fetchall()
        return [self._record(*row) for row in rows]

    def record(self, key: str) -> Record | None:
        """The row of one key, None where the job has not been run."""
        found = self.records(key=key)
        return found[0] if found else None

    def result(self, key: str) -> Result:
        """The result of a key, with its photograph where it had one. Raises ResultFolderError if there is none."""
        result = load_result(self.folder(key))
        record = self.record(key)
        sha = None if record is None else _sha_of(record.config)
        if sha is not None:
            result.originals = self._read_input(sha).get("levels")
        return result

    def trace(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Of a key's result its energies by iteration, term -> (T, B), and its config. Raises ResultFolderError if there is none."""
        return load_trace(self.folder(key))

    def add_input(self, x: Tensor, levels: Tensor | None = None) -> str:
        """Keep an input, float32 (1, C, H, W) as the job takes it, once; gives the sha256 of its values, which names it.

        levels: the same as grey levels 0–255 for people to see, where it is a photograph.
        """
        from safetensors.torch import save

        x = x.detach().cpu().float().contiguous()
        sha = hashlib.sha256(x.numpy().tobytes()).hexdigest()
        path = self.path / "inputs" / f"{sha}.safetensors"
        if not path.exists():
            tensors = {"x": x} if levels is None else {"x": x, "levels": levels.detach().cpu().float().contiguous()}
            if levels is not None and levels.shape[1] in (1, 3):
                pictures.write_png(path.with_suffix(".png"), levels[0])
            with pictures.atomic_write(path) as file:
                file.write(save(tensors))
        return sha

    def input(self, sha: str) -> Tensor:
        """An input as it was given to `add_input`. Raises ResultFolderError if it is not there or damaged."""
        return self._read_input(sha)["x"]

    def save(self, job: Job, result: Result, metrics: Mapping[str, float], seconds: float, picture: bytes | None = None) -> Record:
        """Keep the result of a job, in place of an earlier failure. Raises ResultFolderError (OSError) if it cannot be written.

        picture: the result as a PNG, where it is made already (`jobs.Outcome`).
        """
        config: dict[str, Any] = job.config()
        record = Record(job.key, job.experiment, "done", config, dict(metrics), self.folder(job.key), "", _now(), round(seconds, 3))
        folder = self.folder(job.key)
        if folder.exists() and not self.done(job.key):
            self._set_aside(folder)
        with new_folder(folder, overwrite=True) as part:
            if picture is not None:
                (part / PICTURE).write_bytes(picture)
            elif result.images.shape[1] in (1, 3):
                pictures.write_png(part / PICTURE, result.images[0] if len(result.images) == 1 else pictures.mosaic(result.images))
            result.write_record(part, [PICTURE, FACTS])
            sizes = {p.name: p.stat().st_size for p in sorted(part.iterdir())}
            (part / FACTS).write_text(json.dumps(record.facts() | {"sizes": sizes}, indent=1, ensure_ascii=False), encoding="utf-8")
        self._failure(job.key).unlink(missing_ok=True)
        with suppress(sqlite3.OperationalError):  # a full disk or a table that is locked: the result is there, and `refresh` finds it
            self._put([record])
        return record

    def fail(self, job: Job, reason: str) -> Record:
        """Record that a job failed, and why. Raises OSError if not even that can be written."""
        record = Record(job.key, job.experiment, "failed", dict(job.config()), reason=reason, created=_now())
        _write_json(self._failure(job.key), record.facts())
        self._put([record])
        return record

    def tidy(self) -> int:
        """Remove what killed runs have left under temporary names, unless some live process is at it; gives how many."""
        found = [p for part in _PARTS for p in (self.path / part).rglob(".*") if p.exists()]
        removed = 0
        for path in found:
            match = _LEFTOVER.fullmatch(path.name)
            if match is None:
                continue
            key = match["key"]
            if key is None or path.parent.name == "inputs":
                if time.time() - path.stat().st_mtime < _STALE:
                    continue
            elif not self.claims.take(key):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            removed += 1
            if key is not None:
                self.claims.release(key)
        return removed

    def rebuild(self) -> int:
        """Make the table again from the files, each checked; damaged results are set aside in damaged/. Gives the number of rows."""
        (self.path / TABLE).unlink(missing_ok=True)
        for folder in (self.path / "runs").glob("??/*"):
            if not folder.name.startswith(".") and not _whole(folder):
                self._set_aside(folder)
        self.refresh()
        return len(self.records())

    def refresh(self) -> None:
        """Bring the table up to date: add the rows that only the files have (a run was killed between the two), drop the others."""
        done = {p.name: p / FACTS for p in (self.path / "runs").glob("??/*") if (p / FACTS).is_file() and not p.name.startswith(".")}
        failed = {p.stem: p for p in (self.path / "failed").glob("*.json") if not p.name.startswith(".") and p.stem not in done}
        with self._table() as table:
            rows = dict(table.execute("SELECT key, status FROM records").fetchall())
        wanted = [(k, p) for k, p in done.items() if rows.get(k) != "done"] + [(k, p) for k, p in failed.items() if rows.get(k) != "failed"]
        new = [record for key, path in wanted if (record := self._read(key, path)) is not None]
        gone = [key for key in rows if key not in done and key not in failed]
        self._put(new)
        if gone:
            with self._table() as table:
                table.executemany("DELETE FROM records WHERE key = ?", [(k,) for k in gone])

    def _read(self, key: str, path: Path) -> Record | None:
        """A record's file; None, and set aside, if it cannot be read."""
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            names = ("status", "config", "metrics", "reason", "created", "seconds")
            return self._record(key, *[facts[n] for n in names])
        except (OSError, ValueError, KeyError, TypeError):
            self._set_aside(path.parent if path.name == FACTS else path)
            return None

    def _record(self, key: str, status: str, config: Any, metrics: Any, reason: str, created: str, seconds: float) -> Record:
        config, metrics = (json.loads(v) if isinstance(v, str) else v for v in (config, metrics))
        folder = self.folder(key) if status == "done" else None
        return Record(key, config["experiment"], status, config, metrics, folder, reason, created, seconds)

    def _put(self, records: list[Record]) -> None:
        def values(r: Record) -> list[Any]:
            plain = [r.status if c == "status" else r.config.get(c) for c in _COLUMNS]
            cells = [json.dumps(v) if isinstance(v, list) else v for v in plain]
            return [r.key, *cells, json.dumps(r.config), json.dumps(r.metrics), r.reason, r.created, r.seconds]

        if records:
            with self._table() as table:
                table.executemany(
                    f"INSERT OR REPLACE INTO records VALUES ({','.join('?' * (1 + len(_COLUMNS) + len(_MORE)))})", map(values, records)
                )

    @contextmanager
    def _table(self) -> Iterator[sqlite3.Connection]:
        """The database for one transaction; a damaged one is thrown away and made again from the files."""
        with closing(self._connect()) as connection, connection:
            yield connection

    def _check_table(self) -> None:
        """Throw away a table that is damaged or has other columns, so that it is made again."""
        path = self.path / TABLE
        with suppress(sqlite3.DatabaseError), closing(self._connect()) as connection:
            columns = [row[1] for row in connection.execute("PRAGMA table_info(records)")]
            if connection.execute("PRAGMA quick_check").fetchone() == ("ok",) and columns == ["key", *_COLUMNS, *_MORE]:
                return
        path.unlink(missing_ok=True)

    def _connect(self) -> sqlite3.Connection:
        path = self.path / TABLE
        try:
            return _database(path)
        except sqlite3.OperationalError as error:
            raise ResultFolderError(f"The table {str(path)!r} cannot be opened: {error}. Is its folder writable?") from error
        except sqlite3.DatabaseError:
            path.unlink(missing_ok=True)
            path.with_name(f"{TABLE}-journal").unlink(missing_ok=True)
            connection = _database(path)
            self.refresh()
            return connection

    def _failure(self, key: str) -> Path:
        return self.path / "failed" / f"{key}.json"

    def _set_aside(self, path: Path) -> None:
        """Move what is damaged out of the way, where a person can look at it."""
        place = self.path / "damaged"
        place.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):
            path.rename(place / f"{path.name}-{time.time_ns()}")

    def _read_input(self, sha: str) -> dict[str, Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self.path / "inputs" / f"{sha}.safetensors"
        try:
            found = load(path.read_bytes())
        except (OSError, SafetensorError) as error:
            raise ResultFolderError(f"The input {sha[:12]} of the store is missing or damaged ({error}).") from error
        if hashlib.sha256(found["x"].numpy().tobytes()).hexdigest() != sha:
            raise ResultFolderError(f"The input {sha[:12]} of the store is damaged: its values have another hash.")
        return found


def _database(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=60.0)
    try:
        connection.execute("PRAGMA synchronous = OFF")  # the files are the truth
        connection.execute(f"CREATE TABLE IF NOT EXISTS records (key PRIMARY KEY, {', '.join((*_COLUMNS, *_MORE))})")
        connection.execute("SELECT count(*) FROM records").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection


def _foreign(folder: Path) -> bool:
    """Whether a folder holds anything that another process, making a store of it at this moment, would not have put there."""
    return folder.is_dir() and any(p.name not in (*_PARTS, MARK) and not p.name.startswith(f".{MARK}.") for p in folder.iterdir())


def _whole(folder: Path) -> bool:
    """Whether a result's files are there with the sizes that they were written with."""
    try:
        sizes = json.loads((folder / FACTS).read_text(encoding="utf-8"))["sizes"]
        return TENSORS in sizes and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sha_of(config: Mapping[str, Any]) -> str | None:
    match = re.fullmatch(r"inputs/([0-9a-f]{64})\.png", str(config.get("original", "")))
    return match[1] if match else None


def _write_json(path: Path, value: Any) -> None:
    with pictures.atomic_write(path) as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False).encode())


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
