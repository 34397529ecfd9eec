"""The features of pictures as vectors over a layer's channels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..pixels.images import find_pictures
from ..representations.base import Representation, RepresentationLike, as_representation, device_of, features_of
from ..statistics.accumulators import by_channel

_BATCH = 16


def pictures_of(images: Any, what: str) -> list[Any]:
    """List pictures: files, folders of them to any depth, or pictures in memory. Raises InputError for none."""
    given = list(images) if isinstance(images, (list, tuple)) else [images]
    found: list[Any] = []
    for image in given:
        found += find_pictures(image, deep=True) if isinstance(image, (str, os.PathLike)) else [image]
    if not found:
        raise InputError(f"There is no picture among the {what}.")
    return found


def channel_vectors(phi: RepresentationLike, pictures: Sequence[Any], each: bool = False) -> Tensor:
    """The channels of each picture's features, the mean over the places of a map: (N, C); each: every place of every picture, (N·P, C)."""
    known: Representation = as_representation(phi)
    rows = []
    with known.session(), torch.no_grad():
        for start in range(0, len(pictures), _BATCH):
            x = torch.cat([known.space.encode(p) for p in pictures[start : start + _BATCH]])
            values = by_channel(features_of(known, x.to(device_of(known)))).float().cpu()
            rows.append(values.transpose(1, 2).reshape(-1, values.shape[1]) if each else values.mean(dim=2))
    return torch.cat(rows)
