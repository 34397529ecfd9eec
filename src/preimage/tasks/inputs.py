"""The images and starts that a task is given, read and named."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..pixels.images import ImageLike
from ..pixels.pixelspace import Fit
from ..ranges import checked
from ..representations.base import Representation
from ..representations.masks import Mask, NamedMask
from .result import Result
from .resuming import digest

Start = str | os.PathLike[str] | ImageLike | Result | None


def load_images(phi: Representation, image: Any, fit: Fit | None) -> tuple[Tensor, list[str], list[str]]:
    """Return images of one size as one canonical batch, a label and a key for each."""
    given = list(image) if isinstance(image, (list, tuple)) else [image]
    if not given:
        raise InputError("There is no image: the list is empty.")
    batches = [phi.space.encode(i, fit=fit) for i in given]
    for i, b in zip(given, batches, strict=True):
        if isinstance(i, Tensor):
            phi.space.doubt(b)
    if len({b.shape[1:] for b in batches}) > 1:
        raise InputError(f"The images have different sizes, {[size_of(b) for b in batches]}: invert them one by one.")
    labels: list[str] = []
    for k, (i, b) in enumerate(zip(given, batches, strict=True)):
        path = getattr(i, "filename", i)
        stem = (
            np.char.rpartition(str(path).replace("\\", "/"), "/")[2].item() if isinstance(path, str) or hasattr(path, "__fspath__") else ""
        )
        base = stem.rpartition(".")[0] or stem or (f"image-{k}" if len(given) > 1 else "image")
        labels += [base] if len(b) == 1 else [f"{base}-{j}" for j in range(len(b))]
    x0 = torch.cat(batches)
    return x0, labels, [str(digest(x)) for x in x0]


def begins_as(start: Start, word: str) -> bool:
    """Return whether a run begins as it would by itself, with "noise" or the "image", said or not; an array of pixels is neither.

    >>> begins_as(None, "noise"), begins_as("image", "noise"), begins_as(np.zeros((8, 8, 3), np.uint8), "noise")
    (True, False, False)
    """
    return start is None or (isinstance(start, str) and start == word)


def describe_start(start: Start, own: str) -> str:
    """Return what a run began with, for the record."""
    if start is None:
        return own
    if isinstance(start, str) and start in ("noise", "image", "inverse"):
        return start
    if isinstance(start, Result):
        return "a Result"
    return str(start) if isinstance(start, (str, os.PathLike)) else f"a {type(start).__name__}"


def describe_mask(mask: Mask | None) -> str | None:
    """Return a mask in words, for the record."""
    if mask is None:
        return None
    if isinstance(mask, NamedMask):
        return mask.text
    return f"tensor of shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else f"function {mask!r}"


def restarted(labels: list[str], restarts: int) -> list[str]:
    """Return a label for each restart."""
    return labels if restarts == 1 else [f"{label} restart {r}" for label in labels for r in range(restarts)]


def positive(name: str, value: float | None) -> float:
    """Return the value, if it is a number above 0."""
    found: float = checked("Z", value, name)
    return found


def to_uint8(levels: Tensor) -> np.ndarray:
    """Return levels (C, H, W) as a picture (H, W, C)."""
    return np.asarray(levels.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0))


def covering(x: Tensor, size: tuple[int, int]) -> Tensor:
    """An image (1, C, H, W) of this size: brought to it by its shorter side and cut, as a picture is, where it has another."""
    if size_of(x) == size:
        return x
    share = max(size[0] / x.shape[-2], size[1] / x.shape[-1])
    whole = [max(size[k], round(share * x.shape[k - 2])) for k in (0, 1)]
    x = F.interpolate(x, whole, mode="bilinear", antialias=True, align_corners=False)
    top, left = (whole[0] - size[0]) // 2, (whole[1] - size[1]) // 2
    return x[..., top : top + size[0], left : left + size[1]]


def size_of(x: Tensor) -> tuple[int, int]:
    """Return (height, width)."""
    return int(x.shape[-2]), int(x.shape[-1])
