"""Pre-images a minute: one at a time, many in one call, and many in several processes.

python -m benchmarks.throughput [--samples 1 8 64] [--iterations 10] [--rounds 3] [--json FILE] [--plot FILE]

in one call: restarts of one photograph (inversion of SqueezeNet's fire4), or as many classes (maximization), with the default solver.
Each pre-image is cut to a few iterations, so a minute holds as many more or fewer as your runs are shorter or longer. The whole call
is timed, on a network that is loaded; Z is given, as in a run with known statistics. ratio: to a loop of calls of one each, timed
before and after. On a GPU the samples are 1, 8, 64 and 256.
processes: the runner, as `--workers` does; the rate is that of the jobs by which a long run is longer than a short one, so that the
start of the processes, given apart, does not count.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

import preimage
from preimage.studies.jobs import Job
from preimage.studies.runner import run
from preimage.studies.store import Store

from .common import add_precision, devices, figure, parser, photographs, precision, quartiles, save, seconds, show_machine, spread, write

NETWORK, LAYER, CLASSES = "squeezenet1_1", "fire4", "pool10"
Z = 1.0e6  # near that of a class of this network on its own canvas: M 20 times 227²
SETTINGS = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 processes, 1 thread each": (2, 1)}


def tasks(net: Any, photo: str, iterations: int, precision_: str | None) -> dict[str, Callable[[int, int | None, int], object]]:
    """Name -> a call (samples, batch, seed) for that many pre-images."""
    invert, classes = net.layer(LAYER), net.layer(CLASSES)
    common: dict[str, Any] = {"iterations": iterations, "progress": False}

    def inversion(samples: int, batch: int | None, seed: int) -> object:
        more = precision(precision_)
        return preimage.invert(invert, photo, restarts=samples, compute=preimage.Compute(batch=batch, **more), seed=seed, **common)

    def maximization(samples: int, batch: int | None, seed: int) -> object:
        units = [(seed + k) % classes.shape[0] for k in range(samples)]
        more = precision(precision_)
        return preimage.maximize(classes, units, Z=Z, compute=preimage.Compute(batch=batch, **more), seed=seed, **common)

    return {f"invert {LAYER}": inversion, "maximize classes": maximization}


def in_one_call(call: Callable[[int, int | None, int], object], samples: Sequence[int], rounds: int, batches: Sequence[str]) -> list[Any]:
    """Rows of pre-images a minute, and of the ratio to one at a time in the same round. Every timing has seeds of its own."""
    rows = []
    call(1, 1, 10**6)
    for count in samples:
        for batch in batches:
            if count == 1 and batch == "all":
                continue
            rates, ratios = [], []
            for k in range(rounds):
                alone = [seconds(partial(call, 1, 1, seed)) for seed in (3 * k, 3 * k + 1)]
                took = seconds(partial(call, count, 1 if batch == "1" else count, 3 * k))
                alone.append(seconds(partial(call, 1, 1, 3 * k + 2)))
                rates.append(60 * count / took)
                ratios.append(count * sorted(alone)[1] / took)
            rows.append({"samples": count, "batch": batch, "per minute": rates, "ratio": ratios})
    return rows


def in_processes(photo: str, jobs: int, iterations: int, rounds: int, settings: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """Pre-images a minute of the runner, by the difference of a run of `jobs` and one of three times as many; and its start."""
    space = preimage.load_network(NETWORK).space
    found: dict[str, Any] = {name: {"per minute": [], "ratio": [], "start": []} for name in settings}
    for k in range(rounds):
        for name, (workers, threads) in settings.items():
            with tempfile.TemporaryDirectory() as folder:
                store = Store.open(Path(folder) / "store")
                sha = store.add_input(space.encode(photo))

                def some(count: int, first: int, sha: str = sha) -> list[Job]:
                    one = {"C": 100.0, "network": NETWORK, "layer": LAYER, "original": sha, "iterations": iterations}
                    return [Job(experiment="throughput", task="invert", restart=first + r, **one) for r in range(count)]

                took = []
                for count, first in ((jobs, 0), (3 * jobs, jobs)):
                    done = run(some(count, first), store, workers=workers, threads=threads, progress=False)
                    if done.failed:
                        raise SystemExit(f"Jobs failed: {next(iter(done.failed.values()))}")
                    took.append(done.seconds)
            each = (took[1] - took[0]) / (2 * jobs)
            found[name]["per minute"].append(60 / each)
            found[name]["ratio"].append(found[name]["per minute"][-1] / found[next(iter(settings))]["per minute"][k])
            found[name]["start"].append(took[0] - jobs * each)
    return found


def plot(record: dict[str, Any], path: Path) -> None:
    """Pre-images a minute against samples in one call, and of the processes as bars."""
    drawing = figure(9, 3.2)
    left, right = drawing.subplots(1, 2)
    for name, rows in record["calls"].items():
        for batch, style in (("1", "--"), ("all", "-")):
            part = [r for r in rows if r["batch"] == batch]
            if part:
                low, median, high = zip(*(quartiles(r["per minute"]) for r in part), strict=True)
                at = [r["samples"] for r in part]
                (line,) = left.plot(at, median, style, marker=".", label=f"{name}, batch {batch}")
                left.fill_between(at, low, high, alpha=0.2, color=line.get_color(), linewidth=0)
    left.set(xscale="log", xlabel="samples in one call", ylabel="pre-images a minute", ylim=(0, None))
    counts = sorted({r["samples"] for rows in record["calls"].values() for r in rows})
    left.set_xticks(counts, [str(c) for c in counts])
    left.minorticks_off()
    left.legend(frameon=False)
    names = list(record["processes"])
    right.barh(names, [quartiles(record["processes"][n]["per minute"])[1] for n in names], color="0.6")
    right.set(xlabel=f"pre-images a minute, invert {LAYER}")
    right.invert_yaxis()
    save(drawing, path)


def options() -> argparse.ArgumentParser:
    found = parser(__doc__ or "", "throughput")
    found.add_argument("--samples", type=int, nargs="+", default=None)
    found.add_argument("--iterations", type=int, default=10, help="of each pre-image")
    found.add_argument("--rounds", type=int, default=3)
    found.add_argument("--jobs", type=int, default=8, help="of the shorter run of the runner; 0 leaves the processes out")
    add_precision(found)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    given = options().parse_args(arguments)
    torch.set_num_threads(given.threads)
    device = devices()[-1]
    samples = given.samples or [1, 8, 64, *([256] if device == "cuda" else [])]
    photo, settings = photographs()[0], SETTINGS
    if given.smoke:
        samples, given.iterations, given.rounds, given.jobs = [1, 2], 2, 1, 1
        settings = {"1 process, 1 thread": (1, 1)}
    show_machine()
    net = preimage.load_network(NETWORK, device=device)
    record: dict[str, Any] = {"benchmark": "throughput", "device": device, "iterations": given.iterations, "calls": {}, "processes": {}}
    print(
        f"| task, {given.iterations} iterations | samples | batch | pre-images a minute | ratio to one at a time |\n|---|---|---|---|---|"
    )
    for name, call in tasks(net, photo, given.iterations, given.precision).items():
        rows = record["calls"][name] = in_one_call(call, samples, given.rounds, ("1", "all") if device == "cpu" else ("all",))
        for r in rows:
            print(f"| {name} | {r['samples']} | {r['batch']} | {spread(r['per minute'], 0)} | {spread(r['ratio'])} |", flush=True)
        write(given.json, record)
    if given.jobs and device == "cpu":
        record["processes"] = in_processes(photo, given.jobs, given.iterations, given.rounds, settings)
        first = next(iter(settings))
        print(f"\n| invert {LAYER} by the runner | pre-images a minute | ratio to {first} | start, s |\n|---|---|---|---|")
        for name, found in record["processes"].items():
            print(f"| {name} | {spread(found['per minute'], 0)} | {spread(found['ratio'])} | {spread(found['start'], 1)} |", flush=True)
        write(given.json, record)
    if given.plot is not None:
        plot(record, given.plot)


if __name__ == "__main__":
    main()
