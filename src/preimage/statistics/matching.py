"""Units of two networks, or of two checkpoints of one, that answer alike to the same images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..errors import InputError
from .statistics import Statistics

LEAST = 30  # draws from which on a correlation says something


@dataclass(frozen=True)
class Matches:
    """For each of the C units of a layer, the unit of another network that answers most like it.

    layer, other: the two layers' names. units: (C,) numbers in `other`, -1 for a unit whose answer is the same everywhere, which matches
    nothing. correlation: (C,) of the two units' answers, NaN for those. chance: (C,) the largest correlation where the other network's
    answers are those to other images. draws: places in images that the correlations are over.
    """

    layer: str
    other: str
    units: Tensor = field(repr=False)
    correlation: Tensor = field(repr=False)
    chance: Tensor = field(repr=False)
    draws: int

    def median(self) -> float:
        """Return the median correlation of the units that vary, NaN where none does."""
        return _median(self.correlation)

    def median_by_chance(self) -> float:
        """Return the median of `chance`, with which `median` is to be compared."""
        return _median(self.chance)


def match_units(
    statistics: Statistics, others: Statistics, layers: Sequence[str] | None = None, *, same_layers: bool = False
) -> list[Matches]:
    """Find, for every unit, the unit of another network that answers most like it to the same places of the same images.

    Both files need a sample of activations (`Keep(sample=2000)`, `--sample 2000`) of the same images with the same seed and places: the
    draws depend on these alone, not on the network. The answers of two units are compared by Pearson's correlation over the draws, as Li et
    al. 2016 (Convergent learning) match units of two networks.

    Parameters
    ----------
    statistics, others : Statistics
        Of the two networks.
    layers : names, optional
        Of `statistics`; all by default.
    same_layers : bool
        Look in the layer of the same name alone, as for two checkpoints of one network. By default in the layer of `others` whose units go
        along best, by the median over the units.

    Returns
    -------
    list of Matches
        One a layer, in the order of the layers.

    Raises
    ------
    InputError
        Where the two have fewer than 30 draws in common, or no layer of a name.
    UnknownName
        For a layer that is not in `statistics`.

    Examples
    --------
    >>> import preimage
    >>> net = preimage.load_network("squeezenet1_1", weights=None, size=64)
    >>> photographs = preimage.images.reference_images()
    >>> keep = preimage.Keep(crops=0, sample=40, places=16)
    >>> found = preimage.collect_statistics(net, photographs, layers=["fire2"], keep=keep, progress=False)
    >>> (matches,) = preimage.match_units(found, found)
    >>> round(matches.median(), 3)  # every unit is most like itself
    1.0
    """
    rows, theirs = _common(statistics, others)
    assert statistics.sample is not None
    assert others.sample is not None
    chosen = [statistics[name].name for name in layers] if layers else list(statistics)
    targets = {name: standardised(others.sample.vectors[name][theirs]) for name in others}
    found = []
    for name in chosen:
        if same_layers and name not in targets:
            raise InputError(
                f"The other statistics have {', '.join(targets)} and no layer {name!r}. Leave out same_layers (--same-layers)."
            )
        x = standardised(statistics.sample.vectors[name][rows])
        among = [name] if same_layers else list(targets)
        found.append(max((_matches(name, x, other, targets[other]) for other in among), key=_rank))
    return found


def alike_units(stats: Statistics, layer: str, count: int) -> list[list[tuple[int, float]]]:
    """Return for each unit of a layer the `count` others whose answers to the sample go along with its own most, and the correlation.

    Those below 0.05 are left out; an empty list where the statistics have no sample of at least 30 activations.
    """
    of = stats[layer]
    if stats.sample is None or len(stats.sample.drawn) < LEAST or of.channels < 2:
        return []
    x = standardised(stats.sample.vectors[of.name])
    correlation = x.T @ x
    correlation.fill_diagonal_(-2.0)
    best = correlation.topk(min(count, of.channels - 1), dim=1)
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return [[(i, round(v, 2)) for i, v in zip(*row, strict=True) if v > 0.05] for row in rows]


def _common(mine: Statistics, others: Statistics) -> tuple[Tensor, Tensor]:
    """The rows of both samples that are draws from the same place of the same file, in one order."""
    first, second = _draws(mine), _draws(others)
    both = [draw for draw in first if draw in second]
    if len(both) < LEAST:
        raise InputError(
            f"The two statistics have {len(both)} draws of activations in common and {LEAST} are wanted: collect both over the same "
            "images, with the same --sample, --places and --seed."
        )
    return torch.tensor([first[d] for d in both]), torch.tensor([second[d] for d in both])


def _draws(of: Statistics) -> dict[tuple[int, str], int]:
    """Row of the sample by the draw's priority and the digest of its image; a file that was given twice counts once."""
    if of.sample is None or not len(of.sample.drawn):
        raise InputError(
            f"The statistics of {of.about.get('network')} hold no sample of activations: collect them again with --sample 2000."
        )
    found: dict[tuple[int, str], int] = {}
    for row, (priority, image) in enumerate(of.sample.drawn.tolist()):
        found.setdefault((priority, of.digests[image]), row)
    return found


def standardised(x: Tensor) -> Tensor:
    """Return columns of mean 0 and length 1, or 0 where a column is constant, float64: their products are Pearson's correlations."""
    x = x.double()
    spread = x.amax(dim=0) > x.amin(dim=0)
    x = x - x.mean(dim=0)
    return torch.where(spread, x / x.norm(dim=0).clamp(min=1e-30), 0.0)


def _matches(layer: str, x: Tensor, other: str, y: Tensor) -> Matches:
    constant = (y == 0).all(dim=0)
    best = (x.T @ y).masked_fill(constant, -2.0).max(dim=1)
    shifted = y.roll(len(y) // 2, dims=0)  # rows are in a random order, so these are answers to other images
    chance = (x.T @ shifted).masked_fill(constant, -2.0).amax(dim=1)
    varies = (x != 0).any(dim=0) & ~constant.all()
    nothing = torch.full_like(chance, torch.nan)
    correlation, chance = torch.where(varies, best.values, nothing), torch.where(varies, chance, nothing)
    return Matches(layer, other, torch.where(varies, best.indices, -1), correlation, chance, len(x))


def _rank(found: Matches) -> float:
    median = found.median()
    return -2.0 if median != median else median


def _median(values: Tensor) -> float:
    return float(values.nanmedian())
