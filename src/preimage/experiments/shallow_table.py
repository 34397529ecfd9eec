"""The paper's Table 2: how well HOG, HOGb and dense SIFT are inverted, beside HOGgles; the inversions are jobs of a store."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..energy.energy import Energy
from ..energy.losses import Euclidean
from ..energy.terms import FeatureTerm, total
from ..errors import InputError, PreimageError
from ..methods.recipe import DEFAULTS
from ..metrics import normalised_error
from ..pixels import images as pictures
from ..representations.hog import HOG
from ..studies.jobs import Job
from ..studies.runner import run
from ..studies.store import Store
from ..tasks.result import file_names
from .hoggles import CELL, PairedDictionary

ITERATIONS = 300  # one stage at the full rate: exp_hog.m has no second
METHODS = {"hoggles": "HOGgles", "hog": "HOG", "hogb": "HOGb", "dsift": "DSIFT"}
NOTE = (
    "error: 100 |Phi(x) - Phi(x0)| / |Phi(x0)| of the method's own features (HOGgles: those of HOG), mean over the images and "
    "1.96 std / sqrt(n). compared: the same of HOG with its 4 texture channels (31) without the outer ring of cells, the features "
    "by which the paper compares HOGgles and HOG; for HOGb and DSIFT the paper, and this column, repeat their own error."
)


@dataclass(frozen=True)
class Cell:
    """An image by a method. error, compared: normalised errors (not percent), see `NOTE`. energy: E at the end.

    picture: levels 0-255 (1, H, W). key: of the result in the store, empty for HOGgles, which has none. reused: it was there already.
    """

    image: str
    method: str
    error: float
    compared: float
    energy: float
    evaluations: int
    picture: Tensor = field(repr=False, compare=False)
    key: str = ""
    reused: bool = False


@dataclass
class Table:
    """Every image by every method that ended well, and what went wrong with the others (name -> reason)."""

    cells: list[Cell] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def row(self, method: str, column: str) -> tuple[float, float, int]:
        """Mean and half-width of the 95 % interval in percent, and the number of images; NaN where there are too few."""
        values = [100 * getattr(c, column) for c in self.cells if c.method == method]
        mean = statistics.fmean(values) if values else math.nan
        spread = 1.96 * statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return mean, spread, len(values)

    def text(self) -> str:
        """For a terminal."""
        lines = [f"{'':10}{'error %':>16}{'compared %':>18}{'images':>8}"]
        for method, title in METHODS.items():
            (a, da, n), (b, db, _) = self.row(method, "error"), self.row(method, "compared")
            lines.append(f"{title:10}{f'{a:.1f} ± {da:.1f}':>16}{f'{b:.1f} ± {db:.1f}':>18}{n:>8}")
        return "\n".join(lines)

    def latex(self) -> str:
        """The row of the paper's Table 2, the intervals underneath."""
        rows = [self.row(m, "compared") for m in METHODS]
        head = " & ".join(METHODS.values())
        means = " & ".join(f"${mean:.1f}$" for mean, _, _ in rows)
        spreads = " & ".join(f"{{\\scriptsize $\\pm {spread:.1f}$}}" for _, spread, _ in rows)
        begin = "\\begin{tabular}{lcccc}\n\\hline\n"
        return f"{begin}descriptor & {head} \\\\\n\\hline\nerror (\\%) & {means} \\\\\n & {spreads} \\\\\n\\hline\n\\end{{tabular}}\n"

    def csv(self) -> str:
        """One line an image and method. key: of the result in the store."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["image", "method", "error", "compared", "energy", "evaluations", "key"])
        for c in self.cells:
            writer.writerow([c.image, c.method, c.error, c.compared, c.energy, c.evaluations, c.key])
        return buffer.getvalue()


def shallow_table(
    images: Sequence[Path],
    out: Path,
    dictionary: PairedDictionary,
    *,
    size: int | None = None,
    solver: str = "paper",
    iterations: int = ITERATIONS,
    workers: int = 1,
    progress: bool = True,
    report: Callable[[str], None] = print,
) -> Table:
    """Invert every image by every method, keep the inversions in the store out/store, and write table.txt, .csv, .tex and .png.

    images: files, made grey; size: cut to a square of so many pixels, None keeps them as they are. workers: processes that compute.
    What the store has is not computed again (`Job.key`); HOGgles takes no time and is not kept. What fails is reported and in
    `Table.failures`; the rest goes on. Ctrl-C ends the run; what was done is kept. Raises InputError if there is no image.
    """
    if not images:
        raise InputError(f"There is no image. Give files or folders with {', '.join(pictures.SUFFIXES)}.")
    out.mkdir(parents=True, exist_ok=True)
    store = Store.open(out / "store")
    table = Table()
    originals: dict[str, Tensor] = {}
    jobs: dict[tuple[str, str], Job] = {}
    for path, name in zip(images, file_names([p.stem for p in images]), strict=True):
        try:
            x0 = _SPACE.encode(path, size=None if size is None else (size, size))
        except PreimageError as error:
            _fail(table, name, error, report)
            continue
        originals[name] = _SPACE.decode(x0)
        sha = store.add_input(x0, originals[name])
        for method in METHODS.keys() - {"hoggles"}:
            jobs[name, method] = _job(name, method, sha, solver, iterations)
    done = run(list(jobs.values()), store, workers=workers, progress=progress)
    for name, levels in originals.items():
        for method in METHODS:
            try:
                job = jobs.get((name, method))
                table.cells.append(hoggles_cell(name, dictionary, levels) if job is None else _cell(name, job, store, done.skipped))
            except Exception as error:  # one image must not take the others with it
                _fail(table, f"{name} {method}", error, report)
    _write(table, originals, out)
    return table


_SPACE = HOG(CELL).space  # that of the three descriptors: grey levels less the middle


def hoggles_cell(name: str, dictionary: PairedDictionary, levels: Tensor) -> Cell:
    """HOGgles' image of a photograph, levels 0-255 (1, 1, H, W); pixels beyond the last whole cell are cut off.

    energy: that of an inversion of HOG, which HOGgles does not minimise, for comparison.
    """
    levels = levels[:, :, : levels.shape[2] // CELL * CELL, : levels.shape[3] // CELL * CELL]
    phi0 = HOG(CELL)(levels)
    found = dictionary(phi0)
    energy = total(Energy(FeatureTerm(Euclidean(), HOG(CELL), phi0, DEFAULTS["invert"].C))(found - _SPACE.mean_colour))
    error = float(normalised_error(HOG(CELL)(found), phi0)[0])
    return Cell(name, "hoggles", error, compared_error(found, levels), float(energy[0]), 0, found[0])


def _job(name: str, method: str, sha: str, solver: str, iterations: int) -> Job:
    settings: dict[str, Any] = {"solver": solver, "iterations": iterations, "one_stage": True, "C": DEFAULTS["invert"].C}
    return Job(experiment="shallow-table", task="invert", representation=method, original=sha, image=name, **settings)


def _cell(name: str, job: Job, store: Store, skipped: Sequence[str]) -> Cell:
    """What the store has of a job. Raises InputError with its reason if it failed."""
    record = store.record(job.key)
    if record is None or record.status != "done":
        raise InputError("it was not run" if record is None else record.reason.partition(": ")[2] or record.reason)
    result = store.result(job.key)
    assert result.error is not None
    assert result.originals is not None
    error = float(result.error[0])
    if not math.isfinite(error):
        raise InputError(f"the error is {error}: {result.status[0]}")
    compared = compared_error(result.images, result.originals) if job.representation == "hog" else error
    energy = float(result.energy["total"][0])
    return Cell(name, str(job.representation), error, compared, energy, result.evaluations, result.images[0], job.key, job.key in skipped)


def compared_error(found: Tensor, original: Tensor) -> float:
    """The error under the 31 channels of the DPM's HOG, without border cells (exp_inversion_hog.m), of levels 0–255."""
    phi = HOG(CELL, texture=True)
    ours, theirs = (phi(x)[:, :, 1:-1, 1:-1] for x in (found, original))
    return float(normalised_error(ours, theirs)[0])


def _fail(table: Table, name: str, error: Exception, report: Callable[[str], None]) -> None:
    table.failures[name] = " ".join(str(error).split())
    report(f"{name} failed: {table.failures[name]}")


def _write(table: Table, originals: Mapping[str, Tensor], out: Path) -> None:
    failed = "".join(f"\nfailed: {name}: {reason}" for name, reason in table.failures.items())
    for name, text in (("txt", f"{table.text()}\n\n{NOTE}{failed}\n"), ("csv", table.csv()), ("tex", table.latex())):
        with pictures.atomic_write(out / f"table.{name}") as file:
            file.write(text.encode())
    if originals:
        with pictures.atomic_write(out / "table.png") as file:
            _picture(table, originals).save(file, format="PNG")


def _picture(table: Table, originals: Mapping[str, Tensor], height: int = 192) -> Any:
    """A row for each image: the original, then every method's; clipped to 0–255, not stretched. White: there is none."""
    import PIL.Image
    import PIL.ImageDraw

    found = {(c.image, c.method): c.picture for c in table.cells}
    rows = [[x[0], *(found.get((name, m), torch.full_like(x[0], 255.0)) for m in METHODS)] for name, x in originals.items()]
    tiles = [[pictures.to_pil(t) for t in row] for row in rows]
    scaled = [[t.resize((max(1, round(t.width * height / t.height)), height)) for t in row] for row in tiles]
    column = max(t.width for row in scaled for t in row) + 4
    sheet = PIL.Image.new("L", (column * (len(METHODS) + 1), 20 + (height + 4) * len(rows)), 255)
    draw = PIL.ImageDraw.Draw(sheet)
    for j, title in enumerate(["original", *METHODS.values()]):
        draw.text((j * column + 4, 4), title, fill=0)
        for i, row in enumerate(scaled):
            sheet.paste(row[j], (j * column, 20 + i * (height + 4)))
    return sheet
