"""Images by evolution, without a gradient: a parent has a changed child, and the better of the two stays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..energy.chance import check_between
from ..errors import InputError, whole
from .cppn import CPPN
from .memory import take
from .run import Run, Stage

STRENGTH = 15.0  # of the polynomial mutation: Nguyen et al. 2015, Sect. 2.2


@dataclass(frozen=True)
class Evolution:
    r"""Keep the better of a parent and its changed child, in each step one; only values are asked for, at the still view.

    encoding : "direct" changes numbers of the coordinates z: each is chosen with a chance of `rate`, which is halved every
        `halved_every` steps, and moved by the polynomial mutation :math:`\delta R`, :math:`\delta = (2r)^{1/16} - 1` for r < 1/2 and
        :math:`1 - (2 - 2r)^{1/16}` else, r even in 0–1. R is four times the median size of the z to begin with, which is the range of
        even noise, or 255 where half of them are zero, as of a grey image. "cppn" changes a network that paints the pixels (`CPPN`),
        and begins with a random one of its own.
    rate, halved_every : default 0.1 and 1000

    Source: Nguyen, Yosinski, Clune 2015, Sect. 2.2, whose champions of all classes share one archive; here each image has its own class.
    """

    encoding: str = "direct"
    rate: float = 0.1
    halved_every: int = 1000

    def __post_init__(self) -> None:
        if self.encoding not in ("direct", "cppn"):
            raise InputError(f"encoding is direct or cppn; got {self.encoding!r}.")
        check_between("rate", self.rate, 0.0, 1.0)
        whole("halved_every", self.halved_every, 1)

    def __call__(self, run: Run, z: Tensor, stages: Sequence[Stage]) -> Tensor:
        z = run.crop(z)
        parents: _Population = _Direct(run, z, self) if self.encoding == "direct" else _Painted(run, z)
        elite = _Elite(run, z, parents)
        run.restore(elite)
        for _ in range(sum(s.iterations for s in stages) - elite.count):
            elite.step()
            run.keep(elite.z, elite)
        return elite.z


class _Population(Protocol):
    """One parent a sample, in some encoding."""

    def children(self, count: int) -> Tensor:
        """Return the coordinates of one changed child of each, in step `count`; in step 0 those of the parents."""

    def accept(self, better: Tensor) -> None:
        """Let the children take their parents' places where they are better (B,)."""

    def state(self) -> dict[str, Tensor]:
        """See `Memory`."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Memory`."""


class _Elite:
    """The best coordinates so far with their energies, and how many steps there were."""

    def __init__(self, run: Run, z: Tensor, parents: _Population) -> None:
        self.z, self.count = z, 0
        self._run, self._parents, self._energy = run, parents, torch.full((len(z),), math.inf, dtype=z.dtype, device=z.device)

    def step(self) -> None:
        trial = self._run.project(self._parents.children(self.count))
        energy = self._run.values(trial)
        better = energy < self._energy
        self._energy = torch.where(better, energy, self._energy)
        self.z = torch.where(better.view(-1, *[1] * (trial.dim() - 1)), trial, self.z)
        self._parents.accept(better)
        self._run.remember(self.z)
        self.count += 1

    def state(self) -> dict[str, Tensor]:
        """See `Memory`; the random numbers to come belong to it."""
        drawn = torch.stack([g.get_state() for g in self._run.generators])
        return {"z": self.z, "energy": self._energy, "count": torch.tensor(self.count), "drawn": drawn} | self._parents.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Memory`."""
        self.z, self._energy = take(state, "z", self.z), take(state, "energy", self._energy)
        self.count = int(take(state, "count", torch.tensor(0)))
        drawn = take(state, "drawn", torch.stack([g.get_state() for g in self._run.generators]))
        for generator, where in zip(self._run.generators, drawn, strict=True):
            generator.set_state(where.cpu().clone())
        self._parents.load(state)


class _Direct:
    """Coordinates, number by number."""

    def __init__(self, run: Run, z: Tensor, how: Evolution) -> None:
        self._run, self._how, self._z, self._child = run, how, z, z
        size = 4 * z.abs().flatten(1).median(dim=1).values.view(-1, *[1] * (z.dim() - 1))
        self._range = torch.where(size > 0, size, 255.0)

    def children(self, count: int) -> Tensor:
        if count == 0:
            return self._z
        chance = self._how.rate * 0.5 ** (count // self._how.halved_every)
        drawn = [torch.rand(2, *self._z.shape[1:], generator=g, device=g.device) for g in self._run.generators]
        chosen, r = torch.stack(drawn, dim=1).to(self._z)
        power = 1 / (STRENGTH + 1)
        moved = torch.where(r < 0.5, (2 * r) ** power - 1, 1 - (2 - 2 * r) ** power)
        self._child = self._z + self._range * moved * (chosen < chance)
        return self._child

    def accept(self, better: Tensor) -> None:
        self._z = torch.where(better.view(-1, *[1] * (self._z.dim() - 1)), self._child, self._z)

    def state(self) -> dict[str, Tensor]:
        return {"parent": self._z, "range": self._range}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._z, self._range = take(state, "parent", self._z), take(state, "range", self._range)


class _Painted:
    """Networks that paint pixels."""

    def __init__(self, run: Run, z: Tensor) -> None:
        if not run.writes_pixels:
            raise InputError("A CPPN paints pixels: the parameterization has to be pixels or box.")
        self._run, self._like = run, z
        self._parents = [CPPN.drawn(z.shape[1], g) for g in run.generators]
        self._children = self._parents

    def children(self, count: int) -> Tensor:
        if count > 0:
            self._children = [p.changed(g) for p, g in zip(self._parents, self._run.generators, strict=True)]
        size = (self._like.shape[-2], self._like.shape[-1])
        return torch.stack([c.paint(size) for c in self._children]).to(self._like) - self._run.space.mean_colour.to(self._like)

    def accept(self, better: Tensor) -> None:
        found = zip(better.tolist(), self._children, self._parents, strict=True)
        self._parents = [child if won else parent for won, child, parent in found]

    def state(self) -> dict[str, Tensor]:
        return {"genome": torch.stack([p.genome() for p in self._parents])}

    def load(self, state: Mapping[str, Tensor]) -> None:
        genomes = take(state, "genome", torch.stack([p.genome() for p in self._parents]))
        self._parents = [CPPN.from_genome(g) for g in genomes.cpu()]
