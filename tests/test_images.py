"""Reading: every kind of picture comes out as a person would see it, everything else is refused with a reason."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import PIL.Image
import PIL.ImageCms
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import preimage
from preimage.errors import ImageError, InputError
from preimage.pixels import images


def png(path, array, **kw):
    PIL.Image.fromarray(array).save(path, **kw)
    return path


RAMP = (np.arange(6 * 8 * 3, dtype=np.uint8) * 1).reshape(6, 8, 3)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))))
@settings(max_examples=25, deadline=None)
def test_what_is_written_as_png_is_read_back(array):
    buffer = io.BytesIO()
    images.to_pil(torch.from_numpy(array.transpose(2, 0, 1).copy()).float()).save(buffer, format="PNG")
    buffer.seek(0)
    np.testing.assert_array_equal(images.read_image(PIL.Image.open(buffer)), array.astype(np.float32))


def test_sixteen_bits_keep_their_precision(tmp_path):
    values = np.array([[0, 257, 1000, 65535]], np.uint16)
    read = images.read_image(png(tmp_path / "a.png", values))
    np.testing.assert_allclose(read, values / 257.0, rtol=1e-6)


def test_palette_grey_bilevel_alpha_and_cmyk_are_converted_rightly(tmp_path):
    colours = np.zeros((2, 2, 3), np.uint8)
    colours[0, 0], colours[0, 1], colours[1, 0], colours[1, 1] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (250, 240, 10)
    picture = PIL.Image.fromarray(colours)
    picture.convert("P", palette=PIL.Image.Palette.ADAPTIVE).save(tmp_path / "p.png")
    np.testing.assert_allclose(images.read_image(tmp_path / "p.png"), colours, atol=2)
    grey = PIL.Image.fromarray(np.array([[0, 7, 255]], np.uint8))
    np.testing.assert_array_equal(images.read_image(grey), [[0, 7, 255]])
    np.testing.assert_array_equal(images.read_image(PIL.Image.new("1", (2, 1), 1)), [[255, 255]])
    clear = PIL.Image.new("RGBA", (1, 1), (100, 50, 0, 0))  # whatever colour hides under full transparency, white is seen
    np.testing.assert_array_equal(images.read_image(clear)[0, 0], [255, 255, 255])
    half = PIL.Image.new("LA", (1, 1), (0, 128))
    assert images.read_image(half)[0, 0] == pytest.approx(127, abs=1)
    cut = PIL.Image.new("P", (1, 1), 0)
    cut.putpalette([9, 9, 9])
    cut.save(tmp_path / "t.png", transparency=0)
    np.testing.assert_array_equal(images.read_image(tmp_path / "t.png")[0, 0], [255, 255, 255])
    cmyk = PIL.Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    cmyk.save(tmp_path / "c.jpg", quality=100)
    np.testing.assert_allclose(images.read_image(tmp_path / "c.jpg")[0, 0], [255, 0, 0], atol=3)


def test_a_cmyk_picture_with_a_broken_profile_is_read_and_told(tmp_path):
    PIL.Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "c.jpg", icc_profile=b"no profile")
    with pytest.warns(UserWarning, match="colour profile"):
        read = images.read_image(tmp_path / "c.jpg")
    np.testing.assert_allclose(read[0, 0], [255, 0, 0], atol=3)


def test_the_camera_s_orientation_is_honoured(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 270 degrees
    PIL.Image.fromarray(RAMP).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.png"), np.rot90(RAMP, -1).astype(np.float32))


def test_what_is_no_still_image_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(ImageError, match="no file"):
        images.read_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="folder"):
        images.read_image(tmp_path)
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(ImageError, match="empty"):
        images.read_image(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ImageError, match="not an image, whatever its name"):
        images.read_image(tmp_path / "text.png")
    whole = png(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="damaged or truncated"):
        images.read_image(tmp_path / "cut.png")
    jpeg = io.BytesIO()
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(jpeg, "JPEG")
    (tmp_path / "cut.jpg").write_bytes(jpeg.getvalue()[:1500])
    with pytest.raises(ImageError, match="damaged or truncated"):
        images.read_image(tmp_path / "cut.jpg")
    frames = [PIL.Image.new("L", (4, 4), v) for v in (0, 255)]
    for name in ("a.gif", "a.webp", "a.png", "a.tiff"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(ImageError, match="2 frames or pages"):
            images.read_image(tmp_path / name)
    PIL.Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "f.tiff")
    with pytest.raises(ImageError, match="floating-point"):
        images.read_image(tmp_path / "f.tiff")
    PIL.Image.fromarray(np.full((2, 2), 70000, np.int32)).save(tmp_path / "i.tiff")
    with pytest.raises(ImageError, match="32-bit"):
        images.read_image(tmp_path / "i.tiff")


def bomb(width, height):
    """A PNG of a few bytes that says it is huge."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [9_460, 12_000, 60_000])
def test_decompression_bombs_are_refused_before_they_are_decoded(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(bomb(side, side))
    with pytest.raises(ImageError, match="pixels"):
        images.read_image(tmp_path / "bomb.png")


def test_resizing_is_in_float_and_keeps_a_flat_image_flat():
    flat = np.full((50, 40, 3), 123.25, np.float32)
    out = images.resize(flat, (17, 23))
    assert out.shape == (17, 23, 3)
    np.testing.assert_allclose(out, 123.25, rtol=1e-5)
    assert images.resize(flat, (50, 40)) is flat


def test_arrays_are_taken_by_their_type_and_everything_else_is_refused():
    np.testing.assert_array_equal(images.levels_of(np.full((2, 2, 1), 65535, np.uint16), 1), np.full((2, 2), 255.0))
    four = np.dstack([RAMP, np.zeros((6, 8), np.uint8)])
    assert images.levels_of(four, 3).shape == (6, 8, 3)
    assert images.levels_of(four, 3).min() == 255
    assert images.levels_of(four, 4).shape == (6, 8, 4)
    for bad in (RAMP.astype(float), RAMP.astype(bool), np.zeros((2, 2, 2, 2), np.uint8), np.zeros((0, 3), np.uint8)):
        with pytest.raises(ImageError, match="wanted"):
            images.levels_of(bad, 3)
    wide = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (10_000, 10_000), (0, 0))
    with pytest.raises(ImageError, match="Scale it down"):
        images.levels_of(wide, 3)


def test_a_failed_write_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError), images.atomic_write(tmp_path / "a.bin") as file:
        file.write(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    images.write_png(tmp_path / "a.png", torch.zeros(3, 4, 4))
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(InputError, match="1 or 3 channels"):
        images.to_pil(torch.zeros(5, 4, 4))


@given(st.integers(1, 40), st.integers(1, 70), st.integers(0, 2**32 - 1))
def test_a_colour_has_one_grey_wherever_it_stands_and_a_grey_one_its_own(height, width, seed):
    colours = np.random.default_rng(seed).uniform(0, 255, (5, 3)).astype(np.float32)
    colours[0] = colours[0, 0].round()
    which = np.random.default_rng(seed).integers(0, 5, (height, width))
    grey = images.to_grey(colours[which])
    assert all(len(np.unique(grey[which == k])) <= 1 for k in range(5))
    assert (grey[which == 0] == colours[0, 0]).all()


def test_a_mosaic_reads_left_to_right_then_down():
    tiles = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    np.testing.assert_array_equal(images.mosaic(tiles)[0].numpy(), [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 0, 0], [2, 2, 0, 0]])


def test_contrast_stretch_is_each_image_by_itself():
    two = torch.stack([torch.linspace(10, 20, 4).view(1, 2, 2), torch.linspace(-500, 900, 4).view(1, 2, 2)])
    out = images.contrast_stretch(two)
    assert out.amin(dim=(1, 2, 3)).tolist() == [0, 0]
    assert out.amax(dim=(1, 2, 3)).tolist() == [255, 255]


def test_the_packaged_photographs_can_be_read_and_are_credited():
    found = preimage.images.reference_images()
    credits = (images.Path(found[0]).parent / "CREDITS.md").read_text()
    for path in found:
        assert images.read_image(path).shape == (300, 300, 3)
        assert images.Path(path).name in credits


def test_pictures_are_found_in_order_by_their_endings_and_hidden_ones_are_not(tmp_path):
    for name in ("b.PNG", "a.jpg", "._a.jpg", "notes.txt", "deeper/c.tif", "deeper/.d.png", "e.png/f.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    named = [str(p.relative_to(tmp_path)) for p in images.find_pictures(tmp_path)]
    assert named == ["a.jpg", "b.PNG"]
    named = [str(p.relative_to(tmp_path)) for p in images.find_pictures(tmp_path, deep=True)]
    assert named == ["a.jpg", "b.PNG", "deeper/c.tif", "e.png/f.webp"]
    assert images.find_pictures([tmp_path / "notes.txt", str(tmp_path)])[0] == tmp_path / "notes.txt"
    assert images.find_pictures([]) == []
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty' holds no picture"):
        images.find_pictures([tmp_path / "a.jpg", tmp_path / "empty"])
    with pytest.raises(InputError, match="There is no file or folder"):
        images.find_pictures([tmp_path / "gone"])
