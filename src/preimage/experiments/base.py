"""What every experiment shares: the study that it is part of, its jobs, and the summary that it writes."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from ..errors import ImageError, InputError
from ..ranges import RANGES, checked
from ..registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from ..networks.network import Network
    from ..representations.cnn import Layer
    from ..representations.listing import LayerInfo
    from ..studies.jobs import Job
    from ..studies.store import Record, Store

STRENGTHS = (1.0, 20.0, 100.0, 300.0)  # C of exp_inversion.m
_NO_FEATURES = ("ReLU", "Pool", "Dropout", "Norm", "Softmax", "CrossMap")  # kinds of layers that only pass on what another computed
SQUASH = {"squash": "Resize photographs to the network's size without keeping their aspect ratio."}
EARLY = {"early-error": "Take the error from the last step before its update, not at the image that is kept."}
PNG = {"stretched-png": "Take the numbers of 8-bit pictures whose contrast was stretched, not of the images themselves."}

_SMOKE_ITERATIONS = 6


@dataclass(frozen=True)
class Photo:
    """A photograph in the store. sha: of its canonical tensor, which names it there."""

    label: str
    sha: str


class Experiment(Protocol):
    """A family of tables and figures: a frozen dataclass whose fields are its own flags on the command line (`flag`).

    title, caption: for people, about its summary. quirks: what the original does differently, by name, each a sentence.
    """

    title: ClassVar[str]
    caption: ClassVar[str]
    quirks: ClassVar[Mapping[str, str]]

    def jobs(self, study: Study) -> list[Job]:
        """The jobs whose results it needs; those of another experiment are shared with it."""

    def summarise(self, study: Study, found: Found, out: Path) -> Summary:
        """Tables and figures of what was found; figures are written into the folder `out`."""


EXPERIMENTS: Registry[type[Experiment]] = Registry("experiment", see="preimage paper --help")


def flag(default: Any, help: str, *names: str, metavar: str | None = None) -> Any:
    """A field of an experiment that is a flag of its command."""
    return field(default=default, metadata={"help": help, "names": names, "metavar": metavar})


def check_flags(experiment: Experiment) -> None:
    """Raise InputError for a flag whose number is outside the table of ranges, before anything is made of it."""
    own: Any = experiment
    for f in fields(own) if is_dataclass(own) else ():
        value = getattr(experiment, f.name)
        if "help" in f.metadata and f.name in RANGES and value is not None:
            for number in value if isinstance(value, (list, tuple)) else [value]:
                checked(f.name, number)


@dataclass(frozen=True)
class ChosenParts:
    """A recipe by name, and parts as text ("name:setting=value") that take the place of its own; nothing by default.

    >>> ChosenParts(recipe="mahendran2016").settings()
    {'recipe': 'mahendran2016'}
    """

    recipe: str | None = None
    objective: tuple[str, ...] = ()
    transform: tuple[str, ...] = ()
    parameterization: str | None = None
    prior: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        """Return what was chosen, as settings of a job. Raises UnknownName and InputError for what is not there."""
        from ..methods.recipe import recipe_named
        from ..methods.text import parts_from_text

        if self.recipe is not None:
            recipe_named(self.recipe)
        parts_from_text(self.objective, self.transform, self.parameterization, self.prior)
        return {f.name: v for f in fields(self) if (v := getattr(self, f.name))}

    def strength(self, task: str, default: float) -> float:
        """Return the recipe's C for a task, or the default. Raises InputError where the recipe is not for the task."""
        from ..methods.recipe import recipe_named

        return default if self.recipe is None else recipe_named(self.recipe).parts(task).C


@dataclass
class Study:
    """What the experiments of one run share: a store, a network, photographs, a solver.

    layers: names; empty for the network's own, the parts of a module left out. iterations: None for the solver's own number.
    precision: of the network in the loop, float32 or bfloat16. parts: a recipe and parts in the place of its own, for all jobs.
    space, size, trust: of the network, as on the command line: the pixels it takes, another input size, whether a program may be run.
    quirks: names of what is to be done as the original does. smoke: a few iterations on two early layers, to see that all works.
    unreadable: photographs that had to be left out, path -> reason, as far as they were asked for.
    """

    store: Store
    images: Sequence[str | Path] = ()
    network: str = "squeezenet1_1"
    weights: str = "default"
    layers: Sequence[str] = ()
    solver: str = "fast"
    iterations: int | None = None
    seed: int = 0
    device: str = "cpu"
    precision: str = "float32"
    quirks: frozenset[str] = frozenset()
    smoke: bool = False
    parts: ChosenParts = ChosenParts()
    space: str | None = None
    size: str | None = None
    trust: bool = False
    unreadable: dict[str, str] = field(default_factory=dict, init=False)
    _phis: dict[str, Layer] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        from ..representations.devices import usable_device
        from ..solvers.compute import check_precision
        from ..solvers.plans import solver_named

        if not isinstance(self.network, str):
            raise InputError(
                "A study takes the name of a network, as each of its jobs opens it: 'squeezenet1_1', a file, or 'package.module:function' "
                f"for one of your own; got {self.network!r:.80}."
            )
        checked("seed", self.seed)
        if self.iterations is not None:
            checked("iterations", self.iterations)
        if self.solver != "fast":
            solver_named(self.solver)
        if self.precision == "auto":
            raise InputError("precision is float32 or bfloat16 in a store, whose content must not depend on a stopwatch; got 'auto'.")
        check_precision(self.precision)
        usable_device(self.device)

    @cached_property
    def net(self) -> Network:
        from ..studies.jobs import open_network

        return open_network(*self._opening)[0]

    @property
    def _opening(self) -> tuple[str, str, str, str | None, str | None, bool]:
        return self.network, self.weights, self.device, self.space, self.size, self.trust

    def phi(self, layer: str) -> Layer:
        """A layer of the network, opened once: that takes a forward pass."""
        if layer not in self._phis:
            self._phis[layer] = self.net.layer(layer)
        return self._phis[layer]

    @cached_property
    def chosen(self) -> list[LayerInfo]:
        """The layers of the study, in the network's order."""
        own = self.net.layers()
        if self.layers:
            return [self._info(name) for name in self.layers]
        if not self.net.card.names:
            raise InputError(f"{self.network} has no layer names of its own: choose with --layers (`preimage layers {self.network}`).")
        found = [i for i in own if "/" not in i.name and "Dropout" not in i.kind]
        return found[2:4] if self.smoke else found

    @property
    def features(self) -> list[LayerInfo]:
        """Those that compute something: no ReLU, pooling or normalisation, unless nothing else was chosen."""
        return [i for i in self.chosen if not any(word in i.kind for word in _NO_FEATURES)] or self.chosen

    @cached_property
    def photographs(self) -> list[Photo]:
        """The study's photographs at the network's size, kept in the store; those of the package if none were given.

        Those that cannot be read are left out and named in `unreadable`. Raises InputError if none can.
        """
        return self.photos(None)

    def photos(self, size: int | None, space: Any = None) -> list[Photo]:
        """Photographs in a pixel space (the network's), cut to a square of this size (None: the space's own or the picture's).

        What cannot be read is treated as in `photographs`.
        """
        from ..pixels.images import reference_images
        from ..tasks.result import file_names

        space = space or self.net.space
        paths = [Path(p) for p in (self.images or reference_images())][: 2 if self.smoke else None]
        found = []
        for label, path in zip(file_names([p.stem for p in paths]), paths, strict=True):
            fit = "squash" if "squash" in self.quirks else None
            try:
                x = space.encode(path, size=None if size is None else (size, size), fit=fit)
            except ImageError as error:
                self.unreadable[str(path)] = str(error)
            else:
                found.append(Photo(label, self.store.add_input(x, space.decode(x))))
        if not found:
            raise InputError(f"None of the {len(paths)} images could be read; the first: {self.unreadable[str(paths[0])]}")
        return found

    def job(self, experiment: str, task: str, *, photo: Photo | None = None, **settings: Any) -> Job:
        """A job with the study's network (unless a representation is named), solver and seed."""
        from ..studies.jobs import Job, open_network

        common: dict[str, Any] = {n: getattr(self, n) for n in ("solver", "iterations", "seed", "device")}
        if self.smoke and self.iterations is None:
            common["iterations"] = _SMOKE_ITERATIONS
        if "representation" not in settings:
            sha = open_network(*self._opening)[1]
            common |= {"network": self.network, "weights": self.weights, "weights_sha256": sha, "precision": self.precision}
            common |= {"space": self.space, "size": self.size, "trust": self.trust}
        if photo is not None:
            common |= {"original": photo.sha, "image": photo.label}
            if "squash" in self.quirks:
                common["fit"] = "squash"
        return Job(experiment=experiment, task=task, **common | self._parts | settings)

    @cached_property
    def _parts(self) -> dict[str, Any]:
        return self.parts.settings()

    def _info(self, name: str) -> LayerInfo:
        known = {i.name: i for i in [*self.net.layers(every=True), *self.net.layers()]}
        return known[name] if name in known else self.phi(name).info


_NAMED = 20  # failed jobs that a summary names


class Found:
    """The records of an experiment's jobs. A job that failed, or was never run, has none.

    lost: the jobs that failed, with what the store says of each.
    """

    def __init__(self, store: Store, jobs: Sequence[Job]) -> None:
        rows = {r.key: r for r in store.records(status="done")}
        self.store, self.jobs = store, list(jobs)
        self.pairs: list[tuple[Job, Record]] = [(job, rows[job.key]) for job in jobs if job.key in rows]
        self.lost: list[tuple[Job, Record]] = []
        if any(job.key not in rows for job in jobs):
            failed = {r.key: r for r in store.records(status="failed")}
            self.lost = [(job, failed[job.key]) for job in jobs if job.key in failed and job.key not in rows]

    def with_earlier(self, experiment: str) -> Found:
        """Return these and all other results of the experiment in the store, of earlier commands with other settings."""
        mine = {r.key for _, r in self.pairs}
        others = [r for r in self.store.records(experiment=experiment, status="done") if r.key not in mine]
        for record in others:
            with suppress(InputError):  # of a later version, perhaps
                self.pairs.append((_job_of(record), record))
        return self

    def where(self, **settings: Any) -> list[Record]:
        """The records of the jobs with these settings, in the order of the jobs."""
        return [r for job, r in self.pairs if all(getattr(job, k) == v for k, v in settings.items())]

    def picture(self, **settings: Any) -> Tensor | None:
        """The image of the first such job, levels 0–255 (1, C, H, W), None if there is none."""
        found = self.where(**settings)
        return self.store.result(found[0].key).images if found else None

    def without_image(self, name: Callable[[Record], str]) -> list[str]:
        """Notes about results in which no image was found: which they are, by the reason that each of them gives."""
        reasons: dict[str, list[str]] = {}
        for _, r in self.pairs:
            if not r.metrics["ok"]:
                reasons.setdefault(self.store.result(r.key).status[0], []).append(name(r))
        return [f"No image was found for {', '.join(names)}, which stay grey: {reason}" for reason, names in reasons.items()]

    def rows(self, columns: Iterable[str]) -> list[dict[str, Any]]:
        """Return a row of a table for every job that has ended, with ok = 0 for those that failed, which have no numbers."""
        names = list(columns)
        return [row(r, names) for _, r in self.pairs] + [row(r, names) | {"ok": 0.0} for _, r in self.lost]

    def missing(self) -> list[str]:
        """Return a note about the jobs without a result: how many there are, which, and why."""
        count = len({job.key for job in self.jobs}) - len({r.key for _, r in self.pairs} & {job.key for job in self.jobs})
        if not count:
            return []
        reasons: dict[str, list[str]] = {}
        for job, r in self.lost[:_NAMED]:
            reasons.setdefault(r.reason, []).append(job.title)
        named = "; ".join(f"{', '.join(titles)}: {reason}" for reason, titles in reasons.items())
        more = "; and more, see: preimage runs DIR --status failed" if len(self.lost) > _NAMED else ""
        return [f"{count} of its jobs failed and are missing here{': ' if named else '.'}{named}{more}"]

    def original(self, photo: Photo, space: Any) -> Tensor:
        """A photograph as levels 0–255."""
        levels: Tensor = space.decode(self.store.input(photo.sha))
        return levels


def _job_of(record: Record) -> Job:
    """The job that a result in the store is of."""
    from ..studies.jobs import Job

    known = {f.name for f in fields(Job)}
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in record.config.items() if k in known}
    if "original" in given:
        given["original"] = Path(given["original"]).stem
    return Job(**given)


@dataclass
class Summary:
    """What an experiment has to say: a table, curves and figures, with plain values only.

    columns: name -> what it is. rows: dicts with these names. figures: file names in the folder. curves: each with label, x, x_names,
    y, low, high. notes: lines that a reader must know. keys: the results it was made of. beside: the key of a result -> the file in the
    folder of the natural examples that are shown under its picture.
    """

    title: str
    caption: str
    columns: dict[str, str]
    rows: list[dict[str, Any]]
    figures: list[str] = field(default_factory=list)
    curves: list[dict[str, Any]] = field(default_factory=list)
    y_label: str = ""
    notes: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    beside: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """summary.json, table.json and table.csv."""
        from ..pixels.images import atomic_write

        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, list(self.columns), lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self.rows)
        plain = _finite(self.__dict__)
        texts = {"table.csv": buffer.getvalue(), "table.json": _json(plain["rows"]), "summary.json": _json(plain)}
        for name, text in texts.items():
            with atomic_write(folder / name) as file:
                file.write(text.encode())


def interval(values: Sequence[float]) -> tuple[float, float]:
    """`metrics.interval` of numbers: the mean and half of its 95 % interval, NaN where there are too few values.

    >>> interval([1.0, 2.0, 3.0])[0]
    2.0
    """
    import torch

    from ..metrics import interval as of

    found = of(torch.tensor(values, dtype=torch.float64)) if values else None
    return (math.nan, math.nan) if found is None else (found.mean, found.half)


def curve(label: str, names: Sequence[str], values: Sequence[Sequence[float]]) -> dict[str, Any]:
    """A curve over layers: the mean of each layer's values, and its 95 % interval."""
    points = [interval(v) for v in values]
    return {
        "label": label,
        "x": list(range(len(names))),
        "x_names": list(names),
        "y": [mean for mean, _ in points],
        "low": [mean - half for mean, half in points],
        "high": [mean + half for mean, half in points],
        "n": [len(v) for v in values],
    }


def curve_rows(curves: Sequence[Mapping[str, Any]], by: str) -> list[dict[str, Any]]:
    """A row for each point of the curves."""
    return [
        {"layer": name, by: c["label"], "mean": c["y"][k], "low": c["low"][k], "high": c["high"][k], "images": c["n"][k]}
        for c in curves
        for k, name in enumerate(c["x_names"])
    ]


def row(record: Record, names: Iterable[str]) -> dict[str, Any]:
    """A row of a table: settings and numbers of a record by name; None for those that it has not."""
    return {name: record.config.get(name, record.metrics.get(name)) for name in names}


CURVE_COLUMNS = {"mean": "mean over images", "low": "mean - 1.96 std/√n", "high": "mean + 1.96 std/√n", "images": "number of images"}


def _finite(value: Any) -> Any:
    """NaN as None, which JSON has."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
