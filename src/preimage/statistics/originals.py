"""The originals of natural examples, read again where they were and checked by their sha256, and cut to what a unit sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import ImageError
from ..pixels.pixelspace import PixelSpace
from .sources import TARS, File, find
from .statistics import Excitation, Statistics


def windows(stats: Statistics, examples: Sequence[Excitation], space: PixelSpace, size: tuple[int, int]) -> tuple[Tensor, list[str]]:
    """Read the originals of examples and cut a window of this size around what the unit sees, as the network was shown them.

    Returns
    -------
    tensor (N, C, H, W)
        Canonical, N of the examples whose originals are still there with the same content.
    list of str
        Why the others are left out.
    """
    found: list[Tensor] = []
    lost: list[str] = []
    for example in examples:
        try:
            content, digest = reopen(example.image)
            if digest != example.digest:
                raise ImageError(f"{example.image!r} has another content than when the statistics were collected.")
            shown = space.encode(content, size=tuple(stats.about["space"]["size"]), fit=stats.about.get("fit"))
        except (ImageError, OSError) as error:
            lost.append(str(error))
            continue
        found.append(_window(shown, example.box, size))
    return (torch.cat(found) if found else torch.empty(0, space.count, *size)), lost


def reopen(name: str) -> tuple[Any, str]:
    """Open an image by the name that the statistics keep: a file, or a file in a tar. Raises ImageError or OSError."""
    path = Path(name)
    if path.is_file():
        return File(path, path.stat().st_size).open()
    for tar in path.parents:
        if tar.suffix.lower() in TARS and tar.is_file():
            member = next((m for m in find(tar) if m.name == name), None)
            if member is not None:
                return member.open()
    raise ImageError(f"The original {name!r} is not there any more.")


def _window(shown: Tensor, box: Any, size: tuple[int, int]) -> Tensor:
    """A part of (1, C, H, W) with the box in its middle, moved inward at the border; the whole side where the image is smaller."""
    height, width = shown.shape[2:]
    top, left, bottom, right = box or (0, 0, height, width)
    rows, cols = min(size[0], height), min(size[1], width)
    first = min(max((top + bottom - rows) // 2, 0), height - rows)
    start = min(max((left + right - cols) // 2, 0), width - cols)
    return shown[..., first : first + rows, start : start + cols]
