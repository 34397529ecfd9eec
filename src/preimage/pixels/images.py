"""Images in and out: reading with every check, grey levels 0–255 as float arrays, PNGs written whole or not at all."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ImageError, InputError
from ..files import atomic_write as atomic_write
from ..files import check_file as check_file
from .reading import MAX_PIXELS as MAX_PIXELS
from .reading import STRIP
from .reading import read_image as read_image
from .reading import read_levels as read_levels

if TYPE_CHECKING:
    import PIL.Image
    from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
"""What a folder's pictures are told by."""

LUMA = (0.298936, 0.587043, 0.114021)
"""What of red, green and blue is grey: MATLAB's rgb2gray, the luma of Rec. 601."""


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
    """(H, W, 3) RGB -> (H, W): 0.298936 R + 0.587043 G + 0.114021 B, as MATLAB's rgb2gray. Grey stays as it is.

    In float64, channel by channel: a colour has one grey wherever it stands and on every processor, and red, green and blue that are
    equal give that level. A product of matrices has another last bit at the end of a row, which decides ties of HOG.

    >>> to_grey(np.full((1, 2, 3), 77.0, np.float32))
    array([[77., 77.]], dtype=float32)
    """
    if levels.ndim == 2:
        return levels
    rows = max(1, STRIP // levels.shape[1])
    found = np.empty(levels.shape[:2], np.float32)
    for top in range(0, len(levels), rows):
        red, green, blue = (weight * levels[top : top + rows, :, k].astype(np.float64) for k, weight in enumerate(LUMA))
        found[top : top + rows] = red + green + blue
    return found


def resize(levels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bicubic with antialiasing, in float (nothing rounded, nothing clipped): (H, W[, C]) -> size (height, width)."""
    if levels.shape[:2] == size:
        return levels
    planes = [levels] if levels.ndim == 2 else [levels[..., k] for k in range(levels.shape[2])]
    done = [_resized(p, size) for p in planes]
    return done[0] if levels.ndim == 2 else np.stack(done, axis=-1)


def _resized(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One channel. Pillow goes along the rows first and then down the columns, so a large plane is narrowed strip by strip."""
    import PIL.Image

    def scaled(part: np.ndarray, height: int) -> np.ndarray:
        image = PIL.Image.fromarray(np.ascontiguousarray(part, dtype=np.float32))
        return np.asarray(image.resize((size[1], height), PIL.Image.Resampling.BICUBIC))

    rows = max(1, STRIP // plane.shape[1])
    if rows >= plane.shape[0]:
        return scaled(plane, size[0])
    narrow = [scaled(plane[top : top + rows], min(rows, plane.shape[0] - top)) for top in range(0, plane.shape[0], rows)]
    return scaled(np.concatenate(narrow), size[0])


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
