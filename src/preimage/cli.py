"""The command line: `preimage invert | maximize | caricature | networks | layers | demo`, and those of cli_shallow.py."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import cli_shallow
from .errors import ImageError, InputError, Interrupted, PreimageError, UnknownName

if TYPE_CHECKING:
    from .representations.cnn import Layer
    from .result import Result

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="preimage",
    help="Natural pre-images: see what a vision representation has kept of an image, and what its parts look for.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (what was found by then is saved).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Images = Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="PNG, JPEG, TIFF, WebP or BMP; one or several.", show_default=False)]
Net = Annotated[str, typer.Option("--net", metavar="NAME", help="A network: see `preimage networks`.")]
Weights = Annotated[str, typer.Option(metavar="FILE", help="'default', a .safetensors or .pt file, or 'none' for random weights.")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the result; it must be new or empty.")]
Solver = Annotated[str, typer.Option(metavar="NAME", help="fast, paper, adam or lbfgs.")]
Iterations = Annotated[int | None, typer.Option(metavar="N", help="Instead of the solver's own number.", show_default=False)]
Seed = Annotated[int, typer.Option(metavar="N", help="The same seed gives the same image.")]
Device = Annotated[str | None, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, mps.", show_default="cpu")]
Jitter = Annotated[int | None, typer.Option(metavar="PIXELS", help="1 for none.", show_default="max(stride/4, 1)")]
Leak = Annotated[float, typer.Option(metavar="SLOPE", help="Slope of the ReLUs below zero; 0.05 revives dead units.")]
Mask = Annotated[
    str | None,
    typer.Option(metavar="WHICH", help="Features that count: central:5, group:1/2, channels:0-63,70.", show_default="all"),
]
Squash = Annotated[bool, typer.Option("--squash", help="Resize without keeping the aspect ratio, as the paper did.")]
Video = Annotated[str | None, typer.Option(metavar="mp4|gif", help="Also keep a film of the optimisation.", show_default=False)]
Every = Annotated[int, typer.Option(metavar="N", help="A frame of the film every N iterations.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result in the folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print the record as JSON, for machines, and no progress bar.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


@app.command(
    epilog="Examples:\n\n  preimage invert photo.jpg --layer fire4 -o out/\n\n"
    "  preimage invert a.jpg b.jpg --layer fire9 --solver paper --restarts 4 -o out/"
)
def invert(
    images: Images,
    layer: Annotated[str, typer.Option(metavar="NAME", help="A layer: see `preimage layers NET`.")],
    out: Out,
    net: Net = "squeezenet1_1",
    weights: Weights = "default",
    C: Annotated[float | None, typer.Option("--C", metavar="NUMBER", help="Weight of the features.", show_default="100")] = None,
    restarts: Annotated[int, typer.Option(metavar="N", help="Pre-images of each photograph, from different starts.")] = 1,
    mask: Mask = None,
    solver: Solver = "fast",
    iterations: Iterations = None,
    seed: Seed = 0,
    device: Device = None,
    jitter: Jitter = None,
    leak: Leak = 0.0,
    squash: Squash = False,
    video: Video = None,
    every: Every = 5,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Reconstruct a photograph from the features of one layer.

    The result folder holds the pictures, the originals, the energy curve, the exact tensors and result.json.
    """
    options = _given(C=C) | {"restarts": restarts, "mask": _mask(mask), "fit": "squash" if squash else None}
    _run(
        lambda phi, common: _tasks().invert(phi, [str(i) for i in images], **options, **common),
        _Target(net, weights, layer, leak, device),
        _common(solver, iterations, seed, jitter, video, every, as_json or quiet),
        _Destination(out, overwrite, video, as_json),
    )


@app.command(
    epilog='Examples:\n\n  preimage maximize --unit "tree frog" -o out/\n\n'
    "  preimage maximize --layer fire5 --unit 12 --unit 40 --unit 99 -o out/\n\n"
    "  preimage maximize --layer fire5 --unit 12,7,7 --canvas input -o out/"
)
def maximize(
    unit: Annotated[
        list[str],
        typer.Option("--unit", "-u", metavar="UNIT", help="A class name, a channel, or channel,row,column. Repeat for several images."),
    ],
    out: Out,
    layer: Annotated[str | None, typer.Option(metavar="NAME", help="A layer: see `preimage layers NET`.", show_default="the last")] = None,
    net: Net = "squeezenet1_1",
    weights: Weights = "default",
    C: Annotated[float | None, typer.Option("--C", metavar="NUMBER", help="Weight of the unit.", show_default="10000")] = None,
    restarts: Annotated[int, typer.Option(metavar="N", help="Images of each unit, from different starts.")] = 1,
    canvas: Annotated[str, typer.Option(metavar="SIZE", help="auto, input, receptive-field or pixels.")] = "auto",
    everywhere: Annotated[bool, typer.Option("--everywhere", help="The channel's mean over the map, not its central unit.")] = False,
    solver: Solver = "fast",
    iterations: Iterations = None,
    seed: Seed = 0,
    device: Device = None,
    jitter: Jitter = None,
    leak: Leak = 0.0,
    video: Video = None,
    every: Every = 5,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the image that excites a unit or a class most."""
    options: dict[str, Any] = _given(C=C) | {"restarts": restarts, "everywhere": everywhere}
    options["canvas"] = int(canvas) if canvas.isdecimal() else canvas
    _run(
        lambda phi, common: _tasks().maximize(phi, [_unit(u) for u in unit], **options, **common),
        _Target(net, weights, layer, leak, device),
        _common(solver, iterations, seed, jitter, video, every, as_json or quiet),
        _Destination(out, overwrite, video, as_json),
    )


@app.command(epilog="Example:\n\n  preimage caricature photo.jpg --layer fire6 -o out/")
def caricature(
    images: Images,
    layer: Annotated[str, typer.Option(metavar="NAME", help="A layer: see `preimage layers NET`.")],
    out: Out,
    net: Net = "squeezenet1_1",
    weights: Weights = "default",
    C: Annotated[float | None, typer.Option("--C", metavar="NUMBER", help="Weight of the features.", show_default="1")] = None,
    mask: Mask = None,
    solver: Solver = "fast",
    iterations: Iterations = None,
    seed: Seed = 0,
    device: Device = None,
    jitter: Jitter = None,
    leak: Leak = 0.0,
    squash: Squash = False,
    video: Video = None,
    every: Every = 5,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Exaggerate what one layer sees in a photograph."""
    options = _given(C=C) | {"mask": _mask(mask), "fit": "squash" if squash else None}
    _run(
        lambda phi, common: _tasks().caricature(phi, [str(i) for i in images], **options, **common),
        _Target(net, weights, layer, leak, device),
        _common(solver, iterations, seed, jitter, video, every, as_json or quiet),
        _Destination(out, overwrite, video, as_json),
    )


@app.command()
def networks(as_json: Json = False) -> None:
    """List the networks that are known by name."""
    with _guard():
        from .networks.network import known_networks

        cards = known_networks()
        rows = [[c.name, f"{c.space.size}", "yes" if c.weights else "no", c.licence, c.paper] for c in cards]
        keys = ["name", "size", "trained weights", "licence", "paper"]
        _table(keys, rows, as_json)


@app.command()
def layers(
    net: Annotated[str, typer.Argument(metavar="NET", help="A network: see `preimage networks`.")],
    every: Annotated[bool, typer.Option("--all", help="All modules, by their dotted names too.")] = False,
    as_json: Json = False,
) -> None:
    """List the layers of a network: output shape, receptive field and stride in pixels, and the paper's jitter."""
    with _guard():
        from .networks.network import load_network

        infos = load_network(net, weights=None).layers(every)
        rows = [
            [
                i.name,
                "x".join(map(str, i.shape)),
                "global" if i.receptive_field is None else i.receptive_field,
                i.stride,
                i.jitter,
                i.kind,
            ]
            for i in infos
        ]
        _table(["layer", "output", "receptive field", "stride", "jitter", "kind"], rows, as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the pictures and the page.")] = Path("demo-out"),
) -> None:
    """Three inversions, four classes and a caricature with the embedded network, and a page that shows them."""
    with _guard():
        from .demo import run

        run(out)


def main() -> None:
    """The entry point of the command `preimage`."""
    # threads that wait must not spin: beside any other work on the machine that is many times slower. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    app()


class _Target:
    """Which representation, before it is loaded."""

    def __init__(self, net: str, weights: str, layer: str | None, leak: float, device: str | None) -> None:
        self.net, self.weights, self.layer, self.leak, self.device = net, weights, layer, leak, device

    def load(self) -> Layer:
        from .networks.network import load_network

        network = load_network(self.net, weights=None if self.weights == "none" else self.weights)
        name = self.layer or network.layers()[-1].name
        return network.layer(name, leak=self.leak)


class _Destination:
    """Where the result goes."""

    def __init__(self, out: Path, overwrite: bool, video: str | None, as_json: bool) -> None:
        if video not in (None, "mp4", "gif"):
            raise typer.BadParameter("mp4 or gif", param_hint="--video")
        self.out, self.overwrite, self.video, self.as_json = out, overwrite, video, as_json

    def check(self) -> None:
        from .result import check_folder

        check_folder(self.out, self.overwrite)

    def save(self, result: Result) -> None:
        result.save(self.out, overwrite=self.overwrite, video=self.video if result.frames else None)
        if self.as_json:
            typer.echo(json.dumps({"folder": str(self.out), **result.summary()}, ensure_ascii=False))
            return
        for line in result.captions():
            typer.echo(line)
        typer.echo(f"{'Interrupted. ' if result.interrupted else ''}{result.evaluations} evaluations an image. Saved in {self.out}/")


def _run(task: Callable[[Layer, dict[str, Any]], Result], target: _Target, common: dict[str, Any], destination: _Destination) -> None:
    """Load, run, save; what was found before Ctrl-C is saved too."""
    with _guard():
        destination.check()
        phi = target.load()
        try:
            result = task(phi, common | {"device": target.device})
        except Interrupted as stop:
            if stop.result is None:
                raise
            destination.save(stop.result)
            raise typer.Exit(INTERRUPTED) from None
        destination.save(result)


def _common(
    solver: str, iterations: int | None, seed: int, jitter: int | None, video: str | None, every: int, quiet: bool
) -> dict[str, Any]:
    return {
        "solver": solver,
        "iterations": iterations,
        "seed": seed,
        "jitter": jitter,
        "frames": every if video else 0,
        "progress": not quiet,
    }


@contextmanager
def _guard() -> Iterator[None]:
    """Every error ends in one line on stderr and an honest exit code; PREIMAGE_DEBUG=1 shows where it came from."""
    plain = warnings.showwarning
    warnings.showwarning = lambda message, *rest, **more: print(f"preimage: warning: {_line(message)}", file=sys.stderr)
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except KeyboardInterrupt:
        print("preimage: interrupted before there was anything to save", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        if os.environ.get("PREIMAGE_DEBUG"):
            raise
        mine = isinstance(error, PreimageError)
        text = _line(error) if mine else f"{type(error).__name__}: {_line(error)} (PREIMAGE_DEBUG=1 shows where)"
        print(f"preimage: error: {text}", file=sys.stderr)
        usage = isinstance(error, (InputError, UnknownName)) and not isinstance(error, ImageError)
        raise typer.Exit(USAGE if usage else FAILED) from None
    finally:
        warnings.showwarning = plain


def _line(message: object) -> str:
    return " ".join(str(message).split())


def _tasks() -> Any:
    from . import tasks

    return tasks


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given; the others keep the task's own defaults."""
    return {k: v for k, v in options.items() if v is not None}


def _mask(text: str | None) -> Any:
    if text is None:
        return None
    with _guard():
        from .representations.masks import parse_mask

        return parse_mask(text)


def _unit(text: str) -> int | str | tuple[int, ...]:
    parts = text.split(",")
    if all(p.strip().isdecimal() for p in parts):
        numbers = tuple(int(p) for p in parts)
        return numbers[0] if len(numbers) == 1 else numbers
    return text


def _table(keys: list[str], rows: list[list[Any]], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps([dict(zip(keys, [_plain(v) for v in row], strict=True)) for row in rows], ensure_ascii=False))
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for key, example in zip(keys, rows[0], strict=True):
        table.add_column(key, justify="right" if isinstance(example, int) else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(str, row))
    Console().print(table)


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, str)) else float(value)


cli_shallow.attach(app)
