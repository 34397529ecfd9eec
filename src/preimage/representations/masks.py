"""Masks: which features count. Each is a function from the shape of the features to a mask of 0 and 1."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import InputError

Mask = Tensor | Callable[[Sequence[int]], Tensor]
"""A tensor that broadcasts to one sample's features, or a function that makes one from their shape."""


@dataclass(frozen=True)
class NamedMask:
    """A mask that can be kept as text: `parse_mask(text)` makes it again."""

    text: str
    make: Callable[[Sequence[int]], Tensor] = field(compare=False, repr=False)

    def __call__(self, shape: Sequence[int]) -> Tensor:
        return self.make(shape)


def channels(*which: int | slice) -> NamedMask:
    """Some channels (the first dimension of the features): numbers or slices, 0-based.

    >>> channels(0, slice(2, 4))((5, 1, 1)).flatten().tolist()
    [1.0, 0.0, 1.0, 1.0, 0.0]
    """

    def mask(shape: Sequence[int]) -> Tensor:
        out = torch.zeros(shape[0], *[1] * (len(shape) - 1))
        for w in which:
            if isinstance(w, int) and not -shape[0] <= w < shape[0]:
                raise InputError(f"The mask names channel {w}; the features have channels 0 to {shape[0] - 1}.")
            if isinstance(w, slice) and w.stop is not None and w.stop > shape[0]:
                raise InputError(f"The mask names channel {w.stop - 1}; the features have channels 0 to {shape[0] - 1}.")
            out[w] = 1.0
        if not bool(out.any()):
            raise InputError(f"The mask selects none of the {shape[0]} channels.")
        return out

    return NamedMask(f"channels:{','.join(_spelled(w) for w in which)}", mask)


def channel_group(index: int, groups: int = 2) -> NamedMask:
    """The index-th (1-based) of equal groups of channels: the paper's two streams of AlexNet (exp_inversion.m, group 1 / 2).

    >>> channel_group(2, 2)((4, 1, 1)).flatten().tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    if not 1 <= index <= groups:
        raise InputError(f"Channel groups are numbered 1 to {groups}; got {index}.")

    def mask(shape: Sequence[int]) -> Tensor:
        if shape[0] < groups:
            raise InputError(f"{shape[0]} channels cannot be split into {groups} groups.")
        return channels(slice(shape[0] * (index - 1) // groups, shape[0] * index // groups))(shape)

    return NamedMask(f"group:{index}/{groups}", mask)


def central_range(count: int, size: int) -> range:
    """Return the central of `count` positions of an axis, at most `size` (exp_inversion.m, neigh): from ceil((n - size' + 1) / 2), 1-based.

    >>> central_range(13, 5), central_range(4, 9)
    (range(4, 9), range(0, 4))
    """
    side = max(min(size, count), 1)
    first = math.ceil((count - side + 1) / 2) - 1
    return range(first, first + side)


def central(size: int = 5) -> NamedMask:
    """The central size x size positions, all channels; see `central_range`.

    >>> central(5)((1, 13, 13)).sum(), central(5)((1, 13, 13))[0, 4, 4]
    (tensor(25.), tensor(1.))
    """
    if size < 1:
        raise InputError(f"The central neighbourhood is at least 1 position wide; got {size}.")

    def mask(shape: Sequence[int]) -> Tensor:
        if len(shape) != 3:
            raise InputError(f"A central neighbourhood needs features with rows and columns; these have shape {tuple(shape)}.")
        out = torch.zeros(1, *shape[1:])
        rows, columns = (central_range(n, size) for n in shape[1:])
        out[:, rows.start : rows.stop, columns.start : columns.stop] = 1.0
        return out

    return NamedMask(f"central:{size}", mask)


def _spelled(which: int | slice) -> str:
    """As `parse_mask` reads it, where it can."""
    if isinstance(which, int):
        return str(which)
    return f"{which.start or 0}-{which.stop - 1}" if which.stop is not None and which.step in (None, 1) else repr(which)


def parse_mask(text: str) -> NamedMask:
    """The command line's words for a mask: "central:5", "group:1/2", "channels:0-63,70".

    >>> parse_mask("channels:1-2,4")((6, 1, 1)).flatten().tolist()
    [0.0, 1.0, 1.0, 0.0, 1.0, 0.0]
    """
    if match := re.fullmatch(r"central:(\d+)", text):
        return central(int(match[1]))
    if match := re.fullmatch(r"group:(\d+)/(\d+)", text):
        return channel_group(int(match[1]), int(match[2]))
    if match := re.fullmatch(r"channels:(\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*)", text):
        ends = [[int(n) for n in part.split("-")] for part in match[1].split(",")]
        return channels(*[slice(e[0], e[1] + 1) if len(e) == 2 else e[0] for e in ends])
    raise InputError(f"A mask is central:N, group:I/N or channels:A-B,C; got {text!r}.")


def resolve(mask: Mask | None, shape: Sequence[int]) -> Tensor | None:
    """The mask for features of this shape, checked. Raises InputError if it does not broadcast to it or selects nothing."""
    if mask is None:
        return None
    if not isinstance(mask, Tensor) and not callable(mask):
        raise InputError(f"A mask is a tensor or a function that makes one, as preimage.masks.central(5); got {mask!r:.80}.")
    tensor = mask if isinstance(mask, Tensor) else mask(shape)
    if not isinstance(tensor, Tensor):
        raise InputError(f"A mask is a tensor or a function that makes one; got {type(tensor).__name__}.")
    tensor = tensor.to(torch.float32)
    fits = tensor.ndim <= len(shape) and all(m in (1, n) for m, n in zip(reversed(tensor.shape), reversed(shape), strict=False))
    if not fits:
        raise InputError(f"The mask has shape {tuple(tensor.shape)}; it must broadcast to one sample's features, {tuple(shape)}.")
    if not bool(torch.isfinite(tensor).all()) or not bool((tensor != 0).any()):
        raise InputError("The mask selects nothing, or holds NaN or infinite values.")
    return tensor
