"""The figures of a store as files for a paper: curves, energies and grids as PNG, SVG and PDF."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, ResultFolderError
from ..result import file_names
from .charts import plain_text, save_chart
from .pictures import open_picture
from .view import GridOfFiles, StoreView

FORMATS = ("png", "svg", "pdf")
_MOST = 400  # pictures in one figure; more cannot be told apart on paper


def save_figures(store: Any, folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write every curve, energy chart and grid of a store's page into a folder, one file for each format; returns the files.

    store: a `preimage.store.Store`. Files are named by experiment and figure; earlier ones of the same names are replaced.
    Raises InputError for a format that is none of png, svg and pdf, ResultFolderError for a folder that cannot be written.
    """
    if not formats or (bad := [f for f in formats if f not in FORMATS]):
        raise InputError(f"Figures are written as {', '.join(FORMATS)}; got {', '.join(bad) if formats else 'no format'}.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultFolderError(f"No figures can be written to {str(folder)!r}: {error.strerror or error}.") from error
    view = StoreView(store)
    drawings: list[tuple[str, Any]] = []
    for experiment in view.experiments():
        summary = view.summary(experiment)
        charts = [*(summary.charts if summary else ()), *view.energies(experiment)]
        drawings += [(f"{experiment}-{c.name}", c) for c in charts]
        drawings += [(f"{experiment}-{g.heading or 'pictures'}", g) for g in view.grids_of_files(experiment)]
    written: list[Path] = []
    for name, (_, drawing) in zip(file_names([n for n, _ in drawings]), drawings, strict=True):
        paths = [folder / f"{name}.{suffix}" for suffix in formats]
        if isinstance(drawing, GridOfFiles):
            save_grid(drawing, paths)
        else:
            save_chart(drawing, paths)
        written += paths
    return written


def save_grid(grid: GridOfFiles, paths: Sequence[Path]) -> None:
    """Draw pictures in rows and columns with their names, the original to the left; a row of at most eight where there are no rows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [(r, c) for r, row in enumerate(grid.cells) for c, cell in enumerate(row) if cell is not None]
    if len(shown) > _MOST:
        raise InputError(f"The figure {grid.heading!r} would have {len(shown)} pictures, more than {_MOST}.")
    first = 1 if grid.original is not None else 0
    height, width = len(grid.cells), max(len(row) for row in grid.cells) + first
    figure = Figure(figsize=(0.3 + 1.15 * width, 0.3 + 1.3 * height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(height, width, squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[], frame_on=False)
    if grid.original is not None:
        axes[0][0].imshow(open_picture(grid.original))
        axes[0][0].set_title("original", fontsize=8)
    for r, c in shown:
        cell = grid.cells[r][c]
        assert cell is not None
        axes[r][c + first].imshow(open_picture(cell.path), cmap="gray")
        axes[r][c + first].set_xlabel(plain_text(cell.below), fontsize=7, labelpad=2)
        if cell.above:
            axes[r][c + first].set_title(plain_text(cell.above), fontsize=8)
    for r, name in enumerate(grid.rows):
        axes[r][first].set_ylabel(plain_text(name), fontsize=8)
    for path in paths:
        figure.savefig(path, dpi=200)
