"""Activation maximization's own questions: which unit, on what canvas, how large its answers are, and whether it is open."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..energy.energy import Energy
from ..energy.losses import InnerProduct
from ..energy.terms import FeatureTerm
from ..energy.transforms import Transform
from ..errors import InputError, OptimizationError, PreimageWarning
from ..networks.network import weights_hash
from ..pixels.images import reference_images
from ..representations.base import Representation, Wrapped, derived, features_of, module_of
from ..representations.units import Unit, as_indices, is_direction, unit_targets
from ..solvers.loop import minimize
from ..solvers.methods import Paper
from ..solvers.run import Stage
from ..solvers.starts import generator, noise
from ..statistics.accumulators import by_channel, channel_axis
from ..statistics.statistics import Statistics

TILE = 1.1  # exp_maximization.m: a unit's canvas spans 1.1 receptive fields
LEAK = 0.05  # exp_maximization.m's own default slope of ReLUs; here only for the gradient, until a closed unit opens
TYPICAL = 0.95  # see estimated_largest
OPENING, ROUNDS = Stage(10), 6


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


def from_largest(phi: Representation, largest: Sequence[float], size: tuple[int, int]) -> list[float]:
    """Return the divisors Z = M·rf² of units with these largest answers (exp_maximization.m); no field is larger than the image."""
    rf = min(max(size), float(phi.receptive_field or max(size)))
    return [m * rf**2 for m in largest]


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
    phi: Representation, units: Sequence[Unit], size: tuple[int, int], like: Tensor, everywhere: bool = False
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
    axis = channel_axis(tuple(features.shape[1:]))
    values = by_channel(features).double()
    if everywhere:
        values = values.mean(dim=2, keepdim=True)
    largest, least = values.amax(dim=(0, 2)), values.amin(dim=(0, 2))
    typical = _typical(largest, least, TYPICAL, phi.name)
    of = []
    for unit in units:
        if is_direction(unit):
            of.append(_largest_along(phi, unit, values, like))
        else:
            w = as_indices(phi, unit)
            of.append(max(largest[w[0] if len(w) == 1 else w[axis]].item(), typical))
    return of, "estimated from 3 photographs and noise" if photographs else "estimated from noise"


def _typical(largest: Tensor, least: Tensor, q: float, name: str) -> float:
    """The quantile q of the channels' largest values that are above 0; where none is, the largest magnitude."""
    alive = largest[largest > 0]
    if len(alive):
        return float(alive.quantile(q))
    magnitude = float(least.abs().max())
    if magnitude == 0:
        raise InputError(f"{name} answers 0 to every reference image: it is dead. Choose another layer, or give Z.")
    return magnitude


def _largest_along(phi: Representation, unit: Unit, values: Tensor, like: Tensor) -> float:
    """The largest inner product of a direction with the channels' answers (images, channels, places)."""
    target, _ = unit_targets(_Channels(phi, values.shape[1]), [unit], (1, 1), False, like)
    along = torch.einsum("c,bcp->bp", target[0].double().cpu(), values.cpu())
    return max(float(along.max()), 1e-6 * float(along.abs().max()), 1e-12)


class _Channels(Wrapped):
    """Φ's channels alone, whatever map they are on."""

    def __init__(self, inner: Representation, count: int) -> None:
        super().__init__(inner)
        self._count = count

    def __call__(self, x: Tensor) -> Tensor:
        return x.new_zeros(len(x), self._count)

    def unit_named(self, name: str) -> int:
        return self.inner.unit_named(name)


def open_closed_units(
    phi: Representation, phi0: Tensor, start: Tensor, transform: Transform, generators: Sequence[torch.Generator]
) -> tuple[Tensor, list[int], int]:
    """Return starts from which the unit has a gradient, which samples needed another, and the evaluations spent on it.

    Most units of a deep layer are closed by their ReLU for noise. A few of the paper's steps on the loss alone, with a gradient
    that passes closed ReLUs, open them; each sample takes its own way and the others are not touched. Raises KeyboardInterrupt on Ctrl-C.
    """
    if not phi.can_open or phi.leak > 0:
        return start, [], 0
    loss = InnerProduct()
    closed = closed_samples(FeatureTerm(loss, phi, phi0, 1.0), start, transform)
    opened, spent = closed, 1
    steps = Paper(rate=1e12)  # a full step however small the gradient is
    for _ in range(ROUNDS):
        if not closed:
            break
        term = FeatureTerm(loss, phi, phi0[closed], 1.0)
        energy = Energy(term, {}, transform)
        with phi.opened(LEAK), warnings.catch_warnings():
            warnings.simplefilter("ignore", PreimageWarning)
            try:
                own = [generators[b] for b in closed]
                found = minimize(energy, start[closed], solver=steps, stages=[OPENING], generators=own)
            except OptimizationError:
                break  # not even that reaches the image: the run itself will say so
        if found.interrupted:  # minimize gives what it had, and here that is nothing yet
            raise KeyboardInterrupt
        start = start.clone()
        start[closed] = found.canvas
        spent += found.evaluations + 1
        still = closed_samples(term, start[closed], transform)
        closed = [closed[b] for b in still]
    return start, opened, spent


def closed_samples(term: FeatureTerm, x: Tensor, transform: Transform) -> list[int]:
    """Return the samples whose loss has a gradient of exactly zero at the still view of the canvas."""
    window = transform.crop(x).detach().requires_grad_()
    with derived([term.phi]):
        (gradient,) = torch.autograd.grad(term(window)["loss"].sum(), window)
    return [b for b, g in enumerate(gradient.abs().amax(dim=(1, 2, 3)).tolist()) if g == 0.0]
