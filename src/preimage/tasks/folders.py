"""The folder of a result: filled aside and renamed when it is whole; an earlier result is replaced, and nothing that is not ours."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from zipfile import is_zipfile

from ..errors import PreimageError, ResultFolderError
from ..files import is_own_file, is_plain_name, reason, sync_file, sync_folder

RECORD = "result.json"
RECORDS = (RECORD, "saliency.json", "export.json")  # each lists the files that were written with it
_LARGEST = 2**26  # bytes of a record that is read


def check_folder(folder: str | os.PathLike[str], overwrite: bool) -> None:
    """Can a result be written there? Asked before hours of work, not after. Raises ResultFolderError."""
    with _aside(_resolved(Path(folder)), overwrite):
        pass


@contextmanager
def new_folder(destination: Path, overwrite: bool) -> Iterator[Path]:
    """Give a folder to fill that takes its name when the block ends well; on any error nothing of it stays.

    overwrite: replace an earlier result there: the files that its record lists go, all others stay where they are. A link is followed,
    so that its target is what is replaced. Raises ResultFolderError where that cannot be, or would cover a file that is not ours.
    """
    destination = _resolved(destination)
    with _aside(destination, overwrite) as part:
        try:
            yield part
            part.chmod(0o755)
            for path in part.iterdir():
                sync_file(path)
            sync_folder(part)
            _put(part, destination)
        except OSError as error:
            if isinstance(error, PreimageError):
                raise
            raise ResultFolderError(
                f"The result could not be written to {str(destination)!r}: {reason(error)}. Make room or name another folder."
            ) from error


def packed(path: Path) -> str:
    """Return what to do with a zip of a result, as the interactive page gives it, after an error that wanted its folder; else nothing.

    >>> packed(Path("no such file"))
    ''
    """
    return f" It is a zip: unpack it (python -m zipfile -e {path.name} .) and name the folder that was in it." if is_zipfile(path) else ""


def own_files(folder: Path) -> list[str] | None:
    """List the files of the result that a folder holds, by its record; None where there is no record of ours.

    Only names inside the folder count, whatever the record says.
    """
    return next((files for name in RECORDS if (files := _listed(folder, name)) is not None), None)


def _listed(folder: Path, name: str) -> list[str] | None:
    record = folder / name
    try:
        if not is_own_file(record) or record.stat().st_size > _LARGEST:
            return None
        facts = json.loads(record.read_text(encoding="utf-8"))
        if not isinstance(facts, dict) or facts.get("preimage") != 1 or not isinstance(facts.get("files"), list):
            return None
    except (OSError, ValueError, RecursionError):
        return None
    listed = dict.fromkeys([file for file in facts["files"] if is_plain_name(file)])
    return [*(file for file in listed if file != name and is_own_file(folder / file)), name]


def _put(part: Path, destination: Path) -> None:
    """Give the filled folder its name, with what is not ours of the one that had it."""
    old = None
    if destination.is_dir() and any(destination.iterdir()):
        strangers = _strangers(destination)
        covered = [name for name in strangers if (part / name).exists()]
        if covered:
            raise ResultFolderError(
                f"The folder {str(destination)!r} holds {covered[0]!r}, which is no file of its result and would be replaced. Move it away."
            )
        old = part.with_suffix(".old")
        destination.rename(old)
    try:
        part.rename(destination)
    except OSError:
        if old is not None:
            old.rename(destination)
        raise
    sync_folder(destination.parent)
    if old is not None:
        for name in _strangers(old):
            (old / name).rename(destination / name)
        for name in own_files(old) or ():
            (old / name).unlink(missing_ok=True)
        with suppress(OSError):  # somebody has put a file there at this moment
            old.rmdir()


def _strangers(folder: Path) -> list[str]:
    """What a folder holds beside a result."""
    mine = own_files(folder) or ()
    return sorted(path.name for path in folder.iterdir() if path.name not in mine)


def _resolved(destination: Path) -> Path:
    """Where a folder really is; the folder itself, where links lead round in a circle."""
    try:
        return destination.resolve()
    except (OSError, RuntimeError):
        return destination.absolute()


@contextmanager
def _aside(destination: Path, overwrite: bool) -> Iterator[Path]:
    """The checks, then an empty folder beside the destination that is removed at the end if it is still there."""
    shown = repr(str(destination))
    try:
        if destination.exists() and not destination.is_dir():
            raise ResultFolderError(f"{shown} is a file. Name a folder for the result.")
        if destination.is_dir() and any(destination.iterdir()):
            if own_files(destination) is None:
                raise ResultFolderError(f"The folder {shown} holds other files. Name a new or an empty folder.")
            if not overwrite:
                raise ResultFolderError(
                    f"The folder {shown} holds a result already. Name another, or replace it: --overwrite, overwrite=True in Python."
                )
        made = [p for p in destination.parents if not p.exists()]
        destination.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=destination.parent, prefix=f".{destination.name[:150]}.", suffix=".part"))
    except OSError as error:
        if isinstance(error, PreimageError):
            raise
        raise ResultFolderError(f"No result can be written to {shown}: {reason(error)}. Name a folder that can be written.") from error
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)
        for parent in made:
            with suppress(OSError):
                if parent.is_dir() and not any(parent.iterdir()):
                    parent.rmdir()
