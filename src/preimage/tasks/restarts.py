"""Restarts one after the other, each given the images of those before it: for objectives that ask to be unlike them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..energy.losses import InnerProduct, Loss
from ..solvers.loop import Minimum


def rounds_of(samples: int, restarts: int) -> list[list[int]]:
    """Return which samples begin together, where the restarts of one request stand next to each other.

    >>> rounds_of(4, 2)
    [[0, 2], [1, 3]]
    """
    return [list(range(r, samples, restarts)) for r in range(restarts)]


def loss_of(loss: Loss, samples: Sequence[int]) -> Loss:
    """Return a task's own loss for some of the samples."""
    if isinstance(loss, InnerProduct) and isinstance(loss.Z, Tensor) and loss.Z.dim() and len(loss.Z) > 1:
        return replace(loss, Z=loss.Z[list(samples)])
    return loss


def of_samples(x: Tensor, samples: Sequence[int]) -> Tensor:
    """Return the rows of some samples, or the one that is for all."""
    return x if len(x) == 1 else x[list(samples)]


def in_their_order(found: Sequence[Minimum], rounds: Sequence[Sequence[int]], start: Tensor) -> Minimum:
    """Return one minimum of all rounds, its samples in their order; those of rounds that never began keep their start.

    found: of the first rounds, all of them unless the run was interrupted. start: canvases of all samples.
    """
    order = torch.tensor([b for group in rounds[: len(found)] for b in group])
    place = torch.argsort(order)
    first, length = found[0], max(len(m.trace["total"]) for m in found)
    missing = len(start) - len(order)
    energy = {k: torch.cat([m.energy[k] for m in found])[place] for k in first.energy}
    trace = {k: torch.cat([longer(m.trace[k], length) for m in found], dim=1)[:, place] for k in first.trace}
    out = replace(
        first,
        x=torch.cat([m.x for m in found])[place],
        canvas=torch.cat([m.canvas for m in found])[place],
        energy=energy,
        trace=trace,
        evaluations=max(m.evaluations for m in found),
        status=[s for _, s in sorted(zip(order.tolist(), [s for m in found for s in m.status], strict=True))],
        interrupted=found[-1].interrupted,
        frames=[torch.cat(f)[place] for f in zip(*(m.frames for m in found), strict=False)],
    )
    return _with_starts(out, [b for group in rounds[len(found) :] for b in group], order, start) if missing else out


def _with_starts(found: Minimum, missing: Sequence[int], order: Tensor, start: Tensor) -> Minimum:
    """The same with the starts of samples that never began, and NaN for their numbers."""
    done = torch.sort(order).values.tolist()
    total = len(start)

    def spread(x: Tensor, dim: int, blank: Tensor | None = None) -> Tensor:
        shape = list(x.shape)
        shape[dim] = total
        out = x.new_full(shape, float("nan")) if blank is None else blank.to(x).clone()
        out.index_copy_(dim, torch.tensor(done, device=x.device), x)
        return out

    top, left = ((a - b) // 2 for a, b in zip(start.shape[-2:], found.x.shape[-2:], strict=True))
    crop = start[..., top : top + found.x.shape[-2], left : left + found.x.shape[-1]]
    status = dict(zip(done, found.status, strict=True)) | dict.fromkeys(missing, "interrupted before it began: this is its start.")
    return replace(
        found,
        x=spread(found.x, 0, crop),
        canvas=spread(found.x, 0, crop),
        energy={k: spread(v, 0) for k, v in found.energy.items()},
        trace={k: spread(v, 1) for k, v in found.trace.items()},
        status=[status[b] for b in range(total)],
        frames=[],
    )


def longer(trace: Tensor, length: int) -> Tensor:
    """Return a trace (T, B) that ended early, going on with its last values to this length."""
    return trace.clone() if len(trace) == length else torch.cat([trace, trace[-1:].expand(length - len(trace), -1)])
