"""Batches in several processes of this machine, each of which holds its networks."""

from __future__ import annotations

import itertools
import os
import pickle
import queue
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import cast

import torch

from .backends import Batch
from .jobs import Outcome, execute
from .scheduler import Answer, Done, Lost, Ready, Scheduler, Worker

_READY = b"ready"
_END = 5.0  # seconds in which a process whose pipe is closed has an exit code


def run_in_processes(batches: Iterable[Batch], workers: int, threads: int) -> Iterator[Done]:
    """Compute batches in new processes of so many threads each, at most so many of them and no more than there are batches."""
    source = iter(batches)
    first = list(itertools.islice(source, workers))
    if first:
        yield from Scheduler(Processes(threads), len(first)).run(itertools.chain(first, source))


class Processes:
    """The workers of a scheduler (`WorkerPool`) as processes that are started anew, with a pipe to each."""

    advice = 'Has the script that asks for workers its `if __name__ == "__main__":`?'

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._context = get_context("spawn")
        self._processes: dict[Connection, BaseProcess] = {}
        self._out: dict[Connection, list[Batch]] = {}  # in the order in which they were given

    def start_worker(self) -> Connection:
        here, there = self._context.Pipe()
        process = self._context.Process(target=serve, args=(there, self.threads), daemon=True)
        process.start()
        there.close()  # so that the pipe ends with the process
        self._processes[here], self._out[here] = process, []
        return here

    def give(self, worker: Worker, batch: Batch) -> None:
        pipe = _pipe(worker)
        self._out[pipe].append(batch)
        with suppress(OSError):  # it is dead, which `next` will say
            pipe.send_bytes(pickle.dumps(batch))

    def next(self) -> Ready | Answer | Lost:
        worker = _pipe(connection.wait(list(self._processes))[0])
        try:
            said = worker.recv_bytes()
        except (EOFError, OSError):
            return Lost(worker, ChildProcessError(f"its process {self._ending(worker)}."))
        if said == _READY:
            return Ready(worker)
        return Answer(worker, self._out[worker].pop(0), pickle.loads(said))  # our own worker's bytes

    def dismiss(self, worker: Worker) -> None:
        pipe = _pipe(worker)
        process = self._processes.pop(pipe)
        del self._out[pipe]
        process.terminate()
        process.join()
        process.close()
        pipe.close()

    def _ending(self, worker: Connection) -> str:
        process = self._processes[worker]
        process.join(_END)
        code = process.exitcode
        if code is not None and code < 0:
            return f"was killed by signal {-code}. Was it out of memory? Take fewer workers"
        return f"ended with exit code {code}"


def _pipe(worker: object) -> Connection:
    """The parent's end of a pipe is what stands for a worker; on Windows its class is another one with the same methods."""
    return cast(Connection, worker)


def serve(pipe: Connection, threads: int) -> None:
    """Run in a new process: answer each batch in its order, until the parent ends it or ends itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is left to the parent
    torch.set_num_threads(threads)
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(pipe, waiting), daemon=True).start()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    pipe.send_bytes(_READY)
    while True:
        pipe.send_bytes(_answer(waiting.get()))


def _read(pipe: Connection, waiting: queue.SimpleQueue[bytes]) -> None:
    """Take in what comes while a batch is computed, as the parent waits until a large one is taken."""
    while True:
        try:
            waiting.put(pipe.recv_bytes())
        except (EOFError, OSError):
            os._exit(1)


def _answer(batch: bytes) -> bytes:
    """By value both ways: tensors must not travel through shared memory that dies with a process."""
    given: Batch = pickle.loads(batch)  # the parent's own bytes
    try:
        return pickle.dumps(execute(given.jobs, given.inputs))
    except Exception as error:
        return pickle.dumps([Outcome(reason=f"the worker failed: {type(error).__name__}: {error}") for _ in given.jobs])


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
