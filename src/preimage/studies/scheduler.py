"""Who computes what, on however many workers: batches as there is room, another worker for one that is lost, its work once more.

The plan alone. What a worker is, and how one hears of it, is behind `WorkerPool`: a process, an actor on a cluster, or one that is
only simulated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from ..errors import InputError, first_line
from .backends import Batch
from .jobs import Outcome

DEPTH = 2  # batches that a worker has: one at work, and one waiting when that is done
LIVES = 3  # a job whose worker dies is tried so often: machines of a cluster are taken away, and processes killed for memory
STARTS = 5  # workers, or as many as there are if these are more, that fail to start one after another before the run is given up

Worker = Hashable
Done = tuple[Batch, list[Outcome]]


@dataclass(frozen=True)
class Ready:
    """A worker can compute."""

    worker: Worker


@dataclass(frozen=True)
class Answer:
    """A worker has done a batch, the oldest that it was given."""

    worker: Worker
    batch: Batch
    outcomes: list[Outcome]


@dataclass(frozen=True)
class Lost:
    """A worker is dead, and whatever it had been given and not answered."""

    worker: Worker
    error: Exception


class WorkerPool(Protocol):
    """Workers that do their batches in the order in which they get them. advice: a sentence for when they do not start."""

    @property
    def advice(self) -> str: ...

    def start_worker(self) -> Worker:
        """A new worker, which is ready later. Waits for nothing."""

    def give(self, worker: Worker, batch: Batch) -> None:
        """Another batch for a worker that is ready. Waits for nothing."""

    def next(self) -> Ready | Answer | Lost:
        """What happens next to a worker that has not been dismissed; waits for it."""

    def dismiss(self, worker: Worker) -> None:
        """End a worker, whatever it is at; nothing more is heard of it."""


class Scheduler:
    """So many workers, each with at most DEPTH batches. One that dies is replaced; it costs the batch that it was at a try."""

    def __init__(self, pool: WorkerPool, workers: int) -> None:
        self.pool, self.workers = pool, workers
        self._given: dict[Worker, list[Batch]] = {}  # to each worker that was started
        self._room: list[dict[Worker, None]] = [{} for _ in range(DEPTH)]  # who is ready and has none, one, … batches
        self._ready: set[Worker] = set()
        self._out = 0  # batches
        self._again: deque[Batch] = deque()
        self._deaths: dict[str, int] = {}
        self._failed_starts = 0

    def run(self, batches: Iterable[Batch]) -> Iterator[Done]:
        """Each batch with its outcomes as they come. Raises InputError if workers do not start."""
        source = iter(batches)
        try:
            for _ in range(self.workers):
                self._given[self.pool.start_worker()] = []
            while True:
                self._give_out(source)
                if not self._out and not self._again and self._ready:
                    return
                event = self.pool.next()
                if isinstance(event, Ready):
                    self._ready.add(event.worker)
                    self._failed_starts = 0
                    self._room[0][event.worker] = None
                elif isinstance(event, Answer):
                    self._take_back(event.worker, event.batch)
                    yield event.batch, event.outcomes
                else:
                    yield from self._replace(event.worker, event.error)
        finally:
            for worker in self._given:
                self.pool.dismiss(worker)

    def _give_out(self, source: Iterator[Batch]) -> None:
        """First a batch for each worker that has none, then a second one. Batches are taken from the source only as there is room."""
        for depth, waiting in enumerate(self._room):
            while waiting:
                batch = self._again.popleft() if self._again else next(source, None)
                if batch is None:
                    return
                worker = next(iter(waiting))
                self._given[worker].append(batch)
                self._out += 1
                self._move(worker, depth, depth + 1)
                self.pool.give(worker, batch)

    def _take_back(self, worker: Worker, batch: Batch) -> None:
        given = self._given[worker]
        self._given[worker] = [b for b in given if b is not batch]
        self._out -= 1
        self._move(worker, len(given), len(given) - 1)

    def _move(self, worker: Worker, before: int, after: int) -> None:
        if before < DEPTH:
            del self._room[before][worker]
        if after < DEPTH:
            self._room[after][worker] = None

    def _replace(self, worker: Worker, error: Exception) -> Iterator[Done]:
        """Another worker for one that is lost. The batch that it was at is tried again, job by job; one that waited just waits again."""
        self.pool.dismiss(worker)
        given = self._given.pop(worker)
        self._out -= len(given)
        if worker in self._ready:
            self._ready.discard(worker)
            if len(given) < DEPTH:
                del self._room[len(given)][worker]
        else:
            self._failed_starts += 1
            if self._failed_starts >= max(STARTS, self.workers):  # one machine that is lost may have held many
                raise InputError(f"The workers do not start: {first_line(error)} {self.pool.advice}") from error
        self._given[self.pool.start_worker()] = []
        if not given:
            return
        lost, *waiting = given
        self._again.extend(waiting)
        for job, x in zip(lost.jobs, lost.inputs, strict=True):
            self._deaths[job.key] = self._deaths.get(job.key, 0) + 1
            if self._deaths[job.key] < LIVES:
                self._again.append(Batch([job], [x]))
            else:
                yield Batch([job], [x]), [Outcome(reason=f"{LIVES} workers died while they ran this job: {first_line(error)}")]
