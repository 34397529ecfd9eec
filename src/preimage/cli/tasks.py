"""preimage invert, maximize, caricature."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import app
from .common import FAILED, guard, keep, plain, saved_if_interrupted, source_of, tell_json, tell_state
from .folder import invert_folder, refuse_what_a_store_cannot_use
from .networks import load
from .options import (
    Compiled,
    Device,
    Every,
    Images,
    InputSize,
    Iterations,
    Jitter,
    Json,
    Judge,
    KeepState,
    Labels,
    LayerName,
    LayerOrLast,
    Leak,
    Mask,
    MaxMemory,
    Net,
    Objective,
    Out,
    Overwrite,
    Parameterization,
    Precision,
    Prior,
    Quality,
    Quiet,
    Recipe,
    Seed,
    Seeds,
    Solver,
    Space,
    Squash,
    Start,
    Transform,
    Trust,
    Video,
    Weights,
)

if TYPE_CHECKING:
    from ..networks.network import Network
    from ..representations.cnn import Layer
    from ..tasks.result import Result


@app.command(
    epilog="Examples:\n\n  preimage invert photo.jpg --layer fire4 -o out/\n\n"
    "  preimage invert a.jpg b.jpg --layer fire9 --solver paper --restarts 4 -o out/\n\n"
    "  preimage invert photos/ --layer fire4 --seeds 0-7 -o study/\n\n"
    "  preimage invert photo.jpg --net timm/vit_base_patch16_224 --layer blocks.3:grid -o out/\n\n"
    "  preimage invert photo.jpg --net my_models:build --space imagenet:224 --layer layer2 -o out/"
)
def invert(
    context: typer.Context,
    images: Images,
    layer: LayerName,
    out: Out,
    net: Net = "squeezenet1_1",
    weights: Weights = "default",
    space: Space = None,
    size: InputSize = None,
    trust: Trust = False,
    C: Annotated[float | None, typer.Option("--C", metavar="NUMBER", help="Weight of the features.", show_default="100")] = None,
    restarts: Annotated[int, typer.Option(metavar="N", help="Pre-images of each photograph, from different starts.")] = 1,
    mask: Mask = None,
    recipe: Recipe = None,
    objective: Objective = None,
    transform: Transform = None,
    parameterization: Parameterization = None,
    prior: Prior = None,
    start: Start = None,
    solver: Solver = None,
    iterations: Iterations = None,
    quality: Quality = None,
    seed: Seed = 0,
    seeds: Seeds = None,
    device: Device = None,
    precision: Precision = "float32",
    max_memory: MaxMemory = None,
    compiled: Compiled = False,
    jitter: Jitter = None,
    leak: Leak = 0.0,
    squash: Squash = False,
    video: Video = None,
    every: Every = 5,
    keep_state: KeepState = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Reconstruct a photograph from the features of one layer.

    The result folder holds the pictures, the originals, the energy curve, the exact tensors and result.json. Of a folder it is a
    store: a result for each picture, where one that cannot be read costs no other, and the same command goes on.
    """
    options = _given(C=C) | {"restarts": _restarts(restarts, seeds, seed), "mask": _mask(mask), "fit": "squash" if squash else None}
    if any(i.is_dir() for i in images):
        refuse_what_a_store_cannot_use(context)
        _parts(recipe, objective, transform, parameterization, prior, start, jitter)  # refused here as for one picture
        invert_folder(
            images, out, weights=weights, network=net, space=space, size=size, trust=trust, layer=layer, leak=leak, C=C, restarts=restarts,
            seeds=seeds_in(seeds) or (seed,), mask=mask, recipe=recipe, objective=objective, transform=transform, jitter=jitter,
            parameterization=parameterization, prior=prior, start=start, solver=solver, iterations=iterations, quality=quality,
            device=device, precision=precision, squash=squash, as_json=as_json, quiet=quiet,
        )  # fmt: skip
        return
    _run(
        lambda phi, common: _tasks().invert(phi, [str(i) for i in images], **options, **common),
        _Target(net, weights, space, size, trust, layer, leak, device),
        _common(solver, iterations, seeds_in(seeds) or seed, precision, max_memory, compiled, video, every, keep_state, as_json or quiet)
        | _parts(recipe, objective, transform, parameterization, prior, start, jitter)
        | {"quality": quality},
        _Destination(out, overwrite, video, as_json, images, seeds=seeds_in(seeds)),
    )


@app.command(
    epilog='Examples:\n\n  preimage maximize --unit "tree frog" -o out/\n\n'
    "  preimage maximize --layer fire5 --unit 12 --unit 40 --unit 99 -o out/\n\n"
    "  preimage maximize --layer fire5 --unit 12,7,7 --canvas input -o out/\n\n"
    "  preimage maximize --layer fire5 --unit 3:0.5,7:-1 --direction concept.safetensors -o out/"
)
def maximize(
    unit: Annotated[
        list[str] | None,
        typer.Option(
            "--unit",
            "-u",
            metavar="UNIT",
            help="A class, a channel, channel,row,column, or a sum as 3:0.5,7:-1. Repeat for several images.",
            show_default=False,
        ),
    ] = None,
    *,
    out: Out,
    direction: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE[:NAME|ROW]", help="A vector over channels, .npy or .safetensors; repeat.", show_default=False),
    ] = None,
    layer: LayerOrLast = None,
    net: Net = "squeezenet1_1",
    weights: Weights = "default",
    space: Space = None,
    size: InputSize = None,
    trust: Trust = False,
    labels: Labels = None,
    C: Annotated[float | None, typer.Option("--C", metavar="NUMBER", help="Weight of the unit.", show_default="10000")] = None,
    restarts: Annotated[int, typer.Option(metavar="N", help="Images of each unit, from different starts.")] = 1,
    canvas: Annotated[str, typer.Option(metavar="SIZE", help="auto, input, receptive-field or pixels.")] = "auto",
    stats: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Of `preimage statistics`: each unit's own largest value for Z.", show_default="estimated"),
    ] = None,
    everywhere: Annotated[bool, typer.Option("--everywhere", help="The channel's mean over the map, not its central unit.")] = False,
    recipe: Recipe = None,
    objective: Objective = None,
    transform: Transform = None,
    parameterization: Parameterization = None,
    prior: Prior = None,
    start: Start = None,
    solver: Solver = None,
    iterations: Iterations = None,
    quality: Quality = None,
    seed: Seed = 0,
    seeds: Seeds = None,
    device: Device = None,
    precision: Precision = "float32",
    max_memory: MaxMemory = None,
    compiled: Compiled = False,
    jitter: Jitter = None,
    leak: Leak = 0.0,
    judge: Judge = None,
    video: Video = None,
    every: Every = 5,
    keep_state: KeepState = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the image that excites a unit or a class most."""
    options: dict[str, Any] = _given(C=C) | {"restarts": _restarts(restarts, seeds, seed), "everywhere": everywhere, "stats": stats}
    options["canvas"] = int(canvas) if canvas.isdecimal() else canvas
    if not unit and not direction:
        raise typer.BadParameter("Say what to excite: --unit UNIT, or --direction FILE.", param_hint="--unit")
    with guard():
        wanted = [*(parse_sum(u) for u in unit or ()), *_directions(direction or ())]
    _run(
        lambda phi, common: _tasks().maximize(phi, wanted, **options, **common),
        _Target(net, weights, space, size, trust, layer, leak, device, labels),
        _common(solver, iterations, seeds_in(seeds) or seed, precision, max_memory, compiled, video, every, keep_state, as_json or quiet)
        | _parts(recipe, objective, transform, parameterization, prior, start, jitter)
        | {"quality": quality},
        _Destination(out, overwrite, video, as_json, judge=judge, stats=stats if unit and not everywhere else None, seeds=seeds_in(seeds)),
    )


@app.command(epilog="Example:\n\n  preimage caricature photo.jpg --layer fire6 -o out/")
def caricature(
    images: Images,
    layer: LayerName,
    out: Out,
    net: Net = "squeezenet1_1",
    weights: Weights = "default",
    space: Space = None,
    size: InputSize = None,
    trust: Trust = False,
    C: Annotated[float | None, typer.Option("--C", metavar="NUMBER", help="Weight of the features.", show_default="10")] = None,
    mask: Mask = None,
    recipe: Recipe = None,
    objective: Objective = None,
    transform: Transform = None,
    parameterization: Parameterization = None,
    prior: Prior = None,
    start: Start = None,
    solver: Solver = None,
    iterations: Iterations = None,
    quality: Quality = None,
    seed: Seed = 0,
    device: Device = None,
    precision: Precision = "float32",
    max_memory: MaxMemory = None,
    compiled: Compiled = False,
    jitter: Jitter = None,
    leak: Leak = 0.0,
    squash: Squash = False,
    video: Video = None,
    every: Every = 5,
    keep_state: KeepState = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Exaggerate what one layer sees in a photograph."""
    options = _given(C=C) | {"mask": _mask(mask), "fit": "squash" if squash else None}
    _run(
        lambda phi, common: _tasks().caricature(phi, [str(i) for i in images], **options, **common),
        _Target(net, weights, space, size, trust, layer, leak, device),
        _common(solver, iterations, seed, precision, max_memory, compiled, video, every, keep_state, as_json or quiet)
        | _parts(recipe, objective, transform, parameterization, prior, start, jitter)
        | {"quality": quality},
        _Destination(out, overwrite, video, as_json, images),
    )


def _tasks() -> Any:
    from .. import tasks

    return tasks


def _given(**options: Any) -> dict[str, Any]:
    """The options that were given; the others keep the task's own defaults."""
    return {k: v for k, v in options.items() if v is not None}


def _mask(text: str | None) -> Any:
    if text is None:
        return None
    with guard():
        from ..representations.masks import parse_mask

        return parse_mask(text)


def seeds_in(text: str | None) -> tuple[int, ...] | None:
    """Return the seeds of a range or a list, in the order in which they are written.

    >>> seeds_in("0-3"), seeds_in("0,3,9"), seeds_in(None)
    ((0, 1, 2, 3), (0, 3, 9), None)
    """
    if text is None:
        return None
    found: list[int] = []
    for part in text.split(","):
        m = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if m is None or (m[2] is not None and int(m[2]) < int(m[1])):
            raise typer.BadParameter(f"seeds are written 0-7, or 0,3,9; got {text!r}", param_hint="--seeds")
        found += range(int(m[1]), int(m[2] or m[1]) + 1)
    return tuple(dict.fromkeys(found))


def _restarts(restarts: int, seeds: str | None, seed: int) -> int:
    """How many images of each request: one for each of several seeds."""
    chosen = seeds_in(seeds)
    if chosen is not None and (restarts != 1 or seed != 0):
        raise typer.BadParameter("--seeds takes the place of --seed and --restarts: leave these out", param_hint="--seeds")
    return restarts if chosen is None else len(chosen)


def parse_unit(text: str) -> int | str | tuple[int, ...]:
    """Return a unit as it is written on the command line: a number, channel,row,column, or a class name."""
    parts = text.split(",")
    if all(p.strip().isdecimal() for p in parts):
        numbers = tuple(int(p) for p in parts)
        return numbers[0] if len(numbers) == 1 else numbers
    return text


def parse_sum(text: str) -> int | str | tuple[int, ...] | dict[int | str, float]:
    """Return a unit, or a sum of weighted units.

    >>> parse_sum("3:0.5,7:-1"), parse_sum("12,7,7"), parse_sum("tree frog")
    ({3: 0.5, 7: -1.0}, (12, 7, 7), 'tree frog')
    """
    weighted = [re.fullmatch(r"\s*(.+?)\s*:\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*", p) for p in text.split(",")]
    if all(weighted):
        return {int(m[1]) if m[1].isdecimal() else m[1]: float(m[2]) for m in weighted if m}
    return parse_unit(text)


def _directions(files: Sequence[str]) -> list[Any]:
    from ..representations.vectors import parse_direction

    return [parse_direction(f) for f in files]


@dataclass(frozen=True)
class _Target:
    """Which representation, before it is loaded."""

    net: str
    weights: str
    space: str | None
    size: str | None
    trust: bool
    layer: str | None
    leak: float
    device: str | None
    labels: Path | None = None

    def load(self) -> Layer:
        network = load(self.net, self.weights, self.space, self.size, self.trust, labels=self.labels)
        name = next((i.name for i in reversed(network.layers())), "") if self.layer is None else self.layer
        return network.layer(name, leak=self.leak)


class _Destination:
    """Where the result goes."""

    def __init__(
        self,
        out: Path,
        overwrite: bool,
        video: str | None,
        as_json: bool,
        images: Sequence[Path] = (),
        judge: str | None = None,
        stats: Path | None = None,
        seeds: tuple[int, ...] | None = None,
    ) -> None:
        if video not in (None, "mp4", "gif"):
            raise typer.BadParameter("mp4 or gif", param_hint="--video")
        self.images, self._judge, self.stats, self.seeds = images, judge, stats, seeds
        self.phi: Layer | None = None
        self.judge: Network | None = None
        self.sources: list[dict[str, str]] = []
        self.out, self.overwrite, self.video, self.as_json = out, overwrite, video, as_json

    def check(self) -> None:
        from ..pixels.images import read_image
        from ..tasks.result import check_folder, check_video

        check_folder(self.out, self.overwrite)
        if self._judge is not None:
            self.judge = load(self._judge, "default", None, None, False)
        if self.video:
            check_video(self.video)
        for image in self.images:  # a wrong path costs no loading of a network
            read_image(image)
        self.sources = [source_of(image) for image in self.images]  # now: a file may be gone when the work is done

    def save(self, result: Result) -> None:
        if self.seeds is not None:  # their own names, not those of restarts
            of = [self.seeds[b % len(self.seeds)] for b in range(len(result.labels))]
            result.labels = [f"{re.sub(r' restart [0-9]+$', '', label)} seed {s}" for label, s in zip(result.labels, of, strict=True)]
        if self.sources:
            result.config["files"] = self.sources
        try:
            self._look_again(result)
        except BaseException:  # whatever it was, Ctrl-C too: what was computed is not lost for it
            keep(result, self.out, self.overwrite, None)
            raise
        keep(result, self.out, self.overwrite, self.video if result.frames else None)
        if self.as_json:
            tell_json("result", {"folder": str(self.out), **result.summary()})
            tell_state(result, self.out)
            return
        for line in result.captions():
            typer.echo(plain(line))
        if trial := result.config.get("precision_trial"):
            typer.echo(_trial_line(trial, result.config["precision"]))
        if source := result.config.get("M_source"):
            typer.echo(_scale_line(source, result))
        typer.echo(f"{'Interrupted. ' if result.interrupted else ''}{result.evaluations} evaluations an image. Saved in {self.out}/")
        tell_state(result, self.out)

    def _look_again(self, result: Result) -> None:
        """Ask the judge and the statistics, where they were asked for, what they say of the images."""
        if self.judge is not None:
            from ..tasks.judged import judge_result

            judge_result(result, self.judge)
        if self.stats is not None and self.phi is not None:
            from ..tasks.natural import natural_check

            natural_check(result, self.phi, self.stats)


def _trial_line(trial: dict[str, float], chosen: str) -> str:
    faster, alike = trial["float32"] / trial["bfloat16"], trial["cosine"]
    return f"Computed in {chosen}: bfloat16 is {faster:.1f} times as fast as float32, and the cosine of their gradients {alike:.3f}."


def _scale_line(source: str, result: Result) -> str:
    """Where Z is from, if there is one, and how far the images go beyond what photographs reach."""
    if not source.startswith("statistics"):
        how = " For each unit's own: preimage statistics NET IMAGES… -o FILE, then --stats FILE."
        better = "" if result.config["everywhere"] else how
        return f"Z is {source}.{better}"
    assert result.activation is not None
    times = len(result.labels) // len(result.config["M"])
    reached = [a / m for a, m in zip(result.activation.tolist(), (m for m in result.config["M"] for _ in range(times)), strict=True)]
    times_largest = f"{', '.join(f'{r:.2g}' for r in reached)} times the largest"
    if result.config["Z"] is None:
        return f"Reached {times_largest} answer in {source}."
    return f"Z is from {source}; reached {times_largest} of these."


def _run(task: Callable[[Layer, dict[str, Any]], Result], target: _Target, common: dict[str, Any], destination: _Destination) -> None:
    """Load, run, save; what was found before Ctrl-C is saved too."""
    with guard():
        destination.check()
        destination.phi = phi = target.load()
        with saved_if_interrupted(destination.save):
            result = task(phi, common | {"device": target.device})
            destination.save(result)
        if any(s != "ok" for s in result.status):  # saved, but no success
            raise typer.Exit(FAILED)


def _common(
    solver: str | None,
    iterations: int | None,
    seed: int | tuple[int, ...],
    precision: str,
    max_memory: str | None,
    compiled: bool,
    video: str | None,
    every: int,
    keep_state: bool,
    quiet: bool,
) -> dict[str, Any]:
    """The arguments that the three tasks share, by their names."""
    from ..solvers.compute import Compute
    from ..solvers.starts import EachSeed
    from ..tasks import Monitor

    return {
        "solver": solver,
        "iterations": iterations,
        "seed": EachSeed(seed) if isinstance(seed, tuple) else seed,
        "compute": Compute(precision=precision, max_memory=max_memory, compiled=compiled),
        "monitor": Monitor(frames=every if video else 0, keep_state=keep_state),
        "progress": not quiet,
    }


def _parts(
    recipe: str | None,
    objective: list[str] | None,
    transform: list[str] | None,
    parameterization: str | None,
    prior: list[str] | None,
    start: str | None,
    jitter: int | None,
) -> dict[str, Any]:
    """The parts that were chosen, as arguments of a task. --jitter N is short for --transform jitter:amount=N."""
    with guard():
        from ..methods.text import parts_from_text

        if jitter is not None and transform:
            raise typer.BadParameter("--jitter is short for --transform jitter:amount=N: leave one of them out.", param_hint="--jitter")
        views = transform or ([] if jitter is None else [f"jitter:amount={jitter}"])
        return {"recipe": recipe, "start": start} | parts_from_text(objective or (), views, parameterization, prior or ())
