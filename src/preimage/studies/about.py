"""What pages tell of a network, kept with each result when its job runs: a page never opens a network, whose name may be anybody's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ..errors import InputError, first_line
from ..representations.base import Representation
from ..representations.cnn import Layer
from ..representations.listing import LayerInfo
from ..representations.receptive_field import Field, Number, Span
from ..representations.units import Unit, as_indices

_LARGEST = 10**6  # pixels, places and shapes beyond it are no network's
_LONGEST = 200  # characters of a name


@dataclass(frozen=True)
class About:
    """Where a result comes from.

    size: (height, width) of the network's input. place: how many of the network's parts have run when the layer has: layers
    run in this order. layer: its
    geometry, under the name that the job calls it by. unit: the class that the unit stands for, "" where it stands for none.
    """

    size: tuple[int, int]
    place: int
    layer: LayerInfo
    unit: str = ""


def describe(phi: Representation, layer: str | None, unit: Unit | None = None) -> dict[str, Any]:
    """Give the plain values of what `About` says, for the record of a result; empty where phi is no layer of a network.

    layer: the name that the job gives it, None for the last one. Whatever fails here costs a note, not the result.
    """
    network = getattr(phi, "network", None)
    if not isinstance(phi, Layer) or network is None or phi.space.size is None:
        return {}
    try:
        info = phi.info
        parts = sum(1 for m in phi.module.modules() if not any(m.children()))
        shown = {"name": layer or phi.name, "kind": info.kind, "shape": list(info.shape), "jitter": info.jitter}
        lengths = {"receptive_field": _number(info.receptive_field), "stride": _number(info.stride)}
        found = {
            "size": list(phi.space.size),
            "place": parts - len(phi.skipped),
            "layer": shown | lengths | {"field": None if info.field is None else _field(info.field)},
        }
        if unit is not None and network.classes and info.shape[:1] == (len(network.classes),):
            found["unit"] = network.class_name(as_indices(phi, unit)[0])[:_LONGEST]
        return found
    except Exception as error:  # the image is there, whatever a module of somebody else's says of itself
        return {"note": first_line(error)}


def read_about(value: Any) -> About:
    """Read what `describe` gave. Raises InputError for anything else, as a record may be from anywhere.

    >>> read_about({"size": [4, 4], "place": 0, "layer": {"name": "x"}})
    Traceback (most recent call last):
    preimage.errors.InputError: what is kept of the network is not readable ('kind').
    """
    if not isinstance(value, dict) or not value:
        raise InputError("nothing is kept of the network.")
    if "note" in value:
        raise InputError(str(value["note"])[:300])
    try:
        layer = value["layer"]
        height, width = value["size"]
        info = LayerInfo(
            name=_text(layer["name"]),
            kind=_text(layer["kind"]),
            shape=tuple(_count(n) for n in layer["shape"][:8]),
            receptive_field=None if layer["receptive_field"] is None else _read_number(layer["receptive_field"]),
            stride=_read_number(layer["stride"]),
            jitter=_count(layer["jitter"]),
            field=None if layer["field"] is None else Field(_read_span(layer["field"]["rows"]), _read_span(layer["field"]["cols"]), []),
        )
        return About((_count(height), _count(width)), _count(value["place"]), info, _text(value.get("unit", "")))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(f"what is kept of the network is not readable ({first_line(error)}).") from error


def _number(value: Number | None) -> int | float | None:
    return value if value is None or isinstance(value, int) else int(value) if value == int(value) else float(value)


def _field(field: Field) -> dict[str, Any]:
    return {"rows": _span(field.rows), "cols": _span(field.cols)}


def _span(span: Span) -> dict[str, Any]:
    return {"start": _number(span.start), "size": _number(span.size), "stride": _number(span.stride), "whole": span.whole}


def _read_span(value: dict[str, Any]) -> Span:
    start, size, stride = (_read_number(value[k]) for k in ("start", "size", "stride"))
    return Span(start, size, stride, value["whole"] is True)


def _read_number(value: Any) -> Number:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or abs(value) > _LARGEST:
        raise ValueError(f"{str(value)[:40]!r} is no length in pixels")
    return value if isinstance(value, int) else Fraction(value).limit_denominator(10**4)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise ValueError(f"{str(value)[:40]!r} is no count")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise ValueError(f"{str(value)[:40]!r} is no name")
    return value
