"""Figures of the experiments for page and print: grids of pictures and curves over layers, each as PNG, SVG and PDF."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..pixels import images as pictures
from ..tasks.result import file_names

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

_STYLES = (("-", "o"), (":", "s"), ("-.", "^"), ("--", "D"), ((0, (5, 1, 1, 1, 1, 1)), "v"))
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#000000", "#cc79a7")  # Okabe and Ito: told apart by colour-blind readers and in print
_WIDE = 12  # columns of a grid at most; it goes on below


def draw_curves(out: Path, name: str, curves: Sequence[Mapping[str, Any]], y_label: str, title: str, top: float | None = None) -> list[str]:
    """Means over layers with their 95 % intervals, up to `top` at least. Gives the names of the files that a page shows."""
    figure = _figure(max(4.5, 0.42 * len(curves[0]["x"]) + 2.2), 3.6)
    axes = figure.add_subplot()
    for c, (style, marker), colour in zip(curves, _STYLES * 4, _COLOURS * 4, strict=False):
        axes.plot(c["x"], c["y"], linestyle=style, marker=marker, color=colour, markersize=3.5, linewidth=1.4, label=c["label"])
        if any(math.isfinite(v) for v in c["low"]):
            axes.fill_between(c["x"], c["low"], c["high"], color=colour, alpha=0.15, linewidth=0)
    axes.set_xticks(curves[0]["x"], curves[0]["x_names"], rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set(ylabel=y_label, title=title)
    shown = [v for c in curves for v in (*c["y"], *c["low"], *c["high"]) if math.isfinite(v)]
    axes.set_ylim(min([0.0, *shown]), None if top is None else max([top, *shown]) * 1.02)
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, framealpha=0.85)
    return save(figure, out, name)


def draw_grid(
    out: Path,
    name: str,
    rows: Sequence[Sequence[Tensor | None]],
    row_names: Sequence[str],
    column_names: Sequence[str],
    original: Tensor | None = None,
) -> list[str]:
    """Pictures, levels 0–255 (1 or more, C, H, W; several become a mosaic), in rows; the original alone in front of them.

    A row that is long goes on below. None leaves its place empty. Gives the names of the files that a page shows.
    """
    wide = math.ceil(len(column_names) / math.ceil(len(column_names) / _WIDE))
    bands = [range(k, min(k + wide, len(column_names))) for k in range(0, len(column_names), wide)]
    columns = max(len(b) for b in bands)
    aspect = _aspect([p for row in rows for p in row if p is not None] or ([] if original is None else [original]))
    widths = [0.0 if original is None else 1.0, 0.14, *[1.0] * columns]  # the original, the names of the rows, the pictures
    heights = ([aspect] * len(rows) + [0.2]) * len(bands)  # a gap below each band, for the names of the next one's columns
    figure = _figure(1.15 * sum(widths), 1.15 * sum(heights), constrained=False)
    grid = figure.add_gridspec(len(heights), len(widths), width_ratios=widths, height_ratios=heights, wspace=0.03, hspace=0.03)
    if original is not None:
        _cell(figure.add_subplot(grid[0, 0]), original, "original", "")
    for b, band in enumerate(bands):
        for i, row in enumerate(rows):
            line = b * (len(rows) + 1) + i
            for j, column in enumerate(band):
                axes = figure.add_subplot(grid[line, j + 2])
                _cell(axes, row[column], column_names[column] if i == 0 else "", row_names[i] if j == 0 else "")
    return save(figure, out, name)


def draw_mosaics(out: Path, name: str, mosaics: Sequence[tuple[str, Tensor]]) -> list[str]:
    """Mosaics of images (B, C, H, W) beside each other, each under its name."""
    columns = min(len(mosaics), 4)
    rows = math.ceil(len(mosaics) / columns)
    figure = _figure(2.6 * columns, 2.8 * rows)
    for k, (title, tiles) in enumerate(mosaics):
        _cell(figure.add_subplot(rows, columns, k + 1), tiles, title, "")
    return save(figure, out, name)


def save(figure: Figure, out: Path, name: str) -> list[str]:
    """As PNG for the page, SVG and PDF for print; each whole or not at all."""
    import matplotlib

    stem = file_names([name])[0]
    figure.draw_without_rendering()  # the layout is made now, or the box would be that of before
    box = figure.get_tightbbox(figure.canvas.get_renderer()).padded(0.04)  # type: ignore[attr-defined]
    for kind in ("png", "svg", "pdf"):
        buffer = io.BytesIO()
        metadata = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
        with matplotlib.rc_context({"svg.hashsalt": stem, "pdf.fonttype": 42}):  # the same figure is the same file; text stays text
            figure.savefig(buffer, format=kind, dpi=160, metadata=metadata, bbox_inches=box)
        with pictures.atomic_write(out / f"{stem}.{kind}") as file:
            file.write(buffer.getvalue())
    return [f"{stem}.png"]


def boxed(image: Tensor, box: tuple[int, int, int, int] | None, width: int = 3) -> Tensor:
    """A picture (1, 3, H, W) with a red frame along (top, left, bottom, right), 0-based and inclusive, cut off at its edges."""
    out = image.clone()
    if box is None:
        return out
    height, breadth = image.shape[2:]
    top, left, bottom, right = (max(0, min(v, n - 1)) for v, n in zip(box, (height, breadth, height, breadth), strict=True))
    red = image.new_tensor([255.0, 0.0, 0.0]).view(1, 3, 1, 1)
    inside = (slice(top + width, bottom + 1 - width), slice(left + width, right + 1 - width))
    kept = out[:, :, inside[0], inside[1]].clone()
    out[:, :, top : bottom + 1, left : right + 1] = red
    out[:, :, inside[0], inside[1]] = kept
    return out


def _figure(width: float, height: float, constrained: bool = True) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    if not constrained:
        figure.subplots_adjust(left=0, right=1, bottom=0, top=1)
    return figure


def _cell(axes: Any, picture: Tensor | None, above: str, beside: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    if above:
        axes.set_title(above, fontsize=7, pad=2)
    if beside:
        axes.set_ylabel(beside, fontsize=7)
    if picture is not None:
        tile = picture[0] if len(picture) == 1 else pictures.mosaic(_framed(picture))
        axes.imshow(pictures.to_pil(tile).convert("RGB"), interpolation="antialiased")


def _framed(tiles: Tensor) -> Tensor:
    """White at the right and below, so that tiles can be told apart."""
    import torch.nn.functional as F

    line = max(1, tiles.shape[3] // 60)
    return F.pad(tiles, (0, line, 0, line), value=255.0)


def _aspect(tiles: Sequence[Tensor]) -> float:
    return max((t.shape[2] / t.shape[3] for t in tiles), default=1.0)
