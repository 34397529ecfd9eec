"""What kind of file this is, told by its first bytes: the formats that are read, and words for those that are not."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

FORMATS = (
    "PNG", "JPEG", "TIFF", "WEBP", "BMP", "DIB", "GIF", "AVIF", "JPEG2000", "PPM", "QOI", "ICO", "PSD", "SGI", "DDS", "PCX", "TGA",
)  # fmt: skip
"""Pillow's names of what is read. It knows more, some of which it hands to outside programs (Ghostscript) or to whatever is registered."""

HEAD = 512
"""Bytes by which a file is told."""


class Kind(NamedTuple):
    """A kind of file that is not read: its name with an article, and what to do."""

    name: str
    advice: str


def _starts(*heads: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(heads)


def _brand(*brands: bytes) -> Callable[[bytes], bool]:
    """A file of boxes, as of MPEG-4, of one of these brands."""
    return lambda head: head[4:8] == b"ftyp" and head[8:12].startswith(brands)


def _is_svg(head: bytes) -> bool:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in text)


_EXPORT = "Export it as a PNG"
_TONES = "Its values have no white: map its tones and save it as a PNG"
_WINDOW = "Choose which values are black and white, and save it as a 16-bit PNG"
_KINDS: list[tuple[Callable[[bytes], bool], str, str]] = [
    (_starts(b"%!PS", b"\xc5\xd0\xd3\xc6"), "PostScript (EPS), not pixels", "Draw it first: gs -sDEVICE=png16m -o out.png FILE"),
    (_starts(b"%PDF"), "a PDF", "Draw the page first: pdftoppm -png FILE out"),
    (_is_svg, "an SVG drawing, not pixels", "Draw it first: rsvg-convert FILE -o out.png, or export it from a browser"),
    (_brand(b"hei", b"hevc", b"mif1", b"msf1"), "an HEIC/HEIF photograph", "Convert it first: heif-convert FILE out.png"),
    (_brand(b"avif", b"avis"), "an AVIF image that is damaged or of a kind that is not read", _EXPORT),
    (_brand(b"crx"), "a camera's raw file", "Develop it first, and save it as a PNG or TIFF"),
    (_brand(b""), "a film", "Take one frame: ffmpeg -i FILE -frames:v 1 out.png"),
    (_starts(b"\x1aE\xdf\xa3"), "a film", "Take one frame: ffmpeg -i FILE -frames:v 1 out.png"),
    (lambda head: head[128:132] == b"DICM", "a DICOM file", _WINDOW),
    (lambda head: head[344:347] in (b"n+1", b"ni1"), "a NIfTI volume", _WINDOW),
    (_starts(b"SIMPLE  ="), "a FITS file", _WINDOW),
    (_starts(b"\x89HDF\r\n"), "an HDF5 file", "Read the array with h5py and give it as uint8 or uint16 from Python"),
    (_starts(b"\x93NUMPY"), "a NumPy array", "Give numpy.load(FILE) as uint8 or uint16 from Python, or save it as a PNG"),
    (_starts(b"\xff\x0a", b"\0\0\0\x0cJXL "), "a JPEG XL image", "Convert it first: djxl FILE out.png"),
    (_starts(b"v/1\x01"), "an OpenEXR image", _TONES),
    (_starts(b"#?RADIANCE", b"#?RGBE"), "a Radiance HDR image", _TONES),
    (_starts(b"PF\n", b"Pf\n"), "a PFM image of floating-point samples", _TONES),
    (_starts(b"\xd7\xcd\xc6\x9a"), "a Windows metafile", _EXPORT),
    (lambda head: head.startswith(b"\x01\0\0\0") and head[40:44] == b" EMF", "a Windows metafile", _EXPORT),
    (_starts(b"gimp xcf"), "a GIMP project", _EXPORT),
    (_starts(b"8BPS"), "a Photoshop file that is damaged or of a kind that is not read", _EXPORT),
    (_starts(b"version https://git-lfs"), "a pointer of Git LFS, not the image itself", "Fetch it first: git lfs pull"),
    (_starts(b"<!DOCTYPE html", b"<!doctype html", b"<html"), "a page (HTML), perhaps of a failed download", "Download it again"),
    (_starts(b"PK\x03\x04"), "a ZIP archive", "Unpack it first"),
    (_starts(b"\x1f\x8b"), "a gzip file", "Unpack it first: gunzip FILE"),
]
_SAMPLES = {1: "", 2: "signed ", 3: "floating-point ", 5: "complex ", 6: "complex "}
_PHOTOMETRIC = {
    0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab", 9: "ICCLab", 32803: "raw sensor", 34892: "raw linear",
}  # fmt: skip
_COMPRESSION = {
    34712: "JPEG 2000",
    34887: "LERC",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
    34892: "lossy JPEG",
}
_FIELD = {1: "B", 3: "H", 4: "I", 16: "Q"}


def kind_of(path: str | os.PathLike[str]) -> Kind | None:
    """What a file is that could not be read as an image; None if its first bytes tell nothing."""
    with Path(path).open("rb") as file:
        head = file.read(HEAD)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return Kind(_tiff(Path(path)), "Save it as a PNG, or as an uncompressed TIFF with 8 or 16 bits a sample")
    return next((Kind(name, advice) for is_one, name, advice in _KINDS if is_one(head)), None)


def _tiff(path: Path) -> str:
    """Words for a TIFF, from the tags of its first image; what is damaged is left out."""
    tags, words = tiff_tags(path), "a TIFF"
    bits, format_of = tags.get(258, ()), tags.get(339, (1,))[0]
    if bits:
        words += f" of {len(bits) if len(bits) > 1 else tags.get(277, (1,))[0]} x {bits[0]}-bit {_SAMPLES.get(format_of, '')}samples"
    if 262 in tags:
        words += f" ({_PHOTOMETRIC.get(tags[262][0], 'of an unknown colour space')})"
    if (name := _COMPRESSION.get(tags.get(259, (1,))[0])) is not None:
        words += f", compressed as {name}"
    with path.open("rb") as file:
        if file.read(4) in (b"II+\0", b"MM\0+"):
            words += ", written as BigTIFF"
    return words + ", which is damaged or of a kind that is not read"


def tiff_tags(path: Path) -> dict[int, tuple[int, ...]]:
    """The whole-number tags of a TIFF's first image, at most 16 values each; classic and BigTIFF, both byte orders."""
    found: dict[int, tuple[int, ...]] = {}
    try:
        with path.open("rb") as file:
            head = file.read(16)
            order, big = ("<" if head[:2] == b"II" else ">"), head[2:4] in (b"+\0", b"\0+")
            size, count, word = (20, "Q", "Q") if big else (12, "H", "I")
            file.seek(struct.unpack(order + word, head[8:16] if big else head[4:8])[0])
            entries = struct.unpack(order + count, file.read(struct.calcsize(count)))[0]
            table = file.read(size * min(entries, 512))
            for k in range(0, len(table) - size + 1, size):
                tag, field = struct.unpack(order + "HH", table[k : k + 4])
                (values,) = struct.unpack(order + word, table[k + 4 : k + 4 + struct.calcsize(word)])
                place = table[k + 4 + struct.calcsize(word) : k + size]
                if field not in _FIELD or not 0 < values <= 16:
                    continue
                length = values * struct.calcsize(order + _FIELD[field])
                if length > len(place):
                    file.seek(struct.unpack(order + word, place)[0])
                    place = file.read(length)
                found[tag] = struct.unpack(f"{order}{values}{_FIELD[field]}", place[:length])
    except (struct.error, OSError, ValueError, OverflowError):
        pass  # damaged: what was read so far is what is known
    return found
