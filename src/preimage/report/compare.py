"""Two stores side by side: which results belong together, and how their numbers differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..bars import progress_bar
from ..errors import InputError
from ..metrics import interval
from .archive import Archive, Row
from .catalogue import FIRST, SETTINGS, Column, Records, captions, columns, encode, identities
from .grids import AXES
from .numbers import show_metric, show_value
from .page import script_json, write_html
from .sheets import Folder
from .view import StoreView

_MATCH = tuple(dict.fromkeys(("task", "image", "name", *AXES)))


@dataclass(frozen=True)
class Pairing:
    """Which results belong together.

    settings: those by which they were told apart. pairs: indices into the first and the second rows, None where a result stands
    alone. alike: results that share all these settings with another of their own store, so that nothing tells their partner.
    """

    settings: Sequence[str]
    pairs: Sequence[tuple[int | None, int | None]]
    alike: int

    @property
    def whole(self) -> list[tuple[int, int]]:
        return [(a, b) for a, b in self.pairs if a is not None and b is not None]


def pair(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]], by: Sequence[str] = ()) -> Pairing:
    """Pair jobs by their settings: by those named, else by all that differ within a store and that the two have values of in common.

    So two networks are compared by class or photograph although their layers have other names, and two solvers although
    these differ throughout. Raises InputError for a setting that no job has.

    >>> runs = [[{"layer": "fire2", "C": C, "solver": s} for C in (1.0, 20.0)] for s in ("fast", "paper")]
    >>> pair(*runs).settings, pair(*runs).pairs
    (['C'], [(0, 0), (1, 1)])
    """
    for name in by:
        if not any(c.get(name) is not None for c in (*first, *second)):
            raise InputError(f"No job has a setting {name!r} to pair by. There are: {', '.join(sorted({k for c in first for k in c}))}.")
    settings = list(by) or [k for k in _MATCH if _tells([_plain(c.get(k)) for c in first], [_plain(c.get(k)) for c in second])]
    groups: dict[tuple[str, ...], tuple[list[int], list[int]]] = {}
    for side, configs in enumerate((first, second)):
        for i, config in enumerate(configs):
            groups.setdefault(tuple(_plain(config.get(k)) for k in settings), ([], []))[side].append(i)
    pairs: list[tuple[int | None, int | None]] = []
    alike = 0
    for a, b in groups.values():
        if max(len(a), len(b)) == 1:
            pairs.append((a[0] if a else None, b[0] if b else None))
        else:
            alike += len(a) + len(b)
            pairs += [*((i, None) for i in a), *((None, i) for i in b)]
    pairs.sort(key=lambda p: p[0] is None or p[1] is None)
    return Pairing(settings, pairs, alike)


def write_comparison(
    first: Archive, second: Archive, path: Path, *, title: str = "", by: Sequence[str] = (), copy: bool = False, progress: bool = False
) -> Path:
    """Write a page that shows the results of two stores side by side, with its folder of thumbnails, and return its path.

    by: settings by which to pair them, see `pair`. copy: the whole pictures into that folder too, so that the page needs neither
    store. Raises InputError where nothing can be paired, ResultFolderError for a damaged result.
    """

    views = (StoreView(first, progress), StoreView(second, progress))
    sides = [[view.rows[i] for i in view.done] for view in views]
    pairing = pair([r.config for r in sides[0]], [r.config for r in sides[1]], by)
    if not pairing.whole:
        raise InputError(
            f"No result of {str(first.path)!r} has a partner in {str(second.path)!r} by {', '.join(pairing.settings) or 'any setting'}. "
            "Say what to pair by: --by layer,unit."
        )
    records, folder, names = Records.of(*views), Folder(path), _names(first.path, second.path)
    with progress_bar(total=len(records.rows), desc="pictures", unit="picture", shown=progress) as bar:
        pictures = records.pictures(folder, copy, bar.update)
    items = _items(pairing, sides, [n for view in views for n in view.layers()])
    values = {
        "title": title or f"{names[0]} and {names[1]}",
        "names": names,
        "stores": [_facts(view) for view in views],
        "settings": _settings(*sides),
        "numbers": _numbers(pairing, *sides),
        "paired": len(pairing.whole),
        "alone": len(pairing.pairs) - len(pairing.whole),
        "alike": pairing.alike,
        "by": pairing.settings,
        "failed": [len(view.failed) for view in views],
        "damaged": [len(view.damaged) for view in views],
        "catalogue": script_json({"runs": names, "records": pictures, **items}),
        "energies": script_json(records.energies()),
        "count": len(pairing.pairs),
    }
    written = write_html(path, "compare.html", gallery=True, **values)
    folder.tidy()
    return written


def _items(pairing: Pairing, sides: Sequence[Sequence[Row]], layers: Sequence[str]) -> dict[str, Any]:
    """A pair is one item: its records, its captions, and columns of which those that differ come twice, and metrics with the change."""
    one = [sides[0][a] if a is not None else sides[1][b or 0] for a, b in pairing.pairs]
    words = captions(one)
    ids = identities([r.key for r in one])
    shift = len(sides[0])
    return {
        "members": [[-1 if a is None else a, -1 if b is None else b + shift] for a, b in pairing.pairs],
        "ids": [i if a is not None else f"~{i}" for i, (a, _) in zip(ids, pairing.pairs, strict=True)],
        "first": encode(words[0]),
        "second": encode(words[1]),
        "columns": [c.packed() for c in _pair_columns(pairing, sides, layers)],
    }


def _pair_columns(pairing: Pairing, sides: Sequence[Sequence[Row]], layers: Sequence[str]) -> list[Column]:
    a, b = ({c.name: c for c in columns(rows, layers)} for rows in sides)
    found = [Column("in", ["both" if None not in p else "only A" if p[1] is None else "only B" for p in pairing.pairs])]
    for name in dict.fromkeys([*a, *b]):
        left = [a[name].values[i] if name in a and i is not None else None for i, _ in pairing.pairs]
        right = [b[name].values[j] if name in b and j is not None else None for _, j in pairing.pairs]
        whole = [(x, y) for x, y, p in zip(left, right, pairing.pairs, strict=True) if None not in p]
        if name in SETTINGS and all(_plain(x) == _plain(y) for x, y in whole):
            both = [y if p[0] is None else x for x, y, p in zip(left, right, pairing.pairs, strict=True)]
            found.append(Column(name, both, layers if name == "layer" else ()))
            continue
        found += [Column(f"{name}.A", left, layers if name == "layer" else ()), Column(f"{name}.B", right)]
        if name not in SETTINGS and found[-1].numeric and found[-2].numeric:
            found.append(Column(f"{name}.change", [None if x is None or y is None else y - x for x, y in zip(left, right, strict=True)]))
    return found


def _numbers(pairing: Pairing, first: Sequence[Row], second: Sequence[Row]) -> list[dict[str, Any]]:
    """Each metric that both have: the means over the pairs, and the mean change with its 95% interval."""
    lines = []
    names = dict.fromkeys(m for r in (*first, *second) for m in r.metrics)
    for name in sorted(names, key=lambda m: FIRST.index(m) if m in FIRST else len(FIRST)):
        both = [(first[a].metrics.get(name), second[b].metrics.get(name)) for a, b in pairing.whole]
        values = torch.tensor([(x, y) for x, y in both if x is not None and y is not None], dtype=torch.float64).reshape(-1, 2)
        values = values[values.isfinite().all(dim=1)]
        if len(values) and not name.startswith("energy."):
            change = interval(values[:, 1] - values[:, 0])
            ends = [show_metric(name, change.mean + s * change.half) for s in (-1, 1)] if len(values) > 1 else []
            means = [show_metric(name, v) for v in (*values.mean(dim=0).tolist(), change.mean)]
            lines.append({"name": name, "means": means, "ends": ends, "count": len(values)})
    return lines


def _settings(first: Sequence[Row], second: Sequence[Row]) -> list[tuple[str, str, str]]:
    """Settings whose values differ between the stores."""
    lines = []
    for name in (*SETTINGS, "weights_sha256", "device", "dtype"):
        a, b = ([show_value(r.config.get(name)) for r in rows] for rows in (first, second))
        if set(a) != set(b):
            lines.append((name, *(_listed(list(dict.fromkeys(v))) for v in (a, b))))
    return [(n, a, b) for n, a, b in lines]


def _listed(values: Sequence[str], most: int = 8) -> str:
    return ", ".join(values[:most]) + (f" … ({len(values)} in all)" if len(values) > most else "")


def _facts(view: StoreView) -> dict[str, str]:
    networks = dict.fromkeys(str(r.config["network"]) for r in view.rows if r.config.get("network"))
    return {"path": view.store.path.name, "networks": ", ".join(networks), "count": f"{len(view.done):,}"}


def _names(first: Path, second: Path) -> list[str]:
    """What the two are called: their folders' names, with as much of the path before them as tells them apart."""
    a, b = first.resolve().parts, second.resolve().parts
    n = next((k for k in range(1, min(len(a), len(b)) + 1) if a[-k] != b[-k]), 1)
    return ["/".join(parts[-n:]) for parts in (a, b)]


def _tells(first: Sequence[str], second: Sequence[str]) -> bool:
    a, b = set(first), set(second)
    return max(len(a), len(b)) > 1 and bool(a & b)


def _plain(value: Any) -> str:
    """1 and 1.0 are the same setting.

    >>> _plain(1), _plain(1.0), _plain(True), _plain("a")
    ('1', '1', 'True', "'a'")
    """
    return f"{value:.12g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else repr(value)
