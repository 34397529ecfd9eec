"""What a page reads: the records of a store, checked, for nothing in a folder from elsewhere is to be trusted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ..errors import InputError
from ..result import Result
from .charts import Chart, Curve


class Row(Protocol):
    """One job of a store: `preimage.store.Record`."""

    @property
    def key(self) -> str: ...
    @property
    def experiment(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def config(self) -> Mapping[str, Any]: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...
    @property
    def folder(self) -> Path | None: ...
    @property
    def picture(self) -> Path: ...
    @property
    def reason(self) -> str: ...
    @property
    def created(self) -> str: ...
    @property
    def seconds(self) -> float: ...


class Archive(Protocol):
    """A store, as far as a page needs it: `preimage.store.Store`."""

    @property
    def path(self) -> Path: ...
    def records(self) -> Sequence[Row]: ...
    def result(self, key: str) -> Result: ...


@dataclass(frozen=True)
class Summary:
    """summary/EXPERIMENT/summary.json: what an experiment says of itself."""

    title: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    charts: Sequence[Chart]


def read_summary(folder: Path, experiment: str) -> Summary | None:
    """The summary of an experiment, or None if it wrote none. Raises InputError for one that cannot be read."""
    path = folder / "summary" / experiment / "summary.json"
    if Path(experiment).name != experiment or not path.is_file():
        return None
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        columns = [str(c) for c in data.get("columns", [])]
        rows = [[row.get(c) for c in columns] if isinstance(row, dict) else list(row) for row in data.get("rows", [])]
        title = str(data.get("title") or experiment)
        return Summary(title, str(data.get("caption", "")), columns, rows, _charts(data.get("curves", [])))
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(f"{str(path)!r} is no summary of an experiment ({error}). Summarise the experiment again.") from error


def inside(folder: Path, name: Any) -> Path | None:
    """The file of that name in the folder; None if there is none or the name leads out of the folder."""
    if not isinstance(name, str) or not name or "\0" in name:
        return None
    root = folder.resolve()
    path = (root / name).resolve()
    return path if path.is_file() and path.is_relative_to(root) else None


def _charts(curves: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Curves that measure the same thing over the same x share one chart."""
    together: dict[tuple[str, str, tuple[str, ...]], list[Curve]] = {}
    for data in curves:
        names = tuple(str(n) for n in data.get("x_names") or ())
        x = [float(v) for v in data["x"]]
        y, low, high = (_values(data.get(k), len(x)) for k in ("y", "low", "high"))
        assert y is not None
        key = (str(data.get("measure", data.get("y_label", ""))), str(data.get("x_label", "")), names)
        together.setdefault(key, []).append(Curve(str(data.get("label", "")), x, y, low, high))
    return [
        Chart("", lines, x_label, measure, names, name=f"curve-{k}")
        for k, ((measure, x_label, names), lines) in enumerate(together.items(), 1)
    ]


def _values(given: Any, length: int) -> list[float | None] | None:
    if given is None:
        return None
    values = [float(v) if v is not None and math.isfinite(float(v)) else None for v in given]
    if len(values) != length:
        raise ValueError(f"a curve has {length} x and {len(values)} values")
    return values
