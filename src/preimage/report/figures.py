"""The figures of a store as files for a paper: curves, energies and grids as PNG, SVG and PDF."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ..errors import ResultFolderError
from ..experiments.figures import draw_grid, save
from ..tasks.result import file_names
from .archive import Archive
from .charts import Chart, draw_chart
from .grids import Grid
from .view import StoreView

_PER_FIGURE = 48


def save_figures(store: Archive, folder: Path) -> list[Path]:
    """Write every curve, energy chart and grid of a store's page into a folder, as PNG, SVG and PDF; returns the PNGs.

    store: a `preimage.store.Store`. Files are named by experiment and figure; earlier ones of the same names are replaced.
    Raises ResultFolderError for a folder that cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultFolderError(f"No figures can be written to {str(folder)!r}: {error.strerror or error}.") from error
    view = StoreView(store)
    drawings: list[tuple[str, str, Chart | Grid]] = []
    for experiment in view.experiments():
        summary = view.summaries.get(experiment)
        for chart in (*(summary.charts if summary else ()), *view.energies(experiment)):
            drawings.append((experiment, chart.name, chart))
        for grid in view.grids(experiment):
            drawings.append((experiment, grid.heading or "pictures", grid))
    written: list[str] = []
    for name, (experiment, _, drawing) in zip(file_names([f"{e}-{n}" for e, n, _ in drawings]), drawings, strict=True):
        if isinstance(drawing, Chart):
            written += save(draw_chart(drawing), folder, name)
        else:
            written += _save_grid(view, drawing, view.members(experiment), folder, name)
    return [folder / name for name in written]


def _save_grid(view: StoreView, grid: Grid, members: list[int], folder: Path, name: str) -> list[str]:
    """A grid with rows is one figure; a gallery is one figure for each so many pictures."""

    def image(i: int) -> Tensor | None:
        found = view.store.result(view.rows[members[i]].key).images
        return found if found.shape[1] in (1, 3) else None

    first = view.store.result(view.rows[members[grid.records[0]]].key)
    if grid.rows:
        rows = [[image(cell[0]) if cell else None for cell in row] for row in grid.cells]
        return draw_grid(folder, name, rows, grid.rows, grid.columns, first.originals)
    written: list[str] = []
    pages = range(0, len(grid.gallery), _PER_FIGURE)
    for number, k in enumerate(pages, 1):
        part = grid.gallery[k : k + _PER_FIGURE]
        title = name if len(pages) == 1 else f"{name}-{number}"
        names = [text for text, _ in part]
        written += draw_grid(folder, title, [[image(i) for _, i in part]], [""], names, first.originals)
    return written
