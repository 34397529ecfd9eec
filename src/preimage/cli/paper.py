"""preimage paper: the paper's tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from . import app
from .common import FAILED, INTERRUPTED, guard, make_folder, saving
from .options import Length, Out, Overwrite, Pictures, Quiet, Seed, Size, Solver

if TYPE_CHECKING:
    from ..experiments.hoggles import PairedDictionary

paper = typer.Typer(help="Make the paper's tables and figures again.", no_args_is_help=True)
app.add_typer(paper, name="paper")


@paper.command(
    "shallow-table",
    epilog="Examples:\n\n  preimage paper shallow-table photos/ --size 256 -o table/\n\n"
    "  preimage paper shallow-table a.jpg b.jpg --dictionary hoggles.safetensors -o table/\n\n"
    "Exit codes: 0 done, 1 some job failed (the others are in the table), 2 wrong usage, 130 interrupted.",
)
def shallow_table(
    images: Pictures,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder; the same one goes on where it stopped.")],
    size: Size = None,
    dictionary: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="HOGgles' paired dictionary; learned into this file if it is not there.",
            show_default="DIR/hoggles.safetensors",
        ),
    ] = None,
    learn_from: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Pictures to learn the dictionary from.", show_default="four of scikit-image's"),
    ] = None,
    solver: Solver = "paper",
    iterations: Length = 300,
    quiet: Quiet = False,
) -> None:
    """How well HOGgles, HOG, HOGb and dense SIFT are inverted (the paper's Table 2): mean error in percent, 1.96·std/√n.

    Writes table.txt, .csv, .tex and .png (originals and reconstructions side by side), and a result folder for each image and
    method in DIR/runs. A job that is there, with the same pixels, settings and code, is not run again. HOGgles needs
    scikit-learn and, to learn its dictionary, scikit-image's pictures: pip install 'preimage[shallow]'.
    """
    with guard():
        from ..experiments import shallow_table as experiment

        found = experiment.find_images(images)
        make_folder(out)
        pairs = _dictionary(dictionary or out / "hoggles.safetensors", learn_from, not quiet)
        try:
            table = experiment.shallow_table(
                found,
                out,
                pairs,
                size=size,
                solver=solver,
                iterations=iterations,
                progress=not quiet,
                report=lambda line: typer.echo(f"preimage: error: {line}", err=True),
            )
        except KeyboardInterrupt:
            typer.echo("preimage: interrupted; the finished jobs are kept, and the same command goes on from there", err=True)
            raise typer.Exit(INTERRUPTED) from None
        again = sum(c.reused for c in table.cells)
        typer.echo(f"{table.text()}\n\n{experiment.NOTE}\n")
        typer.echo(f"{len(table.cells)} jobs ({again} were there already), {len(table.failures)} failed. Saved in {out}/")
        if table.failures:
            raise typer.Exit(FAILED)


@paper.command("hog-template", epilog="Example:\n\n  preimage paper hog-template person.npy -o person/")
def hog_template(
    template: Annotated[Path, typer.Argument(metavar="FILE", help="A .npy or .npz array (height, width, 27, 31 or 32) of HOG weights.")],
    out: Out,
    C: Annotated[float, typer.Option("--C", metavar="NUMBER", help="Weight of the template against the regularizers.")] = 1.0,
    solver: Solver = "paper",
    iterations: Length = 300,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """See what a HOG detector looks for: the image that its linear template likes most (the paper's exp_hog_model_viz).

    The weights are those of a linear classifier over HOG with cells of 8 pixels, directions as VLFeat and the DPM count them.
    """
    with guard():
        from ..experiments.hog_template import hog_template as maximize_template
        from ..representations.template import load_template
        from ..result import check_folder

        check_folder(out, overwrite)
        w = load_template(template)
        with saving(out, overwrite, [template.stem]) as save:
            save(maximize_template(w, C=C, solver=solver, iterations=iterations, seed=seed, progress=not quiet))


def _dictionary(path: Path, learn_from: Path | None, progress: bool) -> PairedDictionary:
    """Read the paired dictionary, or learn it and keep it there."""
    from ..experiments.hoggles import learn_dictionary, load_dictionary
    from ..experiments.shallow_table import find_images

    if path.exists():
        if learn_from is not None:
            raise InputError(f"There is a dictionary in {str(path)!r} already: leave --learn-from out, or name a new file.")
        return load_dictionary(path)
    if not path.absolute().parent.is_dir():
        raise InputError(f"There is no folder {str(path.absolute().parent)!r} to keep the dictionary in.")
    learned = learn_dictionary(None if learn_from is None else find_images([learn_from]), progress=progress)
    learned.save(path)
    typer.echo(f"HOGgles' dictionary ({len(learned.hog)} atoms) was learned and kept in {path}")
    return learned
