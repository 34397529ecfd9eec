"""Numbers and settings as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

PERCENT = ("error", "consistency", "consistent", "naturalness", "top1")
DECIBEL = ("psnr",)


def show_value(value: Any) -> str:
    """A cell of a table: numbers to four digits, true minus signs, words for nothing, yes and no.

    >>> show_value(0.123456), show_value(None), show_value(True), show_value(["a", 2])
    ('0.1235', '–', 'yes', 'a, 2')
    """
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    if isinstance(value, (list, tuple)):
        return ", ".join(show_value(v) for v in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{k} {show_value(v)}" for k, v in value.items())
    return str(value)


def show_metric(name: str, value: float | None) -> str:
    """A metric with its unit.

    >>> show_metric("error", 0.2134), show_metric("psnr", 19.94), show_metric("naturalness", None)
    ('21.3%', '19.9 dB', '–')
    """
    if value is None or value != value:
        return "–"
    if name in PERCENT:
        return f"{value:.1%}".replace("-", "−")
    return f"{value:.1f} dB".replace("-", "−") if name in DECIBEL else show_value(float(value))


def show_duration(seconds: float) -> str:
    """Seconds in words.

    >>> show_duration(75.2), show_duration(7300), show_duration(0.25)
    ('1 min 15 s', '2 h 1 min', '0.25 s')
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes = int(seconds // 60)
    return f"{minutes} min {int(seconds % 60)} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def number_table(columns: Sequence[Any], rows: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """A table of words for a template: each column of numbers with as many decimals as its largest value needs for four digits.

    >>> number_table(["a", "b"], [["x", 0.5], ["y", 12.3456]])["rows"]
    [['x', '0.50'], ['y', '12.35']]
    """
    cells = [[row[c] if c < len(row) else None for row in rows] for c in range(len(columns))]
    numeric = [any(_is_float(v) for v in column) or (bool(column) and all(isinstance(v, int) for v in column)) for column in cells]
    shown = [
        [_fixed(v, _decimals(column)) if isinstance(v, float) and math.isfinite(v) else show_value(v) for v in column] for column in cells
    ]
    return {"columns": [str(c) for c in columns], "rows": [list(row) for row in zip(*shown, strict=True)], "numeric": numeric}


def _is_float(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _decimals(column: Sequence[Any]) -> int:
    largest = max((abs(v) for v in column if _is_float(v)), default=0.0)
    return 4 if largest == 0 else max(0, min(6, 3 - math.floor(math.log10(largest))))


def _fixed(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}".replace("-", "−")
