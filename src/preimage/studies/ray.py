"""Batches on a Ray cluster: an actor for each worker, which holds its networks; this process gives out batches and keeps the results."""

from __future__ import annotations

import itertools
import logging
import os
import pickle
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, first_line, missing_extra
from ..tasks.result import code_version
from .backends import BACKENDS, Batch
from .jobs import Outcome, execute
from .scheduler import Answer, Done, Lost, Ready, Scheduler

_KNOCK = 10.0  # seconds


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
            yield from Scheduler(_Actors(ray, threads, gpus), workers).run(itertools.chain([first], source))


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


class _Actors:
    """The workers of a scheduler (`WorkerPool`) as actors of Ray."""

    advice = "Is this preimage on every machine?"

    def __init__(self, ray: Any, threads: int, gpus: int) -> None:
        self.ray, self.threads = ray, threads
        self._kind = ray.remote(Worker).options(num_cpus=0 if gpus else threads, num_gpus=gpus, max_restarts=0)
        self._out: dict[Any, tuple[Any, Batch | None]] = {}  # what is awaited, of which actor; None: its hello

    def start_worker(self) -> Any:
        actor = self._kind.remote(self.threads)
        self._out[actor.hello.remote()] = actor, None
        return actor

    def give(self, worker: Any, batch: Batch) -> None:
        self._out[worker.work.remote(pickle.dumps(batch))] = worker, batch

    def dismiss(self, worker: Any) -> None:
        self._out = {reference: given for reference, given in self._out.items() if given[0] is not worker}
        with suppress(Exception):  # it is dead, or the cluster is
            self.ray.kill(worker)

    def next(self) -> Ready | Answer | Lost:
        """Raises InputError for an actor that cannot compute, or has other code: a result is kept by the hash of that."""
        (reference,), _ = self.ray.wait(list(self._out), num_returns=1)
        worker, batch = self._out.pop(reference)
        errors = self.ray.exceptions
        try:
            answer = self.ray.get(reference)
        except errors.RayTaskError as error:
            if batch is None:
                raise InputError(f"Ray's workers cannot compute: {first_line(error)}.") from error
            return Answer(worker, batch, [Outcome(reason=f"the worker failed: {first_line(error)}") for _ in batch.jobs])
        except errors.RayError as error:
            return Lost(worker, error)
        if batch is not None:
            return Answer(worker, batch, pickle.loads(answer))  # our own worker's bytes
        if answer != code_version():
            raise InputError("A worker of the Ray cluster has another version of preimage than this process: install the same on both.")
        return Ready(worker)


@contextmanager
def connected(address: str | None, cores: int | None) -> Iterator[Any]:
    """The module `ray`, connected. cores: of a cluster that is made for the run; None for all of the machine.

    Raises MissingExtra without Ray, and InputError where no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when ray is imported
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise missing_extra("The backend ray needs Ray", "ray") from error
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
