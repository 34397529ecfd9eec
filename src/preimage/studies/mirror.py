"""A copy of a store's results wherever fsspec reaches: s3://bucket/…, gs://…, sftp://…, a shared folder. It has a store's own layout."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingExtra, ResultFolderError, first_line, missing_extra
from ..files import is_own_file, read_own
from ..pixels import images as pictures
from ..tasks.result import TENSORS, new_folder
from .records import KEY, LARGEST, LARGEST_FILE, check_facts, check_sizes
from .store import FACTS, MARK, VERSION, Store

_UPLOADS = 4  # at a time: each waits for a network
_ONE_SAVE = 60 * 10**9  # nanoseconds in which the files of a result are written, and more
_WHOLE = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"}  # where an object is seen only when all of it is there, and moving one is a copy


@dataclass
class Copied:
    """What was copied. done: keys; failed: why, by key; there: how many results were there already."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    there: int = 0

    def __str__(self) -> str:
        return f"{len(self.done)} results copied, {self.there} were there already, {len(self.failed)} failed"


class Mirror:
    """A place elsewhere. A result that has its job.json there is whole, as that comes last; so pushing may stop at any moment."""

    def __init__(self, files: Any, root: str, url: str) -> None:
        self.files, self.root, self.url = files, root.rstrip("/"), url
        protocol = files.protocol
        self._whole = not _WHOLE.isdisjoint((protocol,) if isinstance(protocol, str) else protocol)
        self.version = VERSION  # of the results that are there, see `Store`
        self._inputs: set[str] = set()  # that are known to be there
        self._guard = threading.Lock()

    @staticmethod
    def open(url: str, create: bool = True, version: int = VERSION) -> Mirror:
        """The mirror at this URL; create: begin one where there is nothing, for results of stores of this version.

        Raises MissingExtra without fsspec or what it needs for the URL, InputError for a kind of URL that nobody knows, and
        ResultFolderError for a place that cannot be reached or holds other things.
        """
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise missing_extra("A mirror needs fsspec", "mirror") from error
        shown = re.sub(r"//[^/@]*@", "//", url)  # a password is not for messages
        try:
            files, root = url_to_fs(url)
            mirror = Mirror(files, root, shown)
            mirror._begin(create, version)
        except ImportError as error:
            raise MissingExtra(f"fsspec needs another package for {shown}: {first_line(error)}") from error
        except ValueError as error:
            raise InputError(f"{shown!r} is no place that fsspec knows, as s3://bucket/study is: {first_line(error)}.") from error
        except ResultFolderError:
            raise
        except Exception as error:  # each kind of storage has its own
            raise ResultFolderError(f"The mirror {shown} cannot be reached: {type(error).__name__}: {first_line(error)}") from error
        return mirror

    def keys(self) -> set[str]:
        """The results that are there, whole. Raises ResultFolderError if they cannot be listed."""
        return set(self.sizes())

    def sizes(self) -> dict[str, int | None]:
        """The results that are there, whole, and the bytes of each one's record. Raises ResultFolderError if they cannot be listed."""
        try:
            self.files.invalidate_cache()
            runs = f"{self.root}/runs"
            paths = self.files.find(runs, detail=True) if self.files.exists(runs) else {}
        except Exception as error:
            raise ResultFolderError(f"The mirror {self.url} cannot be listed: {type(error).__name__}: {first_line(error)}") from error
        named = [(path.split("/"), info.get("size")) for path, info in paths.items()]
        return {parts[-2]: size for parts, size in named if parts[-1] == FACTS and KEY.fullmatch(parts[-2])}

    def push(self, store: Store, key: str) -> None:
        """Copy a result of the store there, with its photograph. Raises whatever the storage raises; a part of it is harmless."""
        folder, place = store.folder(key), f"{self.root}/runs/{key[:2]}/{key}"
        raw = read_own(folder / FACTS, LARGEST)
        facts = _facts(raw, key, str(folder / FACTS))
        sizes = check_sizes(json.loads(raw))
        for name, size in sizes.items():
            if not is_own_file(folder / name) or (folder / name).stat().st_size != size:
                raise ResultFolderError(f"{str(folder / name)!r} is not the file of {size} bytes that the result's record lists.")
        for path in _inputs(store, facts["config"]):
            with self._guard:
                known = path.name in self._inputs
            if not known:
                self._put(path, f"{self.root}/inputs/{path.name}")
                with self._guard:
                    self._inputs.add(path.name)
        for name in (*(n for n in sizes if n != FACTS), FACTS):
            self._put(folder / name, f"{place}/{name}")

    def is_current(self, store: Store, key: str, size: int | None) -> bool:
        """Whether the record of a result there, of so many bytes, is the store's, to which metrics may have been added since."""
        folder = store.folder(key)
        mine = (folder / FACTS).stat()
        if size is not None and size != mine.st_size:
            return False
        if size is not None and mine.st_mtime_ns <= (folder / TENSORS).stat().st_mtime_ns + _ONE_SAVE:
            return True  # as it was made
        return self._get(f"{self.root}/runs/{key[:2]}/{key}/{FACTS}", LARGEST) == read_own(folder / FACTS, LARGEST)

    def pull(self, store: Store, key: str) -> None:
        """Copy a result from there into the store, whole or not at all. Raises ResultFolderError for one that is damaged or no result."""
        place = f"{self.root}/runs/{key[:2]}/{key}"
        raw = self._get(f"{place}/{FACTS}", LARGEST)
        facts = _facts(raw, key, f"{place}/{FACTS}")
        sizes = check_sizes(json.loads(raw))
        store.make_way(key)
        for path in _inputs(store, facts["config"], there=False):
            if not path.exists() and self.files.exists(f"{self.root}/inputs/{path.name}"):
                found = self._get(f"{self.root}/inputs/{path.name}", LARGEST_FILE)
                with pictures.atomic_write(path) as file:
                    file.write(found)
        contents = {name: self._get(f"{place}/{name}", size) for name, size in sizes.items()}
        if TENSORS not in sizes or any(len(contents[name]) != size for name, size in sizes.items()):
            raise ResultFolderError(f"The result in {place} is not whole: its files have not the sizes in {FACTS}.")
        with new_folder(store.folder(key), overwrite=True) as part:
            for name, content in (contents | {FACTS: raw}).items():
                (part / name).write_bytes(content)

    def check_version(self, store: Store) -> None:
        """Raise ResultFolderError where the results of a store and those that are there are of two versions."""
        if store.version != self.version:
            raise ResultFolderError(
                f"The mirror {self.url} is of version {self.version} and the store {str(store.path)!r} of version {store.version}: "
                "their results do not belong together. Name a new place for them."
            )

    def _begin(self, create: bool, version: int) -> None:
        """See that a mirror is there, or nothing."""
        self.files.invalidate_cache()
        if self.files.exists(f"{self.root}/{MARK}"):
            self.version = self._read_version()
            return
        if not create or (self.files.exists(self.root) and self.files.ls(self.root)):
            raise ResultFolderError(f"{self.url} is no mirror of a store. Name one, or a new or empty place to make one.")
        self.version = version
        there = self.files.exists(self.root)
        self.files.makedirs(self.root, exist_ok=True)
        try:
            self.files.pipe_file(f"{self.root}/{MARK}", json.dumps({"preimage store": version}).encode())
        except BaseException:
            with suppress(Exception):
                self.files.rm_file(f"{self.root}/{MARK}")
            with suppress(Exception):
                if not there:
                    self.files.rmdir(self.root)
            raise

    def _read_version(self) -> int:
        try:
            version = json.loads(self._get(f"{self.root}/{MARK}", LARGEST)).get("preimage store")
        except (ValueError, AttributeError, RecursionError) as error:
            raise ResultFolderError(f"{self.url} is no mirror of a store that can be read: its {MARK} is damaged.") from error
        if not isinstance(version, int) or isinstance(version, bool) or not 1 <= version <= VERSION:
            raise ResultFolderError(
                f"The mirror {self.url} is of version {str(version)[:40]}; this preimage reads up to {VERSION}. Update it."
            )
        return version

    def _put(self, path: Path, place: str) -> None:
        """A file, seen there only when all of it is there."""
        parent, name = place.rsplit("/", 1)
        self.files.makedirs(parent, exist_ok=True)
        if self._whole:
            self.files.put_file(str(path), place)
            return
        part = f"{parent}/.{name}.{uuid.uuid4().hex}.part"
        try:
            self.files.put_file(str(path), part)
            self.files.mv(part, place)
        except BaseException:
            with suppress(Exception):
                self.files.rm_file(part)
            raise

    def _get(self, place: str, largest: int) -> bytes:
        facts = self.files.info(place)
        if facts.get("islink") or facts.get("type", "file") != "file":
            raise ResultFolderError(f"{place} is a link or no regular file, which no mirror holds.")
        with self.files.open(place, "rb") as file:
            found: bytes = file.read(largest + 1)
        if len(found) > largest:
            raise ResultFolderError(f"{place} is larger than the {largest} bytes that it should have at most.")
        return found


def push(store: Store, url: str) -> Copied:
    """Copy all results of a store to a mirror that are not there. Raises the errors of `Mirror.open`; one result's are in `failed`."""
    mirror, found = Mirror.open(url, version=store.version), Copied()
    with copying(store, mirror, found) as copy:
        for record in store.records(status="done"):
            copy(record.key)
    return found


def pull(url: str, store: Store) -> Copied:
    """Copy all results of a mirror into a store that has them not, and bring its table up to date. Errors as of `push`."""
    mirror, found = Mirror.open(url, create=False), Copied()
    mirror.check_version(store)
    keys = mirror.keys()
    wanted = sorted(key for key in keys if not store.done(key))
    found.there = len(keys) - len(wanted)
    for key, error in _all(wanted, lambda key: mirror.pull(store, key)):
        _note(found, key, error)
    store.refresh()
    return found


@contextmanager
def copying(store: Store, mirror: Mirror, found: Copied) -> Iterator[Callable[[str], None]]:
    """A function that has a result copied to the mirror beside other work, unless it is there; the end of the block waits for all.

    A copy that fails is in `found.failed`; the next run, or `push`, tries it again. Raises ResultFolderError where the mirror
    cannot be listed or holds results of another version.
    """
    mirror.check_version(store)
    there, asked, asked_for = mirror.sizes(), dict[Future[bool], str](), set[str]()
    pool = ThreadPoolExecutor(_UPLOADS, "mirror")

    def bring(key: str, known: bool) -> bool:
        if known and mirror.is_current(store, key, there[key]):
            return False
        mirror.push(store, key)
        return True

    def copy(key: str) -> None:
        if key not in asked_for:
            asked_for.add(key)
            asked[pool.submit(bring, key, key in there)] = key

    try:
        yield copy
        for future, key in asked.items():
            error = future.exception()
            if error is None and not future.result():
                found.there += 1
            else:
                _note(found, key, error)
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C: those that are on their way get there


def _all(keys: Iterable[str], act: Callable[[str], None]) -> Iterator[tuple[str, BaseException | None]]:
    with ThreadPoolExecutor(_UPLOADS, "mirror") as pool:
        asked = {pool.submit(act, key): key for key in keys}
        try:
            for future, key in asked.items():
                yield key, future.exception()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _note(found: Copied, key: str, error: BaseException | None) -> None:
    if error is None:
        found.done.append(key)
    else:
        found.failed[key] = f"result {key[:12]}: {type(error).__name__}: {first_line(error) if isinstance(error, Exception) else error}"


def _facts(raw: bytes, key: str, place: str) -> dict[str, Any]:
    """A result's record, checked. Raises ResultFolderError, with what is wrong with it."""
    try:
        facts = check_facts(json.loads(raw), key)
        check_sizes(json.loads(raw))
    except (ValueError, RecursionError) as error:
        raise ResultFolderError(f"{place} is no record of a result: {first_line(error)}") from error
    if facts["status"] != "done":
        raise ResultFolderError(f"{place} is no record of a result: the job has {facts['status']}.")
    return facts


def _inputs(store: Store, config: dict[str, Any], there: bool = True) -> list[Path]:
    """The files of the photograph or template of a job. there: only those that the store has."""
    named = str(config.get("original", "")).removeprefix("inputs/").removesuffix(".png") or str(config.get("template", ""))
    if not KEY.fullmatch(named):
        return []
    paths = [store.path / "inputs" / f"{named}{end}" for end in (".safetensors", ".png")]
    return [path for path in paths if is_own_file(path) or not there]
