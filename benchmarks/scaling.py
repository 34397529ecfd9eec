"""Pre-images a minute with 1 and with 2 workers of one thread each, on Ray and on this machine's processes, alternating in one run.

python -m benchmarks.scaling [--rounds 4] [--limit 230] [--jobs 12] [--backends ray local] [--json FILE]

Jobs: inversions of a photograph from fire4 of SqueezeNet 1.1 at 227 pixels, different starts, batch 1, float32, the same in every run; each
run has a store of its own, and saving is part of it. Not counted: the start of the cluster and of the workers, loading the
network, and the end of a run when not every worker has a job any more. Counted is the time from when all workers compute until the first
has nothing to do: a job's share of that time is the share of its seconds that fall into it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import preimage
from preimage.studies.backends import Backend, Batch
from preimage.studies.jobs import Job, Outcome, open_network
from preimage.studies.ray import connected
from preimage.studies.runner import known_backends, run
from preimage.studies.store import Store

from .common import quartiles, write

WORKERS = (1, 2)
Span = tuple[float, float]


@dataclass
class Watched:
    """A backend that notes when each job was computed, as the driver sees it, and what the driver does for each batch.

    spans: when jobs began and ended. keeping: seconds until a batch was kept. processor: what this thread had computed, in seconds, when
    a batch came and when it was kept. failed: the reasons of the jobs without a result, as of a dead unit.
    """

    backend: Backend
    spans: list[Span] = field(default_factory=list)
    keeping: list[float] = field(default_factory=list)
    processor: list[Span] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __call__(self, batches: Iterable[Batch], workers: int, threads: int) -> Iterator[tuple[Batch, list[Outcome]]]:
        for batch, outcomes in self.backend(batches, workers, threads):
            now, computed = time.perf_counter(), time.thread_time()
            for outcome in outcomes:
                if outcome.result is None:
                    self.failed.append(outcome.reason)
                else:
                    self.spans.append((now - outcome.seconds, now))
            yield batch, outcomes
            self.keeping.append(time.perf_counter() - now)
            self.processor.append((computed, time.thread_time()))


def throughput(spans: Sequence[Span], workers: int) -> float:
    """Jobs a second while all workers have one. spans: when each job began and ended, at least workers + 1 of them.

    Two workers, jobs of 2 s and nothing between them; the second worker begins 3 s later:

    >>> round(throughput([(0, 2), (2, 4), (3, 5), (4, 6), (5, 7)], 2), 6)
    1.0
    """
    begun, idle = _side_by_side(spans, workers)
    if idle <= begun:
        raise SystemExit(f"{len(spans)} jobs are too few for {workers} workers to compute side by side: give more --jobs.")
    done = sum(max(0.0, min(end, idle) - max(begin, begun)) / (end - begin) for begin, end in spans)
    return done / (idle - begun)


def _side_by_side(spans: Sequence[Span], workers: int) -> Span:
    """The first and the last moment at which so many jobs are computed.

    A job that ends and the next of the same worker may seem to overlap by what the driver was late to hear of the first: so
    a tenth at either end of a job is not looked at.
    """
    marks = [mark for begin, end in spans for mark in ((begin + (end - begin) / 10, 1), (end - (end - begin) / 10, -1))]
    computing, moments = 0, []
    for moment, change in sorted(marks):
        if max(computing, computing + change) >= workers:
            moments.append(moment)
        computing += change
    return (moments[0], moments[-1]) if moments else (0.0, 0.0)


def measure(backend: str, workers: int, jobs: int, iterations: int) -> dict[str, float]:
    """One run into a new store: jobs a minute; and the medians of a job's seconds, and of the driver's for keeping it."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(folder)
        watched = Watched(known_backends()[backend])
        run(_jobs(store, jobs, iterations), store, backend=watched, workers=workers, progress=False)
    if watched.failed:
        raise SystemExit(f"A job failed: {watched.failed[0]}")
    seconds = [end - begin for begin, end in watched.spans]
    return {
        "a minute": 60 * throughput(watched.spans, workers),
        "seconds": statistics.median(seconds),
        "keeping": statistics.median(watched.keeping),
    }


def scaling(backends: Sequence[str], rounds: int, limit: float, jobs: int, iterations: int, report: Any = print) -> dict[str, Any]:
    """Every backend with 1 and 2 workers in each round, every second round in the opposite order; ratios are those of one round.

    limit: seconds. After the first, a round that would probably end later is not begun.
    """
    cases = [(backend, workers) for backend in backends for workers in WORKERS]
    found: dict[tuple[str, int], list[dict[str, float]]] = {case: [] for case in cases}
    began = time.perf_counter()
    for k in range(rounds):
        if k and (time.perf_counter() - began) * (k + 1) / k > limit:
            break
        for case in cases if k % 2 == 0 else cases[::-1]:
            found[case].append(measure(*case, jobs, iterations))
            report(f"round {k + 1}: {case[0]}, {case[1]} workers: {found[case][-1]['a minute']:.1f} a minute")
    rates = {case: [f["a minute"] for f in values] for case, values in found.items()}
    return {
        backend: {
            "a minute": {str(w): quartiles(rates[backend, w]) for w in WORKERS},
            "ratio": quartiles([two / one for one, two in zip(rates[backend, 1], rates[backend, 2], strict=True)]),
            "seconds a job": {str(w): statistics.median(f["seconds"] for f in found[backend, w]) for w in WORKERS},
            "seconds to keep one": {str(w): statistics.median(f["keeping"] for f in found[backend, w]) for w in WORKERS},
            "rounds": {str(w): rates[backend, w] for w in WORKERS},
        }
        for backend in backends
    }


def table(found: dict[str, Any]) -> str:
    """A row a backend, as in docs/ray.md."""
    lines = ["| backend | 1 worker, a minute | 2 workers, a minute | ratio |", "|---|---|---|---|"]
    for backend, values in found.items():
        rates = [f"{m:.1f} [{low:.1f}, {high:.1f}]" for low, m, high in values["a minute"].values()]
        low, m, high = values["ratio"]
        lines.append(f"| {backend} | {' | '.join(rates)} | {m:.2f} [{low:.2f}, {high:.2f}] |")
    return "\n".join(lines)


def _jobs(store: Store, count: int, iterations: int) -> list[Job]:
    network, sha = open_network("squeezenet1_1")
    x = network.space.encode(preimage.images.reference_images()[0])
    photograph = store.add_input(x, network.space.decode(x))
    common: dict[str, Any] = {"experiment": "scaling", "task": "invert", "network": "squeezenet1_1", "weights_sha256": sha, "C": 100.0}
    return [Job(**common, layer="fire4", original=photograph, restart=k, iterations=iterations) for k in range(count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--limit", type=float, default=230.0, help="seconds (%(default)s): fewer rounds where these are over")
    parser.add_argument("--jobs", type=int, default=12)
    parser.add_argument("--iterations", type=int, default=25)
    parser.add_argument("--backends", nargs="+", default=["ray", "local"], choices=["ray", "local"])
    parser.add_argument("--json", type=Path, default=Path("build/scaling.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    with connected("local", max(WORKERS)):
        found = scaling(given.backends, given.rounds, given.limit, given.jobs, given.iterations, lambda line: print(line, flush=True))
    settings = {"jobs": given.jobs, "iterations": given.iterations, "took": time.perf_counter() - began}
    write(given.json, {"benchmark": "scaling", **settings, "backends": found})
    print(table(found))


if __name__ == "__main__":
    main()
