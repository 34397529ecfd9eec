"""What a page reads: the records of a store, checked, for nothing in a folder from elsewhere is to be trusted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from ..errors import InputError
from ..files import read_own
from ..tasks.result import Result
from .charts import Chart, Curve

_LARGEST = 2**26  # bytes of a summary


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
    @property
    def damaged(self) -> Mapping[str, str]: ...
    def records(self) -> Sequence[Row]: ...
    def result(self, key: str) -> Result: ...
    def trace(self, key: str) -> tuple[Mapping[str, Tensor], Mapping[str, Any]]: ...


@dataclass(frozen=True)
class Summary:
    """summary/EXPERIMENT/summary.json: what an experiment says of itself. figures: pictures in the same folder, PNG and others.
    beside: a result's key -> the picture of natural examples that is shown under its own."""

    title: str
    caption: str
    columns: Mapping[str, str]
    rows: Sequence[Sequence[Any]]
    charts: Sequence[Chart]
    figures: Sequence[Path]
    notes: Sequence[str]
    keys: Sequence[str]
    beside: Mapping[str, Path] = field(default_factory=dict)


def summaries(folder: Path) -> dict[str, Summary]:
    """Every experiment's summary by the experiment's name. Raises InputError for one that cannot be read."""
    found = sorted((folder / "summary").glob("*/summary.json"))
    return {path.parent.name: _read_summary(path) for path in found}


def _read_summary(path: Path) -> Summary:
    try:
        data = json.loads(read_own(path, _LARGEST))
        columns = data.get("columns", {})
        columns = {str(k): str(v) for k, v in columns.items()} if isinstance(columns, dict) else {str(c): "" for c in columns}
        return Summary(
            title=str(data.get("title") or path.parent.name),
            caption=str(data.get("caption", "")),
            columns=columns,
            rows=[[row.get(c) for c in columns] if isinstance(row, dict) else list(row) for row in data.get("rows", [])],
            charts=_charts(data.get("curves", []), str(data.get("y_label", ""))),
            figures=[p for name in data.get("figures", []) if (p := inside(path.parent, name)) is not None],
            notes=[str(n) for n in data.get("notes", [])],
            keys=[str(k) for k in data.get("keys", [])],
            beside={str(k): p for k, v in data.get("beside", {}).items() if (p := inside(path.parent, v)) is not None},
        )
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise InputError(f"{str(path)!r} is no summary of an experiment ({error!r}). Summarise the experiment again.") from error


def inside(folder: Path, name: Any) -> Path | None:
    """The file of that name in the folder; None if there is none or the name leads out of the folder."""
    if not isinstance(name, str) or not name or "\0" in name:
        return None
    root = folder.resolve()
    try:
        path = (root / name).resolve()
        return path if path.is_file() and path.is_relative_to(root) else None
    except (OSError, RuntimeError, ValueError):  # links in a circle, a name that no file can have
        return None


def _charts(curves: Sequence[Mapping[str, Any]], y_label: str) -> list[Chart]:
    """Curves that measure the same thing over the same x share one chart."""
    together: dict[tuple[str, str, tuple[str, ...]], list[Curve]] = {}
    for data in curves:
        names = tuple(str(n) for n in data.get("x_names") or ())
        x = [float(v) for v in data["x"]]
        y, low, high = (_values(k, data.get(k), len(x)) for k in ("y", "low", "high"))
        assert y is not None
        key = (str(data.get("y_label", y_label)), str(data.get("x_label", "")), names)
        together.setdefault(key, []).append(Curve(str(data.get("label", "")), x, y, low, high))
    return [
        Chart("", lines, x_label, measure, names, name=f"curve-{k}")
        for k, ((measure, x_label, names), lines) in enumerate(together.items(), 1)
    ]


def _values(name: str, given: Any, length: int) -> list[float | None] | None:
    if given is None:
        return None
    values = [float(v) if v is not None and math.isfinite(float(v)) else None for v in given]
    if name != "y" and not any(v is not None for v in values):
        return None
    if len(values) != length:
        raise ValueError(f"a curve has {length} x and {len(values)} values")
    return values
