"""Caricature: what a layer sees in an image, exaggerated (IJCV Sect. 6)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ..energy.losses import InnerProduct
from ..errors import InputError, PreimageWarning
from ..methods.recipe import Recipe
from ..pixels.images import ImageLike
from ..pixels.pixelspace import Fit
from ..representations.base import Representation, features_of
from ..representations.masks import Mask, resolve
from ..solvers.compute import Computation, Compute
from ..solvers.monitor import Monitor
from ..solvers.run import Solver
from ..solvers.starts import noise, sample_seeds
from .choice import Choice, PartArguments, recipe_for_layer
from .inputs import begins_as, describe_mask, describe_start, load_images, size_of
from .result import CaricatureResult
from .resuming import Resume, check_start, digest
from .task import Task

if TYPE_CHECKING:
    from typing_extensions import Unpack


def caricature(
    phi: Representation,
    image: ImageLike | Sequence[ImageLike],
    C: float | None = None,
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
    seen: ImageLike | Sequence[ImageLike] | None = None,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
    monitor: Monitor = Monitor(),  # noqa: B008 (frozen)
    resume: Resume = None,
    **parts: Unpack[PartArguments],
) -> CaricatureResult:
    """Exaggerate what a layer sees in an image: minimise −C·⟨Φ(x), Φ₊⟩/‖Φ₊‖² + R_α + R_TVβ from x0, Φ₊ = max(Φ(x0), 0) (IJCV Sect. 6).

    `Result.activation` is ⟨Φ(x), Φ₊⟩/‖Φ₊‖², 1 for the image itself where Φ is not negative. The features of x0 are taken of the image
    less the mean colour (exp_enhance.m forgets the mean there).

    Parameters
    ----------
    phi, image, mask, solver, iterations, seed, device, dtype, progress : as of `invert`
    C : float
        Weight of the features; default 10, in the recipe for deep layers 1, with solver="paper" the original's 1, at which an early layer
        is smoothed more than it is exaggerated. A result whose activation is below 1 at the default length says so in its status.
    recipe : str, path of a JSON file, or Recipe
        As of `invert`. Default for layers of convolutional networks whose units see at least 40 % of the image's sides, if no part, solver,
        mask, start or `seen` is given: "preimage2026", which keeps the photograph's colours.
    fit, compute, monitor, resume : as of `invert`
    seen : images, one each, whose features are exaggerated in place of the images' own

    Other Parameters
    ----------------
    objective, parameterization, transform, regularizers, bound, stages, quality : as of `invert`
    start : "image" (default; the border that the transform adds is the mean colour), "noise", or an image or a `Result` to begin with

    Returns
    -------
    CaricatureResult : one picture an image

    Raises
    ------
    InputError, OptimizationError, Interrupted : as `invert`

    Examples
    --------
    >>> import numpy as np, preimage
    >>> phi = preimage.from_callable(lambda x: x.relu(), preimage.PixelSpace(8, "grey", mean=128.0))
    >>> r = caricature(phi, np.full((8, 8), 168, np.uint8), C=3.0, progress=False)
    >>> bool(r.activation > 1)
    True
    """
    computation = Computation(phi, device, dtype, compute)
    phi = computation.phi
    choice, start = Choice.of(recipe, C, solver, iterations, parts), parts.get("start")
    if mask is None and seen is None and begins_as(start, "image"):
        choice = recipe_for_layer(phi, choice, share=0.4)
    check_start(start, resume)
    task = Task("caricature", computation, choice, monitor, progress, resume=resume)
    with computation.session():
        x0, labels, keys = load_images(phi, image, fit)
        x0 = x0.to(computation.device, computation.dtype)
        model = x0 if seen is None else load_images(phi, seen, fit)[0].to(x0)
        if model.shape != x0.shape:
            raise InputError(f"seen is one image for each of {len(x0)}, of {size_of(x0)} pixels; got {len(model)} of {size_of(model)}.")
        phi0 = features_of(phi, model).clamp(min=0)
        weights = resolve(mask, phi0.shape[1:])
        seeds, generators = sample_seeds(seed, keys, 1)
        task.began = describe_start(start, task.parts.start) if task.past is None else task.past.about["start"]
        task.asked = {"mask": describe_mask(mask), "weights of features": digest(weights), "seen": None if seen is None else digest(model)}
        canvases = task.start_from(start, size_of(x0), len(x0))
        if task.past is not None:
            canvases = task.canvases_of(task.past, size_of(x0), len(x0))
        elif canvases is None and (start or task.parts.start) == "noise":
            task.from_noise = True
            canvases = noise(generators, (x0.shape[1], *task.transform.canvas(size_of(x0))), computation.like)
        loss = InnerProduct(None, None if weights is None else weights.to(phi0))
        found, took = task.minimize((loss, phi0), task.canvas_of(x0) if canvases is None else canvases, seeds, size_of(x0), model)
        activation = task.activation(found, loss, phi0, 1.0)
    found.status = [
        f"the activation fell to {a:.2f} of the photograph's: the image was smoothed more than it was exaggerated. Raise C."
        if s == "ok" and task.as_default and not found.interrupted and seen is None and a < 1.0
        else s
        for s, a in zip(found.status, activation.tolist(), strict=True)
    ]
    if fallen := [s for s in found.status if "the activation fell" in s]:
        warnings.warn(fallen[0], PreimageWarning, stacklevel=2)
    more = {"start": task.began, "mask": describe_mask(mask), "fit": fit or phi.space.fit}
    more |= {} if seen is None else {"seen": digest(model)}
    return task.result(CaricatureResult, found, took, labels=labels, seeds=seeds, originals=x0, activation=activation, more=more)
