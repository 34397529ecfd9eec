"""What encodings of local descriptors share: their vocabulary, soft words, and the regions of a spatial pyramid."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..errors import InputError, whole
from ..pixels.pixelspace import PixelSpace
from . import gradients
from .base import Representation
from .dsift import DenseSIFT
from .receptive_field import Number
from .vocabulary import Kind, Vocabulary

TINY = 1e-12  # added to squares under a root, so that its derivative stays finite


class Encoding(nn.Module, Representation):
    """The base of encodings of dense SIFT by a vocabulary; each calls `attach` when it is made."""

    jitter = 1
    centres: Tensor
    sift: DenseSIFT
    space: PixelSpace
    name: str
    stride: Number
    receptive_field: Number | None

    def attach(self, vocabulary: Vocabulary, kind: Kind, name: str) -> None:
        """Take over the words, their descriptor and the facts of a representation. Raises InputError for words of another kind."""
        if vocabulary.kind != kind:
            raise InputError(
                f"{type(self).__name__} needs a vocabulary of kind {kind!r}; this one is of kind {vocabulary.kind!r}. "
                f"Learn it with: preimage vocabulary IMAGES… --kind {kind} -o FILE"
            )
        self.sift = vocabulary.sift()
        self.register_buffer("centres", vocabulary.centres)
        self.space = PixelSpace(size=None, channels="grey", scale=255.0, mean=(gradients.MIDDLE,))
        self.name = name
        self.stride = self.sift.stride
        self.receptive_field = None


def checked_grids(grids: Sequence[int]) -> tuple[int, ...]:
    """Return the sides of a pyramid's grids. Raises InputError."""
    if not grids:
        raise InputError("grids names at least one grid, as (1, 2, 4).")
    return tuple(whole("a side of grids", g, 1) for g in grids)


def checked_temperature(temperature: float) -> float:
    """Return a temperature of assignments. Raises InputError."""
    if not 0 <= temperature < math.inf:
        raise InputError(f"temperature is a square of distances, 0 or more; got {temperature!r}.")
    return float(temperature)


def regions(maps: Tensor, side: int) -> Iterator[tuple[slice, slice]]:
    """Give the side x side regions of (B, K, h, w), row by row: descriptor i of n is in region ⌊i·side/n⌋."""
    edges = []
    for n in maps.shape[2:]:
        if n < side:
            raise InputError(
                f"An image with {maps.shape[2]}x{maps.shape[3]} descriptors cannot be divided into {side}x{side} regions. "
                "Enlarge it or take a coarser grid."
            )
        cuts = [-(-n * i // side) for i in range(side + 1)]
        edges.append([slice(a, b) for a, b in pairwise(cuts)])
    return ((rows, columns) for rows in edges[0] for columns in edges[1])


def assign(descriptors: Tensor, centres: Tensor, temperature: float) -> Tensor:
    """Share descriptors (B, D, h, w) among words: (B, K, h, w); ‖d‖² is the same for all words and is left out."""
    closeness = 2 * torch.einsum("kd,bdhw->bkhw", centres, descriptors) - centres.square().sum(dim=1).view(1, -1, 1, 1)
    if temperature == 0:
        nearest = closeness.detach().argmax(dim=1, keepdim=True)
        return torch.zeros_like(closeness).scatter(1, nearest, 1.0)
    return torch.softmax(closeness / temperature, dim=1)


def unit(vectors: Tensor, dim: int) -> Tensor:
    """Bring to length 1 along a dimension, safely where there is nothing."""
    return vectors * (vectors.square().sum(dim=dim, keepdim=True) + TINY).rsqrt()
