"""invert, maximize, caricature: the three tasks of the paper, with its defaults, which live here and nowhere else."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..energy.energy import Energy, Euclidean, InnerProduct, Loss
from ..energy.regularizers import Jitter, PixelBall, Regularizer
from ..errors import InputError, Interrupted
from ..networks.network import Network, weights_hash
from ..pixels.images import ImageLike
from ..pixels.pixelspace import Fit
from ..representations.base import Representation, features_of
from ..representations.masks import Mask, resolve
from ..representations.release import Release
from ..solvers.compute import Compute, at_least_one
from ..solvers.loop import Minimum, Solver, Stage, Watch, load_solvers, minimize
from ..solvers.starts import generator, noise, sample_seeds
from ..statistics.statistics import Statistics, load_statistics
from .result import Result, versions
from .units import Unit, as_indices, canvas_size, estimated_largest, one_hot, recorded_largest, wake

INVERT_C = 100.0  # get_defaults.m and exp_inversion.m use 1, 20, 100, 300; the paper's figures 100
MAXIMIZE_C = 1.0e4  # exp_maximization.m: weight 10000 / rf² / M, here C / Z with Z = M·rf²
CARICATURE_C = 1.0  # exp_enhance.m
BOUND = 160.0  # B₊ = 2B

_PAPER_INVERT = (Stage(300), Stage(50, rate=0.1, jitter=False))
_PAPER = (Stage(300),)
_STAGES: dict[str, dict[str, Sequence[Stage]]] = {
    "paper": {"invert": _PAPER_INVERT, "maximize": _PAPER, "caricature": _PAPER},
    "adam": {"invert": (Stage(250), Stage(50, jitter=False)), "maximize": _PAPER, "caricature": _PAPER},
    "fast": {"invert": (Stage(100),), "maximize": (Stage(200),), "caricature": (Stage(100),)},
    "fourier-adam": {"invert": (Stage(60), Stage(240, jitter=False)), "maximize": (Stage(200),), "caricature": (Stage(100),)},
    "lbfgs": {"invert": (Stage(150),), "maximize": (Stage(150),), "caricature": (Stage(100),)},
}
# invert with "fast", measured in docs/solvers.md: up to a stride of _FINE pixels exploring is better than descending; at a jitter above
# _DEEP a long run with jitter keeps more structure, while a run of less than _LONG iterations is better off descending at once
_FAST_DESCENT = (Stage(50, jitter=False),)  # HOG and dense SIFT know no contrast: on the way to lower energies it fades
_FAST_LONG = (Stage(60), Stage(240, jitter=False))
_FINE, _DEEP, _LONG = 4.0, 1, 200
_DEFAULT_STAGES: Mapping[str, Sequence[Stage]] = {"invert": (Stage(200),), "maximize": (Stage(200),), "caricature": (Stage(200),)}


def invert(
    phi: Representation,
    image: ImageLike | Sequence[ImageLike],
    C: float = INVERT_C,
    restarts: int = 1,
    mask: Mask | None = None,
    solver: str | Solver = "fast",
    iterations: int | None = None,
    seed: int | Sequence[int] = 0,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = True,
    *,
    stages: Sequence[Stage] | None = None,
    regularizers: Mapping[str, Regularizer] | None = None,
    jitter: int | None = None,
    bound: float = BOUND,
    fit: Fit | None = None,
    frames: int = 0,
    batch: int | None = None,
    precision: str = "float32",
    max_memory: int | str | None = None,
    compiled: bool = False,
    release: Release | None = None,
    watch: Watch | None = None,
) -> Result:
    """Reconstruct an image from its features: minimise C·‖M⊙(Φ(x)−Φ(x0))‖²/‖M⊙Φ(x0)‖² + R_α + R_TVβ (IJCV Sect. 4).

    phi: a representation. image: a path, PIL image, uint8 array (H, W[, C]) or canonical tensor ([B,] C, H, W), or a list of them;
    fit="squash" resizes without keeping the aspect ratio, as the paper did. mask: which features count, a tensor that broadcasts
    to one sample's features or one of `preimage.masks`. restarts: different starts for each image, all in one batch, image by image.
    solver: "fast", "paper", "fourier-adam", "adam", "lbfgs" or a solver; iterations: instead of its own number; stages: instead of its
    own, as the one stage of the paper's HOG experiment, (Stage(300),). seed: one number (each sample's own seed is made of it, the
    image and the restart), or one for each sample as `Result.seeds` lists them. device, dtype: where and in which precision to compute;
    None is where the weights are, in float32. jitter: the amount, by default the paper's rule
    max(round(stride/4), 1). bound: B₊. regularizers: by name, instead of the paper's. frames: keep every so many iterations.
    batch: samples evaluated together; None is 1 on a CPU, where no bit of a sample then depends on the others, and on a GPU all that
    fit. precision: of Φ where gradients are taken: "float32", "bfloat16" (`torch.autocast`; target, image and reported numbers stay in
    float32), or "auto", bfloat16 if a short trial says that it pays. max_memory: bytes, or as "4GB": as many samples are evaluated
    together as fit, on any device. compiled: Φ through `torch.compile` where gradients are taken, on a GPU as CUDA graphs: the first
    evaluation then takes seconds to minutes. On a CPU it hardly ever pays (docs/performance.md).
    release: what is known of Φ(x0), a function of it (`representations.release`: quantised, with noise); the error is then that from
    what was released. watch: called a few times a second with the evaluations so far, the images (B, C, H, W) as levels 0–255 and
    their energies (B,); if it returns True the run ends as with Ctrl-C.
    Returns a `Result` of restarts x images pre-images. Raises InputError (ImageError) for what it cannot use, OptimizationError if no
    sample has a usable result, and Interrupted (a KeyboardInterrupt, with what was found) on Ctrl-C or when `watch` asks for it.

    >>> import preimage
    >>> phi = preimage.from_callable(lambda x: x[:, :, ::2, ::2], preimage.PixelSpace(8, "grey"))
    >>> r = invert(phi, np.full((8, 8), 200, np.uint8), progress=False)
    >>> r.images.shape, bool(r.error < 0.4)
    (torch.Size([1, 1, 8, 8]), True)
    """
    compute = Compute(phi, device, dtype, batch, precision, max_memory, compiled)
    phi = compute.phi
    setup = _Setup("invert", compute, solver, iterations, progress, regularizers, bound, frames, watch, stages)
    with compute.session():
        x0, labels, keys = _load(phi, image, fit)
        x0 = x0.to(compute.device, compute.dtype)
        restarts = at_least_one("restarts", restarts)
        phi0 = features_of(phi, x0)
        if release is not None:
            phi0 = release(phi0)
        weights = resolve(mask, phi0.shape[1:])
        amount = _jitter(phi, jitter)
        seeds, generators = sample_seeds(seed, keys, restarts)
        start = setup.quiet * noise(generators, (x0.shape[1], *amount.canvas(_size(x0))), compute.like)
        target = phi0 if len(x0) == 1 else phi0.repeat_interleave(restarts, dim=0)
        found, took = setup.minimize(Euclidean(None if weights is None else weights.to(phi0)), target, C, start, amount, seeds)
    return setup.result(
        found,
        took,
        labels=_restarted(labels, restarts),
        seeds=seeds,
        originals=x0.repeat_interleave(restarts, dim=0),
        more={"restarts": restarts, "mask": _describe(mask), "C": C, "fit": fit or phi.space.fit, "jitter": amount.amount}
        | ({} if release is None else {"release": repr(release)}),
    )


def maximize(
    phi: Representation,
    unit: Unit | Sequence[Unit],
    C: float = MAXIMIZE_C,
    restarts: int = 1,
    canvas: str | int | tuple[int, int] = "auto",
    solver: str | Solver = "fast",
    iterations: int | None = None,
    seed: int | Sequence[int] = 0,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = True,
    *,
    everywhere: bool = False,
    Z: float | Sequence[float] | None = None,
    stats: Statistics | str | os.PathLike[str] | None = None,
    regularizers: Mapping[str, Regularizer] | None = None,
    jitter: int | None = None,
    bound: float = BOUND,
    frames: int = 0,
    batch: int | None = None,
    precision: str = "float32",
    max_memory: int | str | None = None,
    compiled: bool = False,
    watch: Watch | None = None,
) -> Result:
    """The image that excites a unit most: minimise −C·⟨Φ(x), e_unit⟩/Z + R_α + R_TVβ (IJCV Sect. 5).

    unit: a channel, taken at the centre of the map; (channel, row, column), or (token, feature); a class name, for the last layer of
    a network that has them; or a list of these, one image each, all in one batch. everywhere=True averages a channel over the map.
    canvas: "receptive-field" is the largest image for which 1.1 receptive fields of units fit (exp_maximization.m), "input" the
    network's own size, a number or (height, width) in pixels; "auto" is the receptive field where the layer has one below the
    input's size, else the input. Z: the divisor, one number or one a unit, by default M·rf² with M the unit's largest response to
    photographs (with everywhere=True its channel's largest mean) and rf the receptive field's side, at most the canvas's. stats:
    `Statistics` of the network, or their file, for M (the paper takes every 1000th of ImageNet's training images); they know no means,
    so not with everywhere=True. Without them M is estimated from three photographs and noise, at least the 95 % quantile of the
    layer's units. `Result.config` has Z, M and "M_source", a value for each unit.
    A unit of a network layer that is closed at its start, so that no gradient reaches the image, is first opened with a gradient that
    passes closed ReLUs with slope 0.05; `Result.config["woken"]` lists the samples for which that was done, and the evaluations count it.
    The other arguments, the result and the errors are those of `invert`.

    >>> import preimage
    >>> phi = preimage.from_callable(lambda x: x.mean(dim=(2, 3)), preimage.PixelSpace(8, "rgb"))
    >>> r = maximize(phi, [0, 2], progress=False)
    >>> r.images.mean(dim=(2, 3)).argmax(dim=1)
    tensor([0, 2])
    """
    compute = Compute(phi, device, dtype, batch, precision, max_memory, compiled)
    phi = compute.phi
    setup = _Setup("maximize", compute, solver, iterations, progress, regularizers, bound, frames, watch)
    units = unit if isinstance(unit, list) else [unit]
    if Z is not None and stats is not None:
        raise InputError("Z and stats both give the divisor: leave one out.")
    with compute.session():
        restarts = at_least_one("restarts", restarts)
        wanted = [as_indices(phi, u) for u in units]  # type: ignore[arg-type]
        size = canvas_size(phi, canvas, compute.like)
        phi0, labels = one_hot(phi, wanted, units, size, everywhere, compute.like)  # type: ignore[arg-type]
        rf = min(max(size), float(phi.receptive_field or max(size)))
        M, source = (None, None) if Z is not None else _largest(phi, wanted, stats, size, compute.like, everywhere)
        divisor = _divisors(Z, len(units)) if M is None else [m * rf**2 for m in M]
        divisors = torch.tensor(divisor, dtype=torch.float64).repeat_interleave(restarts)
        amount = _jitter(phi, jitter)
        seeds, generators = sample_seeds(seed, [f"unit {w}" for w in wanted], restarts)
        start = noise(generators, (phi.space.count, *amount.canvas(size)), compute.like)
        target = phi0.repeat_interleave(restarts, dim=0)
        start, woken, spent = wake(phi, InnerProduct(), target, start, amount, generators)
        found, took = setup.minimize(InnerProduct(divisors), target, C, start, amount, seeds)
        found.evaluations += spent
    record = {"restarts": restarts, "unit": [_plain_unit(w) for w in wanted], "everywhere": everywhere, "canvas": list(size)}
    return setup.result(
        found,
        took,
        labels=_restarted(labels, restarts),
        seeds=seeds,
        scale=divisors,
        more=record | {"C": C, "Z": divisor, "M": M, "M_source": source, "jitter": amount.amount, "woken": woken},
    )


def caricature(
    phi: Representation,
    image: ImageLike | Sequence[ImageLike],
    C: float = CARICATURE_C,
    mask: Mask | None = None,
    solver: str | Solver = "fast",
    iterations: int | None = None,
    seed: int | Sequence[int] = 0,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = True,
    *,
    regularizers: Mapping[str, Regularizer] | None = None,
    jitter: int | None = None,
    bound: float = BOUND,
    fit: Fit | None = None,
    frames: int = 0,
    batch: int | None = None,
    precision: str = "float32",
    max_memory: int | str | None = None,
    compiled: bool = False,
    seen: ImageLike | Sequence[ImageLike] | None = None,
    watch: Watch | None = None,
) -> Result:
    """Exaggerate what a layer sees in an image: minimise −C·⟨Φ(x), Φ₊⟩/‖Φ₊‖² + R_α + R_TVβ from x0, Φ₊ = max(Φ(x0), 0) (IJCV Sect. 6).

    The arguments are those of `invert`; the start is the image itself, its jitter border the mean colour. `Result.activation` is
    ⟨Φ(x), Φ₊⟩/‖Φ₊‖², 1 for the image itself where Φ is not negative. The features of x0 are taken of the image less the mean colour
    (exp_enhance.m forgets the mean there). At C = 1, the original's, an early layer is smoothed more than it is exaggerated: take 10.
    seen: images, one each, whose features are exaggerated in place of the images' own.

    >>> import preimage
    >>> phi = preimage.from_callable(lambda x: x.relu(), preimage.PixelSpace(8, "grey", mean=128.0))
    >>> r = caricature(phi, np.full((8, 8), 168, np.uint8), C=3.0, progress=False)
    >>> bool(r.activation > 1)
    True
    """
    compute = Compute(phi, device, dtype, batch, precision, max_memory, compiled)
    phi = compute.phi
    setup = _Setup("caricature", compute, solver, iterations, progress, regularizers, bound, frames, watch)
    with compute.session():
        x0, labels, keys = _load(phi, image, fit)
        x0 = x0.to(compute.device, compute.dtype)
        model = x0 if seen is None else _load(phi, seen, fit)[0].to(x0)
        if model.shape != x0.shape:
            raise InputError(f"seen is one image for each of {len(x0)}, of {_size(x0)} pixels; got {len(model)} of {_size(model)}.")
        phi0 = features_of(phi, model).clamp(min=0)
        weights = resolve(mask, phi0.shape[1:])
        amount = _jitter(phi, jitter)
        seeds, _ = sample_seeds(seed, keys, 1)
        start = x0.new_zeros(*x0.shape[:2], *amount.canvas(_size(x0)))
        top, left = amount.centre
        start[..., top : top + x0.shape[2], left : left + x0.shape[3]] = x0
        loss = InnerProduct(None, None if weights is None else weights.to(phi0))
        found, took = setup.minimize(loss, phi0, C, start, amount, seeds)
    more = {"mask": _describe(mask), "C": C, "fit": fit or phi.space.fit, "jitter": amount.amount}
    return setup.result(found, took, labels=labels, seeds=seeds, originals=x0, scale=1.0, more=more)


def own_stages(solver: str | Solver, task: str) -> Sequence[Stage]:
    """The stages that a solver takes where nothing else is asked for; task: "invert", "maximize" or "caricature".

    >>> [s.iterations for s in own_stages("paper", "invert")]
    [300, 50]
    """
    return _STAGES.get(str(solver), _DEFAULT_STAGES)[task]


@dataclass
class _Setup:
    """What the three tasks share: where to compute, the solver, the run and the record."""

    task: str
    compute: Compute
    solver: str | Solver
    iterations: int | None
    progress: bool
    regularizers: Mapping[str, Regularizer] | None
    bound: float
    frames: int
    watch: Watch | None
    stages: Sequence[Stage] | None = None

    def __post_init__(self) -> None:
        self.phi = self.compute.phi
        if isinstance(self.solver, str):
            load_solvers()[self.solver]
        if self.stages is not None and not (len(self.stages) and all(isinstance(s, Stage) for s in self.stages)):
            raise InputError(f"stages is a list of at least one preimage.Stage, as [Stage(300)]; got {self.stages!r}.")

    def minimize(self, loss: Loss, phi0: Tensor, C: float, start: Tensor, jitter: Jitter, seeds: Sequence[int]) -> tuple[Minimum, float]:
        energy = Energy(loss, self.phi, phi0, C, self.regularizers)
        began = time.monotonic()
        batch = self.compute.prepare(energy, start, jitter)
        found = minimize(
            energy,
            start,
            solver=self._method(),
            stages=self._plan(),
            iterations=self.iterations,
            jitter=jitter,
            ball=PixelBall(self.bound),
            generators=[generator(s, "jitter") for s in seeds],
            progress=self.progress,
            title=f"{self.task} {self.phi.name}",
            frames=self.frames,
            batch=batch,
            watch=self.watch and self._levels_to_watch,
        )
        self._energy = energy
        return found, time.monotonic() - began

    def _levels_to_watch(self, evaluations: int, x: Tensor, energy: Tensor) -> bool | None:
        assert self.watch is not None
        return self.watch(evaluations, self.phi.space.decode(x), energy)

    @property
    def quiet(self) -> float:
        """What the original's start is multiplied by: 1, but where "fast" descends at once 1/4, and 1/j² for the paper's jitter j above
        2: deep units answer strongly to noise."""
        descends = self.solver == "fast" and not self._plan()[0].jitter
        return 1.0 / max(2, _jitter(self.phi, None).amount) ** 2 if descends else 1.0

    def _plan(self) -> Sequence[Stage]:
        if self.stages is not None:
            return self.stages
        if self.task == "invert" and self.solver == "fast" and float(self.phi.stride) > _FINE:
            return _FAST_LONG if self._explores() else _FAST_DESCENT
        return own_stages(self.solver, self.task)

    def _explores(self) -> bool:
        """Whether "fast" inverts a deep layer with time enough to do all of it by Adam in Fourier coordinates."""
        short = self.iterations is not None and self.iterations < _LONG
        return (
            self.task == "invert" and self.solver == "fast" and self.stages is None and not short and _jitter(self.phi, None).amount > _DEEP
        )

    def _method(self) -> str | Solver:
        """ "fast" at the rate that the representation asks for, where it does; everything else as it was given."""
        rate = self.phi.fast_rate
        if self._explores():
            return "fourier-adam"
        return load_solvers()["fast"](rate=rate) if self.solver == "fast" and rate is not None else self.solver

    def result(
        self,
        found: Minimum,
        took: float,
        *,
        labels: list[str],
        seeds: list[int],
        more: Mapping[str, Any],
        originals: Tensor | None = None,
        scale: Tensor | float | None = None,
    ) -> Result:
        """Everything to the CPU, levels 0–255; raises Interrupted, with the result, if Ctrl-C came."""
        decode = self.phi.space.decode
        loss = found.energy["loss"].cpu() / self._energy.C
        result = Result(
            task=self.task,
            images=decode(found.x).float().cpu(),
            error=loss.sqrt().float() if self.task == "invert" else None,
            activation=None if scale is None else (-loss * scale).float(),
            energy={k: v.float().cpu() for k, v in found.energy.items()},
            trace={k: v.float() for k, v in found.trace.items()},
            evaluations=found.evaluations,
            labels=labels,
            seeds=seeds,
            status=found.status,
            config=json.loads(json.dumps(self._record(took) | dict(more))),
            originals=None if originals is None else decode(originals).float().cpu(),
            frames=[decode(f).float() for f in found.frames],
            interrupted=found.interrupted,
        )
        if found.interrupted:
            raise Interrupted(result)
        return result

    def _record(self, took: float) -> dict[str, Any]:
        module = self.phi.module
        network = self.phi.network if isinstance(self.phi.network, Network) else None
        return {
            "representation": self.phi.name,
            "network": None if network is None else network.card.name,
            "weights": None if network is None else network.weights,
            "weights_sha256": None if module is None else weights_hash(module),
            "leak": self.phi.leak,
            "space": self.phi.space.to_dict(),
            "solver": self.solver if isinstance(self.solver, str) else repr(self.solver),
            "fast_rate": self.phi.fast_rate if self.solver == "fast" else None,
            "iterations": self.iterations,
            "stages": None if self.stages is None else [asdict(s) for s in self.stages],
            "regularizers": {k: repr(r) for k, r in self._energy.regularizers.items()},
            "bound": self.bound if math.isfinite(self.bound) else None,
            **self.compute.record(),
            "seconds": round(took, 3),
            "versions": versions(),
        }


def _load(phi: Representation, image: Any, fit: Fit | None) -> tuple[Tensor, list[str], list[str]]:
    """Images of one size as one canonical batch, a label and a key for each."""
    given = list(image) if isinstance(image, (list, tuple)) else [image]
    if not given:
        raise InputError("There is no image: the list is empty.")
    batches = [phi.space.encode(i, fit=fit) for i in given]
    for i, b in zip(given, batches, strict=True):
        if isinstance(i, Tensor):
            phi.space.doubt(b)
    if len({b.shape[1:] for b in batches}) > 1:
        raise InputError(f"The images have different sizes, {[_size(b) for b in batches]}: invert them one by one.")
    labels: list[str] = []
    for k, (i, b) in enumerate(zip(given, batches, strict=True)):
        path = getattr(i, "filename", i)
        stem = (
            np.char.rpartition(str(path).replace("\\", "/"), "/")[2].item() if isinstance(path, str) or hasattr(path, "__fspath__") else ""
        )
        base = stem.rpartition(".")[0] or stem or (f"image-{k}" if len(given) > 1 else "image")
        labels += [base] if len(b) == 1 else [f"{base}-{j}" for j in range(len(b))]
    x0 = torch.cat(batches)
    return x0, labels, [hashlib.sha256(x.float().cpu().numpy().tobytes()).hexdigest() for x in x0]


def _jitter(phi: Representation, amount: int | None) -> Jitter:
    own = phi.jitter if amount is None else amount
    return Jitter.for_stride(float(phi.stride)) if own is None else Jitter(own)


def _largest(
    phi: Representation,
    wanted: list[tuple[int, ...]],
    stats: Statistics | str | os.PathLike[str] | None,
    size: tuple[int, int],
    like: Tensor,
    everywhere: bool,
) -> tuple[list[float], str]:
    if stats is None:
        return estimated_largest(phi, wanted, size, like, everywhere)
    if everywhere:
        raise InputError("stats hold the largest answers of single units, and everywhere=True asks for a channel's mean: leave stats out.")
    return recorded_largest(phi, wanted, stats if isinstance(stats, Statistics) else load_statistics(stats))


def _divisors(Z: float | Sequence[float] | None, units: int) -> list[float]:
    given = list(Z) if isinstance(Z, Sequence) else [Z] * units
    if len(given) != units:
        raise InputError(f"{len(given)} divisors Z for {units} units: give one number, or one for each unit.")
    return [_positive("Z", z) for z in given]


def _size(x: Tensor) -> tuple[int, int]:
    return int(x.shape[-2]), int(x.shape[-1])


def _restarted(labels: list[str], restarts: int) -> list[str]:
    return labels if restarts == 1 else [f"{label} restart {r}" for label in labels for r in range(restarts)]


def _plain_unit(indices: tuple[int, ...]) -> int | list[int]:
    return indices[0] if len(indices) == 1 else list(indices)


def _describe(mask: Mask | None) -> str | None:
    if mask is None:
        return None
    return f"tensor of shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else getattr(mask, "__qualname__", repr(mask))


def _positive(name: str, value: float | None) -> float:
    if value is None or not (value > 0 and math.isfinite(value)):
        raise InputError(f"{name} is a number above 0; got {value!r}.")
    return float(value)
