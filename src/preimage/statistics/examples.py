"""The crops of the images that excite each channel most, small, kept in the pass that finds them."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .accumulators import Strongest

if TYPE_CHECKING:
    import PIL.Image

    from ..representations.receptive_field import Field, Span

SIDE = 64
"""Longer side of a crop in pixels; a smaller one is kept as it is."""

Box = tuple[int, int, int, int]  # top, left, bottom, right, in pixels of what the network was shown
Interval = tuple[int, int]
_QUALITY = 90
_LARGEST = 3 * 512 * 512  # bytes of one crop in a file from elsewhere


@dataclass(frozen=True)
class Grid:
    """What each row and each column of a layer's map sees, in pixels from .. to (not included); empty lists: the whole image."""

    rows: Sequence[Interval]
    cols: Sequence[Interval]

    @staticmethod
    def of(shape: tuple[int, ...], where: Field | None, size: tuple[int, int]) -> Grid:
        """Of a layer's (C, H, W) output for an image of this size. For tokens and single numbers it is the whole image."""
        if len(shape) != 3 or where is None:
            return Grid((), ())
        return Grid(_intervals(where.rows, shape[1], size[0]), _intervals(where.cols, shape[2], size[1]))

    def box(self, place: int, size: tuple[int, int]) -> Box:
        """What the place with this index in the flattened map sees of an image of this size."""
        if not self.rows:
            return (0, 0, *size)
        (top, bottom), (left, right) = self.rows[place // len(self.cols)], self.cols[place % len(self.cols)]
        return top, left, bottom, right

    def plain(self) -> Any:
        return [list(map(list, self.rows)), list(map(list, self.cols))]


@dataclass
class Examples:
    """Crops of images as JPEG files. kept: (number of the image, box) -> file. size: of the images that the boxes are of.

    Units that see the same part of the same image share a crop. There are never more than twice as many as the lists of strongest
    images name, so memory is bounded by the channels, K and the side, whatever the number of images: K · 3 · side² bytes a channel
    at the very most, as no JPEG of this quality is larger than its pixels, and about a seventh of it for photographs.
    """

    side: int
    size: tuple[int, int]
    grids: dict[str, Grid]
    kept: dict[tuple[int, Box], bytes] = field(default_factory=dict)
    _most: int = 1024

    def take(self, name: str, best: Strongest, first: int, shown: np.ndarray) -> None:
        """Keep the crops that a batch has added to a layer's strongest. first: the number of its first image. shown: its pictures."""
        new = best.images >= first
        if not bool(new.any()):
            return
        pairs = torch.unique(torch.stack([best.images[new], best.places[new]], dim=1), dim=0).tolist()
        grid = self.grids[name]
        for image, place in pairs:
            key = (image, grid.box(place, self.size))
            if key not in self.kept:
                self.kept[key] = _jpeg(shown[image - first], key[1], self.side)

    def keys(self, name: str, best: Strongest) -> set[tuple[int, Box]]:
        """Which crops a layer's strongest images need."""
        named = best.images >= 0
        pairs = torch.unique(torch.stack([best.images[named], best.places[named]], dim=1), dim=0).tolist()
        return {(image, self.grids[name].box(place, self.size)) for image, place in pairs}

    def forget(self, strongest: Mapping[str, Strongest], now: bool = False) -> None:
        """Drop the crops that no list names any more, when there are twice as many as after the last time, or now."""
        if not now and len(self.kept) <= self._most:
            return
        needed = set().union(*(self.keys(name, best) for name, best in strongest.items())) if strongest else set()
        self.kept = {key: self.kept[key] for key in sorted(needed) if key in self.kept}
        self._most = max(1024, 2 * len(self.kept))

    def crop(self, name: str, image: int, place: int) -> bytes | None:
        """The JPEG of what a place of a layer saw of an image."""
        grid = self.grids.get(name)
        return None if grid is None else self.kept.get((image, grid.box(place, self.size)))

    def merge(self, other: Examples, offset: int) -> Examples:
        """Of both; the other's images are numbered on from `offset`."""
        moved = {(image + offset, box): data for (image, box), data in other.kept.items()}
        return Examples(self.side, self.size, self.grids, self.kept | moved)

    def tensors(self) -> dict[str, Tensor]:
        """For a file: all JPEGs after each other, and where each begins."""
        data = b"".join(self.kept[key] for key in sorted(self.kept))
        rows, start = [], 0
        for image, box in sorted(self.kept):
            rows.append([image, *box, start, len(self.kept[image, box])])
            start += rows[-1][-1]
        return {
            "crops": torch.from_numpy(np.frombuffer(data, np.uint8).copy()),
            "crops-index": torch.tensor(rows, dtype=torch.int64).reshape(-1, 7),
            "crops-grids": _bytes({name: grid.plain() for name, grid in self.grids.items()}),
        }

    @staticmethod
    def from_tensors(side: int, size: Sequence[int], found: Mapping[str, Tensor], images: int) -> Examples:
        """Raises InputError for crops that do not belong together, KeyError for a tensor that is missing."""
        data, index = found["crops"], found["crops-index"]
        if data.dtype != torch.uint8 or data.ndim != 1 or index.dtype != torch.int64 or index.ndim != 2 or index.shape[1] != 7:
            raise InputError("its crops are no list of files.")
        height, width = (int(s) for s in size)
        if len(index):
            image, top, left, bottom, right, start, length = index.T
            sound = (image >= 0) & (image < images) & (start >= 0) & (length > 0) & (length <= _LARGEST) & (start + length <= len(data))
            sound &= (top >= 0) & (left >= 0) & (top < bottom) & (left < right) & (bottom <= height) & (right <= width)
            if not bool(sound.all()):
                raise InputError("a crop is not in its file or not in its image.")
        blob = data.numpy().tobytes()
        kept = {(i, (t, le, b, r)): blob[s : s + n] for i, t, le, b, r, s, n in index.tolist()}
        grids = {str(name): _grid(value) for name, value in json.loads(found["crops-grids"].numpy().tobytes()).items()}
        return Examples(int(side), (height, width), grids, kept)


def open_crop(data: bytes) -> PIL.Image.Image:
    """Decode a crop of a file from anywhere. Raises InputError for what is no small JPEG."""
    import PIL.Image

    try:
        with PIL.Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            if max(image.size) > 1024:
                raise InputError(f"A crop has {image.size[0]}x{image.size[1]} pixels.")
            return image.convert("RGB")
    except InputError:
        raise
    except Exception as error:  # pillow raises many kinds for damaged files
        raise InputError(f"A crop cannot be read ({error}).") from error


def as_pictures(levels: Tensor) -> np.ndarray:
    """Levels (B, 1 or 3, H, W) as uint8 (B, H, W) or (B, H, W, 3)."""
    found: np.ndarray = levels.detach().cpu().clamp(0, 255).round().byte().permute(0, 2, 3, 1).numpy()
    return found[..., 0] if found.shape[3] == 1 else found


def _jpeg(picture: np.ndarray, box: Box, side: int) -> bytes:
    import PIL.Image

    top, left, bottom, right = box
    crop = PIL.Image.fromarray(np.ascontiguousarray(picture[top:bottom, left:right]))
    if max(crop.size) > side:
        scale = side / max(crop.size)
        smaller = (max(round(crop.width * scale), 1), max(round(crop.height * scale), 1))
        crop = crop.resize(smaller, PIL.Image.Resampling.BOX)
    buffer = io.BytesIO()
    crop.save(buffer, format="JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()


def _intervals(span: Span, count: int, length: int) -> list[Interval]:
    if span.whole:
        return [(0, length)] * count
    found = []
    for k in range(count):
        start, end = span.extent(k)
        first = min(max(math.floor(start), 0), length - 1)
        found.append((first, max(min(math.ceil(end), length), first + 1)))
    return found


def _grid(value: Any) -> Grid:
    rows, cols = ([(int(a), int(b)) for a, b in part] for part in value)
    return Grid(rows, cols)


def _bytes(value: Any) -> Tensor:
    return torch.from_numpy(np.frombuffer(json.dumps(value).encode(), np.uint8).copy())
