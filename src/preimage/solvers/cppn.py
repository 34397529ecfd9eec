"""Networks that paint: a colour as a function of a place, whose nodes and connections evolve."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

INPUTS = 4  # x, y, the distance from the centre, and 1
HIDDEN = 24  # nodes at most between inputs and outputs
FUNCTIONS = 4  # sine, sigmoid, Gaussian, linear, as in the paper
FIRST, WANDER = 2.0, 0.7  # standard deviations of new weights, and of a weight's change
WEIGHTS, LINK, NODE, FUNCTION = 0.3, 0.3, 0.15, 0.1  # chances: that a weight changes, and that something is added or exchanged


@dataclass(frozen=True)
class CPPN:
    r"""A compositional pattern-producing network: each pixel is what it answers to the pixel's place.

    Each node has a depth from 0 (inputs) to 1 (outputs), a function (sine, sigmoid, Gaussian, linear), and weights from nodes of less
    depth; it begins with no nodes between, and gets some as connections are split. Three outputs are hue, saturation and value; other
    numbers are levels themselves.

    depth, function : (M,), a depth below 0 for a node that is not there yet
    weights : (M, M), to a row from a column, NaN for no connection

    Source: Nguyen, Yosinski, Clune 2015, Sect. 2.2, after Stanley 2007, and Secretan et al. 2011 (Picbreeder). The chances and sizes of
    changes are ours: the paper gives them only as those of its software.

    >>> g = torch.Generator().manual_seed(0)
    >>> CPPN.drawn(3, g).changed(g).paint((8, 10)).shape
    torch.Size([3, 8, 10])
    """

    depth: Tensor
    function: Tensor
    weights: Tensor

    @staticmethod
    def drawn(channels: int, generator: torch.Generator) -> CPPN:
        """Return a random network without hidden nodes."""
        count = INPUTS + HIDDEN + channels
        depth = torch.cat([torch.zeros(INPUTS), torch.full((HIDDEN,), -1.0), torch.ones(channels)]).double()
        weights = torch.full((count, count), math.nan, dtype=torch.float64)
        weights[-channels:, :INPUTS] = FIRST * _normal(generator, channels, INPUTS)
        return CPPN(depth, (_even(generator, count) * FUNCTIONS).floor(), weights)

    @property
    def channels(self) -> int:
        """How many outputs it has."""
        return len(self.depth) - INPUTS - HIDDEN

    def genome(self) -> Tensor:
        """Return all of it as one tensor, (M + 2, M)."""
        return torch.cat([self.depth[None], self.function[None], self.weights])

    @staticmethod
    def from_genome(genome: Tensor) -> CPPN:
        """Return the network that `genome` wrote."""
        return CPPN(genome[0], genome[1], genome[2:])

    def changed(self, generator: torch.Generator) -> CPPN:
        """Return a changed copy."""
        count = len(self.depth)
        chosen, link, node, function, where = _even(generator, 5).tolist()
        moved = (_even(generator, count, count) < WEIGHTS) * WANDER * _normal(generator, count, count)
        kinds = (_even(generator, count) * FUNCTIONS).floor()
        new = replace(self, weights=self.weights + moved)
        if link < LINK:
            new = new._linked(where, float(_normal(generator, 1)))
        if node < NODE:
            new = new._split(where, chosen)
        if function < FUNCTION:
            at = int(chosen * count)
            new = replace(new, function=torch.where(torch.arange(count) == at, kinds, new.function))
        return new

    def _linked(self, where: float, weight: float) -> CPPN:
        """With one more connection, of those that there are not."""
        up = (self.depth[:, None] > self.depth[None]) & (self.depth[None] >= 0) & self.weights.isnan()
        return self._with({int(p): FIRST * weight for p in _pick(up, where)})

    def _split(self, where: float, kind: float) -> CPPN:
        """With a node in the middle of a connection, which it takes the place of."""
        free = (self.depth < 0).nonzero().flatten()
        found = _pick(~self.weights.isnan(), where)
        if not len(free) or not len(found):
            return self
        node, count = int(free[0]), len(self.depth)
        to, of = divmod(int(found[0]), count)
        depth, function = self.depth.clone(), self.function.clone()
        depth[node], function[node] = (depth[to] + depth[of]) / 2, math.floor(kind * FUNCTIONS)
        changes = {to * count + node: float(self.weights[to, of]), node * count + of: 1.0, to * count + of: math.nan}
        return replace(self, depth=depth, function=function)._with(changes)

    def _with(self, changes: dict[int, float]) -> CPPN:
        weights = self.weights.clone()
        for place, weight in changes.items():
            weights.view(-1)[place] = weight
        return replace(self, weights=weights)

    def paint(self, size: tuple[int, int]) -> Tensor:
        """Return the image, (C, H, W) in levels 0–255."""
        y, x = (torch.linspace(-1, 1, n, dtype=torch.float64) for n in size)
        y, x = y[:, None].expand(size), x[None].expand(size)
        zero = torch.zeros(size, dtype=torch.float64)
        nodes = [x, y, math.sqrt(2) * torch.hypot(x, y), zero + 1, *[zero] * (HIDDEN + self.channels)]
        weights = self.weights.nan_to_num(0.0)
        for k in sorted((k for k in range(INPUTS, len(nodes)) if self.depth[k] > 0), key=lambda k: float(self.depth[k])):
            answer = zero
            for of in weights[k].nonzero().flatten().tolist():
                answer = answer + weights[k, of] * nodes[of]
            nodes[k] = _FUNCTIONS[int(self.function[k])](answer)
        out = torch.stack(nodes[-self.channels :])
        return 255 * (_colours(out) if self.channels == 3 else out.abs().clamp(max=1))


_FUNCTIONS = (torch.sin, lambda v: 2 * torch.sigmoid(v) - 1, lambda v: torch.exp(-v.square()), lambda v: v)


def _colours(out: Tensor) -> Tensor:
    """Hue (any number, a turn is 1), saturation and value (their sizes, to 1) -> red, green, blue in 0–1."""
    hue, saturation, value = out[0] % 1, out[1].abs().clamp(max=1), out[2].abs().clamp(max=1)
    return torch.stack([value * (1 - saturation * (1 - _ramp(hue + turn))) for turn in (0, 2 / 3, 1 / 3)])


def _ramp(hue: Tensor) -> Tensor:
    """1 within a sixth of a turn of red, 0 beyond a third, a line between."""
    return (2 - ((hue * 6 + 3) % 6 - 3).abs()).clamp(0, 1)


def _pick(there: Tensor, where: float) -> Tensor:
    """The flat place of one of those that are there, or none."""
    places = there.flatten().nonzero().flatten()
    return places[int(where * len(places)) :][:1]


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, device=generator.device, dtype=torch.float64).cpu()


def _even(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator, device=generator.device, dtype=torch.float64).cpu()
