"""Files that may come from anybody: how much may come of one, and what is looked at before it is opened."""

from __future__ import annotations

import zipfile
from pathlib import Path

from .errors import InputError, first_line

DEPTH, VALUES = 24, 200_000  # of nesting; of values in all. A file like imagenet-vgg-m.mat has 2 and 1115
_BYTES = 8 << 30  # in all, unpacked
_PACKED, _EASY = 100, 64 << 20  # more than this ratio, above this size, is a bomb and no network


class Damaged(Exception):
    """What is wrong with a file, as the end of a sentence."""


def bounded(unpacked: int, size: int) -> None:
    """Raises Damaged where a file of `size` bytes has unpacked to more than a network would."""
    if unpacked > _BYTES or (unpacked > _EASY and unpacked > _PACKED * size):
        raise Damaged(f"its {size} bytes unpack to more than {unpacked}")


def check_unpacked(path: Path) -> None:
    """Refuse an archive that would unpack to more than its size explains, before anything of it is unpacked. Files of torch and
    numpy (.pt, .npz) are archives; another file passes.

    Raises InputError.
    """
    with path.open("rb") as stream:
        if stream.read(4) != b"PK\x03\x04":
            return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > VALUES:
                raise Damaged(f"it has {len(members)} members")
            bounded(sum(m.file_size for m in members), path.stat().st_size)
    except (Damaged, zipfile.BadZipFile, OSError, ValueError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{str(path)!r} is no archive of numbers, or damaged: {first_line(error).rstrip('.')}.") from None


def is_file(path: Path) -> bool:
    """Say whether a path is an ordinary file; what cannot be a path, as a name with a zero byte or one too long, is none.

    >>> is_file(Path("x" * 5000))
    False
    """
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
