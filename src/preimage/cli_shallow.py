"""The commands of the shallow representations: preimage vocabulary, invert-shallow, paper shallow-table, paper hog-template."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .experiments.hoggles import PairedDictionary
    from .result import Result

FAILED, INTERRUPTED = 1, 130

paper = typer.Typer(help="Make the paper's tables and figures again.", no_args_is_help=True)

Pictures = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...", help="Pictures, or folders of them; they are made grey.", show_default=False)
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the result; it must be new or empty.")]
Solver = Annotated[str, typer.Option(metavar="NAME", help="fast, paper, adam or lbfgs.")]
Iterations = Annotated[int, typer.Option(metavar="N", help="Evaluations an image, in one stage at the full rate.")]
Seed = Annotated[int, typer.Option(metavar="N", help="The same seed gives the same result.")]
Size = Annotated[int | None, typer.Option(metavar="PIXELS", help="Cut to a square of this size.", show_default="the picture's own size")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


def attach(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.add_typer(paper, name="paper")
    app.command(
        "vocabulary",
        epilog="Examples:\n\n  preimage vocabulary photos/ -o words.safetensors\n\n"
        "  preimage vocabulary photos/ --kind gmm --words 16 -o mixture.safetensors",
    )(vocabulary)
    app.command(
        "invert-shallow",
        epilog="Examples:\n\n  preimage invert-shallow photo.jpg --name hogb -o out/\n\n"
        "  preimage invert-shallow photo.jpg --name bow --vocabulary words.safetensors -o out/",
    )(invert_shallow)


def vocabulary(
    images: Pictures,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The vocabulary, a .safetensors file.")],
    kind: Annotated[str, typer.Option(metavar="KIND", help="kmeans for bags of words and VLAD, gmm for Fisher vectors.")] = "kmeans",
    words: Annotated[int, typer.Option(metavar="K", help="Number of words, or of components of the mixture.")] = 64,
    bin: Annotated[int, typer.Option(metavar="PIXELS", help="Side of a SIFT bin; a descriptor is four bins wide.")] = 4,
    step: Annotated[int, typer.Option(metavar="PIXELS", help="From one descriptor to the next.")] = 4,
    descriptors: Annotated[int, typer.Option(metavar="N", help="Learn from so many at most, as many from each picture.")] = 50_000,
    size: Annotated[int, typer.Option(metavar="PIXELS", help="Reduce pictures whose short side is longer.")] = 256,
    seed: Seed = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Learn the visual words of pictures: typical dense SIFT descriptors, for `preimage invert-shallow --name bow | vlad | fisher`.

    Needs scikit-learn: pip install 'preimage[shallow]'.
    """
    with _guard():
        from .errors import InputError
        from .experiments.shallow_table import find_images
        from .representations.dsift import DenseSIFT
        from .representations.vocabulary import learn_vocabulary

        if out.exists() and not overwrite:
            raise InputError(f"The file {str(out)!r} is there already. Name another, or give --overwrite.")
        if not out.absolute().parent.is_dir():
            raise InputError(f"There is no folder {str(out.absolute().parent)!r} to write to.")
        sift, found = DenseSIFT(bin, step), find_images(images)
        learned = learn_vocabulary(
            found,
            words,
            kind,  # type: ignore[arg-type]
            sift=sift,
            descriptors=descriptors,
            size=size,
            seed=seed,
            progress=not quiet,
        )
        learned.save(out)
        typer.echo(f"{learned.words} words ({kind}) of {learned.about['descriptors']} descriptors of {len(found)} picture(s): {out}")


def invert_shallow(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures of one size; made grey.", show_default=False)],
    name: Annotated[str, typer.Option(metavar="NAME", help="hog, hogb, dsift, lbp; with a vocabulary bow, vlad, fisher.")],
    out: Out,
    vocabulary: Annotated[
        Path | None, typer.Option(metavar="FILE", help="From `preimage vocabulary`, for bow, vlad and fisher.", show_default=False)
    ] = None,
    size: Size = None,
    C: Annotated[float, typer.Option("--C", metavar="NUMBER", help="Weight of the features.")] = 100.0,
    solver: Solver = "fast",
    iterations: Annotated[int | None, typer.Option(metavar="N", help="Instead of the solver's own number.", show_default=False)] = None,
    seed: Seed = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result in the folder.")] = False,
    quiet: Quiet = False,
) -> None:
    """Reconstruct a photograph from a classical descriptor: HOG, dense SIFT, LBP, bag of words, VLAD or Fisher vector."""
    with _guard():
        from .representations.shallow import load_shallow
        from .representations.vocabulary import load_vocabulary
        from .result import check_folder
        from .tasks import invert

        check_folder(out, overwrite)
        phi = load_shallow(name, None if vocabulary is None else load_vocabulary(vocabulary))
        x0 = [phi.space.encode(i, size=None if size is None else (size, size)) for i in images]
        options: dict[str, Any] = {"C": C, "solver": solver, "iterations": iterations, "seed": seed, "progress": not quiet}
        with _saving(out, overwrite, [i.stem for i in images]) as save:
            save(invert(phi, x0, **options))


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
    iterations: Iterations = 300,
    quiet: Quiet = False,
) -> None:
    """How well HOGgles, HOG, HOGb and dense SIFT are inverted (the paper's Table 2): mean error in percent, 1.96·std/√n.

    Writes table.txt, .csv, .tex and .png (originals and reconstructions side by side), and a result folder for each image and
    method in DIR/runs. A job that is there, with the same pixels, settings and code, is not run again. HOGgles needs
    scikit-learn and, to learn its dictionary, scikit-image's pictures: pip install 'preimage[shallow]'.
    """
    with _guard():
        from .experiments import shallow_table as experiment

        found = experiment.find_images(images)
        _make_folder(out)
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
    iterations: Iterations = 300,
    seed: Seed = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result in the folder.")] = False,
    quiet: Quiet = False,
) -> None:
    """See what a HOG detector looks for: the image that its linear template likes most (the paper's exp_hog_model_viz).

    The weights are those of a linear classifier over HOG with cells of 8 pixels, directions as VLFeat and the DPM count them.
    """
    with _guard():
        from .experiments.hog_template import hog_template as maximize_template
        from .representations.template import load_template
        from .result import check_folder

        check_folder(out, overwrite)
        w = load_template(template)
        with _saving(out, overwrite, [template.stem]) as save:
            save(maximize_template(w, C=C, solver=solver, iterations=iterations, seed=seed, progress=not quiet))


@contextmanager
def _guard() -> Iterator[None]:
    """The command line's own; imported here because cli.py imports this file."""
    from .cli import _guard as guard

    with guard():
        yield


@contextmanager
def _saving(out: Path, overwrite: bool, labels: list[str]) -> Iterator[Any]:
    """A function that saves a result and prints its captions; what was found before Ctrl-C is saved too."""
    from .errors import Interrupted

    def save(result: Result) -> None:
        if len(labels) == len(result.labels):
            result.labels = labels
        result.save(out, overwrite=overwrite)
        typer.echo("\n".join([*result.captions(), f"{result.evaluations} evaluations an image. Saved in {out}/"]))

    try:
        yield save
    except Interrupted as stop:
        if stop.result is None:
            raise
        save(stop.result)
        raise typer.Exit(INTERRUPTED) from None


def _dictionary(path: Path, learn_from: Path | None, progress: bool) -> PairedDictionary:
    """Read the paired dictionary, or learn it and keep it there."""
    from .errors import InputError
    from .experiments.hoggles import learn_dictionary, load_dictionary
    from .experiments.shallow_table import find_images

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


def _make_folder(out: Path) -> None:
    from .errors import ResultFolderError

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultFolderError(f"No table can be written to {str(out)!r}: {error.strerror or error}.") from error
