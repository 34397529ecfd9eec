"""Energy by iteration: many traces as a few curves."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .charts import Curve

TERMS = {"total": "total", "loss": "C·loss", "alpha-norm": "range (α-norm)", "tv-beta": "variation (TVβ)"}
_POINTS = 120


def trace_curves(traces: Sequence[Mapping[str, Tensor]]) -> list[Curve]:
    """One curve a term, the median over all samples of all traces, with quartiles as its band where there are several."""
    return [trace_curve(TERMS.get(k, k), [t[k] for t in traces]) for k in sorted(traces[0], key=_rank)]


def trace_curve(label: str, traces: Sequence[Tensor]) -> Curve:
    """The median by iteration of (T, B) traces of one kind; as far as the shortest of them goes."""
    length = min(len(t) for t in traces)
    values = torch.cat([t[:length].double().reshape(length, -1) for t in traces], dim=1)
    steps = _steps(length)
    values = values[steps]
    low, middle, high = (values.nanquantile(q, dim=1).tolist() for q in (0.25, 0.5, 0.75))
    x = [float(s + 1) for s in steps]
    return Curve(label, x, middle, low, high) if values.shape[1] > 1 else Curve(label, x, middle)


def short_trace(trace: Mapping[str, Tensor], points: int = 60) -> dict[str, Any]:
    """A trace for the enlarged view: the mean over the samples at so many iterations, four digits."""
    if not trace or not len(next(iter(trace.values()))):
        return {}
    steps = _steps(len(next(iter(trace.values()))), points)
    lines = [
        [TERMS.get(k, k), [_short(v) for v in trace[k].double().flatten(1).mean(dim=1)[steps].tolist()]] for k in sorted(trace, key=_rank)
    ]
    return {"steps": [s + 1 for s in steps], "lines": lines}


def _rank(term: str) -> tuple[int, str]:
    return (list(TERMS).index(term), "") if term in TERMS else (len(TERMS), term)


def _steps(length: int, points: int = _POINTS) -> list[int]:
    """At most so many of the iterations, denser at the start where the energy falls, always the first and the last.

    >>> _steps(4, 60), _steps(1000, 5)
    ([0, 1, 2, 3], [0, 62, 250, 562, 999])
    """
    if length <= points:
        return list(range(length))
    return sorted({round((k / (points - 1)) ** 2 * (length - 1)) for k in range(points)})


def _short(value: float) -> float | None:
    return float(f"{value:.4g}") if value == value and abs(value) != float("inf") else None


def pack_trace(trace: Mapping[str, Tensor], points: int = 40) -> tuple[list[int], list[str], float, float, str] | None:
    """`short_trace` in some 200 bytes: iterations, terms, lowest and highest value, and one byte a value in base64.

    A byte is the value's height between the two, 0–254, on a logarithmic scale where all are above 0: half a pixel of the drawing. 255 is
    a value that is not finite. None where there is no trace.

    >>> pack_trace({"total": torch.tensor([[100.0], [10.0], [1.0]])})
    ([1, 2, 3], ['total'], 1.0, 100.0, '/n8A')
    """
    short = short_trace(trace, points)
    values = [v for _, line in short.get("lines", []) for v in line]
    finite = [v for v in values if v is not None]
    if not finite:
        return None
    low, high = min(finite), max(finite)
    scale = math.log10 if low > 0 else float
    span = (scale(high) - scale(low)) or 1.0
    heights = bytes(255 if v is None else round(254 * (scale(v) - scale(low)) / span) for v in values)
    return short["steps"], [name for name, _ in short["lines"]], low, high, base64.b64encode(heights).decode()
