"""Where results are kept: a folder for each, written whole or not at all, found by the key of its job; and one table of them all."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import InputError, ResultFolderError, first_line
from ..files import is_own_file, read_own, reason
from ..metrics import metric_revisions
from ..pixels import images as pictures
from ..tasks.folders import RECORD, packed
from ..tasks.result import TENSORS, Result, load_result, load_trace, new_folder, plain_json
from .claims import Claims, claims_of
from .jobs import Job
from .records import KEY, LARGEST, LARGEST_FILE, check_facts, check_sizes, clean, read_facts
from .table import COLUMNS, MORE, Table

MARK, TABLE, FACTS, PICTURE = "store.json", "index.sqlite", "job.json", "image.png"
VERSION = 2  # of new stores; those of version 1 have keys made of the source code, so that no job would find its result there
_READ = (1, VERSION)
_PARTS = ("runs", "failed", "inputs", "summary")
_STALE = 3600.0  # seconds after which a temporary name that belongs to no job is nobody's
_LEFTOVER = re.compile(r"\.(?P<key>[0-9a-f]{64})?.*\.(part|old)")


@dataclass(frozen=True)
class Record:
    """A row of the table: what is known of a job that has been run.

    status: "done" or "failed". config: the job's settings. metrics: its numbers, see `jobs.measure`. folder: of the result, None for
    a failure. reason: of a failure. created: when, in UTC (ISO 8601). seconds: that it took. measured: of each registered metric that
    was tried, the revision with which it was.
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
    measured: dict[str, int] = field(default_factory=dict)

    @property
    def picture(self) -> Path:
        """The image as a PNG. Raises ResultFolderError for a failure."""
        if self.folder is None:
            raise ResultFolderError(f"Job {self.key[:12]} failed and has no picture: {self.reason}")
        return self.folder / PICTURE

    def facts(self) -> dict[str, Any]:
        """Plain values, as they are kept in a file; the folder is where the file is."""
        names = ("key", "experiment", "status", "config", "metrics", "reason", "created", "seconds", "measured")
        return {name: getattr(self, name) for name in names}


def input_name(x: Tensor) -> str:
    """Return the name that a store gives an input: the sha256 of its values as float32."""
    return hashlib.sha256(x.detach().cpu().float().contiguous().numpy().tobytes()).hexdigest()


class Store:
    """Results of jobs in one folder. The files are the truth; the table `records` in index.sqlite is made of them and can be lost.

    runs/KE/KEY/: image.png, tensors.safetensors, result.json, job.json. failed/KEY.json. inputs/SHA.png and .safetensors: photographs,
    once each. summary/NAME/: what an experiment writes. Several processes may use one store at once: see `claims`. A record that
    cannot be is set aside in the folder damaged/, and `damaged` says why, by the name that it had; the others are as they were.
    version: of its keys; one of an earlier version is read and nothing is run in it, see `check_version`.
    """

    def __init__(self, path: Path, version: int = VERSION) -> None:
        self.path, self.version = path, version
        self.damaged: dict[str, str] = {}
        self._table = Table(path / TABLE, self.refresh)

    @staticmethod
    def open(path: str | os.PathLike[str], create: bool = True, version: int = VERSION) -> Store:
        """The store in this folder; create: make one of this version where there is nothing. Brings the table up to date with the files.

        Raises ResultFolderError for a folder with other things in it, one that cannot be written, and a later version's store.
        """
        folder = Path(path)
        try:
            if not (folder / MARK).is_file():
                if not create or (folder.exists() and not folder.is_dir()) or _foreign(folder):
                    wanted = (
                        "Name one, or a new or empty folder to make one." if create else "`preimage paper` and `preimage atlas` make them."
                    )
                    raise ResultFolderError(f"{str(folder)!r} is no store of results.{packed(folder) or f' {wanted}'}")
                for part in _PARTS:
                    (folder / part).mkdir(parents=True, exist_ok=True)
                _write_json(folder / MARK, {"preimage store": version})
            found = json.loads(read_own(folder / MARK, LARGEST)).get("preimage store")
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            if isinstance(error, ResultFolderError):
                raise
            said = reason(error) if isinstance(error, OSError) else first_line(error)
            raise ResultFolderError(f"No store can be opened in {str(folder)!r}: {said}.") from error
        if found not in _READ or not isinstance(found, int) or isinstance(found, bool):
            raise ResultFolderError(
                f"The store {str(folder)!r} is of version {str(found)[:40]}; this preimage reads up to {VERSION}. Update it."
            )
        store = Store(folder, found)
        store._table.check()
        store.refresh()
        return store

    def check_version(self) -> None:
        """Raise ResultFolderError, with what to do, for a store of an earlier version: no job of now would find its result in it."""
        if self.version != VERSION:
            raise ResultFolderError(
                f"The store {str(self.path)!r} is of the earlier version {self.version}, whose results are not found by the jobs of now: "
                f"name a new folder. `preimage report {self.path}` still shows it."
            )

    @cached_property
    def claims(self) -> Claims:
        """Which jobs some live process is at."""
        return claims_of(self.path / "claims.lock")

    def folder(self, key: str) -> Path:
        """Where the result of this key is or would be."""
        return self.path / "runs" / key[:2] / key

    def done(self, key: str) -> bool:
        """Whether there is a whole result of this key: all files that its record lists, of the sizes that they were written with."""
        return _whole(self.folder(key))

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
        query = f"SELECT key, status, {', '.join(MORE)} FROM records{clause} ORDER BY created, key"
        try:
            rows = self._table.read(query, values)
        except (OverflowError, UnicodeError, ValueError) as error:
            raise InputError(f"No setting can be looked for by {_short(where)}: {first_line(error)}.") from error
        return [record for row in rows if (record := self._row(*row)) is not None]

    def record(self, key: str) -> Record | None:
        """The row of one key, None where the job has not been run."""
        found = self.records(key=key)
        return found[0] if found else None

    def result(self, key: str) -> Result:
        """The result of a key, with its photograph where it had one. Raises ResultFolderError if there is none."""
        self._check_own(key)
        result = load_result(self.folder(key))
        record = self.record(key)
        sha = None if record is None else _sha_of(record.config)
        if sha is not None:
            result.originals = self._read_input(sha).get("levels")
        return result

    def trace(self, key: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Of a key's result its energies by iteration, term -> (T, B), and its config. Raises ResultFolderError if there is none."""
        self._check_own(key)
        traces, config = load_trace(self.folder(key))
        shapes = {tuple(t.shape) for t in traces.values()}
        if len(shapes) > 1 or any(len(shape) != 2 for shape in shapes) or not all(t.is_floating_point() for t in traces.values()):
            raise ResultFolderError(f"The energies of result {key[:12]} are no table of iterations and images.")
        return traces, config

    def add_input(self, x: Tensor, levels: Tensor | None = None) -> str:
        """Keep an input, float32 (1, C, H, W) as the job takes it, once; gives the sha256 of its values, which names it.

        levels: the same as grey levels 0–255 for people to see, where it is a photograph.
        """
        from safetensors.torch import save

        x = x.detach().cpu().float().contiguous()
        sha = input_name(x)
        path = self.path / "inputs" / f"{sha}.safetensors"
        if levels is None:
            if not self._has_input(sha):
                with pictures.atomic_write(path) as file:
                    file.write(save({"x": x}))
            return sha
        files = {path: save({"x": x, "levels": levels.detach().cpu().float().contiguous().clone()})}
        if levels.shape[1] in (1, 3):
            files[path.with_suffix(".png")] = pictures.png(levels[0])
        for place, content in files.items():
            if not _holds(place, content):  # not there, or damaged
                with pictures.atomic_write(place) as file:
                    file.write(content)
        return sha

    def _has_input(self, sha: str) -> bool:
        try:
            return bool(self._read_input(sha))
        except ResultFolderError:
            return False

    def input(self, sha: str) -> Tensor:
        """An input as it was given to `add_input`. Raises ResultFolderError if it is not there or damaged."""
        return self._read_input(sha)["x"]

    def save(self, job: Job, result: Result, metrics: Mapping[str, float], seconds: float, picture: bytes | None = None) -> Record:
        """Keep the result of a job, in place of an earlier failure. Raises ResultFolderError (OSError) if it cannot be written.

        picture: the result as a PNG, where it is made already (`jobs.Outcome`).
        """
        config: dict[str, Any] = clean(job.config())
        folder = self.folder(job.key)
        taken = {name: revision for name, revision in metric_revisions().items() if name in metrics}
        record = Record(job.key, config["experiment"], "done", config, dict(metrics), folder, "", _now(), round(seconds, 3), taken)
        self.make_way(job.key)
        with new_folder(folder, overwrite=True) as part:
            if picture is not None:
                (part / PICTURE).write_bytes(picture)
            elif result.images.shape[1] in (1, 3):
                pictures.write_png(part / PICTURE, result.images[0] if len(result.images) == 1 else pictures.mosaic(result.images))
            result.write_record(part, [PICTURE, FACTS])
            sizes = {p.name: p.stat().st_size for p in sorted(part.iterdir())}
            (part / FACTS).write_bytes(plain_json(record.facts() | {"sizes": sizes}))
        with suppress(OSError):
            self._failure(job.key).unlink(missing_ok=True)
        self._put([record])
        return record

    def add_metrics(self, key: str, metrics: Mapping[str, float], measured: Mapping[str, int]) -> Record:
        """Keep more metrics of a result that is there, each with its revision; nothing else of it changes.

        Raises ResultFolderError if there is no whole result of this key, and OSError if it cannot be written.
        """
        path = self.folder(key) / FACTS
        if not self.done(key):
            raise ResultFolderError(f"There is no whole result {key[:12]} to measure.")
        facts = read_facts(path, key)
        sizes = check_sizes(json.loads(read_own(path, LARGEST)))
        record = self._made(
            facts | {"metrics": {**facts["metrics"], **metrics}, "measured": {**facts["measured"], **measured}},
        )
        _write_json(path, record.facts() | {"sizes": sizes})
        self._put([record])
        return record

    def make_way(self, key: str) -> None:
        """Move half a result of this key out of the way. Raises ResultFolderError where its place is a link, which may lead anywhere."""
        folder = self.folder(key)
        if folder.is_symlink() or folder.parent.is_symlink():
            raise ResultFolderError(f"{str(folder)!r} is a link out of the store. Remove it.")
        if folder.exists() and not self.done(key):
            self._set_aside(folder)

    def fail(self, job: Job, reason: str) -> Record:
        """Record that a job failed, and why. Raises OSError if not even that can be written."""
        config: dict[str, Any] = clean(job.config())
        record = Record(job.key, config["experiment"], "failed", config, reason=clean(reason)[:10_000], created=_now())
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
                with suppress(OSError):
                    path.unlink(missing_ok=True)
            removed += 1
            if key is not None:
                self.claims.release(key)
        return removed

    def rebuild(self) -> int:
        """Make the table again from the files, each checked; damaged results are set aside in damaged/. Gives the number of rows."""
        self._table.throw_away()
        for folder in (self.path / "runs").glob("??/*"):
            if KEY.fullmatch(folder.name) and not folder.is_symlink() and not _whole(folder):
                self._set_aside(folder, "its files are not those that its record lists.")
        self.refresh()
        return len(self.records())

    def refresh(self) -> None:
        """Bring the table up to date: add the rows that only the files have (a run was killed between the two), drop the others."""
        done = {p.name: p / FACTS for p in (self.path / "runs").glob("??/*") if self._may_be(p, p.name) and (p / FACTS).exists()}
        failed = {p.stem: p for p in (self.path / "failed").glob("*.json") if self._may_be(p, p.stem) and p.stem not in done}
        rows = dict(self._table.read("SELECT key, status FROM records"))
        wanted = [(k, p) for k, p in done.items() if rows.get(k) != "done"] + [(k, p) for k, p in failed.items() if rows.get(k) != "failed"]
        new = [record for key, path in wanted if (record := self._read(key, path)) is not None]
        gone = [key for key in rows if key not in done and key not in failed]
        self._put(new)
        self._table.drop(gone)

    def _may_be(self, path: Path, key: str) -> bool:
        """Whether this is a place where a record may be; a link, which may lead anywhere, is named and left alone."""
        if not KEY.fullmatch(key):
            return False
        if path.is_symlink() or path.parent.is_symlink():
            self.damaged[key] = "it is a link out of the store."
            return False
        return True

    def _read(self, key: str, path: Path) -> Record | None:
        """A record's file; None, and set aside, if it is none."""
        try:
            facts = read_facts(path, key)
            if (facts["status"] == "done") != (path.name == FACTS):
                raise InputError(f"it says that the job has {facts['status']}.")
            return self._made(facts)
        except InputError as error:
            self._set_aside(path.parent if path.name == FACTS else path, str(error))
            return None

    def _row(
        self, key: str, status: str, config: str, metrics: str, why: str, created: str, seconds: float, measured: str
    ) -> Record | None:
        """A row of the table, which may be of anybody's making; None, and named, if it cannot be."""
        try:
            facts = {"status": status, "config": json.loads(config), "metrics": json.loads(metrics), "measured": json.loads(measured)}
            return self._made(check_facts(facts | {"key": key, "reason": why, "created": created, "seconds": seconds}, key))
        except (TypeError, ValueError, RecursionError) as error:
            self.damaged[clean(str(key))[:64]] = first_line(error)
            return None

    def _made(self, facts: dict[str, Any]) -> Record:
        folder = self.folder(facts["key"]) if facts["status"] == "done" else None
        return Record(experiment=facts["config"]["experiment"], folder=folder, **facts)

    def _put(self, records: list[Record]) -> None:
        def values(r: Record) -> list[Any]:
            plain = [r.status if c == "status" else r.config.get(c) for c in COLUMNS]
            cells = [json.dumps(v) if isinstance(v, (list, dict)) else v for v in plain]
            finite = {k: v for k, v in r.metrics.items() if math.isfinite(v)}
            return [r.key, *cells, json.dumps(r.config), json.dumps(finite), r.reason, r.created, r.seconds, json.dumps(r.measured)]

        self._table.put(map(values, records))

    def _failure(self, key: str) -> Path:
        return self.path / "failed" / f"{key}.json"

    def _set_aside(self, path: Path, why: str = "it is not whole.") -> None:
        """Move what is damaged out of the way, where a person can look at it; where nothing can be moved, it stays and is named."""
        self.damaged[path.name.removesuffix(".json")] = why
        place = self.path / "damaged"
        with suppress(OSError):
            place.mkdir(exist_ok=True)
            path.rename(place / f"{path.name}-{time.time_ns()}")

    def _check_own(self, key: str) -> None:
        """Raises ResultFolderError where a result's files are links, pipes or devices: a store may come from anywhere."""
        folder = self.folder(key)
        for path in (folder / RECORD, folder / TENSORS):
            if folder.parent.is_symlink() or folder.is_symlink() or (path.exists() and not is_own_file(path)):
                raise ResultFolderError(f"The result {key[:12]} is not whole: {path.name} leads out of the store or is no regular file.")

    def _read_input(self, sha: str) -> dict[str, Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self.path / "inputs" / f"{sha}.safetensors"
        try:
            found = load(read_own(path, LARGEST_FILE))
            values = found["x"].numpy().tobytes()
        except (OSError, KeyError, TypeError, SafetensorError) as error:
            raise ResultFolderError(f"The input {sha[:12]} of the store is missing or damaged ({first_line(error)}).") from error
        if hashlib.sha256(values).hexdigest() != sha:
            raise ResultFolderError(f"The input {sha[:12]} of the store is damaged: its values have another hash.")
        return found


@contextmanager
def store_for(path: str | os.PathLike[str], version: int | None = None) -> Iterator[Store]:
    """A store to run in; one that was made for this and has seen no job goes again when the block is refused by an error.

    version: that of the results which are copied into it where nothing is run. Raises ResultFolderError for a store of another version.
    """
    folder = Path(path)
    there = folder.exists()
    made = not (folder / MARK).exists()
    store = None
    try:
        store = Store.open(folder, version=version or VERSION)
        if version is None:
            store.check_version()
        yield store
    except Exception:
        if made and (not any(folder.glob("runs/??/*")) and not any(folder.glob("failed/*")) if store else _only_ours(folder)):
            for part in _PARTS:
                shutil.rmtree(folder / part, ignore_errors=True)
            for name in (MARK, TABLE, f"{TABLE}-journal", "claims.lock"):
                (folder / name).unlink(missing_ok=True)
            with suppress(OSError):
                if not there:
                    folder.rmdir()
        raise


def _only_ours(folder: Path) -> bool:
    """Whether a folder in which no store could be made holds nothing but what was begun of it."""
    return not _foreign(folder) and not any(p.is_file() for part in _PARTS for p in (folder / part).rglob("*"))


def _holds(path: Path, content: bytes) -> bool:
    try:
        return read_own(path, LARGEST_FILE) == content
    except ResultFolderError:
        return False


def _short(where: Mapping[str, Any]) -> str:
    return ascii(where)[:100]


def _foreign(folder: Path) -> bool:
    """Whether a folder holds anything that another process, making a store of it at this moment, would not have put there."""
    return folder.is_dir() and any(p.name not in (*_PARTS, MARK) and not p.name.startswith(f".{MARK}.") for p in folder.iterdir())


def _whole(folder: Path) -> bool:
    """Whether a result's files are there with the sizes that they were written with, and none of them is a link."""
    try:
        sizes = check_sizes(json.loads(read_own(folder / FACTS, LARGEST)))
        return TENSORS in sizes and all(is_own_file(folder / name) and (folder / name).stat().st_size == n for name, n in sizes.items())
    except (OSError, ValueError, RecursionError):
        return False


def _sha_of(config: Mapping[str, Any]) -> str | None:
    match = re.fullmatch(r"inputs/([0-9a-f]{64})\.png", str(config.get("original", "")))
    return match[1] if match else None


def _write_json(path: Path, value: Any) -> None:
    with pictures.atomic_write(path) as file:
        file.write(plain_json(value))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
