"""Every format, mode and depth is read as numpy says it should be, or refused in words that are true; no decoder is heard."""

from __future__ import annotations

import io
import os
import stat
import struct
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import PIL.features
import PIL.Image
import pytest

import preimage
from preimage.errors import ImageError
from preimage.pixels import images, reading
from preimage.pixels.formats import FORMATS, kind_of, tiff_tags

PIL.Image.init()
RNG = np.random.default_rng(7)
MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I", "F"]
CHANGED = {"JPEG", "MPO", "WEBP", "AVIF", "JPEG2000", "GIF", "ICO"}
"""Formats that give back other levels, or another size, than they were given."""


def sample(mode: str) -> PIL.Image.Image:
    """A small smooth picture of a mode."""
    ramp = np.add.outer(np.arange(16), np.arange(24)).astype(np.uint8) * 5
    colour = PIL.Image.fromarray(np.dstack([ramp, 255 - ramp, ramp // 2]))
    if mode == "I;16":
        return PIL.Image.fromarray(ramp.astype(np.uint16) * 257)
    if mode in ("I", "F"):
        return PIL.Image.fromarray(ramp.astype(np.int32 if mode == "I" else np.float32))
    if mode in ("LA", "La", "RGBA", "RGBa", "PA"):
        clear = colour.convert("L" if mode in ("LA", "La") else "RGB")
        clear.putalpha(PIL.Image.fromarray(ramp))
        return clear if clear.mode == mode else clear.convert({"La": "La", "RGBa": "RGBa", "PA": "PA"}[mode])
    return colour.convert(mode)


def expected(image: PIL.Image.Image) -> np.ndarray:
    """The levels of a loaded picture by numpy: alpha over white, 16 bits by 257."""
    if image.mode in ("I;16", "I;16B", "I"):
        return np.asarray(image).astype(np.float32) / 257
    if image.mode in ("LA", "La", "RGBA", "RGBa", "PA") or "transparency" in image.info:
        full = np.asarray(image.convert("RGBA")).astype(np.float32)
        laid = full[..., :3] * full[..., 3:] / 255 + 255 - full[..., 3:]
        return laid[..., 0] if image.mode in ("LA", "La", "L", "1") else laid
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB")).astype(np.float32)


@pytest.mark.parametrize("format_", sorted(set(PIL.Image.SAVE) - {"PDF", "PALM"}))
def test_every_mode_of_every_format_that_pillow_writes(tmp_path, format_):
    read = 0
    for mode in MODES:
        path = (
            tmp_path / f"{format_}-{mode.replace(';', '')}.picture"
        )  # pillow takes the suffix of a saved SPIDER file for its own ever after
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                sample(mode).save(path, format=format_)
        except Exception:
            continue  # pillow cannot write this pair
        try:
            found = images.read_image(path)
        except ImageError as error:
            assert repr(str(path)) in str(error) and str(error).endswith((".", "?", "FILE")), error
            assert format_ not in (*FORMATS, "MPO") or mode in ("F", "I") or (format_, mode) == ("TIFF", "YCbCr"), error
            continue
        read += 1
        with PIL.Image.open(path) as image:
            image.load()
            assert image.format in (*FORMATS, "MPO")
            if image.mode != "LAB":
                np.testing.assert_allclose(found, expected(image), atol=1.01)
        assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 255
        if format_ not in CHANGED and mode in ("L", "RGB", "I;16"):
            np.testing.assert_allclose(found, expected(sample(mode)), atol=1.01)
    assert read or format_ not in FORMATS


@pytest.mark.parametrize("format_", sorted(set(PIL.Image.SAVE) & set(FORMATS)))
def test_damage_anywhere_is_an_error_in_words_or_a_picture(tmp_path, format_, capfd):
    """Cut short, single bytes changed, blocks of noise: nothing else than ImageError comes, and nothing is printed."""
    path, rng = tmp_path / "x.bin", np.random.default_rng(3)
    options = (
        [{}] if format_ != "TIFF" else [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}, {"compression": "jpeg"}]
    )
    for more in options:
        buffer = io.BytesIO()
        sample("L" if format_ in ("MSP", "XBM") else "RGB").save(buffer, format=format_, **more)
        whole = buffer.getvalue()
        for k in range(36):
            data = bytearray(whole)
            if k % 3 == 0:
                data = data[: rng.integers(1, len(data))]
            elif k % 3 == 1:
                data[int(rng.integers(0, min(len(data), 400)))] ^= int(rng.integers(1, 256))
            else:
                at = int(rng.integers(0, len(data)))
                data[at : at + 16] = rng.bytes(16)
            path.write_bytes(data)
            try:
                found = images.read_image(path, max_pixels=10**6)
            except ImageError as error:
                assert len(str(error)) < 900 and "\n" not in str(error)
            else:
                assert found.dtype == np.float32 and np.isfinite(found).all()
    assert capfd.readouterr() == ("", "")


# TIFFs, written by hand


def tiff(data: bytes, width: int, height: int, tags: dict, order: str = "<", big: bool = False) -> bytes:
    """A TIFF of one strip."""
    every = {256: width, 257: height, 259: 1, 273: 0, 277: 1, 278: height, 279: len(data)} | tags
    word, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    inline = struct.calcsize(word)
    start = 16 if big else 8
    extra_at = start + struct.calcsize(count) + entry * len(every) + inline
    rows, extra = [], b""
    for tag in sorted(every):
        values = every[tag] if isinstance(every[tag], tuple) else (every[tag],)
        letter, code = ("I", 4) if tag in (273, 279) else ("H", 3)
        place = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(place) > inline:
            place, extra = struct.pack(order + word, extra_at + len(extra)), extra + place
        rows.append([tag, code, len(values), place.ljust(inline, b"\0")])
    for row in rows:
        if row[0] == 273:
            row[3] = struct.pack(order + "I", extra_at + len(extra)).ljust(inline, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42)
    head += struct.pack(order + "HHQ", 8, 0, 16) if big else struct.pack(order + "I", 8)
    table = b"".join(struct.pack(f"{order}HH{word}", t, c, n) + p for t, c, n, p in rows)
    return head + struct.pack(order + count, len(rows)) + table + bytes(inline) + extra + data


def read(tmp_path: Path, data: bytes) -> np.ndarray:
    (tmp_path / "x.tif").write_bytes(data)
    return images.read_image(tmp_path / "x.tif")


def test_twelve_bits_are_as_bright_as_eight(tmp_path):
    values = [0, 2048, 4095, 1]
    packed = int("".join(f"{v:012b}" for v in values), 2).to_bytes(6, "big")
    np.testing.assert_allclose(read(tmp_path, tiff(packed, 4, 1, {258: 12, 262: 1}))[0], np.array(values) * 255 / 4095, rtol=1e-6)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bits_in_both_orders_and_both_directions(tmp_path, order):
    values = np.array([[0, 257, 1000, 65535]])
    data = values.astype(f"{order}u2").tobytes()
    np.testing.assert_allclose(read(tmp_path, tiff(data, 4, 1, {258: 16, 262: 1}, order)), values / 257, rtol=1e-6)
    if order == "<":  # white is 0
        np.testing.assert_allclose(read(tmp_path, tiff(data, 4, 1, {258: 16, 262: 0}, order)), 255 - values / 257, rtol=1e-5)
    else:
        with pytest.raises(ImageError, match="a TIFF of 1 x 16-bit samples"):
            read(tmp_path, tiff(data, 4, 1, {258: 16, 262: 0}, order))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_signed_samples_are_refused_as_such(tmp_path, bits, order):
    data = np.array([[-3, 0, 100, 127]]).astype(f"{order}i{bits // 8}").tobytes()
    with pytest.raises(ImageError, match=f"signed {bits}-bit samples"):
        read(tmp_path, tiff(data, 4, 1, {258: bits, 262: 1, 339: 2}, order))


def test_lab_is_what_its_colours_are(tmp_path):
    """Red, green, blue, white, black and a grey of sRGB by their published coordinates under D50, rounded to the file's 8 bits."""
    lab = np.array([[54.29, 80.80, 69.89], [87.82, -79.27, 80.99], [29.57, 68.30, -112.03], [100, 0, 0], [0, 0, 0], [53.59, 0, 0]])
    rgb = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0], [128, 128, 128]]
    stored = np.stack([np.rint(lab[:, 0] * 2.55), *(np.rint(lab[:, k]) % 256 for k in (1, 2))], axis=1).astype(np.uint8)
    found = read(tmp_path, tiff(stored.tobytes(), 6, 1, {258: (8, 8, 8), 262: 8, 277: 3}))
    np.testing.assert_allclose(found[0, 3:], rgb[3:], atol=1)
    np.testing.assert_allclose(found[0, :3], rgb[:3], atol=12)  # a step of a* or b* is up to 12 levels in the dark channels


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tiff(bytes(48), 2, 2, {258: (32,) * 3, 262: 2, 277: 3, 339: (3,) * 3}), "3 x 32-bit floating-point samples .RGB."),
        (tiff(b"\0" * 4, 2, 2, {258: 8, 262: 1}, ">", big=True), "written as BigTIFF|frames"),
        (tiff(b"RIFF0000WEBP", 2, 2, {258: (8,) * 3, 262: 2, 277: 3, 259: 50001}), "compressed as WebP|damaged"),
        (tiff(b"\0" * 24, 2, 2, {258: (16,) * 3, 262: 2, 277: 3, 339: (2,) * 3}), "signed"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG drawing"),
        (bytes(128) + b"DICM" + bytes(60), "DICOM"),
        (b"8BPS\0\1" + bytes(6) + b"\0\3" + b"\xff" * 60, "Photoshop|damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n", "PostScript"),
        (b"\xc5\xd0\xd3\xc6" + bytes(40), "PostScript"),
        (b"%PDF-1.7\n", "a PDF"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a film"),
        (b"v/1\x01" + bytes(40), "OpenEXR"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "page"),
        (b"only words", "not an image, whatever its name says"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_said_to_be_what_it_is(tmp_path, data, words):
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(ImageError, match=words):
        images.read_image(tmp_path / "x.png")


def test_no_picture_starts_another_program(tmp_path, monkeypatch):
    """A drawing named .png must not reach Ghostscript, from the disk or as an image that pillow has opened."""
    gs, trace = tmp_path / "gs", tmp_path / "ran"
    gs.write_text(f"#!/bin/sh\ntouch {trace}\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    import PIL.EpsImagePlugin

    monkeypatch.setattr(PIL.EpsImagePlugin, "gs_binary", None)
    path = tmp_path / "x.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(ImageError, match="PostScript"):
        images.read_image(path)
    with PIL.Image.open(path) as image, pytest.raises(ImageError, match="format EPS is not read"):
        images.read_image(image)
    assert not trace.exists()


def test_tags_of_a_damaged_tiff_are_those_that_can_be_read(tmp_path):
    whole = tiff(b"\0" * 4, 2, 2, {258: 8, 262: 1}, big=True)
    for length in range(4, len(whole)):
        (tmp_path / "x").write_bytes(whole[:length])
        assert tiff_tags(tmp_path / "x").get(258, (8,)) == (8,)
        assert kind_of(tmp_path / "x") is not None


# Large pictures, names, noise


@pytest.mark.skipif(sys.platform != "linux", reason="counts kibibytes as Linux does")
def test_a_large_picture_is_read_in_little_more_than_itself(tmp_path):
    side, colours = 4000, {"RGB": (10, 20, 30), "RGBA": (10, 20, 30, 200), "I;16": 30000}
    paths = [tmp_path / f"{mode[:4]}.png" for mode in colours]
    for path, (mode, colour) in zip(paths, colours.items(), strict=True):
        PIL.Image.new(mode, (side, side), colour).save(path, compress_level=1)
    code = (
        "import resource, sys, preimage\n"
        "space = preimage.PixelSpace(64, 'rgb')\n"
        "space.encode(preimage.images.reference_images()[0])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in sys.argv[1:]: space.encode(path)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)\n"
    )
    used = int(subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True).stdout)
    assert used < 13 * side * side  # bytes: 4 a pixel in pillow, 3 or 4 here, and the strips; it was 36


@pytest.mark.parametrize("shape", [(37, 53), (37, 53, 3), (300, 11, 3)])
@pytest.mark.parametrize("size", [(16, 16), (40, 60), (5, 200)])
def test_strips_change_no_bit(monkeypatch, shape, size):
    levels = RNG.integers(0, 256, shape).astype(np.uint8)
    whole = images.resize(levels, size)
    for strip in (1, 100, 500):
        monkeypatch.setattr(images, "STRIP", strip)
        np.testing.assert_array_equal(images.resize(levels, size), whole)
        grey = levels if levels.ndim == 2 else (levels.astype(np.float64) @ np.float64(images.LUMA)).astype(np.float32)
        np.testing.assert_array_max_ulp(np.float32(images.to_grey(levels)), np.float32(grey), 1)  # another order of the three


@pytest.mark.parametrize("mode", [m for m in MODES if m not in ("I", "F")])
def test_a_picture_read_in_strips_is_the_same(monkeypatch, mode):
    whole = images.read_image(sample(mode))
    monkeypatch.setattr(reading, "STRIP", 50)
    np.testing.assert_array_equal(images.read_image(sample(mode)), whole)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not take such names")
def test_a_name_that_is_not_utf8_is_read_labelled_and_saved(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png")
    PIL.Image.new("L", (8, 8), 90).save(path)
    assert images.find_pictures(tmp_path) == [Path(path)]
    phi = preimage.from_callable(lambda x: x, preimage.PixelSpace(8, "grey"), name="pixels")
    result = preimage.invert(phi, path, iterations=2, progress=False)
    result.save(tmp_path / "out")
    assert preimage.load_result(tmp_path / "out").labels[0].startswith("caf")
    assert [p.name for p in (tmp_path / "out").glob("caf*.png")]
    with pytest.raises(ImageError, match=r"There is no file .*x\\udce9"):
        images.read_image(os.fsdecode(b"x\xe9.png"))


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "a\0b.png", "x.png/y.png"])
def test_names_that_no_file_can_have_are_errors_in_words(tmp_path, name):
    (tmp_path / "x.png").write_bytes(b"x")
    with pytest.raises(ImageError, match=r"cannot be opened|There is no file") as error:
        images.read_image(f"{tmp_path}/{name}")
    assert len(str(error.value)) < 500


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(ImageError, match="not a file but"):
        images.read_image(tmp_path / "x.png")


def test_decoders_are_not_heard_and_everything_else_is(tmp_path, capfd):
    buffer = io.BytesIO()
    PIL.Image.fromarray(RNG.integers(0, 255, (64, 64), dtype=np.uint8)).save(buffer, "TIFF", compression="tiff_lzw")
    data = bytearray(buffer.getvalue())
    data[200:260] = b"\xff" * 60
    (tmp_path / "x.tif").write_bytes(data)
    with pytest.raises(ImageError, match="damaged"):
        images.read_image(tmp_path / "x.tif")
    PIL.Image.new("L", (8, 8)).save(tmp_path / "x.jpg", exif=b"Exif\0\0II*\0\xff\xff\0\0garbage")
    images.read_image(tmp_path / "x.jpg")
    assert capfd.readouterr().err == ""
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"


def test_threads_read_side_by_side_and_leave_no_filter_and_no_file_open(tmp_path):
    PIL.Image.fromarray(RNG.integers(0, 255, (32, 32), dtype=np.uint8)).save(tmp_path / "x.tif", compression="tiff_lzw")
    images.read_image(tmp_path / "x.tif")
    filters, opened = list(warnings.filters), list(Path("/dev/fd").iterdir())
    inode = os.fstat(2).st_ino
    found: list[float] = []
    threads = [threading.Thread(target=lambda: found.append(images.read_image(tmp_path / "x.tif").mean())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1
    assert warnings.filters == filters and len(list(Path("/dev/fd").iterdir())) == len(opened) and os.fstat(2).st_ino == inode
    assert stat.S_ISREG((tmp_path / "x.tif").stat().st_mode)
