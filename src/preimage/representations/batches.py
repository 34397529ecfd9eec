"""Which dimension of a layer's output runs along the images, and how features of each image are made of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..errors import InputError
from .receptive_field import Layout


@dataclass(frozen=True)
class Batch:
    """How B images lie in a tensor.

    axis: the dimension that runs along them. each: how many of its places are one image's, as windows or regions are; they are a dimension
    of the features then. interleaved: the places of one image do not lie together. missing: for one image there is no such dimension.

    >>> import torch
    >>> Batch(axis=1).arrange(torch.zeros(5, 2, 7), 2, "tokens").shape, Batch(each=4).arrange(torch.zeros(8, 7), 2, "windows").shape
    (torch.Size([2, 5, 7]), torch.Size([2, 4, 7]))
    """

    axis: int = 0
    each: int = 1
    interleaved: bool = False
    missing: bool = False

    def arrange(self, features: Tensor, count: int, name: str) -> Tensor:
        """The features of `count` images, (count, ...). Raises InputError if there is not one entry for each."""
        if self.missing and count == 1:
            return features.unsqueeze(0)
        if self.axis:
            features = features.movedim(self.axis, 0)
        if self.each > 1 and len(features) == self.each * count:
            sides = (self.each, count) if self.interleaved else (count, self.each)
            features = features.reshape(*sides, *features.shape[1:])
            return features.transpose(0, 1) if self.interleaved else features
        if features.ndim == 0 or len(features) != count:
            raise InputError(
                f"Layer {name!r} gives a tensor of shape {tuple(features.shape)} for {count} image{'s' if count > 1 else ''}: not one "
                "entry for each. Show it one image at a time (batch=1), or choose another layer."
            )
        return features

    def shape_of(self, one: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one image's features, from that of the tensor for one image."""
        if self.missing:
            return one
        rest = one[: self.axis] + one[self.axis + 1 :]
        return (self.each, *rest) if self.each > 1 else rest

    def layout_of(self, layout: Layout) -> Layout:
        """The layout of the arranged features, from that of the tensor."""
        if self.missing:
            return [[(1, None)], *layout]
        own, rest = layout[self.axis], layout[: self.axis] + layout[self.axis + 1 :]
        return [[(1, None)], own, *rest] if self.each > 1 else [own, *rest]


def find_batch(one: tuple[int, ...], two: tuple[int, ...] | None) -> Batch | None:
    """How images lie in a tensor that has these shapes for one and for two of them; two=None: only one can be shown.

    >>> find_batch((5, 1, 7), (5, 2, 7)), find_batch((4, 7), (8, 7)).each, find_batch((7,), (2, 7)).missing, find_batch((7,), (7,))
    (Batch(axis=1, each=1, interleaved=False, missing=False), 4, True, None)
    """
    if two is None:
        if one[:1] == (1,) or not one:
            return Batch() if one else None
        return Batch(axis=one.index(1)) if one.count(1) == 1 else Batch(missing=True)
    if len(one) == len(two):
        apart = [d for d, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
        if len(apart) == 1 and one[apart[0]] and two[apart[0]] == 2 * one[apart[0]]:
            return Batch(apart[0], one[apart[0]])
        return None
    for axis, n in enumerate(two):
        if n == 2 and two[:axis] + two[axis + 1 :] == one:
            return Batch(axis, missing=True)
    return None
