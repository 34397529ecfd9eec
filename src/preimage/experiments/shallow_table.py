"""The paper's Table 2: how well HOG, HOGb and dense SIFT are inverted, beside HOGgles; one result folder a job, resumable."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..bars import progress_bar
from ..energy.energy import Energy
from ..energy.losses import Euclidean
from ..energy.terms import FeatureTerm, total
from ..errors import InputError, PreimageError
from ..methods.recipe import DEFAULTS
from ..metrics import normalised_error
from ..pixels import images as pictures
from ..pixels.pixelspace import PixelSpace
from ..representations.base import Representation
from ..representations.dsift import DenseSIFT
from ..representations.hog import HOG
from ..solvers.run import Stage
from ..studies.jobs import REPRESENTATION_REVISION, Job, revisions
from ..studies.store import input_name
from ..tasks.invert import invert
from ..tasks.result import Result, file_names, load_result, versions
from .hoggles import CELL, PairedDictionary

ITERATIONS = 300  # one stage at the full rate: exp_hog.m has no second
METHODS = {"hoggles": "HOGgles", "hog": "HOG", "hogb": "HOGb", "dsift": "DSIFT"}
NOTE = (
    "error: 100 |Phi(x) - Phi(x0)| / |Phi(x0)| of the method's own features (HOGgles: those of HOG), mean over the images and "
    "1.96 std / sqrt(n). compared: the same of HOG with its 4 texture channels (31) without the outer ring of cells, the features "
    "by which the paper compares HOGgles and HOG; for HOGb and DSIFT the paper, and this column, repeat their own error."
)
_GREY = PixelSpace(size=None, channels="grey", scale=255.0, mean=(0.0,))  # levels 0–255; each method takes its own mean off


@dataclass(frozen=True)
class Cell:
    """One job: an image by a method. error, compared: normalised errors (not percent), see `NOTE`. energy: E at the end."""

    image: str
    method: str
    error: float
    compared: float
    energy: float
    evaluations: int
    folder: str
    reused: bool


@dataclass
class Table:
    """All jobs that ended well, and what went wrong with the others (name -> reason)."""

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
        """One line a job."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["image", "method", "error", "compared", "energy", "evaluations", "folder"])
        for c in self.cells:
            writer.writerow([c.image, c.method, c.error, c.compared, c.energy, c.evaluations, c.folder])
        return buffer.getvalue()


def shallow_table(
    images: Sequence[Path],
    out: Path,
    dictionary: PairedDictionary,
    *,
    size: int | None = None,
    solver: str = "paper",
    iterations: int = ITERATIONS,
    progress: bool = True,
    report: Callable[[str], None] = print,
) -> Table:
    """Invert every image by every method, keep each job in out/runs, and write table.txt, .csv, .tex and .png into `out`.

    images: files, made grey; size: cut to a square of so many pixels, None keeps them as they are. A job whose folder is there (same
    pixels, settings, dictionary and revisions of the classes that decide an image) is not run again. A job that fails is reported and
    kept in `Table.failures`; the others go on. Ctrl-C ends the run; what was done is kept. Raises InputError if there is no image.
    """

    if not images:
        raise InputError(f"There is no image. Give files or folders with {', '.join(pictures.SUFFIXES)}.")
    (out / "runs").mkdir(parents=True, exist_ok=True)
    settings = {
        "solver": solver,
        "iterations": iterations,
        "C": DEFAULTS["invert"].C,
    }
    table = Table()
    rows: list[list[Tensor]] = []
    names = file_names([p.stem for p in images])
    with progress_bar(total=len(images) * len(METHODS), desc="shallow table", unit="job", shown=progress) as bar:
        for path, name in zip(images, names, strict=True):
            try:
                x0 = _GREY.encode(path, size=None if size is None else (size, size))
            except PreimageError as error:
                _fail(table, name, error, report)
                bar.update(len(METHODS))
                continue
            row = [x0[0]]
            for method in METHODS:
                try:
                    result, cell = _job(name, method, x0, dictionary, settings, out / "runs")
                    table.cells.append(cell)
                    row.append(result.images[0])
                except Exception as error:  # one job must not take the others with it
                    _fail(table, f"{name} {method}", error, report)
                    row.append(torch.full_like(x0[0], 255.0))
                bar.update()
            rows.append(row)
    _write(table, rows, out)
    return table


def hoggles_result(dictionary: PairedDictionary, x0: Tensor) -> Result:
    """HOGgles' image of x0 (1, 1, H, W) as a result with one entry in its trace; pixels beyond the last whole cell are cut off."""
    x0 = x0[:, :, : x0.shape[2] // CELL * CELL, : x0.shape[3] // CELL * CELL]
    phi0 = HOG(CELL)(x0)
    images = dictionary(phi0)
    error = normalised_error(HOG(CELL)(images), phi0)
    # which HOGgles does not minimise: for comparison
    terms = Energy(FeatureTerm(Euclidean(), HOG(CELL), phi0, DEFAULTS["invert"].C))(images - HOG(CELL).space.mean_colour)
    terms["total"] = total(terms)
    return Result(
        task="hoggles",
        images=images,
        error=error,
        activation=None,
        energy=terms,
        trace={k: v.clone().unsqueeze(0) for k, v in terms.items()},
        evaluations=0,
        labels=["image"],
        seeds=[0],
        status=["ok"],
        config={"representation": "hog", "C": DEFAULTS["invert"].C, "dictionary": dict(dictionary.about), "versions": versions()},
        originals=x0,
    )


def _job(name: str, method: str, x0: Tensor, dictionary: PairedDictionary, settings: dict[str, Any], runs: Path) -> tuple[Result, Cell]:
    """Run one job, or read it back."""
    facts = settings | {"method": method, "pixels": input_name(x0), "shape": list(x0.shape)}
    if method == "hoggles":  # which minimises nothing
        facts = {k: v for k, v in facts.items() if k not in ("solver", "iterations")} | {"revision": REPRESENTATION_REVISION}
        facts["dictionary"] = [input_name(dictionary.hog), input_name(dictionary.pixels), input_name(dictionary.mean), dictionary.atoms]
    else:
        like = Job(experiment="shallow-table", task="invert", representation=method, one_stage=True, **settings)
        facts["revisions"] = revisions(like)
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    folder = runs / f"{name}-{method}-{key}"
    reused = folder.is_dir()
    if reused:
        result = load_result(folder)
    else:
        result = _run(method, x0, dictionary, settings)
        result.labels = [name]
        result.config["job"] = facts
        result.save(folder)
    assert result.error is not None
    error = float(result.error[0])
    if not math.isfinite(error):
        raise InputError(f"the error is {error}: {result.status[0]}")
    compared = compared_error(result) if method in ("hoggles", "hog") else error
    energy = float(result.energy["total"][0])
    return result, Cell(name, method, error, compared, energy, result.evaluations, f"runs/{folder.name}", reused)


def _run(method: str, x0: Tensor, dictionary: PairedDictionary, settings: dict[str, Any]) -> Result:
    if method == "hoggles":
        return hoggles_result(dictionary, x0)
    phis: dict[str, Callable[[], Representation]] = {"hog": HOG, "hogb": lambda: HOG(bilinear=True), "dsift": DenseSIFT}
    stages = (Stage(settings["iterations"]),)
    phi = phis[method]()
    x0 = x0 - phi.space.mean_colour
    return invert(phi, x0, C=settings["C"], solver=settings["solver"], stages=stages, progress=False)


def compared_error(result: Result) -> float:
    """The error under the 31 channels of the DPM's HOG, without border cells (exp_inversion_hog.m)."""
    assert result.originals is not None
    phi = HOG(CELL, texture=True)
    ours, theirs = (phi(x)[:, :, 1:-1, 1:-1] for x in (result.images, result.originals))
    return float(normalised_error(ours, theirs)[0])


def _fail(table: Table, name: str, error: Exception, report: Callable[[str], None]) -> None:
    table.failures[name] = " ".join(str(error).split())
    report(f"{name} failed: {table.failures[name]}")


def _write(table: Table, rows: Sequence[Sequence[Tensor]], out: Path) -> None:
    failed = "".join(f"\nfailed: {name}: {reason}" for name, reason in table.failures.items())
    for name, text in (("txt", f"{table.text()}\n\n{NOTE}{failed}\n"), ("csv", table.csv()), ("tex", table.latex())):
        with pictures.atomic_write(out / f"table.{name}") as file:
            file.write(text.encode())
    if rows:
        with pictures.atomic_write(out / "table.png") as file:
            _picture(rows).save(file, format="PNG")


def _picture(rows: Sequence[Sequence[Tensor]], height: int = 192) -> Any:
    """A row for each image: the original, then every method's; clipped to 0–255, not stretched."""
    import PIL.Image
    import PIL.ImageDraw

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
