"""preimage paper: the paper's tables and figures."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import Field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError
from . import app
from .common import FAILED, guard, make_folder, names_in, resumable, saving, table, tell_json
from .loudness import Commands
from .options import (
    Address,
    Backend,
    Batch,
    InputSize,
    Iterations,
    Json,
    Layers,
    Length,
    Mirror,
    Net,
    Out,
    Overwrite,
    Pictures,
    Quiet,
    RunDevice,
    RunPrecision,
    Seed,
    Size,
    Space,
    StoreOut,
    StudySolver,
    Threads,
    Trust,
    Weights,
    Workers,
)  # fmt: skip
from .signals import tell
from .study import choose_backend, run_and_tell

if TYPE_CHECKING:
    from ..experiments import Experiment
    from ..experiments.hoggles import PairedDictionary


class PaperCommands(Commands):
    """The commands of `preimage paper`; those of the experiments, which bring PyTorch with them, are made when they are asked for."""

    _made = False

    @property  # type: ignore[override]
    def commands(self) -> dict[str, Any]:
        """All of them by name."""
        if not self._made:
            with guard():  # it takes seconds, in which the command may be ended
                self._all |= experiment_commands()
            self._made = True
        return self._all

    @commands.setter
    def commands(self, given: dict[str, Any]) -> None:
        self._all = dict(given)


paper = typer.Typer(cls=PaperCommands, help="Make the paper's tables and figures again.", no_args_is_help=True)
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
    solver: StudySolver = "paper",
    iterations: Length = 300,
    workers: Annotated[int, typer.Option(metavar="N", help="Processes that compute.")] = 1,
    quiet: Quiet = False,
) -> None:
    """How well HOGgles, HOG, HOGb and dense SIFT are inverted (the paper's Table 2): mean error in percent, 1.96·std/√n.

    Writes table.txt, .csv, .tex and .png (originals and reconstructions side by side), and keeps every inversion in the store
    DIR/store, which `preimage report DIR/store` shows. What is there, with the same pixels and settings, is not run again. HOGgles
    needs scikit-learn and, to learn its dictionary, scikit-image's pictures: the extra shallow.
    """
    with guard():
        from ..experiments import shallow_table as experiment
        from ..pixels.images import find_pictures
        from ..ranges import checked

        checked("workers", workers)
        found = find_pictures(images)
        make_folder(out)
        pairs = _dictionary(dictionary or out / "hoggles.safetensors", learn_from, not quiet)
        with resumable():
            made = experiment.shallow_table(
                found,
                out,
                pairs,
                size=size,
                solver=solver,
                iterations=iterations,
                workers=workers,
                progress=not quiet,
                report=lambda line: tell(f"preimage: error: {line}"),
            )
        again = sum(c.reused for c in made.cells)
        typer.echo(f"{made.text()}\n\n{experiment.NOTE}\n")
        typer.echo(f"{len(made.cells)} reconstructions ({again} were in the store already), {len(made.failures)} failed. Saved in {out}/")
        if made.failures:
            raise typer.Exit(FAILED)


@paper.command("hog-template", epilog="Example:\n\n  preimage paper hog-template person.npy -o person/")
def hog_template(
    template: Annotated[Path, typer.Argument(metavar="FILE", help="A .npy or .npz array (height, width, 27, 31 or 32) of HOG weights.")],
    out: Out,
    C: Annotated[float, typer.Option("--C", metavar="NUMBER", help="Weight of the template against the regularizers.")] = 1.0,
    solver: StudySolver = "paper",
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
        from ..tasks.result import check_folder

        check_folder(out, overwrite)
        w = load_template(template)
        with saving(out, overwrite, [template]) as save:
            save(maximize_template(w, C=C, solver=solver, iterations=iterations, seed=seed, progress=not quiet))


def experiment_commands() -> dict[str, Any]:
    """Return a command for each registered experiment, with its fields as flags, and one for all of them."""
    from ..experiments import known_experiments

    registry = known_experiments()
    made = typer.Typer(rich_markup_mode=None, add_completion=False)
    for name in registry:
        made.command(name, epilog=_EPILOG.format(name=name))(_command([name], registry[name]))
    everything = _command(list(registry), None)
    everything.__doc__ = "Every experiment of the list below that has jobs in a store, with its defaults: " + ", ".join(registry) + "."
    made.command("all", epilog=_EPILOG.format(name="all --smoke"))(everything)
    return dict(typer.main.get_group(made).commands)


_EPILOG = (
    "Example:\n\n  preimage paper {name} photos/ --net squeezenet1_1 -o study/\n\nThe same folder goes on where it stopped, and takes "
    "several experiments. Exit codes: 0 done, 1 some job failed (the others are kept), 2 wrong usage, 130 interrupted."
)


def _command(names: list[str], kind: type[Experiment] | None) -> Callable[..., None]:
    """The flags of a study and those of the experiment, as a function that typer can read."""
    own = {} if kind is None else {f.name: f for f in fields(kind)}  # type: ignore[arg-type]

    def command(**given: Any) -> None:
        with guard():
            values = {name: given.pop(name) for name in own}
            plain = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            _run_study(names, plain, **given)

    shared = [p for p in list(inspect.signature(_run_study, eval_str=True).parameters.values())[2:] if p.name not in own]
    more = [_parameter(f) for f in own.values()]
    command.__signature__ = inspect.Signature([*shared, *more])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [*shared, *more]}
    command.__doc__ = None if kind is None else inspect.getdoc(kind)
    return command


def _parameter(field: Field[Any]) -> inspect.Parameter:
    default, told = field.default, field.metadata
    kinds: dict[str, Any] = {"int": int, "float": float, "bool": bool, "str": str}
    kinds |= {"int | None": int | None, "str | None": str | None}
    kinds |= {"tuple[float, ...]": list[float], "tuple[str, ...]": list[str]}
    names = told["names"] or (("--" + field.name.replace("_", "-"),))
    option = typer.Option(*names, help=told["help"], metavar=told["metavar"])
    value = list(default) if isinstance(default, tuple) else default
    kind = Annotated[kinds[str(field.type)], option]  # type: ignore[valid-type]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=value, annotation=kind)


def _run_study(
    names: list[str],
    settings: dict[str, Any],
    *,
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="[IMAGE...]", help="Photographs, or folders of them; by default the package's three.")
    ] = None,
    out: StoreOut,
    net: Net = "squeezenet1_1",
    weights: Weights = "default",
    space: Space = None,
    size: InputSize = None,
    trust: Trust = False,
    layers: Layers = "",
    solver: Annotated[
        str | None, typer.Option(metavar="NAME", help="fast, paper, fourier-adam, adam or lbfgs.", show_default="fast")
    ] = None,
    iterations: Iterations = None,
    seed: Seed = 0,
    device: RunDevice = "cpu",
    precision: RunPrecision = "float32",
    workers: Workers = None,
    threads: Threads = 1,
    batch: Batch = None,
    backend: Backend = "local",
    address: Address = None,
    mirror: Mirror = None,
    quirk: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Do this as the original does; see `preimage paper quirks`.")
    ] = None,
    as_published: Annotated[bool, typer.Option("--as-published", help="All of the experiment's quirks, and the paper's solver.")] = False,
    smoke: Annotated[bool, typer.Option("--smoke", help="A few iterations on two early layers, to see that all works.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run experiments in a store and write their summaries."""
    from ..experiments import known_experiments
    from ..experiments.base import Study
    from ..experiments.study import choose_quirks
    from ..pixels.images import find_pictures
    from ..studies.store import store_for

    computing = choose_backend(backend, address, workers)
    registry = known_experiments()
    chosen = choose_quirks([registry[n] for n in names], quirk or [], as_published)
    experiments = {n: registry[n](**settings) for n in names}
    with store_for(out) as store:
        study = Study(
            store=store,
            images=find_pictures(images or []),
            network=net,
            weights=weights,
            space=space,
            size=size,
            trust=trust,
            layers=names_in(layers),
            solver=solver or ("paper" if as_published else "fast"),
            iterations=iterations,
            seed=seed,
            device=device,
            precision=precision,
            quirks=chosen,
            smoke=smoke,
        )
        run_and_tell(
            study, experiments, workers=workers, threads=threads, batch=batch, backend=computing, mirror=mirror, progress=not quiet
        )


@paper.command()
def quirks(as_json: Json = False) -> None:
    """List what the original does differently, for --quirk: by default the corrected way is taken."""
    with guard():
        from ..experiments import known_experiments

        registry = known_experiments()
        rows: list[list[Any]] = [[name, quirk, text] for name in registry for quirk, text in registry[name].quirks.items()]
        if as_json:
            tell_json("quirks", {"quirks": [dict(zip(("experiment", "quirk", "about"), row, strict=True)) for row in rows]})
        else:
            table(["experiment", "quirk", "what it does"], rows)


def _dictionary(path: Path, learn_from: Path | None, progress: bool) -> PairedDictionary:
    """Read the paired dictionary, or learn it and keep it there."""
    from ..experiments.hoggles import learn_dictionary, load_dictionary
    from ..pixels.images import check_file, find_pictures

    if path.is_file():
        if learn_from is not None:
            raise InputError(f"There is a dictionary in {str(path)!r} already: leave --learn-from out, or name a new file.")
        return load_dictionary(path)
    check_file(path)
    learned = learn_dictionary(None if learn_from is None else find_pictures([learn_from]), progress=progress)
    learned.save(path)
    typer.echo(f"HOGgles' dictionary ({len(learned.hog)} atoms) was learned and kept in {path}")
    return learned
