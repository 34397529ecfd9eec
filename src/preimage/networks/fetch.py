"""Files of weights that are too large for a package: fetched on request alone, and checked each time they are used."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FetchError, InputError, first_line

RECORD = "fetched.json"  # beside the files: the sha256 of each as it was when it came


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be fetched.

    name: what it is called in the cache, without folders. url: where it is. sha256: of its content, where it is known; md5: where
    only that is published. A file without a sha256 is recorded at first use and must stay as it was.

    >>> RemoteFile("../model.mat", "https://example.org/model.mat")
    Traceback (most recent call last):
    preimage.errors.InputError: The name of a fetched file is a plain file name; got '../model.mat'.
    """

    name: str
    url: str
    sha256: str = ""
    md5: str = ""

    def __post_init__(self) -> None:
        if Path(self.name).name != self.name or "\\" in self.name or self.name in ("", ".", "..", RECORD):
            raise InputError(f"The name of a fetched file is a plain file name; got {self.name!r}.")


def cache_folder() -> Path:
    """Where fetched files are: the environment variable PREIMAGE_CACHE, else the system's folder for caches."""
    import pooch

    return Path(os.environ.get("PREIMAGE_CACHE") or pooch.os_cache("preimage"))


def fetch(file: RemoteFile, folder: Path | None = None, progress: bool = True) -> Path:
    """Bring a file into the cache, if it is not there, and check it; nothing unfinished or wrong stays behind.

    Raises FetchError if it cannot be had, is not the known file, or was changed since it was recorded.
    """
    folder = folder or cache_folder()
    if (folder / file.name).is_file():
        return check(file, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=folder) as unfinished:
            path = _download(file, Path(unfinished), progress)
            found = _digests(path)
            _compare(file, found, "What came", "Nothing was kept. Try again; if it stays so, the file was changed by its owner")
            _record(folder, file.name, found["sha256"])
            path.replace(folder / file.name)
    except FetchError:
        raise
    except OSError as error:
        raise FetchError(f"{file.name} cannot be written to {str(folder)!r}: {error.strerror or error}.") from error
    return folder / file.name


def check(file: RemoteFile, folder: Path | None = None, net: str = "NET") -> Path:
    """The cached file, after a look at every byte. Raises FetchError, with what to do, if it is absent or not what it was."""
    folder = folder or cache_folder()
    path = folder / file.name
    if not path.is_file():
        raise FetchError(
            f"{file.name} is not in {str(folder)!r}. Fetch it with `preimage fetch {net}`, or get it from {file.url} and put it there, "
            "or give the path of a copy as the weights."
        )
    try:
        found = _digests(path)
        _compare(file, found, f"{str(path)!r}", "Remove it and fetch it again")
        known = _recorded(folder).get(file.name)
        if known is None and not (file.sha256 or file.md5):
            _record(folder, file.name, found["sha256"])
    except FetchError:
        raise
    except OSError as error:
        raise FetchError(f"{str(path)!r} cannot be checked: {error.strerror or error}.") from error
    if known not in (None, found["sha256"]):
        raise FetchError(
            f"{str(path)!r} has sha256 {found['sha256']}, but had {known} when it was first used: it was changed. Remove it and fetch it "
            f"again; if the change is meant, remove its line from {RECORD} beside it."
        )
    return path


def _download(file: RemoteFile, folder: Path, progress: bool) -> Path:
    import pooch
    import requests

    path = folder / file.name
    answers: list[Any] = []
    keep = {"response": lambda answer, *args, **more: answers.append(answer)}
    try:
        pooch.HTTPDownloader(progressbar=progress, timeout=30, hooks=keep)(file.url, str(path), None)
    except (requests.RequestException, ValueError) as error:
        raise FetchError(
            f"{file.name} could not be fetched from {file.url} ({_reason(error)}). Without a connection: bring the file by other means "
            f"and put it in {str(folder.parent)!r}, or give its path as the weights."
        ) from error
    finally:
        for answer in answers:  # one that breaks off would keep its socket
            answer.close()
    return path


def _reason(error: Exception) -> str:
    """In a few words; a failed connection's own text is a stack of library names."""
    import requests

    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return first_line(error)


def _compare(file: RemoteFile, found: dict[str, str], what: str, remedy: str) -> None:
    for kind, wanted in (("sha256", file.sha256), ("md5", file.md5)):
        if wanted and found[kind] != wanted:
            raise FetchError(f"{what} for {file.name} has {kind} {found[kind]}, wanted {wanted}: damaged or changed. {remedy}.")


def _digests(path: Path) -> dict[str, str]:
    sums = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            for digest in sums.values():
                digest.update(block)
    return {kind: digest.hexdigest() for kind, digest in sums.items()}


def _recorded(folder: Path) -> dict[str, str]:
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FetchError(f"{str(path)!r}, the record of what was fetched, is damaged ({error}). Remove it.") from None
    if not isinstance(record, dict) or not all(isinstance(v, str) for v in record.values()):
        raise FetchError(f"{str(path)!r}, the record of what was fetched, is damaged. Remove it.")
    return record


def _record(folder: Path, name: str, sha256: str) -> None:
    """Add one line, whole or not at all."""
    record = _recorded(folder) | {name: sha256}
    handle, unfinished = tempfile.mkstemp(prefix=".fetched-", dir=folder)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(record, stream, indent=1, sort_keys=True)
    Path(unfinished).replace(folder / RECORD)
