"""Inversion: an image from its features (IJCV Sect. 4)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..energy.losses import Euclidean
from ..errors import InputError, PreimageWarning
from ..inverses.known import inverse_of, shipped_inverse
from ..inverses.learned import LearnedInverse
from ..inverses.reading import load_inverse
from ..inverses.start import start_from_inverse
from ..methods.recipe import Recipe
from ..pixels.images import ImageLike
from ..pixels.pixelspace import Fit
from ..ranges import checked
from ..representations.base import Representation, features_of
from ..representations.masks import Mask, resolve
from ..representations.release import Release, release_text
from ..solvers.compute import Computation, Compute
from ..solvers.monitor import Monitor
from ..solvers.plans import FINE
from ..solvers.run import Solver
from ..solvers.starts import noise, sample_seeds
from .choice import Choice, PartArguments, recipe_for_layer
from .inputs import Start, begins_as, describe_mask, describe_start, load_images, restarted, size_of
from .result import InversionResult
from .resuming import Resume, check_start, digest
from .task import Task

if TYPE_CHECKING:
    from typing_extensions import Unpack


def invert(
    phi: Representation,
    image: ImageLike | Sequence[ImageLike],
    C: float | None = None,
    restarts: int = 1,
    mask: Mask | None = None,
    solver: str | Solver | None = None,
    iterations: int | None = None,
    seed: int | Sequence[int] = 0,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = True,
    *,
    recipe: str | Recipe | None = None,
    fit: Fit | None = None,
    release: Release | None = None,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
    monitor: Monitor = Monitor(),  # noqa: B008 (frozen)
    resume: Resume = None,
    **parts: Unpack[PartArguments],
) -> InversionResult:
    """Reconstruct an image from its features: minimise C·‖M⊙(Φ(x)−Φ(x0))‖²/‖M⊙Φ(x0)‖² + R_α + R_TVβ (IJCV Sect. 4).

    Any part of the energy can be given by its name, in the place of the recipe's own: these are listed as other parameters.

    Parameters
    ----------
    phi : representation
        What the features are of: `net.layer(…)`, `Layer(…)`, `HOG()`, `from_callable(…)`, …
    image : path, PIL image, uint8 array (H, W[, C]) or canonical tensor ([B,] C, H, W), or a list of them
        What is shown to the representation.
    C : float
        Weight of the features against naturalness; default 100 (IJCV Sect. 4; the paper uses 1 to 300).
    restarts : int
        Pre-images of each image, from different starts, image by image; default 1.
    mask : tensor or function of `preimage.masks`
        Which features count; a tensor broadcasts to one sample's features; default all.
    solver : str or Solver
        "fast" (default), "paper", "fourier-adam", "adam", "descent", "lbfgs", "name:setting=value", or a solver.
    iterations : int
        Instead of the solver's own number.
    seed : int or list of int
        Each sample's own seed is made of it, the image and the restart; or one for each, as `Result.seeds` lists them.
    device, dtype : where and in which type the image is kept; default where the weights are, in float32
    progress : whether a bar is shown
    recipe : str, path of a JSON file, or Recipe
        All parts at once, as "mahendran2016"; what else is given takes their place. Default where no part, solver, mask, release or start
        is given: for layers of convolutional networks whose units see at least half of the image's sides "preimage2026", whose images
        are nearer to the photograph for other networks, and further from it in the features of this one; for layers of a stride above
        4 of which the package carries an inverse "inverse2026".
    fit : "squash" resizes without keeping the aspect ratio, as the paper did; default the space's own
    release : what is known of Φ(x0), a function of it (`representations.release`); the error is then that from what was released
    compute : `Compute`: batch, precision, memory, compiled
    monitor : `Monitor`: frames, watch, keep_state
    resume : an earlier result of the same call, or its folder, made with Monitor(keep_state=True)
        To go on from where it was left: what comes is what a run that was never interrupted gives, to the bit on the same machine.
        iterations may be larger then, where the solver's steps do not depend on the length.

    Other Parameters
    ----------------
    objective : what is asked of the features, instead of `Match()`; as `Match() + 0.5 * Match("fire9")`
    parameterization : how the image is written; default pixels
    transform : what Φ is shown at each step; default jitter by the paper's rule, max(round(stride/4), 1) pixels
    regularizers : by name, instead of the paper's
    bound : of each pixel's colour norm in grey levels, B₊ = 160; infinity for none
    stages : instead of the solver's own, as the one stage of the paper's HOG experiment, [Stage(300)]
    quality : "draft", "normal" or "best"
        How much work, in place of iterations: a third of the evaluations that the run takes by itself, these ("normal", the default), or
        three times as many. docs/recognition.md has what it gives.
    start : "noise", "image", "inverse", an image, a `Result`, or a learned inverse of the layer (`LearnedInverse` or its .safetensors file)
        What to begin with; default noise, or the inverse that the package carries for the layer if nothing but C and the length is
        chosen. "inverse" is the layer's own: the package's, or one that is fitted now and kept in the cache. From an inverse "fast"
        descends at once, 50 evaluations long, from the answer and noise of ±2 levels, each sample its own; iterations=0 gives the
        answer itself. With a mask it is shown the mean in the place of what does not count.

    Returns
    -------
    InversionResult : of restarts x images pre-images

    Raises
    ------
    InputError (ImageError) : for what it cannot use
    OptimizationError : if no sample has a usable result
    Interrupted : on Ctrl-C, or when the monitor asks for it: a KeyboardInterrupt, with what was found

    Examples
    --------
    >>> import numpy as np, preimage
    >>> phi = preimage.from_callable(lambda x: x[:, :, ::2, ::2], preimage.PixelSpace(8, "grey"))
    >>> r = invert(phi, np.full((8, 8), 200, np.uint8), progress=False)
    >>> r.images.shape, bool(r.error < 0.4)
    (torch.Size([1, 1, 8, 8]), True)
    """
    computation = Computation(phi, device, dtype, compute)
    phi = computation.phi
    choice, start = Choice.of(recipe, C, solver, iterations, parts), parts.get("start")
    check_start(start, resume)
    if release is not None and not callable(release):
        raise InputError(f"release is a function of the features, as preimage.parse_release('bits:4'); got {release!r:.80}.")
    if mask is None and release is None and begins_as(start, "noise"):
        choice = recipe_for_layer(phi, choice)
    inverse = None
    if mask is None and release is None and start is None:
        choice, start, inverse = own_start(phi, choice)
    if inverse is None:
        inverse = _inverse(start, choice.parts("invert")[0].start, phi, progress)
    task = Task("invert", computation, choice, monitor, progress, warm=inverse is not None, resume=resume)
    with computation.session():
        x0, labels, keys = load_images(phi, image, fit)
        x0 = x0.to(computation.device, computation.dtype)
        task.restarts = restarts = checked("restarts", restarts)
        phi0 = features_of(phi, x0)
        if release is not None:
            phi0 = release(phi0)
        weights = resolve(mask, phi0.shape[1:])
        seeds, generators = sample_seeds(seed, keys, restarts)
        each = x0.repeat_interleave(restarts, dim=0)
        target = phi0 if len(x0) == 1 else phi0.repeat_interleave(restarts, dim=0)
        task.began = describe_start(start, task.parts.start) if task.past is None else task.past.about["start"]
        task.asked = {"restarts": restarts, "mask": describe_mask(mask), "weights of features": digest(weights), "release": repr(release)}
        canvases: Tensor | None
        if task.past is not None:
            canvases = task.canvases_of(task.past, size_of(x0), len(each))
        elif inverse is None:
            canvases = task.start_from(start, size_of(x0), len(each))
        else:
            own = generators if task.plan.phases else [None] * len(generators)  # without a search it is the answer itself
            known = phi0 if weights is None else inverse.masked(phi0, weights)
            wanted = known.repeat_interleave(restarts, dim=0)
            canvases = start_from_inverse(inverse, wanted, size_of(x0), task.transform.canvas(size_of(x0)), own).to(computation.like)
        if canvases is None:
            task.from_noise = (start or task.parts.start) == "noise"
            shape = (x0.shape[1], *task.transform.canvas(size_of(x0)))
            canvases = (
                task.canvas_of(each)
                if (start or task.parts.start) == "image"
                else task.plan.start_scale * noise(generators, shape, computation.like)
            )
        loss = Euclidean(None if weights is None else weights.to(phi0))
        found, took = task.minimize((loss, target), canvases, seeds, size_of(x0), each)
        if task.parts.objective:
            error = loss(features_of(phi, found.x), target).cpu().sqrt().float()
        else:
            error = (found.energy["loss"].cpu() / task.parts.C).sqrt().float()
    found.status = [
        _LOST.format(e) if s == "ok" and task.as_default and not found.interrupted and e >= 1 else s
        for s, e in zip(found.status, error.tolist(), strict=True)
    ]
    if lost := [f"sample {b}: {s}" for b, s in enumerate(found.status) if s.startswith("the error is")]:
        warnings.warn(lost[0], PreimageWarning, stacklevel=2)
    return task.result(
        InversionResult,
        found,
        took,
        labels=restarted(labels, restarts),
        seeds=seeds,
        originals=each,
        error=error,
        more={
            "restarts": restarts,
            "start": task.began,
            "mask": describe_mask(mask),
            "fit": fit or phi.space.fit,
        }
        | ({} if release is None else {"release": release_text(release)})
        | ({} if inverse is None else {"inverse": inverse.record()}),
    )


_LOST = "the error is {:.0%}: these features are no nearer to the image's than none at all. Give more iterations or a larger C."


def own_start(phi: Representation, choice: Choice) -> tuple[Choice, Start, LearnedInverse | None]:
    """Return the choice and the start of a layer that comes with an inverse, and that, where only the strength and the length were chosen.

    Coarse layers, which leave much of the image open, also stay near the inverse's answer, unless "fast" is said, which minimises the
    energy of the paper, as all do for the others.
    """
    bare = choice.usual_solver and choice.is_bare("C", "iterations", "quality", "solver")
    found = shipped_inverse(phi) if bare else None
    if found is None:
        return choice, None, None
    if float(phi.stride) <= FINE or choice.solver == "fast":
        return choice, "inverse", found
    return replace(choice, recipe="inverse2026"), None, found


def _inverse(start: Start | LearnedInverse, own: str, phi: Representation, progress: bool) -> LearnedInverse | None:
    """The learned inverse that a run begins with, if it does. own: the start of the recipe."""
    if isinstance(start, LearnedInverse):
        return start
    if (isinstance(start, str) and start == "inverse") or (start is None and own == "inverse"):
        return inverse_of(phi, progress)
    if isinstance(start, (str, os.PathLike)) and str(start).endswith(".safetensors"):
        return load_inverse(start, phi)
    return None
