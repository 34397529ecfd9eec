"""Links that say what is asked for: an address of the page whose query fills the form, and may start the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from ..errors import InputError
from .catalogue import Catalogue, Entry

START = "start"
TEXTS = ("C", "iterations", "objective", "transform", "parameterization", "prior")
NUMBERS = ("seed", "restarts")
CHOICES = ("task", "network", "layer", "photograph", "solver", "quality", "recipe")
UNIT = ("class", "channel")
KNOWN = (*CHOICES, *UNIT, *TEXTS, *NUMBERS, START)
_LONGEST = 300  # letters of a value


def read_link(query: Mapping[str, str], catalogue: Catalogue) -> dict[str, Any]:
    """Return the values of a link, by name, with `layer` one that is there and `class` as the number of the class.

    Raises InputError for what no link says, and UnknownName for a network or a layer that is not on the page.
    """
    strange = [name for name in query if name not in KNOWN]
    if strange:
        raise InputError(f"This link asks for {strange[0][:40]!r}; a link says {', '.join(KNOWN)}.")
    long = [name for name, value in query.items() if len(value) > _LONGEST]
    if long:
        raise InputError(f"The {long[0]} of this link has more than {_LONGEST} letters.")
    found: dict[str, Any] = {k: v for k, v in query.items() if k != START}
    entry = catalogue.entry(found.setdefault("network", catalogue.names[0]))
    if "layer" in found:
        found["layer"] = entry.layer(found["layer"]).name
    if "class" in found:
        found["class"] = _class_of(entry, found["class"])
    for name in ("channel", *NUMBERS):
        if name in found:
            found[name] = _whole(name, found[name])
    return found


def link_to(values: Mapping[str, Any]) -> str:
    """Return the query of a link to a request; what is not said is left out.

    >>> link_to({"task": "maximize", "layer": "fire8", "channel": 12, "C": ""})
    '?task=maximize&layer=fire8&channel=12'
    """
    said = {k: v for k, v in values.items() if k in KNOWN and v is not None and v != ""}
    return f"?{urlencode(said)}"


def _class_of(entry: Entry, given: str) -> int:
    """A class by its name or its number."""
    asked = given.strip().lower()
    names = [c.lower() for c in entry.classes]
    found = [k for k, n in enumerate(names) if n == asked] or [k for k, n in enumerate(names) if n.split(",")[0] == asked]
    if found:
        return found[0]
    if asked.isascii() and asked.isdecimal() and int(asked) < len(names):
        return int(asked)
    raise InputError(f"{entry.name} has no class {given!r}: a link says its name or its number.")


def _whole(name: str, given: str) -> int:
    try:
        return int(given)
    except ValueError:
        raise InputError(f"The {name} of this link is a whole number; got {given!r}.") from None
