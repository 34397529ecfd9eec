"""Thumbnails of thousands of pictures as sprite sheets beside a page: a few hundred files, which a browser reads as they come into view."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..errors import ImageError, ResultFolderError
from ..pixels.images import atomic_write
from .archive import inside
from .pictures import open_picture

if TYPE_CHECKING:
    import PIL.Image

THUMBNAIL = 112
"""Longer side of a thumbnail in pixels; a smaller picture is enlarged to it."""

GUTTER = 2
"""Pixels around a thumbnail that repeat its border, so that a scaled one shows nothing of its neighbours."""

SIDE = 6
"""Thumbnails along a side of a sheet: a screen of results in any order touches few times more pixels than it shows."""

_SLOT = THUMBNAIL + 2 * GUTTER
_OWN = re.compile(r"[0-9a-f]{20}\.(webp|png|jpe?g)")


@dataclass(frozen=True)
class Shot:
    """A picture to be shown small: its file, and what changes whenever the file does (the key of its job and when it ended).

    root: the folder that it has to be in, whatever links there are.
    """

    path: Path
    stamp: str
    root: Path


@dataclass(frozen=True)
class Sheets:
    """Files by name, SIDE x SIDE shots each in their order; (width, height) of each shot's own picture; why one is not there."""

    names: Sequence[str]
    sizes: Sequence[tuple[int, int]]
    missing: dict[int, str]


class Folder:
    """The files beside a page. Those of an earlier page that still hold are kept, and `tidy` removes the others."""

    def __init__(self, page: Path) -> None:
        self._page = page.absolute().parent
        self.path = page.absolute().with_name(f"{page.stem}_files")
        self._used: set[str] = set()
        try:
            self.path.mkdir(exist_ok=True)
        except OSError as error:
            raise ResultFolderError(f"No pictures can be written to {str(self.path)!r}: {error.strerror or error}.") from error

    def sheets(self, shots: Sequence[Shot], tick: Callable[[int], object] = lambda count: None) -> Sheets:
        """Write the sheets of all shots, one in memory at a time; `tick` is told how many more shots are done."""
        names: list[str] = []
        sizes: list[tuple[int, int]] = []
        missing: dict[int, str] = {}
        for start in range(0, len(shots), SIDE**2):
            part = shots[start : start + SIDE**2]
            name, own, lost = self._sheet(part)
            names.append(name)
            sizes += own
            missing |= {start + k: reason for k, reason in lost.items()}
            tick(len(part))
        self._used |= set(names)
        return Sheets(names, sizes, missing)

    def copy(self, path: Path) -> str:
        """Copy a picture into the folder, unless it is there; gives where it is, relative to the page."""
        facts = path.stat()
        name = _digest(str(path.absolute()), str(facts.st_mtime_ns), str(facts.st_size)) + path.suffix.lower()
        self._used.add(name)
        copied = self.path / name
        if not copied.is_file():
            with path.open("rb") as source, atomic_write(copied) as file:
                shutil.copyfileobj(source, file)
        return self.link(copied)

    def link(self, path: Path) -> str:
        """From the page to a file, or to a folder."""
        return quote(os.path.relpath(path, self._page).replace(os.sep, "/"))

    def tidy(self) -> None:
        """Remove the files of an earlier page that this one does not show; other files are never touched."""
        for path in self.path.iterdir():
            if path.name not in self._used and _OWN.fullmatch(path.name):
                path.unlink(missing_ok=True)

    def _sheet(self, shots: Sequence[Shot]) -> tuple[str, list[tuple[int, int]], dict[int, str]]:
        """A sheet's name, made of what is on it; one with a gap is made anew each time, as the picture may be there by then."""
        stamps = [f"{THUMBNAIL}/{SIDE}", *(s.stamp for s in shots)]
        name = f"{_digest(*stamps)}.webp"
        if (self.path / name).is_file() and None not in (known := [_size(s.path) for s in shots]):
            return name, [size for size in known if size], {}
        sheet, sizes, missing = _draw(shots)
        if missing:
            name = f"{_digest(*stamps, *(str(k) for k in missing))}.webp"
        try:
            with atomic_write(self.path / name) as file:
                sheet.save(file, format="WEBP", quality=80, method=2)
        except OSError as error:
            raise ResultFolderError(f"No pictures can be written to {str(self.path)!r}: {error.strerror or error}.") from error
        return name, sizes, missing


def _draw(shots: Sequence[Shot]) -> tuple[PIL.Image.Image, list[tuple[int, int]], dict[int, str]]:
    import PIL.Image

    sheet = PIL.Image.new("RGB", (SIDE * _SLOT, SIDE * _SLOT), "#808080")
    sizes: list[tuple[int, int]] = []
    missing: dict[int, str] = {}
    for k, shot in enumerate(shots):
        try:
            if shot.path.exists() and inside(shot.root, str(shot.path.absolute())) is None:
                raise ImageError(f"The picture {str(shot.path)!r} leads out of the store.")
            image = open_picture(shot.path)
        except ImageError as error:
            missing[k] = str(error)
            sizes.append((0, 0))
            continue
        sizes.append(image.size)
        corner = (k % SIDE * _SLOT, k // SIDE * _SLOT)
        small = _thumbnail(image)
        sheet.paste(small.resize((small.width + 2 * GUTTER, small.height + 2 * GUTTER)), corner)
        sheet.paste(small, (corner[0] + GUTTER, corner[1] + GUTTER))
    return sheet, sizes, missing


def _thumbnail(image: PIL.Image.Image) -> PIL.Image.Image:
    import PIL.Image

    scale = THUMBNAIL / max(image.size)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    return image.convert("RGB").resize(size, PIL.Image.Resampling.LANCZOS if scale < 1 else PIL.Image.Resampling.BICUBIC)


def _size(path: Path) -> tuple[int, int] | None:
    """From the header alone; None for what is no picture."""
    import PIL.Image

    try:
        with PIL.Image.open(path if path.is_file() else "", formats=("PNG", "JPEG", "WEBP")) as image:
            return image.size
    except Exception:  # pillow raises many kinds for damaged files
        return None


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
