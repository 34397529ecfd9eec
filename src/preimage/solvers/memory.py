"""What a run must keep so that it goes on later as if it had never stopped: its state, and what its solver carries along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from ..errors import InputError


class Memory(Protocol):
    """What a solver carries from step to step, as tensors."""

    def state(self) -> dict[str, Tensor]:
        """Return its tensors as they are now; none of them is changed in place later."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state` gave. Raises InputError where it does not fit."""


@dataclass(frozen=True)
class State:
    """A run after `done` iterations of its phase number `phase`.

    plan: of the run, as `Plan.record` gives it. z: the coordinates. best: each sample's last good canvas. verdicts: (3, B), whether a
    sample is good, has had a gradient, has one now. records: (iterations, terms + 1, B). memory: the solver's own, by name. x0,
    start: the photographs of the task, canonical, and the canvases with which it began. about: plain values, which the task adds.
    """

    plan: list[dict[str, Any]]
    phase: int
    done: int
    z: Tensor
    best: Tensor
    verdicts: Tensor
    records: Tensor
    memory: dict[str, Tensor]
    x0: Tensor | None = None
    start: Tensor | None = None
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def evaluations(self) -> int:
        """How many iterations are done in all."""
        return len(self.records)

    def of_memory(self, number: int) -> dict[str, Tensor]:
        """Return the tensors of one of the solver's memories."""
        start = f"{number}."
        return {name.removeprefix(start): t for name, t in self.memory.items() if name.startswith(start)}


def take(state: Mapping[str, Tensor | None], name: str, like: Tensor) -> Tensor:
    """Return a copy of a tensor of a state on the device of `like`: products over memory that a file shares may have other last bits.

    Raises InputError unless it has the shape and type of `like`.

    >>> import torch
    >>> take({"a": torch.ones(2)}, "a", torch.zeros(2))
    tensor([1., 1.])
    """
    found = state.get(name)
    if found is None or found.shape != like.shape or found.dtype != like.dtype:
        is_here = "is absent" if found is None else f"is {tuple(found.shape)} of {found.dtype}"
        raise unfit(f"{name} {is_here}, wanted {tuple(like.shape)} of {like.dtype}")
    return found.to(like.device, copy=True)


def unfit(what: str) -> InputError:
    """Return the error for a state with which a run cannot go on. what: was found in it.

    >>> str(unfit("z is absent"))[:49]
    'The state of the run does not fit: z is absent. A'
    """
    return InputError(
        f"The state of the run does not fit: {what}. Another version of the solver left it, or the file is damaged: make the run anew, "
        "without its state."
    )
