"""Train an up-convolutional inverse by Adam over random crops: images' and features' distances; resumable, the same for a seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..representations.base import Representation, device_of, features_of
from ..representations.pairs import Pairs
from ..representations.release import Protected
from .fitting import HELD_CROPS, Checkpoint, fit_session, held_out_numbers
from .grid import Grid, Pair, find_grid, like_of
from .kinds import Upconv
from .learned import is_map, probe, rounded
from .photographs import Crops
from .upconv import FIRST, LEVELS, Architecture, UpconvInverse, canvas, normalised

CROPS = 4000
FIRST_CROPS = 48  # whose features give the means and deviations
FLOOR = 0.05  # of the mean deviation: what a channel is divided by at least
WARM_UP = 0.05  # of the training
BETAS = (0.9, 0.99)
EVERY = 50  # steps between checkpoints


def train_upconv(
    phi: Representation,
    crops: tuple[Crops, Crops],
    count: int,
    how: Upconv,
    about: Mapping[str, Any],
    memory: int,
    kept: Path | None,
    tick: Callable[[int], Any],
) -> UpconvInverse:
    """Train one.

    crops: of the photographs to learn from, and of those held out. count: how many crops to learn from. about: what the record says
    of the representation and the photographs. memory: in bytes, for weights, their gradients and Adam's averages. kept: the file
    for the checkpoint, if there is to be one. tick: is called with how many crops are done.
    Raises InputError where that does not fit, and where the loss is not finite.
    """
    size: Pair = (about["size"][0], about["size"][1])
    with torch.no_grad(), phi.session():
        first = features_of(phi, crops[0][0].to(like_of(phi)))
    grid, plan = _planned(phi, first, size, how)
    numbers = sum(math.prod(s) + s[0] for s in plan.shapes().values())
    if 16 * numbers > memory:
        hint = " Name the patches of a transformer as LAYER:grid." if plan.hidden and first.ndim == 3 else ""
        raise InputError(
            f"{numbers:,} weights and what Adam keeps of them do not fit into max_memory: take a smaller width or hidden.{hint}"
        )
    about = {**about, "architecture": asdict(plan), "cells": list(first.shape[2:]) if plan.hidden == 0 else []}
    checkpoint = None if kept is None else Checkpoint(kept, about)
    with fit_session(phi):
        mean, deviation = _moments(phi, crops[0], min(FIRST_CROPS, count), plan, tick)
        training = _Training(phi, grid, plan, how, mean, deviation, size)
        training.run(crops[0], max(1, count // how.batch), checkpoint, tick)
        weights = {name: rounded(t.detach().cpu()) for name, t in training.weights.items()}
        found = UpconvInverse(grid, mean.cpu(), deviation.cpu(), weights, probe(phi, size), about)
        with torch.no_grad():
            held = held_out_numbers(found, phi, crops[1], HELD_CROPS)
    return replace(found, about={**about, "held_out": held})


@dataclass
class _Training:
    """The weights, and what moves them."""

    phi: Representation
    grid: Grid | None
    plan: Architecture
    how: Upconv
    mean: Tensor
    deviation: Tensor
    size: Pair

    def __post_init__(self) -> None:
        self.weights: dict[str, Tensor] = {}

    def run(self, crops: Crops, steps: int, kept: Checkpoint | None, tick: Callable[[int], Any]) -> None:
        """Take all steps, from where a checkpoint has come to."""
        device = self.mean.device
        begun = self.plan.begin(crops.seed)
        state = {name: torch.zeros_like(t) for k in ("first", "second") for name, t in ((f"{k}/{n}", t) for n, t in begun.items())}
        done = 0
        if kept is not None and (found := kept.read("training")) is not None:
            tensors, done = found
            begun = {n: tensors[n] for n in begun}
            state = {n: tensors[n] for n in state}
            tick(done * self.how.batch)
        self.weights = {n: t.to(device).requires_grad_() for n, t in begun.items()}
        averages = {n: t.to(device) for n, t in state.items()}
        for step in range(done, steps):
            self._step(crops, step, steps, averages)
            tick(self.how.batch)
            if kept is not None and ((step + 1) % EVERY == 0 or step + 1 == steps):
                kept.write("training", {**self.weights, **averages}, step + 1)

    def _step(self, crops: Crops, step: int, steps: int, averages: dict[str, Tensor]) -> None:
        batch = self.how.batch
        x = torch.cat([crops[step * batch + k] for k in range(batch)]).to(like_of(self.phi))
        with torch.no_grad():
            wanted = features_of(self.phi, x)
        loss = self._loss(x, wanted)
        if not bool(torch.isfinite(loss)):
            raise InputError(f"The loss of the up-convolutional inverse is {loss.item()} at step {step}: give a smaller rate.")
        gradients = torch.autograd.grad(loss, list(self.weights.values()))
        rate = self.how.rate * min(1.0, (step + 1) / max(1.0, WARM_UP * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))
        with torch.no_grad():
            for (name, weight), gradient in zip(self.weights.items(), gradients, strict=True):
                first, second = averages[f"first/{name}"], averages[f"second/{name}"]
                first.lerp_(gradient, 1 - BETAS[0])
                second.lerp_(gradient.square(), 1 - BETAS[1])
                least = (second / (1 - BETAS[1] ** (step + 1))).sqrt_().add_(1e-8)
                weight.addcdiv_(first / (1 - BETAS[0] ** (step + 1)), least, value=-rate)

    def _loss(self, x: Tensor, wanted: Tensor) -> Tensor:
        cells = None if self.grid is None else (wanted.shape[2], wanted.shape[3])
        z = normalised(wanted.to(self.mean), self.mean, self.deviation)
        found = canvas(self.plan(self.weights, z), self.grid, cells, self.size)
        loss = F.mse_loss(found, x.to(found)) / LEVELS**2
        if self.how.feature_loss:
            again = self.phi(found.to(x))
            apart = (again - wanted).flatten(1).square().sum(dim=1) / wanted.flatten(1).square().sum(dim=1).clamp(min=1e-30)
            loss = loss + self.how.feature_loss * apart.mean().to(loss)
        return loss


def of_pairs(phi: Representation) -> bool:
    """Whether only pairs of images and features are known, so that no gradient can be had."""
    while isinstance(phi, Protected):
        phi = phi.inner
    return isinstance(phi, Pairs)


def _planned(phi: Representation, features: Tensor, size: Pair, how: Upconv) -> tuple[Grid | None, Architecture]:
    """Where the pixels of a cell lie, and the network that fills them."""
    if is_map(features):
        grid, shape = find_grid(phi, size, 1, tuple(features.shape[1:]))
        stages = math.ceil(math.log2(max(grid.stride)))
        return grid, Architecture(shape[0], phi.space.count, how.width, stages)
    stages = max(0, math.floor(math.log2(max(size) / FIRST)))
    return None, Architecture(features[0].numel(), phi.space.count, how.width, stages, how.hidden)


def _moments(phi: Representation, crops: Crops, count: int, plan: Architecture, tick: Callable[[int], Any]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel, or of each feature where there are no places."""
    device = torch.device("cpu") if device_of(phi).type == "mps" else device_of(phi)
    total, squares, n = (torch.zeros((), dtype=torch.float64, device=device) for _ in range(3))
    with torch.no_grad():
        for k in range(count):
            f = features_of(phi, crops[k].to(like_of(phi))).to(device, torch.float64)
            rows = f.flatten(2)[0].T if plan.hidden == 0 else f.flatten(1)
            total, squares, n = total + rows.sum(dim=0), squares + rows.square().sum(dim=0), n + len(rows)
            tick(1)
    mean = total / n
    if not bool(torch.isfinite(mean).all()):
        raise InputError(f"The features of {phi.name} hold NaN or infinite values. Mend them first.")
    deviation = (squares / n - mean.square()).clamp(min=0).sqrt()
    return mean.float(), deviation.clamp(min=max(1e-12, FLOOR * float(deviation.mean()))).float()
