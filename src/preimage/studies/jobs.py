"""A job: one image to be found, as plain values; its key, how it is run, and the numbers that are taken of it."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from .. import metrics
from ..energy.losses import LOSSES
from ..energy.objectives import OBJECTIVES, Objective
from ..energy.objectives import parts_of as objectives_of
from ..energy.parameterizations import PARAMETERIZATIONS
from ..energy.regularizers import REGULARIZERS, AlphaNorm, Regularizer, TVBeta
from ..energy.transforms import TRANSFORMS
from ..errors import InputError, PreimageWarning
from ..inverses.fit import REVISION as INVERSE_REVISION
from ..inverses.known import kept_inverse
from ..inverses.learned import LearnedInverse
from ..methods.recipe import Parts, recipe_named
from ..methods.text import parts_from_text
from ..networks.network import Network, load_network, weights_hash
from ..pixels.images import png
from ..pixels.pixelspace import REVISION as PIXELS_REVISION
from ..pixels.pixelspace import PixelSpace, parse_size
from ..plain import name_of, names_in, parse, to_plain
from ..ranges import RANGES, checked
from ..registry import Registry
from ..representations.base import Representation
from ..representations.devices import usable_device
from ..representations.masks import parse_mask
from ..representations.passes import REVISION as PASS_REVISION
from ..representations.release import Protected, known_part, parse_release, release_revisions
from ..representations.shallow import load_shallow
from ..representations.template import HOGTemplate
from ..representations.units import unit_key
from ..solvers.compute import Compute
from ..solvers.plans import NORMAL, solver_named
from ..solvers.plans import REVISION as PLAN_REVISION
from ..solvers.run import SOLVERS, Stage
from ..solvers.starts import sample_seeds
from ..tasks import BOUND, caricature, invert, maximize
from ..tasks.choice import check_quality
from ..tasks.result import Result
from ..tasks.task import REVISION as TASK_REVISION
from .about import describe

Plain = str | int | float | bool | None | list[Any]
REPRESENTATION_REVISION = 1  # raised when the features of a layer or of a shallow representation change
_NAMES_ONLY = ("image", "variant", "name", "weights", "trust")  # what a person calls it; weights are known by their hash
_ONE_BY_ONE = ("original", "image", "unit", "name", "restart", "seed", "variant", "Z")  # what may differ within a batch


@dataclass(frozen=True, kw_only=True)
class Job:
    """One image to be found, by settings alone: two jobs with the same key give the same image.

    experiment: which family it belongs to. task: "invert", "maximize" or "caricature". network, weights, layer, leak: of a layer;
    weights_sha256 is its `weights_hash`; space, size: its pixels as on the command line; trust: it may be a program.
    representation: instead of a network, a shallow one ("hog", "hogb", "dsift", "lbp", or "hog-template"). original, template: sha256 of
    the photograph or template, kept in the store's `inputs`. image, name, variant: what people call the photograph, the unit, the
    setting; they are not part of the key. unit: a number, a class name, or [channel, row, column]; with an original the run begins with
    that. C, seed, jitter (1 for none), bound, canvas, everywhere, Z, fit, solver, iterations, quality as in `tasks`; mask as in
    `parse_mask`, release as in `parse_release`. restart: which of many starts. beta: of TVβ. regularized=False:
    the loss alone, no bound. one_stage: all iterations at the full rate. quirks: of the original, by name. device, dtype, precision: where
    and how to compute; precision is not "auto", as what a store holds must not depend on a stopwatch. recipe: by name. objective,
    transform, parameterization, prior: as on the command line, "name:setting=value". start: of an inversion, "noise", "image" or
    "inverse". inverse: the name of a kept one (`keep_inverse`) that it begins with, instead of the layer's own. protection_known: the
    search goes through as much of the release as gradients pass, as somebody's who knows it.
    """

    experiment: str
    task: str
    C: float
    network: str | None = None
    weights: str = "default"
    weights_sha256: str | None = None
    layer: str | None = None
    leak: float = 0.0
    representation: str | None = None
    original: str | None = None
    template: str | None = None
    image: str | None = None
    unit: int | str | tuple[int, ...] | None = None
    name: str | None = None
    restart: int = 0
    seed: int = 0
    mask: str | None = None
    release: str | None = None
    beta: float = 2.0
    regularized: bool = True
    jitter: int | None = None
    canvas: str | int | tuple[int, int] = "auto"
    everywhere: bool = False
    Z: float | None = None
    fit: str | None = None
    solver: str = "fast"
    iterations: int | None = None
    quality: str = NORMAL
    one_stage: bool = False
    quirks: tuple[str, ...] = ()
    variant: str | None = None
    device: str = "cpu"
    dtype: str = "float32"
    precision: str = "float32"
    recipe: str | None = None
    objective: tuple[str, ...] = ()
    transform: tuple[str, ...] = ()
    parameterization: str | None = None
    prior: tuple[str, ...] = ()
    start: str = "noise"
    inverse: str | None = None
    protection_known: bool = False
    space: str | None = None
    size: str | None = None
    trust: bool = False

    def __post_init__(self) -> None:
        if self.task not in ("invert", "maximize", "caricature"):
            raise InputError(f"A job's task is invert, maximize or caricature; got {self.task!r}.")
        if (self.network is None) == (self.representation is None):
            raise InputError("A job has either a network with a layer, or a shallow representation.")
        if (self.task == "maximize") != (self.unit is not None):
            raise InputError("A job has a unit if and only if its task is maximize.")
        if self.start not in ("noise", "image", "inverse") or (self.start != "noise" and self.task != "invert"):
            raise InputError(f"A job starts from noise, or an inversion from its image or an inverse; got {self.start!r} for {self.task}.")
        if self.inverse is not None and self.start != "inverse":
            raise InputError(f"A job with an inverse starts from it: start='inverse'; got {self.start!r}.")
        if self.protection_known and self.release is None:
            raise InputError("A job whose protection is known has a release.")
        for field in fields(self):
            value = getattr(self, field.name)
            answer = field.name == "iterations" and value == 0 and self.start == "inverse"  # that of the inverse itself
            if field.name in RANGES and not answer and (field.default is not None or value is not None):
                checked(field.name, value)
        if self.solver != "fast":
            solver_named(self.solver)
        check_quality(self.quality, self.iterations if self.quality != NORMAL else None)
        if self.one_stage and self.quality != NORMAL:
            raise InputError(f"A job in one stage says how long it is with iterations; got the quality {self.quality!r}.")
        endless = [f.name for f in fields(self) if isinstance(v := getattr(self, f.name), float) and not math.isfinite(v)]
        if endless:
            raise InputError(f"{endless[0]} is a finite number; got {getattr(self, endless[0])!r}.")
        if self.precision not in ("float32", "bfloat16"):
            raise InputError(f"A job's precision is float32 or bfloat16, not to be decided by a trial; got {self.precision!r}.")
        for text in self.objective:
            _check_no_path(text)
        if self.recipe is not None and self.recipe.endswith(".json"):
            raise InputError(f"A job has a recipe by name, as a store does not know what {self.recipe!r} holds. See: preimage recipes")

    def config(self) -> dict[str, Plain]:
        """Plain values, without those that are None, for a record and for JSON; `original` is the picture's path in the store."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in found.items() if v is not None}
        return plain | ({"original": f"inputs/{self.original}.png"} if self.original else {})

    @cached_property
    def key(self) -> str:
        """sha256 of the settings, the weights, the image's content and the revisions of the classes that decide the image.

        Settings at their defaults are left out, so that a new setting changes no key; the code's hash is in the result's record.
        """
        default = {f.name: f.default for f in fields(self)}
        facts = {k: getattr(self, k) for k in default if k not in _NAMES_ONLY and getattr(self, k) != default[k]}
        text = json.dumps({**facts, "revisions": revisions(self)}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def shape(self) -> tuple[Any, ...]:
        """What jobs must have in common to be run in one batch."""
        return (self.Z is None, *(getattr(self, f.name) for f in fields(self) if f.name not in _ONE_BY_ONE))

    @property
    def title(self) -> str:
        """For a line about it."""
        what = self.image or self.name or (None if self.unit is None else f"unit {self.unit}")
        parts = [self.experiment, self.layer or self.representation, what, self.variant or f"C={self.C:g}"]
        return " ".join(p for p in parts if p) + (f" restart {self.restart}" if self.restart else "")


@dataclass
class Outcome:
    """What came of a job: a result of one image, its numbers and the seconds spent on it, or the reason why there is none.

    picture: the image as a PNG, made where the job was run: the process that keeps all results has the time for nothing else.
    """

    result: Result | None = None
    metrics: dict[str, float] | None = None
    seconds: float = 0.0
    reason: str = ""
    picture: bytes | None = None


def execute(jobs: Sequence[Job], inputs: Sequence[Tensor | None]) -> list[Outcome]:
    """Run jobs of one `shape` together, with their photograph or template each; one outcome a job, whatever goes wrong.

    A batch that fails is run again job by job, so that one bad image does not take the others with it. KeyboardInterrupt passes.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PreimageWarning)  # the status of each image is in its record
            if len(jobs) > 1 and _sequential(jobs[0]):  # each has restarts before it
                return [execute([job], [x])[0] for job, x in zip(jobs, inputs, strict=True)]
            phi = _representation(jobs[0], inputs[0])
            whole = _run(phi, jobs, inputs)
            parts = [_sample(whole, b, job) for b, job in enumerate(jobs)]
            for part, job in zip(parts, jobs, strict=True):
                part.config["about"] = describe(phi, job.layer, job.unit)
            given = [None if job.template else x for job, x in zip(jobs, inputs, strict=True)]
            seconds = whole.config["seconds"] / len(jobs)
            return [_outcome(part, measure(part, x, phi), seconds) for part, x in zip(parts, given, strict=True)]
    except Exception as error:  # one job must not take the others with it
        if len(jobs) > 1:
            return [execute([job], [x])[0] for job, x in zip(jobs, inputs, strict=True)]
        return [Outcome(reason=f"{type(error).__name__}: {' '.join(str(error).split()) or 'no reason given'}")]


def _outcome(part: Result, numbers: dict[str, float], seconds: float) -> Outcome:
    return Outcome(part, numbers, seconds, picture=png(part.images[0]) if part.images.shape[1] in (1, 3) else None)


def measure(result: Result, x0: Tensor | None, phi: Representation) -> dict[str, float]:
    """The numbers of one image, on the float image. x0: its photograph, canonical (1, C, H, W), or None.

    error, activation, energy and energy.TERM at the image; evaluations; ok (0 or 1); and the registered metrics (`metrics.METRICS`).
    """
    found = {"evaluations": float(result.evaluations), "ok": float(result.status[0] == "ok")}
    found |= {"energy" if k == "total" else f"energy.{k}": v.item() for k, v in result.energy.items()}
    found |= {k: v.item() for k, v in (("error", result.error), ("activation", result.activation)) if v is not None}
    original = None if x0 is None else phi.space.decode(x0).cpu()
    network = phi.network if isinstance(phi.network, Network) and phi.network.classes else None
    return found | metrics.measure_image(metrics.Seen(result.images, original, network), "store")


def revisions(job: Job) -> dict[str, int]:
    """Return the revisions of the classes that decide the image of a job, by what they are called."""
    found = {f"task {job.task}": TASK_REVISION, "pixels": PIXELS_REVISION, "plan": PLAN_REVISION}
    named: list[tuple[Registry[Any], str]] = [(LOSSES, "euclidean" if job.task == "invert" else "inner-product")]
    objectives = _objectives(job)
    if job.recipe is None:
        named += [(SOLVERS, s) for s in _solvers(job.solver.partition(":")[0])]
        named += [(REGULARIZERS, r) for r in ("alpha-norm", "tv-beta")] if job.regularized else []
        named += [(TRANSFORMS, name) for t in job.transform or ("jitter",) for name in _names(t, TRANSFORMS)]
        named += [(PARAMETERIZATIONS, _name(job.parameterization or "pixels"))]
    else:
        parts = recipe_named(job.recipe).parts(job.task)
        named += _parts_of(parts.to_plain(), job)
        found[f"recipe {job.recipe}"] = _digest(parts.to_plain())
    named += [(OBJECTIVES, name_of(o, OBJECTIVES)) for o in objectives]
    named += [(LOSSES, loss) for o in objectives for loss in o.losses]
    named += [(REGULARIZERS, name) for p in job.prior if p != "none" for name in _names(p, REGULARIZERS)]
    found |= {f"{registry.kind} {name}": registry.revision(name) for registry, name in named}
    found |= {"layers in one pass": PASS_REVISION} if len(objectives) > 1 else {}
    found |= {"inverse": INVERSE_REVISION} if job.start == "inverse" else {}
    found |= {} if job.release is None else release_revisions(job.release)
    phi = "layer" if job.network is not None else str(job.representation)
    return found | {f"representation {phi}": REPRESENTATION_REVISION}


def _digest(plain: Mapping[str, Any]) -> int:
    """A number for all constants of a recipe: with another one it is another image under the same name."""
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False)
    return int(hashlib.sha256(text.encode()).hexdigest()[:12], 16)


def _parts_of(plain: Mapping[str, Any], job: Job) -> list[tuple[Registry[Any], str]]:
    """The registered parts that a recipe names, but for those that a job gives itself."""
    solver = job.solver if job.solver != "fast" else plain["solver"]
    named = solver["name"] if isinstance(solver, Mapping) else _name(solver)
    found: list[tuple[Registry[Any], str]] = [(SOLVERS, s) for s in _solvers(named)]
    found += [(TRANSFORMS, name) for t in job.transform for name in _names(t, TRANSFORMS)]
    if not job.transform:
        found += [(TRANSFORMS, name) for name in names_in(plain["transform"] or {"name": "jitter"})]
    own = job.parameterization
    found += [(PARAMETERIZATIONS, plain["parameterization"]["name"] if own is None else _name(own))]
    return found + [(REGULARIZERS, name) for r in plain["regularizers"].values() if not job.prior for name in names_in(r)]


def _solvers(name: str) -> tuple[str, ...]:
    """The registered solvers that may run under this name."""
    return ("fourier-adam", "descent") if name == "fast" else (name,)


def _check_no_path(text: str) -> None:
    """Raise InputError for an objective with a picture of its own: a job's key must know its content."""
    if any(pair.partition("=")[0].strip() == "image" for pair in text.partition(":")[2].split(",")):
        raise InputError(f"A job cannot have the objective {text!r}: a store does not know what a file holds. Leave image= out.")


def _names(text: str, registry: Registry[Any]) -> list[str]:
    """The part that a text names, and those inside it, as those of a `compose`."""
    return names_in(to_plain(parse(text, registry), registry)) if "=" in text else [_name(text)]


def _name(text: str) -> str:
    return text.partition(":")[0].rpartition("*")[2]


@lru_cache(maxsize=2)
def open_network(
    name: str, weights: str = "default", device: str = "cpu", space: str | None = None, size: str | None = None, trust: bool = False
) -> tuple[Network, str]:
    """A network on its device and the hash of its weights, kept for the next job. weights, space, size, trust: as on the command line."""
    network = load_network(
        name,
        weights=None if weights == "none" else weights,
        space=None if space is None else PixelSpace.parse(space),
        size=None if size is None else parse_size(size),
        device=usable_device(device),
        trust=trust,
    )
    return network, weights_hash(network.module)


@lru_cache(maxsize=32)
def _layer(opening: tuple[Any, ...], layer: str, leak: float) -> Representation:
    return open_network(*opening)[0].layer(layer, leak=leak)


def _representation(job: Job, x: Tensor | None) -> Representation:
    if job.network is not None:
        opening = (job.network, job.weights, job.device, job.space, job.size, job.trust)
        network, found = open_network(*opening)
        if job.weights_sha256 not in (None, found):
            raise InputError(f"The weights {job.weights!r} of {job.network} have changed since the job was made. Start the run again.")
        return _layer(opening, job.layer or network.layers()[-1].name, job.leak)
    if job.representation == "hog-template":
        assert x is not None
        return HOGTemplate(x[0])
    return load_shallow(str(job.representation))


def _run(phi: Representation, jobs: Sequence[Job], inputs: Sequence[Tensor | None]) -> Result:
    """The task of these jobs, one sample each."""
    job = jobs[0]
    regularizers: dict[str, Regularizer] | None = {"alpha-norm": AlphaNorm(), "tv-beta": TVBeta(job.beta)} if job.regularized else {}
    if job.recipe is not None and job.regularized and job.beta == 2.0:
        regularizers = None  # the recipe's own
    common: dict[str, Any] = {
        "C": job.C,
        "iterations": job.iterations,
        "quality": None if job.quality == NORMAL else job.quality,
        "dtype": getattr(torch, job.dtype),
        "compute": Compute(precision=job.precision),
        "device": job.device if job.network is None else None,
        "progress": False,
        **parts_from_text(
            job.objective,
            job.transform or (() if job.jitter is None else (f"jitter:amount={job.jitter}",)),
            job.parameterization,
            job.prior,
            regularizers,
        ),
    }
    before = (
        job.restart if _sequential(job) and job.task != "caricature" else 0
    )  # restarts that are run first, as this one is pushed away from them
    common |= {"restarts": 1 + before} if before else {}
    common |= {"recipe": job.recipe} | ({} if job.recipe is not None and job.solver == "fast" else {"solver": job.solver})
    common |= {} if job.recipe is not None and job.regularized else {"bound": BOUND if job.regularized else math.inf}
    if job.task == "maximize":
        units = [tuple(j.unit) if isinstance(j.unit, (list, tuple)) else j.unit for j in jobs]
        seeds = [s for j, u in zip(jobs, units, strict=True) for s in _seeds(j, unit_key(phi, u), before)]  # type: ignore[arg-type]
        canvas = tuple(job.canvas) if isinstance(job.canvas, (list, tuple)) else job.canvas
        Z = None if job.Z is None or not takes_divisor(job) else [j.Z for j in jobs]
        more: dict[str, Any] = {"canvas": phi.space.size if job.template else canvas, "everywhere": job.everywhere, "Z": Z}
        if job.original is not None:
            more["start"] = [x for x in inputs if x is not None]
        return maximize(phi, units, seed=seeds, **more, **common)  # type: ignore[arg-type]
    x0 = torch.cat([x for x in inputs if x is not None])
    seeds = [s for j in jobs for s in _seeds(j, str(j.original), before)]
    common |= {"mask": None if job.mask is None else parse_mask(job.mask), "seed": seeds}
    if job.task == "caricature":
        shift = phi.space.mean_colour.to(x0) if "no-mean" in job.quirks else 0.0
        return caricature(phi, x0, seen=x0 + shift, **common)
    stages = (Stage(job.iterations or 300),) if job.one_stage else None
    release = None if job.release is None else parse_release(job.release)
    if release is not None and job.protection_known:
        known, release = known_part(release)
        phi = phi if known is None else Protected(phi, known)
    start: str | LearnedInverse | None = None if job.recipe is not None and job.start == "noise" else job.start  # else the recipe's own
    start = start if job.inverse is None else kept_inverse(job.inverse)
    return invert(phi, x0, stages=stages, release=release, start=start, **common)


def takes_divisor(job: Job) -> bool:
    """Return whether the answer of the job's unit is divided by Z in its energy."""
    return replace(Parts(), objective=_objectives(job)).takes_divisor


def _sequential(job: Job) -> bool:
    """Whether a restart needs the images of those before it."""
    return any(o.sequential for o in _objectives(job))


def _objectives(job: Job) -> tuple[Objective, ...]:
    """What the job or its recipe asks in place of the task's own question."""
    if job.recipe is not None and not job.objective:
        return recipe_named(job.recipe).parts(job.task).objective
    return objectives_of(parts_from_text(job.objective)["objective"]) if job.objective else ()


def _seeds(job: Job, content: str, before: int = 0) -> list[int]:
    """The seed that the restart has in a run of the task with all restarts, after those of so many before it."""
    return sample_seeds(job.seed, [content], job.restart + 1)[0][job.restart - before :]


def _sample(result: Result, b: int, job: Job) -> Result:
    """One image of a result as a result of its own, without the photograph, which the store keeps once."""
    config = dict(result.config)
    pushed = _sequential(job) and config.get("restarts", 1) > 1  # the last of the restarts of one job; the others were run for it
    if pushed:
        b = len(result.images) - 1
    elif "unit" in config:
        config |= {name: config[name][b : b + 1] for name in ("unit", "Z", "M") if config[name] is not None}
    if "opened" in config:
        config["opened"] = [0] if b in config["opened"] else []
    if "restarts" in config and not pushed:
        config["restarts"] = 1
    return replace(
        result,
        images=result.images[b : b + 1],
        error=None if result.error is None else result.error[b : b + 1],
        activation=None if result.activation is None else result.activation[b : b + 1],
        energy={k: v[b : b + 1] for k, v in result.energy.items()},
        trace={k: v[:, b : b + 1].contiguous() for k, v in result.trace.items()},
        labels=[job.image or job.name or result.labels[b]],
        seeds=result.seeds[b : b + 1],
        status=result.status[b : b + 1],
        config=config,
        originals=None,
        frames=[],
    )
