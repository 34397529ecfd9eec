"""An inverse that goes layer by layer: deep features to those of an earlier layer, these to still earlier ones, the first to the image."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..networks.network import Network
from ..pixels.pixelspace import PixelSpace
from ..representations.base import Representation, Wrapped, features_of
from ..representations.cnn import Layer
from ..representations.listing import layers
from ..representations.release import Protected
from .fitting import HELD_CROPS, Checkpoint, fit_session, held_out_numbers
from .grid import Grid, Pair, find_grid, like_of
from .kinds import Layerwise
from .learned import LearnedInverse, probe
from .linear import LinearInverse
from .photographs import Crops
from .regression import FIRST_CROPS, Regression, rank_for

_LOOKED_AT = 4  # crops, to see whether a layer's features are never negative
NO_STEP = ("Pool", "Dropout", "Norm", "Softmax", "CrossMap")  # kinds of layers that pass on what another has computed


@dataclass(frozen=True, eq=False)
class LayerwiseInverse(LearnedInverse):
    """A chain of linear inverses, each to the features of an earlier layer and the last to the image, with ReLUs between them.

    Made by `fit_inverse(kind="layerwise")`, read by `load_inverse`. Where all features of a layer are 0 or above, as after a ReLU, what
    is answered below 0 is cut: that is what a single linear inverse cannot do.

    Parameters
    ----------
    steps : sequence of LinearInverse
        From the deepest layer to the image. The `about` of each says which layer it ends at, and whether its answer is cut at 0.
    probe : tensor
        The answer to the test picture, by which the layer is recognised.
    about : mapping
        As of `LinearInverse`, and under "steps" that of each step.
    """

    steps: Sequence[LinearInverse]
    probe: Tensor
    about: Mapping[str, Any] = field(repr=False)
    kind = "layerwise"
    grid = None  # of an image; each step has its own

    def __post_init__(self) -> None:
        if not self.steps:
            raise InputError("A layerwise inverse has at least one step.")
        for one, following in zip(self.steps[:-1], self.steps[1:], strict=True):
            if one.channels != len(following.mean):
                raise InputError(
                    f"A step of a layerwise inverse gives {one.channels} channels, and the following takes {len(following.mean)}."
                )

    @property
    def mean(self) -> Tensor:  # type: ignore[override]
        """Of each channel of the deepest features."""
        return self.steps[0].mean

    def __call__(self, features: Tensor, size: Pair | None = None) -> Tensor:
        """See `LearnedInverse`."""
        if features.ndim != 4:
            raise InputError(
                f"This inverse is of {self.about['layer']} and takes features (B, {len(self.mean)}, h, w); got {tuple(features.shape)}."
            )
        fitted = list(features.shape[2:]) == list(self.about["cells"]) and (size is None or list(size) == list(self.about["size"]))
        size = self._size((features.shape[2], features.shape[3]), size)
        for step in self.steps[:-1]:
            cells = (features.shape[2], features.shape[3])
            covered = (cells[0] * step.grid.stride[0], cells[1] * step.grid.stride[1])
            wanted = (int(step.about["size"][0]), int(step.about["size"][1])) if fitted else covered
            features = step(features, wanted)
            features = features.clamp(min=0.0) if step.about["cut"] else features
        return self.steps[-1](features, size)

    def tensors(self) -> dict[str, Tensor]:
        """See `LearnedInverse`."""
        return {f"{k}.{name}": t for k, step in enumerate(self.steps) for name, t in step.tensors().items()}

    def __repr__(self) -> str:
        way = ", ".join(str(step.about["to"]) for step in self.steps)
        held = self.about.get("held_out", {})
        numbers = f", {held['psnr']:.1f} dB on photographs held out" if "psnr" in held else ""
        return f"LayerwiseInverse(of {self.about['layer']}, by {way}{numbers})"


class Answered(Wrapped):
    """The features of an earlier layer as the steps that are fitted already answer them from those of a deeper one."""

    def __init__(self, inner: Representation, step: LinearInverse) -> None:
        super().__init__(inner, name=f"{inner.name}, answered as {step.about['to']}")
        self.step = step

    def __call__(self, x: Tensor) -> Tensor:
        answer = self.step(self.inner(x))
        return (answer.clamp(min=0.0) if self.step.about["cut"] else answer).to(x)


def earlier_layers(phi: Representation, through: Sequence[str] = ()) -> list[Representation]:
    """Return the layers that an inverse goes through, the deepest first: those named, or the last one before each change of the stride.

    Raises InputError where there are none: for a representation that is no layer of a network, or which no layer with a finer map
    stands before.
    """
    inner = phi
    while isinstance(inner, Protected):
        inner = inner.inner
    if not isinstance(inner, Layer):
        raise InputError(f"{phi.name} is not known as a layer of a network, and an inverse layer by layer needs those before it.")
    network, module, space = inner.network, inner.module, inner.space
    if through:
        names = list(through)
    else:
        found: dict[float, str] = {}
        for info in network.layers() if isinstance(network, Network) else layers(module, space):
            if info.name == inner.name:
                break
            finer = float(info.stride) < float(inner.stride) and float(inner.stride) % float(info.stride) == 0
            if finer and len(info.shape) == 3 and min(info.shape[1:]) >= 2 and not any(word in info.kind for word in NO_STEP):
                found[float(info.stride)] = info.name
        names = list(reversed(found.values()))
    if not names:
        raise InputError(f"No layer with a finer map stands before {phi.name}, so there is nothing to go through: fit kind='linear'.")
    ends: list[Representation] = [
        network.layer(name) if isinstance(network, Network) else Layer(module, name, space=space) for name in names
    ]
    strides = [float(inner.stride), *(float(end.stride) for end in ends)]
    if any(a < b or a % b for a, b in itertools.pairwise(strides)):
        listed = ", ".join(f"{name} {stride:g}" for name, stride in zip([inner.name, *names], strides, strict=True))
        raise InputError(f"An inverse goes through earlier layers, the deepest first, whose strides divide one another; got {listed}.")
    return ends


def fit_layerwise(
    phi: Representation,
    fitted: tuple[Crops, Crops],
    crops: int,
    how: Layerwise,
    about: dict[str, Any],
    memory: int,
    kept: Path | None,
    tick: Callable[[int], Any],
) -> LayerwiseInverse:
    """Fit the steps one after the other, each on what those before it answer, so that it learns to mend their errors.

    Parameters are those of `train_upconv`; tick is called with how many crops of a step are done.
    """
    size: Pair = (about["size"][0], about["size"][1])
    ends = [*earlier_layers(phi, how.through), None]
    grid, shape = find_grid(phi, size, 1)
    about = {**about, "cells": list(shape[1:]), "through": [end.name for end in ends if end is not None]}
    checkpoint = None if kept is None else Checkpoint(kept, about)
    seen, steps = phi, list[LinearInverse]()
    counts = (crops, max(HELD_CROPS, crops // 10))
    with torch.no_grad(), fit_session(phi):
        for k, end in enumerate(ends):
            target = _Target(phi, end, fitted[0], size, how.overlap)
            between = target.between(grid)
            rank = rank_for(None, shape[0], how.kernel, target.channels * math.prod(between.side), memory)
            one = Regression(seen, between, shape, rank, how.kernel, target.channels, checkpoint, tick, target, f"{k} ")
            one.learn_channels(fitted[0], min(FIRST_CROPS, crops))
            sums = [one.learn(f, count, n) for n, (f, count) in enumerate(zip(fitted, counts, strict=True))]
            best = one.choose(sums, how.strengths)
            facts = {"layer": seen.name, "to": target.name, "cut": target.cut, "space": target.space.to_dict(), "size": list(target.cells)}
            facts |= {"cells": list(shape[1:]), "chosen": asdict(best)}
            step = one.inverse(sums[0], best, torch.zeros(shape[0]), facts)  # what is held out stays so: later steps learn from the answer
            steps.append(step)
            if end is not None:
                seen, grid, shape = Answered(seen, step), target.grid, (target.channels, *target.cells)
        found = LayerwiseInverse(tuple(steps), probe(phi, size), about)
        numbers = held_out_numbers(found, phi, fitted[1])
    listed = json.loads(json.dumps([{**s.about, "grid": asdict(s.grid)} for s in steps]))  # as a file gives it back
    return LayerwiseInverse(found.steps, found.probe, {**about, "steps": listed, "held_out": numbers})


class _Target:
    """What a step learns to answer: an earlier layer's features of a crop, or the crop."""

    def __init__(self, phi: Representation, end: Representation | None, crops: Crops, size: Pair, overlap: int) -> None:
        self.end, self.overlap = end, overlap
        self.cut, self.name = False, "the image"
        self.space, self.cells, self.channels = phi.space, size, phi.space.count
        self.grid = Grid((1, 1), (0, 0), (1, 1))
        if end is not None:
            self.grid, shape = find_grid(end, size, 1)
            self.name, self.channels, self.cells = end.name, shape[0], (shape[1], shape[2])
            self.space = PixelSpace(self.cells, self.channels)
            self.cut = all(bool((self(crops[n]) >= 0).all()) for n in range(_LOOKED_AT))

    def __call__(self, x: Tensor) -> Tensor:
        return x if self.end is None else features_of(self.end, x.to(like_of(self.end)))

    def between(self, grid: Grid) -> Grid:
        """Where the cells of a deeper map lie in this one: the image's patches overlap, those of features do not."""
        overlap = self.overlap if self.end is None else 1
        strides = [round(a / b) for a, b in zip(grid.stride, self.grid.stride, strict=True)]
        middles = [
            (a + (s - 1) / 2 - b - (t - 1) / 2) / t
            for a, s, b, t in zip(grid.origin, grid.stride, self.grid.origin, self.grid.stride, strict=True)
        ]
        origins = [math.floor(m - (overlap * s - 1) / 2 + 0.5) for m, s in zip(middles, strides, strict=True)]
        return Grid((strides[0], strides[1]), (origins[0], origins[1]), (overlap * strides[0], overlap * strides[1]))
