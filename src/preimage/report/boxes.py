"""Receptive fields as boxes over a picture, from what the results themselves say of their layers: no network is opened for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..errors import InputError, first_line
from ..networks.network import known_networks
from ..representations.listing import LayerInfo, layers, with_title
from ..representations.masks import central_range
from ..representations.receptive_field import Span
from ..studies.about import About


@dataclass(frozen=True)
class Box:
    """Pixels left .. left + width, top .. top + height of an image."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class Geometry:
    """The layers of a network by name, in the order in which they run, and the (height, width) of its input."""

    size: tuple[int, int]
    layers: dict[str, LayerInfo]


def gather(found: Sequence[About]) -> Geometry:
    """What the results of one network say of its layers; for inputs of several sizes, those of the first. There is at least one."""
    size = found[0].size
    layers = {a.layer.name: a.layer for a in sorted(found, key=lambda a: a.place) if a.size == size}
    return Geometry(size, layers)


def geometry(network: str) -> Geometry:
    """Of a network of this package, for results that do not say it themselves. Raises InputError for every other name.

    A name in a store may be anybody's, and opening one can run a program or ask another machine: no other is opened.
    """
    card = next((c for c in known_networks() if c.name == network), None)
    if card is None or card.space is None or card.space.size is None:
        raise InputError("the store does not hold them, and the network is none of this package's.")
    try:
        with torch.device("meta"):
            module = card.build()
        module = module.to_empty(device="cpu")  # the geometry follows the operations, whatever the weights are
        with torch.no_grad():
            for tensor in (*module.parameters(), *module.buffers()):
                tensor.zero_()
        found = layers(module, card.space)
    except Exception as error:  # a page is more than this picture on it
        raise InputError(f"its layers cannot be listed ({first_line(error)}).") from error
    own = {dotted: name for name, dotted in card.names.items()}
    named = {i.name: i for i in found} | {own[i.name]: with_title(i, own[i.name]) for i in found if i.name in own}
    return Geometry(card.space.size, named)


def central_box(info: LayerInfo, size: tuple[int, int], units: int = 1) -> Box:
    """What the central units x units positions of a layer see of an image of that (height, width), cut at its border.

    A position is central as in the mask `central` (`masks.central_range`).
    """
    if info.field is None or len(info.shape) < 3:
        return Box(0.0, 0.0, float(size[1]), float(size[0]))
    top, bottom = _extent(info.field.rows, info.shape[-2], size[0], units)
    left, right = _extent(info.field.cols, info.shape[-1], size[1], units)
    return Box(left, top, right - left, bottom - top)


def masked_box(info: LayerInfo, size: tuple[int, int], mask: object) -> Box | None:
    """What the features that a mask `central:N` keeps see; None for any other mask.

    >>> masked_box(LayerInfo("x", "ReLU", (8, 1, 1), None, 1, 1, None), (4, 4), "group:1/2") is None
    True
    """
    match = re.fullmatch(r"central[:(](\d{1,4})\)?", mask) if isinstance(mask, str) else None
    return None if match is None else central_box(info, size, int(match[1]))


def _extent(span: Span, count: int, length: int, units: int) -> tuple[float, float]:
    if span.whole:
        return 0.0, float(length)
    middle = central_range(count, units)
    start = span.start + middle.start * span.stride
    end = span.start + (middle.stop - 1) * span.stride + span.size
    return float(max(start, 0)), float(min(end, length))
