"""What the gallery of a page searches, sorts and shows: thousands of records as compact columns."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .archive import Row, inside
from .grids import AXES, label, telling
from .numbers import DECIBEL, PERCENT, show_value
from .sheets import GUTTER, SIDE, THUMBNAIL, Folder, Shot
from .traces import pack_trace
from .view import StoreView

SETTINGS = tuple(dict.fromkeys(("experiment", "task", "network", "weights", "image", "name", *AXES)))
FIRST = ("error", "activation", "psnr", "ssim", "naturalness", "roughness", "consistent", "energy")
"""Metrics, in the order of a table; others come after these."""

_NAMES = ("name", "image", "template", "representation")  # what a result is called, the most telling first
_IDENTITY = 8  # hexadecimal digits of a key that name a result in a link, unless two share them


@dataclass(frozen=True)
class Column:
    """One value an item, None where it has none: numbers, or anything else as words. ordered: the values' own order, for sorting."""

    name: str
    values: Sequence[Any]
    ordered: Sequence[str] = ()

    @property
    def numeric(self) -> bool:
        return all(v is None or _is_number(v) for v in self.values)

    def packed(self) -> dict[str, Any]:
        """As the page reads it: a constant, numbers of five digits, or codes into the list of the different words."""
        base = self.name.removesuffix(".A").removesuffix(".B").removesuffix(".change")
        kind = "percent" if base in PERCENT else "decibel" if base in DECIBEL else "number"
        if self.numeric:
            numbers = [_short(v) for v in self.values]
            constant = len(set(numbers)) == 1
            return {"name": self.name, "kind": kind} | ({"constant": numbers[0]} if constant else {"numbers": numbers})
        words = [None if v is None else show_value(v) for v in self.values]
        packed = encode(words, self.ordered)
        if len(packed["values"]) == 1:
            return {"name": self.name, "kind": "text", "constant": words[0]}
        return {"name": self.name, "kind": "text", "ordered": bool(self.ordered), **packed}


def encode(values: Sequence[Any], first: Sequence[Any] = ()) -> dict[str, list[Any]]:
    """The different values, those of `first` in that order before the others, and the number of each entry's value among them.

    >>> encode(["b", "a", "b"]), encode(["b", "a"], ["a", "b", "a", "c"])
    ({'values': ['b', 'a'], 'codes': [0, 1, 0]}, {'values': ['a', 'b'], 'codes': [1, 0]})
    """
    present = dict.fromkeys(values)
    known = {v: k for k, v in enumerate(dict.fromkeys([*(v for v in first if v in present), *present]))}
    return {"values": list(known), "codes": [known[v] for v in values]}


def columns(rows: Sequence[Row], layers: Sequence[str] = ()) -> list[Column]:
    """Settings and metrics that any of these jobs has, in the order in which a table shows them. layers: in their network's order."""
    found = {k: Column(k, [r.config.get(k) for r in rows], layers if k == "layer" else ()) for k in SETTINGS}
    for name in sorted(dict.fromkeys(m for r in rows for m in r.metrics), key=lambda m: FIRST.index(m) if m in FIRST else len(FIRST)):
        found[f"{name} (metric)" if name in found else name] = Column(name, [r.metrics.get(name) for r in rows])
    found["seconds"] = Column("seconds", [r.seconds for r in rows])
    return [Column(name, c.values, c.ordered) for name, c in found.items() if any(v is not None for v in c.values)]


def captions(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    """What each result is called, and what else tells it from the others, without what its name says already."""
    configs = [r.config for r in rows]
    differ = [k for k in telling(configs, ("network", *AXES)) if k not in _NAMES]
    names = [k for k in _NAMES if any(c.get(k) is not None for c in configs)]
    first, second = [], []
    for row in rows:
        name = next((str(row.config[k]) for k in names if row.config.get(k) is not None), "")
        words = set(re.findall(r"[\w.]+", name))
        more = [label(k, row.config[k]) for k in differ if row.config.get(k) is not None and str(row.config[k]) not in words]
        first.append(name or (more.pop(0) if more else row.key[:_IDENTITY]))
        second.append(" · ".join(more))
    return first, second


def identities(keys: Sequence[str]) -> list[str]:
    """The shortest beginnings of the keys, of `_IDENTITY` digits or more, that no two share."""
    length = next((n for n in range(_IDENTITY, 65) if len({k[:n] for k in keys}) == len(set(keys))), 64)
    return [k[:length] for k in keys]


@dataclass(frozen=True)
class Records:
    """Finished results, of one store or of two, one after the other: the pictures, large and small, and the energies."""

    rows: Sequence[Row]
    roots: Sequence[Path]
    traces: Sequence[Mapping[str, Any]]

    @staticmethod
    def of(*views: StoreView) -> Records:
        members = [(view, i) for view in views for i in view.done]
        rows = [view.rows[i] for view, i in members]
        return Records(rows, [view.store.path for view, _ in members], [view.traces[i] for view, i in members])

    def pictures(self, folder: Folder, copy: bool, tick: Callable[[int], object]) -> dict[str, Any]:
        """Sheets of thumbnails in the folder, and where each picture itself is: in its store, or copied into the folder too."""
        shots = [Shot(r.picture, f"{r.key} {r.created}", root) for r, root in zip(self.rows, self.roots, strict=True)]
        sheets = folder.sheets(shots, tick)
        originals = [inside(root, r.config.get("original")) for r, root in zip(self.rows, self.roots, strict=True)]
        places = {p: folder.copy(p) if copy else folder.link(p) for p in dict.fromkeys(originals) if p is not None}
        links = []
        for k, (row, root) in enumerate(zip(self.rows, self.roots, strict=True)):
            whole = k not in sheets.missing and inside(root, str(row.picture.absolute())) is not None
            links.append("" if not whole else folder.copy(row.picture) if copy else folder.link(row.picture))
        return {
            "base": f"{folder.link(folder.path)}/",
            "sheets": sheets.names,
            "thumbnail": THUMBNAIL,
            "gutter": GUTTER,
            "side": SIDE,
            "links": links,
            "linked": not copy,
            "originals": encode([None if p is None else places[p] for p in originals]),
            "sizes": encode(sheets.sizes),
            "missing": sheets.missing,
        }

    def energies(self) -> dict[str, Any]:
        """The traces, packed: one entry a record, null where it has none."""
        packed = [pack_trace(t) for t in self.traces]
        steps = encode([tuple(p[0]) if p else () for p in packed])
        terms = encode([tuple(p[1]) if p else () for p in packed])
        numbers = [[_short(p[2]), _short(p[3]), p[4]] if p else None for p in packed]
        return {"steps": steps, "terms": terms, "lines": numbers}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _short(value: Any) -> float | int | None:
    """Five digits; None for what is no finite number, for which JSON has no word."""
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else float(f"{value:.5g}")
