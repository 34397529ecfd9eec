"""Which picture stands where: records as tables of layers by C, each photograph's beside the photograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

GROUP = ("network", "weights", "image")
AXES = (
    "layer", "representation", "unit", "template", "C", "release", "variant", "mask", "solver", "beta", "jitter", "regularized",
    "quirks", "canvas", "iterations", "leak", "task", "restart", "seed",
)  # fmt: skip
"""What may differ among the records of one grid, the most telling first. The first that differs runs along the columns."""

_SELF_EVIDENT = ("layer", "release", "representation", "image", "variant", "mask", "solver", "task", "network", "quirks", "name")


@dataclass(frozen=True)
class Grid:
    """cells[row][column] are indices into the records; a gallery, without rows, where a table would stay half empty."""

    heading: str
    columns: Sequence[str]
    rows: Sequence[str]
    cells: Sequence[Sequence[Sequence[int]]]
    gallery: Sequence[tuple[str, int]]
    records: Sequence[int]


def arrange(configs: Sequence[Mapping[str, Any]], layer_order: Sequence[str] = ()) -> list[Grid]:
    """Grids of all records of one experiment, one for each network and photograph, in the order in which these first come.

    >>> grids = arrange([{"layer": l, "C": c} for c in (100, 1) for l in ("conv1", "conv2")])
    >>> grids[0].columns, grids[0].rows, grids[0].cells
    (['conv1', 'conv2'], ['C = 1', 'C = 100'], [[[2], [3]], [[0], [1]]])
    """
    several = [k for k in GROUP if len({_key(c.get(k)) for c in configs}) > 1]
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, config in enumerate(configs):
        groups.setdefault(tuple(_key(config.get(k)) for k in several), []).append(i)
    return [_grid(configs, members, several, layer_order) for members in groups.values()]


def sample(grids: Sequence[Grid], most: int) -> list[Grid]:
    """The first of them, whole, with at most so many pictures together; if the first alone has more, some of its rows and columns.

    >>> whole = [Grid("", [], [], [], [("", k) for k in range(n)], range(n)) for n in (6, 4, 1)]
    >>> [[len(g.gallery) for g in sample(whole, n)] for n in (10, 9, 5)]
    [[6, 4], [6], [5]]
    """
    chosen: list[Grid] = []
    for grid in grids:
        if chosen and len(grid.records) > most:
            break
        across = min(len(grid.columns), max(most // max(len(grid.rows), 1), 8))
        rows = list(zip(grid.rows, grid.cells, strict=True))[: max(most // max(across, 1), 1)]
        cells = [row[:across] for _, row in rows]
        chosen.append(Grid(grid.heading, grid.columns[:across], [n for n, _ in rows], cells, grid.gallery[:most], grid.records))
        most -= len(grid.records)
    return chosen


def telling(configs: Sequence[Mapping[str, Any]], axes: Sequence[str] = AXES) -> list[str]:
    """The settings that tell these configs apart, without those that the ones before already fix.

    >>> telling([{"variant": "plain", "beta": 2.0}, {"variant": "sharp", "beta": 1.0}])
    ['variant']
    """
    chosen: list[str] = []
    kinds = 1
    for axis in axes:
        found = len({tuple(_key(c.get(k)) for k in (*chosen, axis)) for c in configs})
        if found > kinds:
            chosen, kinds = [*chosen, axis], found
    return chosen


def label(key: str, value: Any) -> str:
    """A value of a config in words.

    >>> label("C", 100.0), label("jitter", 1), label("layer", "fire2"), label("restart", 3)
    ('C = 100', 'no jitter', 'fire2', 'restart 3')
    """
    if value is None:
        return {"mask": "all features", "image": "no photograph", "jitter": "jitter", "release": "exact features"}.get(key, f"own {key}")
    if key == "regularized":
        return "regularized" if value else "no regularizer"
    if key in _SELF_EVIDENT or (key == "unit" and isinstance(value, str)):
        return _text(value)
    if key == "jitter" and isinstance(value, (bool, int)):
        return "no jitter" if value in (False, 1, 0) else "jitter" if value is True else f"jitter {value}"
    if key in ("C", "beta"):
        return f"{'β' if key == 'beta' else key} = {_text(value)}"
    return f"{key} {_text(value)}"


def _grid(configs: Sequence[Mapping[str, Any]], members: Sequence[int], several: Sequence[str], layer_order: Sequence[str]) -> Grid:
    first = configs[members[0]]
    heading = " · ".join(label(k, first.get(k)) for k in reversed(several))
    differ = telling([configs[i] for i in members])
    ordered = sorted(members, key=lambda i: tuple(_rank(k, configs[i].get(k), layer_order) for k in differ))
    gallery = [(" · ".join(_label(k, configs[i]) for k in differ), i) for i in ordered]
    if len(differ) < 2:
        return Grid(heading, [], [], [], gallery, ordered)
    across, *down = differ
    columns = list(dict.fromkeys(_label(across, configs[i]) for i in ordered))
    by_row = sorted(members, key=lambda i: tuple(_rank(k, configs[i].get(k), layer_order) for k in down))
    rows = list(dict.fromkeys(" · ".join(_label(k, configs[i]) for k in down) for i in by_row))
    if len(members) < 0.5 * len(rows) * len(columns):
        return Grid(heading, [], [], [], gallery, ordered)
    at_row, at_column = ({name: k for k, name in enumerate(names)} for names in (rows, columns))
    cells: list[list[list[int]]] = [[[] for _ in columns] for _ in rows]
    for i in by_row:
        row = at_row[" · ".join(_label(k, configs[i]) for k in down)]
        cells[row][at_column[_label(across, configs[i])]].append(i)
    filled = sum(bool(c) for row in cells for c in row)
    if filled < 0.5 * len(rows) * len(columns):
        return Grid(heading, [], [], [], gallery, ordered)
    return Grid(heading, columns, rows, cells, [], ordered)


def _label(key: str, config: Mapping[str, Any]) -> str:
    """`label`, with the class of a unit where that is known: a name that ends in the unit's number in brackets.

    >>> _label("unit", {"unit": 31, "name": "tree frog (31)"}), _label("unit", {"unit": 31, "name": "fire2 31"})
    ('tree frog (31)', 'unit 31')
    """
    name = str(config.get("name", ""))
    return name if key == "unit" and name.endswith(f" ({config.get('unit')})") else label(key, config.get(key))


def _rank(key: str, value: Any, layer_order: Sequence[str]) -> tuple[int, float, str]:
    """What is left at its own first, layers as the network runs them, numbers by size, the rest by name."""
    if value is None:
        return (-1, 0.0, "")
    if key == "layer" and value in layer_order:
        return (0, float(layer_order.index(value)), "")
    if isinstance(value, (int, float)):
        return (0, float(value), "")
    return (1, 0.0, _key(value))


def _key(value: Any) -> str:
    return repr(value)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str) and len(value) == 64:  # a hash
        return value[:8]
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(v) for v in value) or "none"
    return str(value)
