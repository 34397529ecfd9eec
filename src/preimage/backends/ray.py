"""Batches on a Ray cluster: an actor for each worker, which holds its networks; this process gives out batches and keeps the results."""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError, MissingExtra, first_line
from ..jobs import Outcome, code_version, execute
from ..runner import BACKENDS, Batch

_DEPTH = 2  # batches that an actor has: one at work, and one at hand when that is done
_LIVES = 3  # a job whose actor dies is tried so often: machines of a cluster are taken away more often than one's own
_KNOCK = 10.0  # seconds
_STARTS = 5  # actors that fail to start one after another before the run is given up

Done = tuple[Batch, list[Outcome]]


@dataclass(frozen=True)
class Ray:
    """A backend on Ray.

    address: of a cluster, as `ray.init` takes it ("auto", "10.0.0.1:6379", "ray://…"); None is RAY_ADDRESS, or else a cluster of this
    machine that ends with the run. Where this process is connected to Ray already, that connection is used. every: as many actors as the
    cluster has room for when the run begins, instead of `workers`. An actor takes a GPU where the jobs are for one, and else `threads`
    cores. Raises MissingExtra without Ray, and InputError for a cluster that cannot be reached, has no room for one actor, or does
    not have this preimage.
    """

    address: str | None = None
    every: bool = False

    def __call__(self, batches: Iterable[Batch], workers: int, threads: int) -> Iterator[Done]:
        source = iter(batches)
        first = next(source, None)
        if first is None:
            return
        gpus = int(first.jobs[0].device.startswith("cuda"))
        with connected(self.address, None if self.every or gpus else workers * threads) as ray:
            if self.every:
                workers = _room(ray, threads, gpus)
            yield from _Crew(ray, workers, threads, gpus).run(itertools.chain([first], source))


BACKENDS.register("ray")(Ray())


class Worker:
    """What runs in an actor."""

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)

    def hello(self) -> str:
        """The version of the code that computes here."""
        return code_version()

    def work(self, batch: bytes) -> bytes:
        """By value both ways, as the processes of the local backend."""
        given: Batch = pickle.loads(batch)  # the driver's own bytes
        return pickle.dumps(execute(given.jobs, given.inputs))


@dataclass(eq=False)
class _Actor:
    """An actor and what it has been given, in the order in which it does it. ready: it has said hello."""

    handle: Any
    batches: list[Batch] = field(default_factory=list)
    ready: bool = False


class _Crew:
    """So many actors, each with at most _DEPTH batches. One that dies is replaced; it costs the batch that it was at a try."""

    def __init__(self, ray: Any, workers: int, threads: int, gpus: int) -> None:
        self.ray, self.workers, self.threads = ray, workers, threads
        self._kind = ray.remote(Worker).options(num_cpus=0 if gpus else threads, num_gpus=gpus, max_restarts=0)
        self._out: dict[Any, tuple[_Actor, Batch | None]] = {}  # what is awaited, of whom; None: its hello
        self._actors: list[_Actor] = []
        self._again: deque[Batch] = deque()
        self._deaths: dict[str, int] = {}
        self._failed_starts = 0

    def run(self, batches: Iterable[Batch]) -> Iterator[Done]:
        source = iter(batches)
        for _ in range(self.workers):
            self._hire()
        try:
            while True:
                self._give_out(source)
                if not any(actor.batches for actor in self._actors) and not self._again and any(a.ready for a in self._actors):
                    return
                (reference,), _ = self.ray.wait(list(self._out), num_returns=1)
                yield from self._receive(reference)
        finally:
            for actor in self._actors:
                self._dismiss(actor)

    def _hire(self) -> None:
        actor = _Actor(self._kind.remote(self.threads))
        self._actors.append(actor)
        self._out[actor.handle.hello.remote()] = actor, None

    def _dismiss(self, actor: _Actor) -> None:
        with suppress(Exception):  # it is dead, or the cluster is
            self.ray.kill(actor.handle)

    def _give_out(self, source: Iterator[Batch]) -> None:
        """First a batch for each actor that has none, then a second one. Batches are taken from the source only as there is room."""
        for depth in range(_DEPTH):
            for actor in self._actors:
                if actor.ready and len(actor.batches) == depth:
                    batch = self._again.popleft() if self._again else next(source, None)
                    if batch is None:
                        return
                    actor.batches.append(batch)
                    self._out[actor.handle.work.remote(pickle.dumps(batch))] = actor, batch

    def _receive(self, reference: Any) -> Iterator[Done]:
        """What an actor has answered, or what is to be done if it is dead."""
        actor, batch = self._out.pop(reference)
        errors = self.ray.exceptions
        try:
            answer = self.ray.get(reference)
        except errors.RayTaskError as error:
            if batch is None:
                raise InputError(f"Ray's workers cannot compute: {first_line(error)}.") from error
            outcomes = [Outcome(reason=f"the worker failed: {first_line(error)}") for _ in batch.jobs]
        except errors.RayError as error:
            yield from self._replace(actor, error)
            return
        else:
            if batch is None:
                self._greet(actor, answer)
                return
            outcomes = pickle.loads(answer)  # our own worker's bytes
        actor.batches = [b for b in actor.batches if b is not batch]
        yield batch, outcomes

    def _greet(self, actor: _Actor, version: str) -> None:
        """It may compute if it has our code: a result is kept by the hash of that."""
        if version != code_version():
            raise InputError("A worker of the Ray cluster has another version of preimage than this process: install the same on both.")
        actor.ready = True
        self._failed_starts = 0

    def _replace(self, actor: _Actor, error: Exception) -> Iterator[Done]:
        """Another actor for one that is lost. The batch that it was at is tried again, job by job; one that waited just waits again."""
        self._dismiss(actor)
        self._actors.remove(actor)
        self._out = {reference: a for reference, a in self._out.items() if a[0] is not actor}
        if not actor.ready:
            self._failed_starts += 1
            if self._failed_starts >= _STARTS:
                raise InputError(f"Ray's workers do not start: {first_line(error)} Is this preimage on every machine?") from error
        self._hire()
        if not actor.batches:
            return
        lost, *waiting = actor.batches
        self._again.extend(waiting)
        for job, x in zip(lost.jobs, lost.inputs, strict=True):
            self._deaths[job.key] = self._deaths.get(job.key, 0) + 1
            if self._deaths[job.key] < _LIVES:
                self._again.append(Batch([job], [x]))
            else:
                yield Batch([job], [x]), [Outcome(reason=f"{_LIVES} workers died with this job at hand: {first_line(error)}")]


@contextmanager
def connected(address: str | None, cores: int | None) -> Iterator[Any]:
    """The module `ray`, connected. cores: of a cluster that is made for the run; None for all of the machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when ray is imported
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingExtra("The backend ray needs Ray: pip install 'preimage[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    wanted = address or os.environ.get("RAY_ADDRESS") or "local"
    own = {"num_cpus": cores, "include_dashboard": False} if wanted == "local" else {}
    try:
        _knock(wanted)
        ray.init(wanted, log_to_driver=False, logging_level=logging.ERROR, **own)
    except Exception as error:  # whatever a client raises that finds nobody there
        raise InputError(f"No Ray cluster answers at {wanted!r}: {first_line(error)}. Start one, or leave --address out.") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at HOST:PORT: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=_KNOCK).close()


def _room(ray: Any, threads: int, gpus: int) -> int:
    """How many actors the cluster has room for."""
    kind, share = ("GPU", gpus) if gpus else ("CPU", threads)
    there = ray.cluster_resources().get(kind, 0)
    if there < share:
        raise InputError(f"The Ray cluster has {there:g} {kind} and a worker takes {share}: give --workers if it will grow.")
    return int(there // share)
