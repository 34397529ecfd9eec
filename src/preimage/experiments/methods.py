"""One unit, class or photograph by many methods, on one or several networks or checkpoints, side by side with numbers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import InputError, PreimageError, first_line
from ..methods.recipe import Recipe, recipe_named, recipes
from ..metrics import recognition, resemblance
from ..pixels.images import reference_images
from .arguments import RunArguments, divided
from .base import Photo, Study

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ..networks.network import Network
    from ..studies.jobs import Job
    from ..studies.runner import Run
    from ..studies.store import Record, Store

NAME = "methods"
JUDGE = "efficientnet-lite0"
_SMOKE = 2  # iterations

COLUMNS = {
    "method": "the recipe",
    "network": "and its weights, where several are compared",
    "evaluations": "gradients of the network taken for an image",
    "seconds": "for an image, all in all",
    "activation": "what the unit answers; of a caricature over what it answers to the photograph",
    "error": "distance of the features from the photograph's, relative to their norm",
    "rank": "the place of the wanted class among all that the judge knows, 1 being recognised",
    "probability": "of the wanted class, by the judge",
    "similarity": "of the image and the photograph in the judge's features, 1 for the same",
    "out of range": "share of values outside of 0–255, which a screen cannot show",
    "spread": "root mean square difference between the images of different seeds, in grey levels",
    "images": "from how many seeds",
}


@dataclass(frozen=True)
class Entry:
    """One image of a comparison: its method and network, the record and the image (1, C, H, W) in levels 0–255."""

    subject: str
    recipe: str
    network: str
    seed: int
    record: Record
    image: Tensor
    status: str


@dataclass
class Comparison:
    """What `compare` found.

    task: maximize, invert or caricature. entries: every image. rows: one a subject, method and network, as `COLUMNS` tells, means over the
    seeds. failed: jobs that came to grief, not those that a method refused. notes: lines that a reader must know: methods that are not for
    this, jobs that failed, what the others began with. originals: the photograph of each subject, levels 0–255, where there is one. store:
    the folder with all of it.
    """

    task: str
    entries: list[Entry]
    rows: list[dict[str, Any]]
    notes: list[str]
    store: Path
    failed: dict[str, str] = field(default_factory=dict)
    originals: dict[str, Tensor] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        """The names of the columns that have a value in some row."""
        return ["subject", *(c for c in COLUMNS if any(row.get(c) is not None for row in self.rows))]

    def __repr__(self) -> str:
        methods = len({e.recipe for e in self.entries})
        return f"Comparison({self.task}, {methods} methods, {len(self.entries)} images, {str(self.store)!r})"


def compare(
    units: Sequence[int | str | tuple[int, ...]] = (),
    images: Sequence[str | os.PathLike[str]] = (),
    recipes: Sequence[str] | str = "all",
    *,
    out: str | os.PathLike[str],
    networks: Sequence[str] = ("squeezenet1_1",),
    weights: Sequence[str] = ("default",),
    layer: str | None = None,
    task: str | None = None,
    start: str | os.PathLike[str] | None = None,
    judge: str | None = JUDGE,
    seeds: int = 1,
    smoke: bool = False,
    **run: Unpack[RunArguments],
) -> Comparison:
    """Find the images of the same units, or of the same photographs, by many methods, and measure them alike.

    Parameters
    ----------
    units : numbers, class names or (channel, row, column)
        What is excited; or
    images : paths
        photographs, which are inverted or caricatured. One of the two.
    recipes : names, paths of JSON files excepted, or "all"
        The methods (`preimage recipes`). One that is not for this task is named in the notes.
    out : path
        The store: a new folder, or that of an earlier comparison, which then goes on where it stopped.
    networks, weights : names, as on the command line
        Every network with every one of the weights: one network and two checkpoints, or several networks with their "default".
    layer : name
        Of the network; default its last one.
    task : "invert" or "caricature"
        What is done with photographs, default "invert".
    start : path
        What methods begin with that change a given image; default the package's photograph of a cat.
    judge : name of a network, or None
        Which network says what is seen in the images; where it is not there, or made them itself, a note says so.
    seeds : int, default 1
        How many images each, from the seeds `seed`, `seed` + 1, …
    smoke : bool
        Two iterations each, to see that everything works: the pictures are none.

    Other Parameters
    ----------------
    iterations : int
        Instead of each method's own number.
    seed : int
        The first of the seeds, by default 0.
    device, precision, progress : as of `audit`
    workers : int, default 1
        Processes that compute.

    Returns
    -------
    Comparison : entries, rows and notes; `report.methods_page.write_methods` makes the page

    Raises
    ------
    InputError : for units and images both or none, and for a name that is not there
    PreimageError : where no method gave an image
    """
    from ..studies.runner import run as compute
    from ..studies.store import store_for

    chosen = _checked(units, images, recipes, task, seeds)
    settings, workers, progress = divided(run, RunArguments, "preimage.compare")
    what = "maximize" if units else task or "invert"
    with store_for(out) as store:
        studies = [
            Study(store, [Path(i) for i in images], n, w, **settings) for n in dict.fromkeys(networks) for w in dict.fromkeys(weights)
        ]
        plan = _Plan(what, store, chosen, layer, start, seeds, _SMOKE if smoke else settings.get("iterations"), several=len(studies) > 1)
        jobs = [job for study in studies for job in plan.jobs(study, units)]
        if not jobs:
            raise InputError(f"None of the methods is for this: {' '.join(plan.notes)}")
        done = compute(jobs, store, workers=workers or 1, progress=progress)
        return _found(plan, studies, jobs, done, judge)


def _checked(units: Sequence[Any], images: Sequence[Any], names: Sequence[str] | str, task: str | None, seeds: int) -> list[Recipe]:
    if bool(units) == bool(images):
        raise InputError("A comparison is of units (--unit) or of photographs: give one of the two.")
    if task not in (None, "invert", "caricature") or (units and task is not None):
        raise InputError(f"The task of photographs is invert or caricature, and units are maximized; got {task!r}.")
    if seeds < 1:
        raise InputError(f"seeds is a whole number of at least 1; got {seeds!r}.")
    wanted = list(recipes()) if names in ("all", ["all"], ("all",)) else [names] if isinstance(names, str) else list(names)
    if files := [n for n in wanted if n.endswith(".json")]:
        raise InputError(f"A store keeps methods by name, and {files[0]!r} is a file: `preimage maximize --recipe FILE` takes it.")
    return [recipe_named(n) for n in dict.fromkeys(wanted)]


class _Plan:
    """The jobs of a comparison, and what has to be said about those that there are none of."""

    def __init__(
        self,
        task: str,
        store: Store,
        methods: Sequence[Recipe],
        layer: str | None,
        start: str | os.PathLike[str] | None,
        seeds: int,
        iterations: int | None,
        several: bool,
    ) -> None:
        self.task, self.store, self.layer, self.seeds, self.iterations, self.several = task, store, layer, seeds, iterations, several
        self.smoke = iterations == _SMOKE
        self.methods = [m for m in methods if getattr(m, task) is not None]
        self.start = Path(start) if start is not None else Path(next(p for p in reference_images() if "chelsea" in p))
        self.notes: list[str] = []
        if self.smoke:
            self.notes.append(f"Every method ran for {_SMOKE} iterations alone, to see that it works: the pictures are none.")
        elif iterations is not None:
            self.notes.append(f"Every method ran for {iterations} iterations, in place of its own number.")
        self.sources: dict[str, str] = {}  # of each subject, the photograph in the store
        if others := [m.name for m in methods if m not in self.methods]:
            self.notes.append(f"Not for {task}, and left out: {', '.join(others)}.")
        if begins := [m.name for m in self.methods if task == "maximize" and m.parts(task).start == "image"]:
            self.notes.append(f"Made from the photograph {self.start.name}, which they change: {', '.join(begins)}.")

    def jobs(self, study: Study, units: Sequence[Any]) -> list[Job]:
        """Return the jobs on one network, subject by subject."""
        layer = self.layer or study.net.layers()[-1].name
        subjects: list[tuple[str, Photo | None, Any]] = [(_title(u), None, u) for u in units]
        subjects += [] if units else [(p.label, p, None) for p in study.photographs]
        self.notes += [f"Could not be read: {reason}" for reason in study.unreadable.values() if reason not in " ".join(self.notes)]
        return [self._job(study, layer, method, seed, *s) for s in subjects for method in self.methods for seed in range(self.seeds)]

    def _job(self, study: Study, layer: str, method: Recipe, seed: int, subject: str, photo: Photo | None, unit: Any) -> Job:
        parts = method.parts(self.task)
        if photo is None and parts.start == "image":
            x = study.net.space.encode(self.start)
            photo = Photo(self.start.stem, self.store.add_input(x, study.net.space.decode(x)))
        if photo is not None:
            self.sources[subject] = photo.sha
        settings = {"layer": layer, "C": parts.C, "recipe": method.name, "iterations": self.iterations, "seed": study.seed + seed}
        more = {"variant": self.name_of(study, method.name), "unit": unit, "name": None if unit is None else subject}
        return study.job(NAME, self.task, photo=photo, **settings, **more)

    def name_of(self, study: Study, method: str) -> str:
        """Return what an image is called: its method, and its network where there are several."""
        return f"{method} · {network_of(study)}" if self.several else method


def network_of(study: Study) -> str:
    """Return a network by its name, and its weights where they are not its own."""
    return study.network if study.weights == "default" else f"{study.network} {Path(study.weights).name}"


def _title(unit: Any) -> str:
    return unit if isinstance(unit, str) else f"unit {unit if isinstance(unit, int) else '-'.join(str(i) for i in unit)}"


def _found(plan: _Plan, studies: Sequence[Study], jobs: Sequence[Job], done: Run, judge: str | None) -> Comparison:
    """Read the images, judge them, and put rows together."""
    records = {r.key: r for r in plan.store.records(status="done")}
    names = {(s.network, s.weights): network_of(s) for s in studies}
    entries = []
    for job in jobs:
        if job.key in records:
            result = plan.store.result(job.key)
            subject = str(job.name if job.unit is not None else job.image)
            network = names[str(job.network), job.weights]
            entries.append(Entry(subject, str(job.recipe), network, job.seed, records[job.key], result.images, result.status[0]))
    notes = [*plan.notes, *_complaints(done.failed, [] if plan.smoke else entries)]
    if not entries:
        raise PreimageError(f"No method gave an image. {' '.join(notes)}")
    failed = {key: reason for key, reason in done.failed.items() if not _refused(reason)}
    failed |= {} if plan.smoke else done.without_image
    originals = {s: studies[0].net.space.decode(plan.store.input(sha)) for s, sha in plan.sources.items()}
    judged = _Judge(judge, studies, plan.task, originals, notes)
    groups: dict[tuple[str, str, str], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.subject, entry.recipe, entry.network), []).append(entry)
    rows = [_row(subject, group, judged, plan.several) for (subject, _, _), group in groups.items()]
    return Comparison(plan.task, entries, rows, notes, plan.store.path, failed, originals)


def _complaints(failed: Mapping[str, str], entries: Sequence[Entry]) -> list[str]:
    """A line for each failure, and one for each reason of images that are not as they should be."""
    notes = [f"{'Refused' if _refused(reason) else 'No image'}: {reason}" for reason in failed.values()]
    reasons: dict[str, list[str]] = {}
    for entry in entries:
        if entry.status != "ok":
            reasons.setdefault(entry.status, []).append(f"{entry.recipe} ({entry.subject})")
    return notes + [f"{', '.join(dict.fromkeys(who))}: {reason}" for reason, who in reasons.items()]


def _refused(reason: str) -> bool:
    """Whether a method said itself that it is not for this network or unit, which is no failure of the run."""
    return f": {InputError.__name__}: " in reason


class _Judge:
    """What another network sees in the images, as far as there is one that can say."""

    def __init__(self, name: str | None, studies: Sequence[Study], task: str, originals: Mapping[str, Tensor], notes: list[str]) -> None:
        self.task, self.originals, self.notes = task, originals, notes
        self.makers = {network_of(s): s.net for s in studies}
        self.network: Network | None = None
        if name is None:
            return
        try:
            from ..studies.jobs import open_network

            self.network = open_network(name)[0]
            notes.append(f"The judge is {name}, which sees pictures of 8 bits; what a network made it does not judge itself.")
        except PreimageError as error:
            notes.append(f"No judge: {first_line(error)}")

    def __call__(self, subject: str, images: Tensor, network: str) -> dict[str, float]:
        """Return the mean numbers of images (B, C, H, W) of one subject."""
        if self.network is None or images.shape[1] != 3:
            return {}
        made_by = self.makers[network]
        try:
            if self.task == "maximize":
                seen = recognition(images, self.network, [subject] * len(images), made_by)
                return {"rank": round(seen.median_rank), "probability": float(seen.probability.mean())}
            others = [o for s, o in self.originals.items() if s != subject and o.shape == self.originals[subject].shape]
            both = torch.cat([self.originals[subject], *(others or [self.originals[subject].flip(-1)])])
            return {
                "similarity": float(resemblance(images, both, self.network, made_by, torch.zeros(len(images), dtype=torch.long)).own.mean())
            }
        except PreimageError as error:
            note = f"Not judged, {subject} of {network}: {first_line(error)}"
            if note not in self.notes:
                self.notes.append(note)
            return {}


def _row(subject: str, group: Sequence[Entry], judge: _Judge, several: bool) -> dict[str, Any]:
    images = torch.cat([e.image for e in group])
    row: dict[str, Any] = {"subject": subject, "method": group[0].recipe, "network": group[0].network if several else None}
    for name in ("evaluations", "activation", "error"):
        values = [e.record.metrics[name] for e in group if name in e.record.metrics]
        row[name] = sum(values) / len(values) if values else None
    row["evaluations"] = round(row["evaluations"])
    row["seconds"] = sum(e.record.seconds for e in group) / len(group)
    row |= judge(subject, images, group[0].network)
    row["out of range"] = float(((images < 0) | (images > 255)).float().mean())
    row["spread"] = _spread(images) if len(images) > 1 else None
    row["images"] = len(images)
    return row


def _spread(images: Tensor) -> float:
    """The root mean square difference between every two of some images (B, C, H, W)."""
    flat = images.flatten(1).double()
    return float((torch.pdist(flat).square().mean() / flat.shape[1]).sqrt())
