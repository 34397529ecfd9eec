"""Parts of a transformer's layer: its class token, all tokens before the patches, and the patches as a map."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from ..errors import InputError
from .receptive_field import Field, Number

PARTS = ("cls", "prefix", "grid")
_CLASS_TOKENS = ("cls_token", "class_token", "class_embedding")  # what timm, torchvision and transformers call its parameter
_MOST_PREFIX = 16  # tokens before the patches, where the module does not say how many there are


@dataclass(frozen=True)
class Part:
    """One part of features, for images of any size that the network takes.

    which: "cls", the class token (B, C); "prefix", it and the registers (B, P, C); "grid", the patches (B, C, h, w).
    order: the features are "tokens" (B, P + h·w, C), "channels last" (B, h, w, C) or "channels first". prefix: P.
    rows, cols: pixels from one patch to the next; an image of H pixels has h = floor(H / rows) of them.
    """

    which: str
    order: Literal["tokens", "channels last", "channels first"]
    prefix: int
    rows: Number
    cols: Number

    def __call__(self, features: Tensor, height: int, width: int) -> Tensor:
        """The part of the features of images of this size. Raises InputError if their number does not come out."""
        if self.order != "tokens":
            return features if self.order == "channels first" else features.permute(0, 3, 1, 2)
        h, w = int(height // self.rows), int(width // self.cols)
        if features.shape[1] != self.prefix + h * w:
            raise InputError(
                f"An image of {height}x{width} pixels gives {features.shape[1]} tokens, which are not {self.prefix} and a grid of {h}x{w}."
            )
        if self.which == "grid":
            return features[:, self.prefix :].transpose(1, 2).reshape(len(features), -1, h, w)
        return features[:, : self.prefix] if self.which == "prefix" else features[:, 0]


def find_part(
    which: str, name: str, shape: tuple[int, ...], field: Field | None, size: tuple[int, int], module: nn.Module, dotted: str
) -> Part:
    """The part of a layer whose features for an image of `size` have this shape (without the batch) and field.

    The number of tokens before the patches is what a module around the layer declares (`num_prefix_tokens`), and must come out
    with the canvas and the stride of the patches; where none declares it, it is what these leave over.
    Raises InputError for a layer without that part.
    """
    if which not in PARTS:
        raise InputError(f"The parts of a layer are {', '.join(PARTS)}; got {name!r}.")
    if field is None or len(shape) not in (2, 3):
        raise InputError(f"Layer {name!r} has shape {shape}: no tokens (count, channels) and no map, so it has no part {which!r}.")
    rows, cols = field.rows.stride, field.cols.stride
    h, w = int(size[0] // rows), int(size[1] // cols)
    if len(shape) == 3:
        placed = _order(shape, field, (h, w))
        if placed is None:
            raise InputError(
                f"Layer {name!r} has shape {shape}, where the {h}x{w} patches of {size[0]}x{size[1]} pixels are not to be found."
            )
        if which != "grid":
            raise InputError(f"Layer {name!r} is a map of shape {shape} and has no tokens beside it: choose :grid.")
        return Part(which, placed[0], 0, rows * placed[1], cols * placed[1])
    declared, left = _declared(module, dotted), shape[0] - h * w
    if left < 0 or (left > _MOST_PREFIX if declared is None else left not in (0, declared)):
        says = f"and {declared} before them, as the module declares" if declared is not None else "of any number before them"
        raise InputError(f"Layer {name!r} has {shape[0]} tokens, which are not {h}x{w} patches of {rows}x{cols} pixels {says}.")
    if which != "grid" and left == 0:
        raise InputError(f"Layer {name!r} has {shape[0]} tokens, all of them patches: it has no part {which!r}.")
    if which == "cls" and not any(n.rpartition(".")[2] in _CLASS_TOKENS for n, _ in module.named_parameters()):
        raise InputError(
            f"Layer {name!r} has {left} tokens before its patches, but none is a class token ({', '.join(_CLASS_TOKENS)}): choose :prefix."
        )
    return Part(which, "tokens", left, rows, cols)


def parts_of(shape: tuple[int, ...], field: Field | None, size: tuple[int, int], module: nn.Module, dotted: str) -> tuple[str, ...]:
    """The parts that a layer has, for lists; a map with channels first is its own grid and has none."""
    found = []
    for which in PARTS:
        with suppress(InputError):
            if find_part(which, dotted, shape, field, size, module, dotted).order != "channels first":
                found.append(which)
    return tuple(found)


def _order(shape: tuple[int, ...], field: Field, grid: tuple[int, int]) -> tuple[Literal["channels last", "channels first"], int] | None:
    """Where the rows and columns of a map are, and how many patches of `grid` make one of its steps.

    As the operations that made the layer tell; or else, where windows or merging have hidden it from them, the only place where
    whole steps fit.
    """
    along = [[tag for _, tag in atoms if tag is not None] for atoms in field.layout]
    if along[1:] == [[], [0], [1]]:
        return "channels first", 1
    if along[1:] == [[0], [1], []]:
        return "channels last", 1
    first, last = _steps(shape[1:], grid), _steps(shape[:2], grid)
    if (first is None) == (last is None):
        return None
    return ("channels first", first) if last is None and first is not None else ("channels last", last or 1)


def _steps(found: tuple[int, ...], grid: tuple[int, int]) -> int | None:
    """The k for which a grid gives this map when k x k of its patches are merged; None if there is none."""
    k = round(grid[0] / found[0])
    return k if k and all(-(-g // k) == n for g, n in zip(grid, found, strict=True)) else None


def _declared(module: nn.Module, dotted: str) -> int | None:
    """`num_prefix_tokens` of the nearest module around the layer that has it."""
    parts = dotted.split(".")
    for k in range(len(parts), -1, -1):
        count = getattr(module.get_submodule(".".join(parts[:k])), "num_prefix_tokens", None)
        if isinstance(count, int):
            return count
    return None
