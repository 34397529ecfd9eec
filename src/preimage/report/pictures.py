"""Pictures inside a page: whole while they are few, thumbnails with the file linked when they are many."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ..errors import ImageError
from ..pixels.images import MAX_PIXELS

if TYPE_CHECKING:
    import PIL.Image

INLINE_LIMIT = 24 * 2**20
"""Bytes of PNGs up to which a page carries them as they are; beyond it, thumbnails, and the files beside the page are linked."""

THUMBNAIL = 160
"""Longer side of a thumbnail in pixels."""


@dataclass(frozen=True)
class Picture:
    """What the page shows: a data URI, its size in pixels, and the file beside the page where the data are only a thumbnail."""

    src: str
    width: int
    height: int
    link: str = ""


class Album:
    """Turns PNG files into pictures of one page. page: where the page will be; paths: all that may be asked for.

    link: from the page to the file of a thumbnail, where that is to be elsewhere than the file itself.
    """

    def __init__(self, page: Path, paths: Iterable[Path], limit: int = INLINE_LIMIT, link: Callable[[Path], str] | None = None) -> None:
        self._folder = page.absolute().parent
        self._link = link or self._relative
        self._known: dict[Path, Picture] = {}
        files = {p.absolute() for p in paths}
        self.whole = sum(p.stat().st_size for p in files if p.is_file()) <= limit

    def picture(self, path: Path) -> Picture:
        """The picture in a file. Raises ImageError for what is no PNG, JPEG or WebP, or is too large."""
        path = path.absolute()
        if path not in self._known:
            self._known[path] = self._read(path)
        return self._known[path]

    def _read(self, path: Path) -> Picture:
        image = open_picture(path)
        width, height = image.size
        if self.whole:
            return Picture(_uri(path.read_bytes(), str(image.format).lower()), width, height)
        return Picture(_uri(_thumbnail(image), "webp"), width, height, self._link(path))

    def _relative(self, path: Path) -> str:
        return quote(os.path.relpath(path, self._folder).replace(os.sep, "/"))


def open_picture(path: Path) -> PIL.Image.Image:
    """A PNG, JPEG or WebP, decoded. Raises ImageError for anything else, and for more than `MAX_PIXELS`."""
    import PIL.Image

    if not path.is_file():
        raise ImageError(f"There is no picture {str(path)!r}, or it is no regular file.")
    try:
        with PIL.Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            if image.size[0] * image.size[1] > MAX_PIXELS:
                raise ImageError(f"{str(path)!r} has {image.size[0]}x{image.size[1]} pixels, more than {MAX_PIXELS:,}.")
            image.load()
            return image
    except ImageError:
        raise
    except Exception as error:  # pillow raises many kinds for damaged files
        raise ImageError(f"The picture {str(path)!r} cannot be read ({error}).") from error


def _thumbnail(image: PIL.Image.Image) -> bytes:
    import PIL.Image

    small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL), PIL.Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, format="WEBP", quality=82)
    return buffer.getvalue()


def _uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
