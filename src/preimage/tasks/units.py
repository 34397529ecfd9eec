"""Activation maximization's own questions: which unit, on what canvas, how large its answers are, and whether it is open."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..energy.energy import Energy, Loss
from ..energy.regularizers import Jitter
from ..errors import InputError, OptimizationError, PreimageWarning, first_line
from ..networks.network import weights_hash
from ..pixels.images import reference_images
from ..representations.base import Representation, features_of, module_of
from ..solvers.loop import Stage, minimize
from ..solvers.methods import Paper
from ..solvers.starts import generator, noise
from ..statistics.accumulators import by_channel, channel_axis
from ..statistics.statistics import Statistics

TILE = 1.1  # exp_maximization.m: a unit's canvas spans 1.1 receptive fields
LEAK = 0.05  # exp_maximization.m's own default slope of ReLUs; here only for the gradient, until a closed unit opens
TYPICAL = 0.95  # see estimated_largest
WAKE, ROUNDS = Stage(10), 6

Unit = int | str | tuple[int, ...]


def as_indices(phi: Representation, unit: Unit) -> tuple[int, ...]:
    """A unit as a tuple of indices: (channel,) or a full position."""
    if isinstance(unit, str):
        return (phi.unit_named(unit),)
    indices = unit if isinstance(unit, tuple) else (unit,)
    if not all(isinstance(i, (int, np.integer)) and not isinstance(i, bool) for i in indices):
        raise InputError(f"A unit is a channel, (channel, row, column) or a class name; got {unit!r}.")
    return tuple(int(i) for i in indices) or (0,)  # of one number an image, () is the only one


def one_hot(
    phi: Representation,
    wanted: list[tuple[int, ...]],
    units: Sequence[Unit],
    size: tuple[int, int],
    everywhere: bool,
    like: Tensor,
) -> tuple[Tensor, list[str]]:
    """Φ0 of each unit for images of this size, and its label."""
    try:
        features = features_of(phi, like.new_zeros(1, phi.space.count, *size))
    except InputError:
        raise
    except Exception as error:  # whatever a module raises on an image that is too small, or not of its own size
        raise InputError(
            f"{phi.name} cannot take a canvas of {size[0]}x{size[1]} pixels ({first_line(error)}). Choose another canvas."
        ) from error
    shape = features.shape[1:]
    phi0 = features.new_zeros(len(wanted), *shape)
    labels = []
    for target, indices, unit in zip(phi0, wanted, units, strict=True):
        spot: tuple[Any, ...] = indices
        if len(indices) == 1 and len(shape) == 3:
            spot = (indices[0], slice(None), slice(None)) if everywhere else (indices[0], shape[1] // 2, shape[2] // 2)
        if not shape and len(indices) == 1:  # one number an image
            spot = ()
        if len(spot) != len(shape):
            raise InputError(f"The features of {phi.name} have shape {tuple(shape)}: a unit is {len(shape)} numbers, got {indices}.")
        for i, n in zip(indices, shape or (1,), strict=False):
            if not 0 <= i < n:
                raise InputError(
                    f"There is no unit {unit!r} in {phi.name}: its features have shape {tuple(shape)} (channels first, from 0)."
                )
        target[spot] = 1.0 / target[spot].numel() if everywhere else 1.0
        name = unit if isinstance(unit, str) else "-".join(str(i) for i in indices)
        labels.append(name if isinstance(unit, str) else f"unit {name}")
    return phi0, labels


def canvas_size(phi: Representation, canvas: str | int | tuple[int, int], like: Tensor) -> tuple[int, int]:
    """The size of Φ's input in pixels."""
    own = phi.space.size
    if isinstance(canvas, str):
        if canvas not in ("auto", "input", "receptive-field"):
            raise InputError(f"canvas is 'auto', 'input', 'receptive-field' or a size in pixels; got {canvas!r}.")
        rf = phi.receptive_field
        if canvas == "receptive-field" and rf is None:
            raise InputError(f"The units of {phi.name} see the whole image: there is no receptive field. Choose canvas='input' or a size.")
        if canvas == "receptive-field" or (canvas == "auto" and rf is not None and (own is None or rf < min(own))):
            side = _receptive_field_canvas(phi, like, fixed=own if canvas == "auto" else None)
            return (side, side) if isinstance(side, int) else side
        if own is None:
            raise InputError(f"{phi.name} takes images of any size: give canvas=PIXELS.")
        return own
    size = (canvas, canvas) if isinstance(canvas, (int, np.integer)) else tuple(canvas)
    if len(size) != 2 or min(size) < 1:
        raise InputError(f"canvas is a size in pixels, (height, width); got {canvas!r}.")
    return int(size[0]), int(size[1])


def _receptive_field_canvas(phi: Representation, like: Tensor, fixed: tuple[int, int] | None) -> int | tuple[int, int]:
    """exp_maximization.m: `reps` units span 1.1 receptive fields (at least 4, made odd); the largest square that gives just them."""
    rf, stride = float(phi.receptive_field or 1), float(phi.stride)
    reps = max(math.floor(TILE * rf / stride + 0.5), 4)
    reps += 1 - reps % 2

    def units(side: int) -> int | None:
        try:
            with torch.no_grad():
                shape = phi(like.new_zeros(1, phi.space.count, side, side)).shape
        except InputError:
            raise
        except Exception:  # whatever a module raises on an image that is too small, or not of its own size
            return None
        return int(shape[-1]) if len(shape) == 4 else None

    low, high = 1, max(4, math.ceil(rf + (reps + 1) * stride))
    if units(high) is None and fixed is not None:
        return fixed  # the network takes its own size only
    while (n := units(high)) is not None and n <= reps and high < 4096:
        low, high = high, min(2 * high, 4096)
    while high - low > 1:
        middle = (low + high) // 2
        n = units(middle)
        low, high = (middle, high) if n is None or n <= reps else (low, middle)
    if units(low) != reps:
        raise InputError(f"No square image gives {reps} x {reps} units of {phi.name}. Give canvas=PIXELS.")
    return low


def recorded_largest(phi: Representation, wanted: Sequence[tuple[int, ...]], stats: Statistics) -> tuple[list[float], str]:
    """M of each unit: its channel's largest value over the images of the statistics; and where that comes from, for the record.

    A unit that no image excited gets the median of those of its layer that some did. Raises InputError for the statistics of
    another network or other pixels, UnknownName for a layer that is not in them.
    """
    module = module_of(phi)
    if module is None:
        raise InputError(f"Statistics are of a network's layers, and {phi.name} is not one: leave stats out, or give Z.")
    stats.check(weights_hash(module), phi.space.to_dict())
    layer = stats[phi.name]
    typical = _typical(layer.max, layer.min, 0.5, phi.name)
    of = [layer.max[layer.channel_of(w)].item() for w in wanted]
    return [m if m > 0 else typical for m in of], f"statistics of {len(stats.images)} images"


def estimated_largest(
    phi: Representation, wanted: Sequence[tuple[int, ...]], size: tuple[int, int], like: Tensor, everywhere: bool = False
) -> tuple[list[float], str]:
    """M of each unit without statistics: from the packaged photographs and four random starts, of the space's size if it has one.

    everywhere: of the channels' means over the map, several times smaller than the largest answer in it.

    So few images show the largest answer of few units, and a unit whose M is too small gets a picture of too much contrast. Among
    n other photographs the largest answer of the median unit of SqueezeNet grows ever more slowly with n, at n = 20 by a factor of
    1.1 to 1.2 for twice as many. Carried on to the paper's 1282, that is near the 95 % quantile of what the three photographs show
    of the layer's units, from relu_conv1 to pool10; so no M is taken as less.
    """
    canvas = phi.space.size or size
    batches = [noise([generator(k, "reference") for k in range(4)], (phi.space.count, *canvas), like)]
    photographs = not isinstance(phi.space.channels, int) or phi.space.count in (1, 3)
    if photographs:
        batches += [phi.space.encode(i, size=canvas).to(like) for i in reference_images()]
    features = torch.cat([features_of(phi, b) for b in batches])
    values = by_channel(features).double()
    if everywhere:
        values = values.mean(dim=2, keepdim=True)
    largest, least = values.amax(dim=(0, 2)), values.amin(dim=(0, 2))
    typical = _typical(largest, least, TYPICAL, phi.name)
    axis = channel_axis(tuple(features.shape[1:]))
    of = [largest[w[0] if len(w) == 1 else w[axis]].item() for w in wanted]
    return [max(m, typical) for m in of], "estimated from 3 photographs and noise" if photographs else "estimated from noise"


def _typical(largest: Tensor, least: Tensor, q: float, name: str) -> float:
    """The quantile q of the channels' largest values that are above 0; where none is, the largest magnitude."""
    alive = largest[largest > 0]
    if len(alive):
        return float(alive.quantile(q))
    magnitude = float(least.abs().max())
    if magnitude == 0:
        raise InputError(f"{name} answers 0 to every reference image: it is dead. Choose another layer, or give Z.")
    return magnitude


def wake(
    phi: Representation, loss: Loss, phi0: Tensor, start: Tensor, jitter: Jitter, generators: Sequence[torch.Generator]
) -> tuple[Tensor, list[int], int]:
    """Starts from which the unit has a gradient, which samples needed another, and the evaluations spent on it.

    Most units of a deep layer are closed by their ReLU for noise. A few of the paper's steps on the loss alone, with a gradient
    that passes closed ReLUs, open them; each sample takes its own way and the others are not touched. Raises KeyboardInterrupt on Ctrl-C.
    """
    if not phi.can_open or phi.leak > 0:
        return start, [], 0
    closed = _closed(phi, loss, phi0, start, jitter)
    woken, spent = closed, 1
    steps = Paper(rate=1e12)  # a full step however small the gradient is
    for _ in range(ROUNDS):
        if not closed:
            break
        energy = Energy(loss, phi, phi0[closed], 1.0, {})
        with phi.opened(LEAK), warnings.catch_warnings():
            warnings.simplefilter("ignore", PreimageWarning)
            try:
                own = [generators[b] for b in closed]
                found = minimize(energy, start[closed], solver=steps, stages=[WAKE], jitter=jitter, generators=own)
            except OptimizationError:
                break  # not even that reaches the image: the run itself will say so
        if found.interrupted:  # minimize gives what it had, and here that is nothing yet
            raise KeyboardInterrupt
        start = start.clone()
        start[closed] = found.canvas
        spent += found.evaluations + 1
        still = _closed(phi, loss, phi0[closed], start[closed], jitter)
        closed = [closed[b] for b in still]
    return start, woken, spent


def _closed(phi: Representation, loss: Loss, phi0: Tensor, x: Tensor, jitter: Jitter) -> list[int]:
    """The samples whose loss has a gradient of exactly zero at the centre of the canvas."""
    window = jitter.crop(x).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(phi(window), phi0).sum(), window)
    return [b for b, g in enumerate(gradient.abs().amax(dim=(1, 2, 3)).tolist()) if g == 0.0]
