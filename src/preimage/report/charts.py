"""Line charts with intervals: one description, drawn as SVG inside a page and by matplotlib for a paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#a3528a", "#b8860b", "#3a3f45")
"""Told apart with any kind of colour vision (after Okabe and Ito, darkened for thin lines); dashes and markers differ too."""

DASHES: tuple[tuple[float, ...], ...] = ((), (7, 3), (2, 2.5), (9, 3, 2, 3), (4, 2), (1, 3))
_WIDTH, _HEIGHT = 720.0, 330.0
_MINI = (300.0, 190.0)


@dataclass(frozen=True)
class Curve:
    """One line: y over x, and the ends of its interval where there is one. None in y is a gap."""

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] | None = None
    high: Sequence[float | None] | None = None

    @property
    def has_band(self) -> bool:
        return self.low is not None and self.high is not None


@dataclass(frozen=True)
class Chart:
    """Curves on common axes. x_names: words under x = 0, 1, 2, … instead of numbers. log: a logarithmic y axis. mini: a small one."""

    title: str
    curves: Sequence[Curve]
    x_label: str = ""
    y_label: str = ""
    x_names: Sequence[str] = ()
    caption: str = ""
    log: bool = False
    mini: bool = False
    name: str = ""

    def drawn(self) -> dict[str, Any]:
        """Everything that the SVG template prints, in pixels: axes, ticks, paths."""
        return _Drawing(self).parts()


@dataclass
class _Drawing:
    chart: Chart
    width: float = field(init=False)
    height: float = field(init=False)

    def __post_init__(self) -> None:
        chart = self.chart
        self.width, self.height = _MINI if chart.mini else (_WIDTH, _HEIGHT)
        self.left, self.right, self.top = (44.0, 8.0, 8.0) if chart.mini else (62.0, 14.0, 12.0)
        longest = max((len(n) for n in chart.x_names), default=0)
        slanted = sum(len(n) + 2 for n in chart.x_names) * 6.4 > self.width - self.left
        self.slanted = slanted
        self.bottom = 26.0 + (min(longest, 24) * 4.6 if slanted else 8.0) + (16.0 if chart.x_label else 0.0)
        values = [v for c in chart.curves for s in (c.y, c.low or (), c.high or ()) for v in s if v is not None and math.isfinite(v)]
        self.log = chart.log and min(values, default=0.0) > 0
        low, high = min(values, default=0.0), max(values, default=1.0)
        self.y_ticks = _log_ticks(low, high) if self.log else _ticks(low, high, 4 if chart.mini else 6)
        self.y_range = (min(low, self.y_ticks[0]), max(high, self.y_ticks[-1]))
        xs = [x for c in chart.curves for x in c.x]
        self.x_range = (min(xs, default=0.0), max(xs, default=1.0))
        if chart.x_names:
            self.x_range = (-0.3, len(chart.x_names) - 0.7)

    def parts(self) -> dict[str, Any]:
        chart = self.chart
        names = enumerate(chart.x_names) if chart.x_names else ((t, _number(t)) for t in _ticks(*self.x_range, 4 if chart.mini else 7))
        return {
            "width": self.width,
            "height": self.height,
            "left": self.left,
            "bottom": self.height - self.bottom,
            "right": self.width - self.right,
            "top": self.top,
            "slanted": self.slanted,
            "x_ticks": [(self.x(t), n) for t, n in names if self.x_range[0] <= t <= self.x_range[1]],
            "y_ticks": [(self.y(t), _number(t)) for t in self.y_ticks],
            "curves": [self.curve(k, c) for k, c in enumerate(chart.curves)],
        }

    def curve(self, k: int, curve: Curve) -> dict[str, Any]:
        points = [(self.x(x), self.y(y), x, y, i) for i, (x, y) in enumerate(zip(curve.x, curve.y, strict=True)) if _is_number(y)]
        dots = []
        if len(points) <= (12 if self.chart.mini else 40):
            dots = [{"x": px, "y": py, "text": self.describe(curve, i)} for px, py, _, _, i in points]
        return {
            "index": k % len(COLOURS),
            "dash": " ".join(f"{d:g}" for d in DASHES[k % len(DASHES)]),
            "label": curve.label,
            "path": self.path(curve),
            "band": self.band(curve),
            "dots": dots,
            "marker": ("circle", "square", "triangle", "diamond")[k % 4],
        }

    def describe(self, curve: Curve, i: int) -> str:
        names = self.chart.x_names
        where = names[int(curve.x[i])] if names and 0 <= int(curve.x[i]) < len(names) else _number(curve.x[i])
        text = f"{curve.label}, {where}: {_number(curve.y[i])}"
        if curve.low is not None and curve.high is not None:
            text += f" ({_number(curve.low[i])} to {_number(curve.high[i])})"
        return text

    def path(self, curve: Curve) -> str:
        out, pen = [], "M"
        for x, y in zip(curve.x, curve.y, strict=True):
            if not _is_number(y):
                pen = "M"
                continue
            out.append(f"{pen}{self.x(x):.1f} {self.y(y):.1f}")
            pen = "L"
        return "".join(out)

    def band(self, curve: Curve) -> str:
        if curve.low is None or curve.high is None:
            return ""
        kept = [(x, a, b) for x, a, b in zip(curve.x, curve.low, curve.high, strict=True) if _is_number(a) and _is_number(b)]
        if len(kept) < 2:
            return ""
        upper = [f"{self.x(x):.1f} {self.y(b):.1f}" for x, _, b in kept]
        lower = [f"{self.x(x):.1f} {self.y(a):.1f}" for x, a, _ in reversed(kept)]
        return f"M{'L'.join([*upper, *lower])}Z"

    def x(self, value: float) -> float:
        a, b = self.x_range
        return self.left + (value - a) / ((b - a) or 1.0) * (self.width - self.left - self.right)

    def y(self, given: float | None) -> float:
        assert given is not None
        value, (a, b) = given, self.y_range
        if self.log:
            value, a, b = math.log10(max(float(value), 1e-300)), math.log10(a), math.log10(b)
        return self.height - self.bottom - (value - a) / ((b - a) or 1.0) * (self.height - self.bottom - self.top)


def draw_chart(chart: Chart) -> MatplotlibFigure:
    """The same with matplotlib, for a paper."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for k, curve in enumerate(chart.curves):
        colour, dash = COLOURS[k % len(COLOURS)], DASHES[k % len(DASHES)]
        y = [float("nan") if v is None else v for v in curve.y]
        style = (0, dash) if dash else "-"
        marker = ("o", "s", "^", "D")[k % 4] if len(curve.x) <= 40 else None
        axes.plot(curve.x, y, color=colour, linestyle=style, label=plain_text(curve.label), marker=marker, markersize=3.5, linewidth=1.5)
        if curve.low is not None and curve.high is not None:
            low, high = ([float("nan") if v is None else v for v in s] for s in (curve.low, curve.high))
            axes.fill_between(curve.x, low, high, color=colour, alpha=0.14, linewidth=0)
    if _Drawing(chart).log:
        axes.set_yscale("log")
    if chart.x_names:
        axes.set_xticks(range(len(chart.x_names)), [plain_text(n) for n in chart.x_names], rotation=40, ha="right", rotation_mode="anchor")
    axes.set(xlabel=plain_text(chart.x_label), ylabel=plain_text(chart.y_label), title=plain_text(chart.title))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    if any(c.label for c in chart.curves):
        axes.legend(frameon=False, fontsize=9)
    return figure


def plain_text(text: str) -> str:
    """Text for matplotlib, which would read dollars as mathematics."""
    return text.replace("$", r"\$")


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _number(value: Any) -> str:
    """A number for a tick or a tooltip, with a true minus.

    >>> _number(0.30000000000000004), _number(-2), _number(12345.678), _number(None)
    ('0.3', '−2', '12,346', '–')
    """
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", "−")


def _ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers that reach from low to high.

    >>> _ticks(0.03, 0.97, 6)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> _ticks(0.0, 0.0, 3), _ticks(-2.0, -2.0, 3)
    ([0.0, 0.5, 1.0], [-2.0, -1.0, 0.0])
    """
    if high <= low:  # all alike: seen against 0
        low, high = min(low, 0.0), max(high, 0.0) or (1.0 if low == 0.0 else 0.0)
    rough = (high - low) / max(count - 1, 1)
    base = 10.0 ** math.floor(math.log10(rough))
    step = base * next(m for m in (1, 2, 2.5, 5, 10) if m * base >= rough * 0.85)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten that reach from low to high, with 2 and 5 between where there are few.

    >>> _log_ticks(3.0, 70.0)
    [2, 5, 10, 20, 50, 100]
    """
    high = max(high, low * 1.001)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    whole = list(range(first, max(last, first + 1) + 1))
    if len(whole) > 4:
        return [10.0**k for k in whole[:: math.ceil(len(whole) / 5)]]
    fine = sorted({m * 10**k if k >= 0 else m / 10**-k for k in whole for m in (1, 2, 5)})
    below = max((t for t in fine if t <= low), default=fine[0])
    above = min((t for t in fine if t >= high), default=fine[-1])
    return [t for t in fine if below <= t <= above]
