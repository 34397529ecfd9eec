"""preimage vocabulary, preimage invert-shallow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from . import app
from .common import guard, saving
from .options import Out, Overwrite, Pictures, Quiet, Seed, Size, StudySolver


@app.command(
    epilog="Examples:\n\n  preimage vocabulary photos/ -o words.safetensors\n\n"
    "  preimage vocabulary photos/ --kind gmm --words 16 -o mixture.safetensors",
)
def vocabulary(
    images: Pictures,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The vocabulary, a .safetensors file.")],
    kind: Annotated[str, typer.Option(metavar="KIND", help="gmm for Fisher vectors, kmeans for all others.")] = "kmeans",
    words: Annotated[int, typer.Option(metavar="K", help="Number of words, or of components of the mixture.")] = 64,
    textons: Annotated[bool, typer.Option("--textons", help="Of Leung and Malik's filters, instead of SIFT; for textons.")] = False,
    bin: Annotated[int, typer.Option(metavar="PIXELS", help="Side of a SIFT bin; a descriptor is four bins wide.")] = 4,
    step: Annotated[int, typer.Option(metavar="PIXELS", help="From one descriptor to the next.")] = 4,
    descriptors: Annotated[int, typer.Option(metavar="N", help="Learn from so many at most, as many from each picture.")] = 50_000,
    size: Annotated[int, typer.Option(metavar="PIXELS", help="Reduce pictures whose short side is longer.")] = 256,
    seed: Seed = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    quiet: Quiet = False,
) -> None:
    """Learn the visual words of pictures: typical dense SIFT descriptors, for `preimage invert-shallow --name bow`, vlad, fisher, llc, ….

    Needs scikit-learn, the extra shallow.
    """
    with guard():
        from ..errors import InputError
        from ..pixels.images import check_file, find_pictures
        from ..representations.dsift import DenseSIFT
        from ..representations.leung_malik import LeungMalik
        from ..representations.vocabulary import learn_vocabulary

        check_file(out)
        if out.exists() and not overwrite:
            raise InputError(f"The file {str(out)!r} is there already. Name another, or give --overwrite.")
        if textons and kind != "kmeans":
            raise InputError(f"Textons are words of k-means: leave --kind {kind} out.")
        sift, found = LeungMalik(step) if textons else DenseSIFT(bin, step), find_pictures(images)
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


@app.command(
    epilog="Examples:\n\n  preimage invert-shallow photo.jpg --name hogb -o out/\n\n"
    "  preimage invert-shallow photo.jpg --name bow --vocabulary words.safetensors -o out/",
)
def invert_shallow(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures of one size; made grey.", show_default=False)],
    name: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="hog, hogb, dsift, lbp, brief, freak; with a vocabulary bow, vlad, fisher, llc, scspm, super-vector, textons.",
        ),
    ],
    out: Out,
    vocabulary: Annotated[
        Path | None, typer.Option(metavar="FILE", help="From `preimage vocabulary`, for bow and those after it.", show_default=False)
    ] = None,
    size: Size = None,
    C: Annotated[float, typer.Option("--C", metavar="NUMBER", help="Weight of the features.")] = 100.0,
    solver: StudySolver = "fast",
    iterations: Annotated[int | None, typer.Option(metavar="N", help="Instead of the solver's own number.", show_default=False)] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Reconstruct a photograph from a classical descriptor: HOG, dense SIFT, LBP, BRIEF, FREAK, or an encoding of visual words."""
    with guard():
        from ..representations.shallow import load_shallow
        from ..representations.vocabulary import load_vocabulary
        from ..tasks import invert
        from ..tasks.result import check_folder

        check_folder(out, overwrite)
        phi = load_shallow(name, None if vocabulary is None else load_vocabulary(vocabulary))
        x0 = [phi.space.encode(i, size=None if size is None else (size, size)) for i in images]
        options: dict[str, Any] = {"C": C, "solver": solver, "iterations": iterations, "seed": seed, "progress": not quiet}
        with saving(out, overwrite, images) as save:
            save(invert(phi, x0, **options))
