"""Reading pictures: every check, then grey levels 0–255 as a person would see them, whatever the file's mode and depth."""

from __future__ import annotations

import functools
import io
import logging
import os
import stat
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import ImageError, PreimageWarning, first_line
from .formats import FORMATS, kind_of

if TYPE_CHECKING:
    import PIL.Image

MAX_PIXELS = 89_478_485
"""Images of more pixels are refused before they are decoded (a quarter of a gibibyte as RGB; pillow's own warning level)."""

STRIP = 2**22
"""Pixels that are converted or resized at a time."""

_D50 = np.array([0.96422, 1.0, 0.82521])
_FROM_XYZ = np.array([[3.1338561, -1.6168667, -0.4906146], [-0.9787684, 1.9161415, 0.0334540], [0.0719453, -0.2289914, 1.4052427]])
"""XYZ under D50 to linear sRGB, adapted to its D65 by Bradford's transform."""

_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")


def read_image(
    source: str | os.PathLike[str] | PIL.Image.Image, *, max_pixels: int = MAX_PIXELS, formats: tuple[str, ...] | None = None
) -> np.ndarray:
    """Read one still image as float32 grey levels 0–255: (H, W) if it is grey, else (H, W, 3) RGB.

    The EXIF orientation is applied; palettes are looked up; transparent pixels are laid over white; CMYK goes through
    its embedded profile where there is one; 12- and 16-bit grey levels keep their precision (v / 257 for 16 bits).
    max_pixels, formats: for images from strangers, fewer pixels and only these of `FORMATS`.
    Raises ImageError for what is no still image: missing, empty, truncated, not an image or of a format that is not in `FORMATS`,
    animated, of more than `max_pixels` pixels, or of signed, 32-bit or floating-point samples (whose range nothing tells).

    >>> import PIL.Image
    >>> read_image(PIL.Image.new("RGBA", (2, 1), (10, 20, 30, 255)))[0, 0]
    array([10., 20., 30.], dtype=float32)
    """
    return read_levels(source, max_pixels=max_pixels, formats=formats).astype(np.float32, copy=False)


def read_levels(
    source: str | os.PathLike[str] | PIL.Image.Image, *, max_pixels: int = MAX_PIXELS, formats: tuple[str, ...] | None = None
) -> np.ndarray:
    """The same levels as `read_image`, as uint8 where the image has no finer ones: a quarter of the memory for a large image."""
    import PIL.Image

    if isinstance(source, PIL.Image.Image):
        if source.format not in (None, "MPO", *FORMATS):
            raise ImageError(f"A PIL image of the format {source.format} is not read: give image.convert('RGB').")
        with quiet():
            return _levels(source, f"the PIL image of mode {source.mode!r}", max_pixels)
    name, path = _there(source)
    with quiet(path):
        try:
            image = PIL.Image.open(path, formats=[f for f in formats or FORMATS if f in _known_formats()])
        except PIL.UnidentifiedImageError:
            raise ImageError(_unread(path, name, formats)) from None
        except PIL.Image.DecompressionBombError:
            raise ImageError(f"{name} is refused: it has more than {max_pixels:,} pixels. Scale it down first.") from None
        except Exception as error:
            raise ImageError(f"{name} cannot be opened as an image ({first_line(error)}). {_what(path)}") from error
        with image:
            return _levels(image, name, max_pixels)


def _there(source: str | os.PathLike[str]) -> tuple[str, Path]:
    """A file's name in quotes and its path, if there is one with something in it."""
    path = Path(source)
    name = f"{str(path)!r}"
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError(f"There is no file {name}. Check the path.") from None
    except (OSError, ValueError) as error:  # a name that is too long, one with NUL in it, a folder that may not be read
        shown = name if len(name) < 300 else f"{name[:120]}…{name[-60:]}"
        raise ImageError(f"{shown} cannot be opened: {getattr(error, 'strerror', None) or error}.") from None
    if not stat.S_ISREG(found.st_mode):
        raise ImageError(f"{name} is not a file but a folder or a device. Name one image file.")
    if found.st_size == 0:
        raise ImageError(f"{name} is empty (0 bytes). Copy the image again.")
    return name, path


def _unread(path: Path, name: str, formats: tuple[str, ...] | None) -> str:
    """Why a file is not read: what it is, if its first bytes say so."""
    found = kind_of(path)
    if found is not None:
        return f"{name} is not an image that can be read here: it is {found.name}. {found.advice}."
    if formats is not None:
        return f"{name} is not an image, whatever its name says, or of a format that is not taken here ({', '.join(formats)})."
    return f"{name} is not an image, whatever its name says, or of a format that is not read here. Give a PNG, JPEG, TIFF, WebP or BMP."


def _what(path: Path) -> str:
    found = kind_of(path)
    return "Copy or export it again." if found is None else f"It is {found.name}. {found.advice}."


@functools.cache
def _known_formats() -> frozenset[str]:
    """What this Pillow can open at all."""
    import PIL.Image

    PIL.Image.init()
    return frozenset(PIL.Image.OPEN)


_decoding = threading.RLock()


@contextmanager
def quiet(path: Path | None = None) -> Iterator[None]:
    """Keep decoders from printing: pillow's warnings and log, and for a TIFF what libtiff writes to the process's standard error.

    Filters of warnings and the descriptor of standard error belong to the process, so one image is decoded at a time.
    """
    log, handler = logging.getLogger("PIL"), logging.NullHandler()  # with one, logging does not print as a last resort
    with _decoding, warnings.catch_warnings(), ExitStack() as stack:
        warnings.filterwarnings("ignore", module=r"PIL\.")
        log.addHandler(handler)
        stack.callback(log.removeHandler, handler)
        if path is not None and _is_tiff(path):
            with suppress(OSError):  # without standard error there is nothing to keep from it
                _divert(2, stack)
        yield


def _divert(descriptor: int, stack: ExitStack) -> None:
    """Lead a file descriptor nowhere until the stack is closed."""
    kept = os.dup(descriptor)
    stack.callback(os.close, kept)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    stack.callback(os.close, nowhere)
    if sys.stderr is not None:
        sys.stderr.flush()
    os.dup2(nowhere, descriptor)
    stack.callback(os.dup2, kept, descriptor)


def _is_tiff(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) in (b"II", b"MM")


def _levels(image: PIL.Image.Image, name: str, max_pixels: int) -> np.ndarray:
    """The checks that need the header, then the pixels."""
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(f"{name} is refused: {width}x{height} = {width * height:,} pixels, more than {max_pixels:,}. Scale it down first.")
    if width == 0 or height == 0:
        raise ImageError(f"{name} has no pixels: {width}x{height}.")
    try:
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # an MPO is a camera's still with a preview or depth map behind it
            raise ImageError(f"{name} has {frames} frames or pages. Save the one you want as a PNG.")
        depth = _depth(image, name)
        image.load()
        return _pixels(_upright(image), name, depth)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"{name} is damaged or truncated ({first_line(error)}). Copy or export it again.") from error


class _Depth(NamedTuple):
    """What pillow leaves of a TIFF's samples as they are: the largest value, and whether it is black."""

    white: int = 65535
    inverted: bool = False


def _depth(image: PIL.Image.Image, name: str) -> _Depth:
    """Raises ImageError for signed samples, which pillow gives as if they were not."""
    tags = getattr(image, "tag_v2", None) if image.format == "TIFF" else None
    if tags is None:
        return _Depth()
    bits, kind = tags.get(258, (1,))[0], tags.get(339, (1,))[0]
    if kind == 2 and bits in (8, 16):
        raise ImageError(f"{name} has signed {bits}-bit samples: which value is black, which white? Save it with unsigned ones.")
    sixteen = image.mode in _SIXTEEN_BIT
    return _Depth(2**bits - 1 if sixteen and bits < 16 else 65535, inverted=sixteen and tags.get(262) == 0)


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    """The image as its EXIF orientation says; itself, not a copy, where there is nothing to turn."""
    import PIL.ImageOps

    if image.getexif().get(0x0112, 1) in range(2, 9):
        return PIL.ImageOps.exif_transpose(image)
    return image


def _pixels(image: PIL.Image.Image, name: str, depth: _Depth) -> np.ndarray:
    """Any mode of pillow to levels 0–255, a strip at a time: nothing but the image itself is held as a whole twice."""
    if image.mode == "F":
        raise ImageError(f"{name} has floating-point samples: which value is white? Save it with 8 or 16 bits a sample.")
    if image.mode == "I":  # how pillow gives some 16-bit files
        low, high = (int(v) for v in np.ravel(image.getextrema()))
        if low < 0 or high > 65535:
            raise ImageError(f"{name} has 32-bit samples from {low} to {high}: which is white? Save it as 16-bit.")
    convert = _converter(image, depth)
    rows = max(1, STRIP // image.width)
    if rows >= image.height:
        return convert(image)
    found: np.ndarray | None = None
    for top in range(0, image.height, rows):
        part = convert(image.crop((0, top, image.width, min(top + rows, image.height))))
        found = np.empty((image.height, *part.shape[1:]), part.dtype) if found is None else found
        found[top : top + rows] = part
    assert found is not None
    return found


def _converter(image: PIL.Image.Image, depth: _Depth) -> Callable[[PIL.Image.Image], np.ndarray]:
    """How a strip of this image becomes an array of levels."""
    import PIL.Image

    mode, clear = image.mode, "transparency" in image.info
    if mode in _SIXTEEN_BIT or mode == "I":
        return lambda strip: _sixteen(np.asarray(strip), depth)
    if mode == "LAB":
        return lambda strip: lab_to_rgb(np.asarray(strip))
    if mode == "CMYK" and (profile := image.info.get("icc_profile")):
        image, through = image.crop((0, 0, 1, 1)), _through_profile(image, profile)
        return lambda strip: np.asarray(through(strip).convert("RGB"))
    grey = mode in ("LA", "La", "L", "1")

    def over_white(strip: PIL.Image.Image) -> np.ndarray:
        strip = (strip.convert("LA") if strip.mode == "La" else strip).convert("RGBA")
        laid = np.asarray(PIL.Image.alpha_composite(PIL.Image.new("RGBA", strip.size, "white"), strip).convert("RGB"))
        return laid[..., 0] if grey else laid

    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or clear:
        return over_white
    return lambda strip: np.asarray(strip if strip.mode == (wanted := "L" if grey else "RGB") else strip.convert(wanted))


def _sixteen(values: np.ndarray, depth: _Depth) -> np.ndarray:
    """12- or 16-bit samples as levels; exact for a multiple of 257 of 65535."""
    if depth.inverted:
        values = depth.white - values.astype(np.int32)
    return values.astype(np.float32) / 257.0 if depth.white == 65535 else values.astype(np.float32) * (255.0 / depth.white)


def lab_to_rgb(lab: np.ndarray) -> np.ndarray:
    """CIELAB of a TIFF, (H, W, 3) of 8 bits, to the levels of sRGB: L* is L·100/255, a* and b* are signed, white is D50.

    >>> lab_to_rgb(np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8)).tolist()
    [[[255, 255, 255], [0, 0, 0]]]
    """
    lightness = lab[..., 0].astype(np.float64) * (100 / 255)
    a, b = (lab[..., k].view(np.int8).astype(np.float64) for k in (1, 2))
    y = (lightness + 16) / 116
    f = np.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * _D50
    linear = np.clip(xyz @ _FROM_XYZ.T, 0, 1)
    levels = 255 * np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    return np.asarray(levels.round().astype(np.uint8))


def _through_profile(image: PIL.Image.Image, profile: bytes) -> Callable[[PIL.Image.Image], PIL.Image.Image]:
    """CMYK to sRGB by the embedded ICC profile, for strips of the image; a broken profile leaves pillow's plain formula."""
    import PIL.ImageCms

    try:
        source = PIL.ImageCms.ImageCmsProfile(io.BytesIO(profile))
        transform = PIL.ImageCms.buildTransform(source, PIL.ImageCms.createProfile("sRGB"), "CMYK", "RGB")
    except (PIL.ImageCms.PyCMSError, OSError) as error:
        warnings.warn(f"The colour profile of a CMYK image is broken ({error}): converted without it.", PreimageWarning, stacklevel=2)
        return lambda strip: strip

    def through(strip: PIL.Image.Image) -> PIL.Image.Image:
        done = PIL.ImageCms.applyTransform(strip, transform)
        return strip if done is None else done

    return through
