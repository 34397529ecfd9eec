"""Many jobs: skip what is done, run the rest in batches, keep each result as it comes, record what fails, and go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from ..bars import progress_bar
from ..errors import PreimageError
from ..ranges import checked
from ..registry import Registry
from .backends import BACKENDS, Backend, Batch
from .jobs import Job, Outcome, execute
from .mirror import Copied, Mirror, copying
from .processes import run_in_processes
from .scheduler import Done
from .store import Store

_log = logging.getLogger(__name__)
_WAIT = 0.5  # seconds between two looks at jobs that another run is at
_ACCELERATED = 16  # samples in a batch on an accelerator; on a CPU samples are computed one by one, so a batch would gain nothing


@dataclass
class Run:
    """What a run did. done, failed: keys; skipped: keys that were there already, or that another run has done meanwhile.

    without_image: units whose result is kept, also of an earlier run, though no image was found: key -> which it is, and why.
    mirrored: what was copied to the mirror, None without one.
    """

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    without_image: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    mirrored: Copied | None = None

    def __str__(self) -> str:
        rate = f" ({len(self.done) / self.seconds:.2f} a second)" if self.done and self.seconds > 0 else ""
        closed = f", {len(self.without_image)} found no image" if self.without_image else ""
        mirrored = f"; in the mirror: {self.mirrored}" if self.mirrored else ""
        return f"{len(self.done)} jobs done{rate}, {len(self.skipped)} were there already, {len(self.failed)} failed{closed}{mirrored}"


def run(
    jobs: Sequence[Job],
    store: Store,
    *,
    backend: str | Backend = "local",
    workers: int = 1,
    threads: int = 1,
    batch: int | None = None,
    mirror: str | None = None,
    progress: bool = True,
) -> Run:
    """Run the jobs that the store has not, and keep every result in it.

    backend: "local", "ray" (docs/ray.md), or a backend itself.
    workers: processes that compute; 1 is this one (more are started anew, so a script that asks for them must have its
    ``if __name__ == "__main__":``). threads: of each; the default 1 makes every bit independent of the machine's number
    of cores. batch: jobs of one shape that are computed together; None is 1 on a CPU, where no image then depends on others, and 16
    on an accelerator. mirror: a URL as fsspec takes them, s3://bucket/study, where each result is copied as it comes, and those of
    these jobs that the store has already; a copy that fails is in `Run.mirrored`, and the next run tries it again. A job that fails
    is recorded in the store with its reason, and tried again by the next run; the others go on. A job that another live run is at is
    left to it, and waited for. Ctrl-C: KeyboardInterrupt; the store keeps what was done, and the same call goes on from there. Raises
    UnknownName for the backend, InputError for a number below 1, ResultFolderError for a store of an earlier version, and for a mirror
    the errors of `Mirror.open`.
    """
    store.check_version()
    for name, value in (("workers", workers), ("threads", threads), ("batch", batch)):
        if value is not None:
            checked(name, value)
    compute = known_backends()[backend] if isinstance(backend, str) else backend
    store.tidy()
    began = time.monotonic()
    found = Run()
    wanted = list({job.key: job for job in jobs}.values())
    queue = _Queue(store, [job for job in wanted if not store.done(job.key)], batch)
    found.skipped = [job.key for job in wanted if store.done(job.key)]
    with _bar(len(wanted), len(found.skipped), progress) as tick, queue, _mirroring(store, mirror, found) as copy:
        for key in found.skipped:
            copy(key)
        while queue.left:
            with _ended(compute(queue.batches(), workers, threads)) as computed:
                for one, outcomes in computed:
                    for job, outcome in zip(one.jobs, outcomes, strict=True):
                        if _keep(store, job, outcome, found):
                            copy(job.key)
                        queue.release(job)
                        tick(found)
            for job, reason in queue.unusable:
                _keep(store, job, Outcome(reason=reason), found)
            queue.unusable.clear()
            if queue.left:
                time.sleep(_WAIT)
        found.skipped += queue.elsewhere
        for key in queue.elsewhere:
            copy(key)
        tick(found)
    store.refresh()
    found.without_image = _without_image(store, wanted)
    found.seconds = time.monotonic() - began
    return found


def _without_image(store: Store, jobs: Sequence[Job]) -> dict[str, str]:
    """Return the jobs of units that ended without an image, as closed ones, with the reason of each."""
    units = {job.key: job for job in jobs if job.task == "maximize"}
    grey = [r.key for r in store.records(status="done") if r.key in units and not r.metrics.get("ok", 1.0)] if units else []
    return {key: f"{units[key].title}: no image was found: {store.result(key).status[0]}" for key in grey}


def known_backends() -> Registry[Backend]:
    """The registry with the backends of this package in it."""
    from . import ray  # noqa: F401

    return BACKENDS


@contextmanager
def _mirroring(store: Store, url: str | None, found: Run) -> Iterator[Callable[[str], None]]:
    """A function that has a result copied to the mirror, if there is one."""
    if url is None:
        yield lambda key: None
        return
    found.mirrored = Copied()
    with copying(store, Mirror.open(url, version=store.version), found.mirrored) as copy:
        yield copy


def _keep(store: Store, job: Job, outcome: Outcome, found: Run) -> bool:
    """Save a result or a failure; whether there is a result. A disk that is full fails this job alone."""
    reason = outcome.reason
    if outcome.result is not None:
        try:
            store.save(job, outcome.result, outcome.metrics or {}, outcome.seconds, outcome.picture)
            _log.info("done %s, %s, %.1f s", job.key[:8], job.title, outcome.seconds)
            found.done.append(job.key)
            return True
        except Exception as error:  # the other jobs may well be saved
            reason = f"{type(error).__name__}: {error}"
    found.failed[job.key] = f"{job.title}: {reason}"
    try:
        store.fail(job, reason)
        _log.info("failed %s, %s: %s", job.key[:8], job.title, reason)
    except OSError as error:
        found.failed[job.key] += f" (and this could not be recorded: {error})"
    return False


class _Queue:
    """The jobs that are left; each is claimed as it is given out, so that two runs on one store never do the same one."""

    def __init__(self, store: Store, jobs: Sequence[Job], batch: int | None) -> None:
        self.store, self.batch = store, batch
        self.left = list(jobs)
        self.elsewhere: list[str] = []  # done by another run meanwhile
        self.unusable: list[tuple[Job, str]] = []  # and why: its photograph cannot be read
        self._held: set[str] = set()

    def __enter__(self) -> _Queue:
        return self

    def __exit__(self, *error: object) -> None:
        for key in list(self._held):
            self._give_back(key)

    def batches(self) -> Iterator[Batch]:
        """Batches of jobs of one shape, in their order. What another run is at stays in `left`."""
        groups: dict[Any, list[Job]] = {}
        for job in self.left:
            groups.setdefault(job.shape, []).append(job)
        for jobs in groups.values():
            size = self.batch or (1 if jobs[0].device == "cpu" else _ACCELERATED)
            ready = Batch([], [])
            for job in jobs:
                if self._claim(job) and self._add(job, ready) and len(ready.jobs) == size:
                    yield ready
                    ready = Batch([], [])
            if ready.jobs:
                yield ready

    def release(self, job: Job) -> None:
        """The job is over, well or not."""
        self._give_back(job.key)

    def _claim(self, job: Job) -> bool:
        if not self.store.claims.take(job.key):
            return False
        self.left.remove(job)
        if self.store.done(job.key):  # the other run was quicker
            self.store.claims.release(job.key)
            self.elsewhere.append(job.key)
            return False
        self._held.add(job.key)
        return True

    def _add(self, job: Job, batch: Batch) -> bool:
        """Put a job and its input into a batch, if that input can be read."""
        sha = job.original or job.template
        try:
            batch.inputs.append(None if sha is None else self.store.input(sha))
        except PreimageError as error:
            self.unusable.append((job, f"{type(error).__name__}: {error}"))
            self._give_back(job.key)
            return False
        batch.jobs.append(job)
        return True

    def _give_back(self, key: str) -> None:
        self._held.discard(key)
        self.store.claims.release(key)


@BACKENDS.register("local")
def local(batches: Iterable[Batch], workers: int, threads: int) -> Iterator[Done]:
    """In this process, or in several on this machine."""
    if workers > 1:
        yield from run_in_processes(batches, workers, threads)
        return
    for batch in batches:
        with _threads(threads):
            outcomes = execute(batch.jobs, batch.inputs)
        yield batch, outcomes


@contextmanager
def _ended(computed: Iterator[Done]) -> Iterator[Iterator[Done]]:
    """What a backend computes; its workers end with the block, also where an error leaves it."""
    try:
        yield computed
    finally:
        if isinstance(computed, Generator):
            computed.close()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """So many threads for torch for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _bar(length: int, there: int, shown: bool) -> Iterator[Callable[[Run], None]]:
    """A function that shows what has been done: the rate and the time left."""

    with progress_bar(total=length, initial=there, desc="jobs", unit="job", shown=shown, smoothing=0.05) as bar:

        def tick(run: Run) -> None:
            if run.failed:
                bar.set_postfix_str(f"{len(run.failed)} failed", refresh=False)
            bar.update(len(run.done) + len(run.failed) + len(run.skipped) - bar.n)

        yield tick
