"""What a backend is: who computes batches of jobs, by name. Which there are, `runner.known_backends` knows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from ..registry import Registry
from .jobs import Job, Outcome


@dataclass
class Batch:
    """Jobs of one shape, with the photograph or template of each: all that a worker needs."""

    jobs: list[Job]
    inputs: list[Tensor | None]


Backend = Callable[[Iterable[Batch], int, int], Iterator[tuple[Batch, list[Outcome]]]]
"""(batches, workers, threads of each) -> each batch with its outcomes, in any order. It takes batches as it has room for them: one
that it has taken is claimed for this run. Whatever happens to a worker ends in an outcome; only KeyboardInterrupt comes through."""

BACKENDS: Registry[Backend] = Registry("backend", see="preimage paper --help")
