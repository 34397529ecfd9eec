"""Images in and out: reading with every check, grey levels 0–255 as float arrays, PNGs written whole or not at all."""

from __future__ import annotations

import io
import math
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ImageError, InputError, PreimageWarning
from ..files import atomic_write as atomic_write
from ..files import check_file as check_file

if TYPE_CHECKING:
    import PIL.Image
    from torch import Tensor

MAX_PIXELS = 89_478_485
"""Images of more pixels are refused before they are decoded (a quarter of a gibibyte as RGB; pillow's own warning level)."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
"""What a folder's pictures are told by."""

LUMA = (0.298936, 0.587043, 0.114021)
"""What of red, green and blue is grey: MATLAB's rgb2gray, the luma of Rec. 601."""

_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")


def read_image(
    source: str | os.PathLike[str] | PIL.Image.Image, *, max_pixels: int = MAX_PIXELS, formats: tuple[str, ...] | None = None
) -> np.ndarray:
    """Read one still image as float32 grey levels 0–255: (H, W) if it is grey, else (H, W, 3) RGB.

    The EXIF orientation is applied; palettes are looked up; transparent pixels are laid over white; CMYK goes through
    its embedded profile where there is one; 16-bit grey levels keep their precision (v / 257).
    max_pixels, formats: for images from strangers, fewer pixels and only these of pillow's formats.
    Raises ImageError for what is no still image: missing, empty, truncated, not an image, animated, of more than
    `max_pixels` pixels, or of 32-bit or floating-point samples (whose range nothing tells).

    >>> import PIL.Image
    >>> read_image(PIL.Image.new("RGBA", (2, 1), (10, 20, 30, 255)))[0, 0]
    array([10., 20., 30.], dtype=float32)
    """
    import PIL.Image

    if isinstance(source, PIL.Image.Image):
        return _levels(source, f"the PIL image of mode {source.mode!r}", max_pixels)
    path = Path(source)
    name = f"{str(path)!r}"
    if not path.exists():
        raise ImageError(f"There is no file {name}. Check the path.")
    if not path.is_file():
        raise ImageError(f"{name} is not a file but a folder or a device. Name one image file.")
    if path.stat().st_size == 0:
        raise ImageError(f"{name} is empty (0 bytes). Copy the image again.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)  # we check the size ourselves, lower
            image = PIL.Image.open(path, formats=formats)
    except PIL.UnidentifiedImageError:
        raise ImageError(f"{name} is not an image, whatever its name says. Give a PNG, JPEG, TIFF, WebP or BMP.") from None
    except PIL.Image.DecompressionBombError:
        raise ImageError(f"{name} is refused: it has more than {max_pixels:,} pixels. Scale it down first.") from None
    except Exception as error:
        raise ImageError(f"{name} cannot be opened as an image ({error}).") from error
    with image:
        return _levels(image, name, max_pixels)


def _levels(image: PIL.Image.Image, name: str, max_pixels: int) -> np.ndarray:
    """The checks that need the header, then the pixels."""
    import PIL.ImageOps

    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(f"{name} is refused: {width}x{height} = {width * height:,} pixels, more than {max_pixels:,}. Scale it down first.")
    if width == 0 or height == 0:
        raise ImageError(f"{name} has no pixels: {width}x{height}.")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # an MPO is a camera's still with a preview or depth map behind it
        raise ImageError(f"{name} has {frames} frames or pages. Save the one you want as a PNG.")
    try:
        image.load()
        turned = PIL.ImageOps.exif_transpose(image)
        return _convert(image if turned is None else turned, name)
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"{name} is damaged or truncated ({error}). Copy or export it again.") from error


def _convert(image: PIL.Image.Image, name: str) -> np.ndarray:
    """Any mode of pillow to grey levels 0–255."""
    import PIL.Image

    if image.mode in _SIXTEEN_BIT:
        return np.asarray(image).astype(np.float32) / 257.0
    if image.mode == "I":  # how pillow gives some 16-bit files
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(f"{name} has 32-bit samples from {values.min()} to {values.max()}: which is white? Save it as 16-bit.")
        return values.astype(np.float32) / 257.0
    if image.mode == "F":
        raise ImageError(f"{name} has floating-point samples: which value is white? Save it with 8 or 16 bits a sample.")
    if image.mode == "CMYK" and (profile := image.info.get("icc_profile")):
        image = _through_profile(image, profile)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        grey = image.mode in ("LA", "La", "L", "1")
        image = image.convert("RGBA")
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image).convert("RGB")
        levels = np.asarray(image, dtype=np.float32)
        return levels[..., 0] if grey else levels
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"), dtype=np.float32)
    return np.asarray(image.convert("RGB"), dtype=np.float32)


def _through_profile(image: PIL.Image.Image, profile: bytes) -> PIL.Image.Image:
    """CMYK to sRGB by the embedded ICC profile; a broken profile leaves pillow's plain formula."""
    import PIL.ImageCms

    try:
        source = PIL.ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = PIL.ImageCms.profileToProfile(image, source, PIL.ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (PIL.ImageCms.PyCMSError, OSError) as error:
        warnings.warn(f"The colour profile of a CMYK image is broken ({error}): converted without it.", PreimageWarning, stacklevel=2)
        return image
    return image if converted is None else converted


def levels_of(array: np.ndarray, channels: int) -> np.ndarray:
    """A user's array as float32 grey levels (H, W) or (H, W, C). uint8 counts 0–255, uint16 0–65535.

    Two or four channels are grey or RGB with alpha, unless `channels` is that number. Raises ImageError otherwise.
    """
    if array.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            f"An image array has dtype {array.dtype}; wanted uint8 (0–255) or uint16 (0–65535), height x width x channels. "
            "For real numbers pass a canonical torch tensor: RGB 0–255 minus the mean colour, (C, H, W)."
        )
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ImageError(f"An image array has shape {array.shape}; wanted (H, W) or (H, W, C), none of them 0.")
    if math.prod(array.shape[:2]) > MAX_PIXELS:
        raise ImageError(f"An image array has {math.prod(array.shape[:2]):,} pixels, more than {MAX_PIXELS:,}. Scale it down.")
    levels: np.ndarray = array.astype(np.float32) / (257.0 if array.dtype == np.uint16 else 1.0)
    if levels.ndim == 3 and levels.shape[2] == 1:
        return levels[..., 0]
    if levels.ndim == 3 and levels.shape[2] in (2, 4) and levels.shape[2] != channels:
        colour, alpha = levels[..., :-1], levels[..., -1:] / 255.0
        levels = colour * alpha + 255.0 * (1 - alpha)
        return levels[..., 0] if levels.shape[2] == 1 else levels
    return levels


def to_grey(levels: np.ndarray) -> np.ndarray:
    """(H, W, 3) RGB -> (H, W): 0.298936 R + 0.587043 G + 0.114021 B, as MATLAB's rgb2gray. Grey stays as it is."""
    return levels if levels.ndim == 2 else np.asarray(levels @ np.array(LUMA, dtype=np.float32))


def resize(levels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bicubic with antialiasing, in float (nothing rounded, nothing clipped): (H, W[, C]) -> size (height, width)."""
    import PIL.Image

    if levels.shape[:2] == size:
        return levels
    planes = [levels] if levels.ndim == 2 else [levels[..., k] for k in range(levels.shape[2])]
    images = [PIL.Image.fromarray(np.ascontiguousarray(p, dtype=np.float32)) for p in planes]
    done = [np.asarray(i.resize((size[1], size[0]), PIL.Image.Resampling.BICUBIC)) for i in images]
    return done[0] if levels.ndim == 2 else np.stack(done, axis=-1)


def contrast_stretch(image: Tensor) -> Tensor:
    """(B, C, H, W) -> the same in 0–255, each image by its own minimum and maximum (vl_imsc). A flat image becomes 0.

    >>> import torch
    >>> contrast_stretch(torch.tensor([[[[10.0, 20.0, 30.0]]]]))
    tensor([[[[  0.0000, 127.5000, 255.0000]]]])
    """
    low = image.amin(dim=(1, 2, 3), keepdim=True)
    span = (image.amax(dim=(1, 2, 3), keepdim=True) - low).clamp(min=1e-12)
    return (image - low) / span * 255.0


def mosaic(images: Tensor) -> Tensor:
    """(B, C, H, W) -> (C, rows·H, cols·W): ceil(√B) columns, filled left to right then down, no gap (vl_imarray).

    >>> import torch
    >>> mosaic(torch.zeros(5, 3, 4, 4)).shape
    torch.Size([3, 8, 12])
    """
    count, channels, height, width = images.shape
    cols = math.ceil(math.sqrt(count))
    rows = math.ceil(count / cols)
    tiles = images.new_zeros(rows * cols, channels, height, width)
    tiles[:count] = images
    return tiles.view(rows, cols, channels, height, width).permute(2, 0, 3, 1, 4).reshape(channels, rows * height, cols * width)


def to_pil(image: Tensor) -> PIL.Image.Image:
    """One image (C, H, W) of levels 0–255 -> PIL, clipped and rounded, never stretched. C = 1 (grey) or 3 (RGB).

    >>> import torch
    >>> to_pil(torch.full((1, 2, 2), 300.0)).getpixel((0, 0))
    255
    """
    import PIL.Image

    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise InputError(f"A picture has 1 or 3 channels; this tensor has shape {tuple(image.shape)}. Choose the channels to show.")
    array = image.detach().cpu().float().clamp(0, 255).round().byte().permute(1, 2, 0).numpy()
    return PIL.Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def write_png(path: str | os.PathLike[str], image: Tensor) -> None:
    """Write one image (C, H, W) of levels 0–255, clipped and rounded to 8 bits; whole or not at all."""
    found = png(image)
    with atomic_write(path) as file:
        file.write(found)


def png(image: Tensor) -> bytes:
    """The PNG file of one image (C, H, W) of levels 0–255, clipped and rounded to 8 bits."""
    buffer = io.BytesIO()
    to_pil(image).save(buffer, format="PNG")
    return buffer.getvalue()


def find_pictures(paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, deep: bool = False) -> list[Path]:
    """Files as they are, folders by the pictures in them (deep: at any depth), in the order of their names; hidden files are left out.

    Raises InputError for a folder without a picture and for a path that is not there.
    """
    found: list[Path] = []
    for path in map(Path, [paths] if isinstance(paths, (str, os.PathLike)) else paths):
        if not path.exists():
            raise InputError(f"There is no file or folder {str(path)!r}. Check the path.")
        inside = [path]
        if path.is_dir():
            entries = path.rglob("*") if deep else path.iterdir()
            inside = sorted(p for p in entries if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file())
        if not inside:
            raise InputError(f"The folder {str(path)!r} holds no picture ({', '.join(SUFFIXES)}).")
        found += inside
    return found


def reference_images() -> list[str]:
    """Paths of the three photographs that come with the package; their origin is in data/CREDITS.md.

    >>> len(reference_images())
    3
    """
    return [str(p) for p in sorted((Path(__file__).parent.parent / "data").glob("*.jpg"))]


ImageLike = Any
"""A path, a PIL image, a uint8 or uint16 array (H, W[, C]), or a canonical tensor ([B,] C, H, W)."""
