"""A sample of activations: the vectors over all channels at places drawn at random, the same draw for whatever order and batch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .accumulators import by_channel


@dataclass
class Sample:
    """At most `count` draws, those of the smallest priorities (a bottom-k sketch, which can be merged: Cohen and Kaplan 2007).

    Each image gives `places` of them, and a draw is made of the seed and the content of the image alone. drawn: (n, 2) priority and
    number of the image. spots: (n, 2) how far down and across the map each draw is, from 0 to 1: the same in every layer, so row i of
    all layers' vectors (n, C) belongs together. Memory: 4 bytes a draw and channel.
    """

    count: int
    places: int
    seed: int
    drawn: Tensor = field(default_factory=lambda: torch.empty(0, 2, dtype=torch.int64))
    spots: Tensor = field(default_factory=lambda: torch.empty(0, 2, dtype=torch.float64))
    vectors: dict[str, Tensor] = field(default_factory=dict)
    _drawn: Tensor = field(init=False, repr=False)
    _spots: Tensor = field(init=False, repr=False)
    _found: dict[str, Tensor] = field(init=False, repr=False)

    def draw(self, digests: Sequence[str], first: int) -> None:
        """Draw places in the images of a batch, before their features come. first: the number of the first of them."""
        rows = [self._of(d) for d in digests]
        self._drawn = torch.tensor([[p, first + b] for b, own in enumerate(rows) for p, _ in own], dtype=torch.int64).reshape(-1, 2)
        self._spots = torch.tensor([s for own in rows for _, s in own], dtype=torch.float64).reshape(-1, 2)
        self._found: dict[str, Tensor] = {}

    def take(self, name: str, features: Tensor) -> None:
        """The features (B, …) of the batch that was drawn for."""
        values = by_channel(features)  # (B, C, N)
        height, width = features.shape[2:] if features.ndim == 4 else (1, values.shape[2])
        at = (self._spots[:, 0] * height).long() * width + (self._spots[:, 1] * width).long()
        which = torch.arange(len(values)).repeat_interleave(self.places)
        self._found[name] = values[which.to(values.device), :, at.to(values.device)].float().cpu()

    def keep(self) -> None:
        """After the batch: keep the draws of the smallest priorities of what there was and what is new."""
        drawn = torch.cat([self.drawn, self._drawn])
        order = _order(drawn)[: self.count]
        self.spots = torch.cat([self.spots, self._spots])[order]
        self.vectors = {n: torch.cat([self.vectors[n], v] if n in self.vectors else [v])[order] for n, v in self._found.items()}
        self.drawn = drawn[order]

    def merge(self, other: Sample, offset: int) -> Sample:
        """Of both sets of images; the other's are numbered on from `offset`."""
        drawn = torch.cat([self.drawn, other.drawn + torch.tensor([0, offset])])
        order = _order(drawn)[: self.count]
        spots = torch.cat([self.spots, other.spots])[order]
        vectors = {n: torch.cat([v, other.vectors[n]])[order] for n, v in self.vectors.items()}
        return Sample(self.count, self.places, self.seed, drawn[order], spots, vectors)

    def tensors(self) -> dict[str, Tensor]:
        """For a file."""
        named = {"sample-drawn": self.drawn, "sample-spots": self.spots}
        return {k: v.contiguous() for k, v in (named | {f"sample:{n}": v for n, v in self.vectors.items()}).items()}

    @staticmethod
    def from_tensors(about: Mapping[str, Any], channels: Mapping[str, int], found: Mapping[str, Tensor], images: int) -> Sample:
        """Raises InputError for tensors that do not belong together, KeyError for one that is missing."""
        drawn, spots = found["sample-drawn"], found["sample-spots"]
        n = len(drawn)
        vectors = {name: found[f"sample:{name}"] for name in channels} if n else {}
        sound = drawn.shape == spots.shape == (n, 2) and drawn.dtype == torch.int64 and spots.dtype == torch.float64
        sound = sound and all(v.shape == (n, channels[k]) and v.dtype == torch.float32 for k, v in vectors.items())
        if not sound or (n and not (int(drawn[:, 1].min()) >= 0 and int(drawn[:, 1].max()) < images)):
            raise InputError("its sample of activations does not fit its layers or images.")
        return Sample(int(about["sample"]), int(about["places"]), int(about["seed"]), drawn, spots, vectors)

    def _of(self, digest: str) -> list[tuple[int, tuple[float, float]]]:
        raw = hashlib.sha256(f"{self.seed}/{digest}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(raw, "little"))
        return [(int(rng.integers(2**62)), (float(rng.random()), float(rng.random()))) for _ in range(self.places)]


def _order(drawn: Tensor) -> Tensor:
    """By priority, and where two are the same, as of two copies of one file, by the number of the image."""
    by_image = drawn[:, 1].argsort(stable=True)
    return by_image[drawn[by_image, 0].argsort(stable=True)]
