"""Where the images of a pass come from: folders, lists of paths, tar files as WebDataset writes them, pictures in memory."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import PIL.Image

from ..errors import ImageError, InputError, first_line, missing_extra
from ..pixels.formats import FORMATS
from ..pixels.images import SUFFIXES, find_pictures

LARGEST = 256 << 20
"""Bytes of one file in a tar."""

LISTS, TARS = (".txt", ".list"), (".tar",)
_IMAGE_COLUMNS = ("image", "img", "jpg", "png")  # what data sets call theirs


class Picture(Protocol):
    """One image of a pass: a name, a number that changes with its content, its sha256, and what `PixelSpace.encode` takes."""

    @property
    def name(self) -> str: ...
    @property
    def size(self) -> int: ...
    def open(self) -> tuple[Any, str]: ...


@dataclass(frozen=True)
class File:
    """A file on the disk. size: in bytes."""

    path: Path
    size: int

    @property
    def name(self) -> str:
        return str(self.path)

    def open(self) -> tuple[Any, str]:
        """Give the path and the sha256 of its content. Raises OSError."""
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return self.path, digest.hexdigest()


@dataclass(frozen=True)
class Member:
    """A file inside a tar that is not compressed, read in place: nothing is unpacked onto the disk, so no name in it leads anywhere."""

    tar: Path
    inside: str
    start: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.tar}/{self.inside}"

    def open(self) -> tuple[Any, str]:
        """Give the picture, not decoded yet, and the sha256 of its file. Raises ImageError."""
        if self.size > LARGEST:
            raise ImageError(f"{self.name!r} has {self.size:,} bytes, more than {LARGEST:,}.")
        with self.tar.open("rb") as file:
            file.seek(self.start)
            data = file.read(self.size)
        try:
            return PIL.Image.open(io.BytesIO(data), formats=FORMATS), hashlib.sha256(data).hexdigest()
        except Exception as error:  # pillow raises many kinds for what is no image
            raise ImageError(f"{self.name!r} cannot be opened as an image ({first_line(error)}).") from error


@dataclass(frozen=True)
class Row:
    """A row of a data set that gives PIL pictures, by itself or in a column."""

    rows: Any = field(repr=False)
    k: int
    column: str | None

    @property
    def name(self) -> str:
        return f"row {self.k}"

    @property
    def size(self) -> int:
        return len(self.rows)

    def open(self) -> tuple[Any, str]:
        """Give the picture and the sha256 of its pixels, as its file is not known. Raises ImageError."""
        found = self.rows[self.k]
        found = found if self.column is None else found[self.column]
        if not isinstance(found, PIL.Image.Image):
            raise ImageError(f"Row {self.k} of the data set holds no picture but {type(found).__name__}.")
        found.load()
        return found, hashlib.sha256(f"{found.mode} {found.size}\n".encode() + found.tobytes()).hexdigest()


def find(images: Any) -> list[Picture]:
    """List all images of a pass without reading them.

    Parameters
    ----------
    images : path, list of paths, or data set
        Files; folders, to any depth and in the order of their names; `.txt` and `.list` files, one path a line, relative to the list;
        `.tar` files as WebDataset writes them; or an object with a length and rows that are PIL pictures, or mappings with one, as a
        data set of the package `datasets` is.

    Raises
    ------
    InputError
        For what is none of these.
    """
    if not isinstance(images, (str, os.PathLike, list, tuple)) and hasattr(images, "__len__") and hasattr(images, "__getitem__"):
        return _rows(images)
    paths = [images] if isinstance(images, (str, os.PathLike)) else list(images)
    if paths and all(isinstance(p, PIL.Image.Image) for p in paths):
        return _rows(paths)
    found: list[Picture] = []
    for path in map(Path, paths):
        kind = path.suffix.lower() if path.is_file() else ""
        found += _members(path) if kind in TARS else _files(_listed(path) if kind in LISTS else find_pictures(path, deep=True))
    return found


def hugging_face(name: str, split: str = "train") -> Any:
    """Open a data set by its name or its folder with the package `datasets`. Raises MissingExtra without it, InputError if it cannot."""
    try:
        import datasets  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise missing_extra(f"The data set {name!r} needs the package datasets", "datasets", ", or give folders, lists or tars") from None
    try:
        if Path(name, "dataset_dict.json").is_file():  # several splits, kept by `save_to_disk`
            return datasets.load_from_disk(name)[split]
        if Path(name, "state.json").is_file():  # one, kept in the same way
            return datasets.load_from_disk(name)
        return datasets.load_dataset(name, split=split)
    except Exception as error:  # whatever that package raises
        raise InputError(f"The data set {name!r} cannot be opened ({first_line(error)}).") from error


def _files(paths: Sequence[Path]) -> Iterator[File]:
    for path in paths:
        try:
            yield File(path, path.stat().st_size)
        except OSError as error:
            raise InputError(f"There is no file {str(path)!r} ({error.strerror}). Check the path.") from error


def _listed(path: Path) -> list[Path]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} is no list of paths, one a line ({first_line(error)}).") from error
    found = [path.parent / line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not found:
        raise InputError(f"The list {str(path)!r} names no file: it has one path a line.")
    return found


def _members(path: Path) -> list[Member]:
    try:
        with tarfile.open(path, "r:") as tar:  # not compressed: members are read in place
            found = [
                Member(path, m.name, m.offset_data, m.size)
                for m in tar
                if m.isreg() and not m.issparse() and Path(m.name).suffix.lower() in SUFFIXES
            ]
    except (OSError, ValueError, tarfile.TarError) as error:
        raise InputError(f"{str(path)!r} is no tar file that is not compressed ({first_line(error)}). Unpack it with gunzip.") from error
    if not found:
        raise InputError(f"The tar {str(path)!r} holds no picture ({', '.join(SUFFIXES)}).")
    return found


def _rows(rows: Any) -> list[Picture]:
    if not len(rows):
        raise InputError("The data set has no rows.")
    first = rows[0]
    if isinstance(first, PIL.Image.Image):
        return [Row(rows, k, None) for k in range(len(rows))]
    column = next((c for c in _IMAGE_COLUMNS if hasattr(first, "keys") and c in first), None)
    if column is None:
        raise InputError(
            f"Images are files, folders, lists, tars or a data set with a column {', '.join(_IMAGE_COLUMNS)}; got {type(rows).__name__}."
        )
    return [Row(rows, k, column) for k in range(len(rows))]
