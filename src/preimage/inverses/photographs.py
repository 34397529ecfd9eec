"""What an inverse is fitted on: photographs, by default those of free licences that other packages ship, and random crops of them."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, missing_extra
from ..pixels.images import ImageLike, find_pictures
from ..pixels.pixelspace import PixelSpace

FREE = (  # every fourth of those to fit on is held out by default
    ("skimage", "data/astronaut.png"),  # NASA, public domain
    ("skimage", "data/camera.png"),  # Lav Varshney, CC0
    ("skimage", "data/retina.jpg"),  # Mikael Häggström, CC0
    ("sklearn", "datasets/images/china.jpg"),  # danielbuechele, CC-BY 2.0
    ("skimage", "data/rocket.jpg"),  # SpaceX, public domain
    ("skimage", "data/brick.png"),  # CC0Textures, CC0
    ("skimage", "data/chelsea.png"),  # Stefan van der Walt, CC0
    ("skimage", "data/hubble_deep_field.jpg"),  # NASA, public domain
    ("skimage", "data/grass.png"),  # linolafett, CC0
    ("sklearn", "datasets/images/flower.jpg"),  # vultilion, CC-BY 2.0
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),  # US Navy, public domain
    ("skimage", "data/coffee.png"),  # Rachel Michetti, CC0
    ("skimage", "data/gravel.png"),  # CC0Textures, CC0
)
SHOWN = ("astronaut.png", "chelsea.png", "coffee.png")  # in the demonstration, so that nothing is fitted on them
LEAST = 4  # photographs
ZOOM = 0.4  # the smallest crop, of the photograph's short side
KEPT = 32  # photographs that stay in memory


def free_photographs(shown: bool = False) -> list[Path]:
    """Return the photographs in the public domain, CC0 or CC-BY that scikit-image, scikit-learn and matplotlib carry.

    Nothing is downloaded.

    Parameters
    ----------
    shown : bool, default False
        Whether also those that the demonstration and the pages show, on which no inverse is to be fitted.

    Returns
    -------
    list of paths
        Ten, or thirteen.

    Raises
    ------
    MissingExtra
        Where one of the packages is not installed.
    InputError
        Where it does not carry a photograph any more.

    >>> len(free_photographs()), len(free_photographs(shown=True))
    (10, 13)
    """
    paths = []
    for package, name in FREE:
        if not shown and Path(name).name in SHOWN:
            continue
        found = importlib.util.find_spec(package)
        if found is None or not found.submodule_search_locations:
            needs = "Without photographs an inverse is fitted on the free ones that scikit-image and scikit-learn carry"
            raise missing_extra(needs, "shallow", ", or give photographs")
        paths.append(Path(found.submodule_search_locations[0], name))
    missing = [p.name for p in paths if not p.is_file()]
    if missing:
        raise InputError(f"The installed packages do not carry {', '.join(missing)}. Give photographs to fit on.")
    return paths


@dataclass(frozen=True)
class Crops:
    """Random crops of photographs: crop n is made of the seed and n alone, so that any part of the sequence can be made again.

    photographs: in their order; crop n is of photograph n modulo their number, a square of 40 to 100 % of its short side, anywhere,
    every other one mirrored. size: what it is scaled to. Canonical (1, C, H, W), within 0–255 as levels.
    """

    photographs: Sequence[ImageLike]
    space: PixelSpace
    size: tuple[int, int]
    seed: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "_kept", {})

    def __getitem__(self, n: int) -> Tensor:
        picture = self._read(n % len(self.photographs))
        rng = np.random.default_rng([self.seed, n])
        height, width = picture.shape[2:]
        ratio = self.size[0] / self.size[1]
        largest = min(height, width * ratio)
        smallest = min(largest, max(ZOOM * largest, 0.5 * self.size[0]))
        rows = max(1, int(math.exp(rng.uniform(math.log(smallest), math.log(largest)))))
        columns = max(1, min(width, round(rows / ratio)))
        top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
        crop = self.space.decode(picture[..., top : top + rows, left : left + columns])
        if crop.shape[2:] != self.size:
            crop = F.interpolate(crop, self.size, mode="bicubic", antialias=True, align_corners=False)
        if rng.random() < 0.5:
            crop = crop.flip(3)
        return crop.clamp(0.0, 255.0) - self.space.mean_colour

    def _read(self, k: int) -> Tensor:
        kept: dict[int, Tensor] = self._kept  # type: ignore[attr-defined]
        if k not in kept:
            if len(kept) >= KEPT:
                kept.pop(next(iter(kept)))
            kept[k] = _shrunk(replace(self.space, size=None).encode(self.photographs[k]), self.size)
        return kept[k]


def gather(images: ImageLike | Sequence[ImageLike] | None) -> list[ImageLike]:
    """The photographs that were given: files, folders of them, or pictures; None is the free ones. Raises InputError for too few."""
    if images is None:
        return list(free_photographs())
    given = list(images) if isinstance(images, (list, tuple)) else [images]
    found: list[ImageLike] = []
    for image in given:
        if isinstance(image, (str, os.PathLike)):
            found += find_pictures(image, deep=True)
        else:
            found += list(image.unsqueeze(1)) if isinstance(image, Tensor) and image.ndim == 4 else [image]
    if len(found) < LEAST:
        raise InputError(f"An inverse is fitted on at least {LEAST} photographs, some of them held out; got {len(found)}.")
    return found


def split(count: int, held_out: float) -> tuple[list[int], list[int]]:
    """Which of the photographs are fitted on and which are held out: every n-th, at least one.

    >>> split(9, 0.25)
    ([0, 1, 2, 4, 5, 6, 8], [3, 7])
    """
    if not 0.0 < held_out <= 0.5:
        raise InputError(f"held_out is a part of the photographs, above 0 and at most 0.5; got {held_out!r}.")
    every = min(round(1 / held_out), count)
    held = list(range(every - 1, count, every))
    return [k for k in range(count) if k not in held], held


def digest(photographs: Sequence[ImageLike]) -> str:
    """sha256 over the photographs' files, or values where they are no files."""
    total = hashlib.sha256()
    for picture in photographs:
        one = hashlib.sha256()
        if isinstance(picture, (str, os.PathLike)):
            with Path(picture).open("rb") as file:
                while block := file.read(1 << 20):
                    one.update(block)
        else:
            values = picture.detach().cpu().numpy() if isinstance(picture, Tensor) else np.asarray(picture)
            one.update(f"{values.dtype} {values.shape}\n".encode() + np.ascontiguousarray(values).tobytes())
        total.update(one.digest())
    return total.hexdigest()


def _shrunk(x: Tensor, size: tuple[int, int]) -> Tensor:
    """A photograph without more pixels than the smallest crop of it can use."""
    scale = max(size) / (ZOOM * min(x.shape[2:]))
    if scale >= 1:
        return x
    return F.interpolate(x, scale_factor=scale, mode="bicubic", antialias=True, align_corners=False, recompute_scale_factor=True)
