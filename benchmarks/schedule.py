"""What 1 to 1,000 workers would make of 10,000 jobs: the plan of the Ray backend itself, on simulated workers in simulated time.

python -m benchmarks.schedule [--measure | --measured FILE] [--jobs 10000] [--json FILE] [--plot FILE]

--measure first runs a small atlas, for the processor time of each job and of the driver's loop for each result, and keeps them in
--measured. A simulated job takes as long as one of these, drawn at random; "longer" ones ten times that. A
simulated driver does one thing at a time. Workers die at random, after an hour in the mean, and another one needs half a minute to
start. Not simulated: the network between the machines, and Ray itself.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import random
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from preimage.experiments.atlas import atlas
from preimage.experiments.base import Study
from preimage.studies.backends import Batch
from preimage.studies.jobs import Job, Outcome
from preimage.studies.ray import connected
from preimage.studies.runner import known_backends, run
from preimage.studies.scheduler import Answer, Lost, Ready, Scheduler
from preimage.studies.store import Store

from .common import write
from .scaling import Watched

WORKERS = (1, 10, 100, 1000)
LONGER = 10
HOUR, START = 3600.0, 30.0
DONE = Outcome()


class Simulated:
    """Workers (`preimage.studies.scheduler.WorkerPool`) in simulated time, and what became of them.

    seconds: of jobs, drawn at random for each. start: seconds until a worker is ready. life: mean seconds until it dies. keep, message:
    seconds that the driver takes for a result, and for hearing of anything. lethal: keys of jobs that kill their worker.
    """

    advice = "These are simulated."

    def __init__(
        self,
        seconds: Sequence[float],
        *,
        start: float,
        keep: float,
        message: float,
        life: float = math.inf,
        seed: int = 0,
        lethal: Collection[str] = (),
    ) -> None:
        self.seconds, self.start, self.life, self.keep, self.message, self.lethal = seconds, start, life, keep, message, lethal
        self.now = self.useful = self.wasted = self.driving = 0.0
        self.started = self.dismissed = self.lost = self.heard = self.waiting = self.most_waiting = 0
        self.deaths: Counter[str] = Counter()  # of workers, with this job at hand
        self._random = random.Random(seed)
        self._coming: list[tuple[float, int, Ready | Answer | Lost]] = []
        self._ends: list[float] = []  # when batches are done whose answers have not been counted as waiting yet
        self._free: dict[int, float] = {}  # when a worker has done all that it was given
        self._dies: dict[int, float] = {}
        self._given: dict[int, list[tuple[Batch, float]]] = {}  # what has not been answered, and the seconds that it takes
        self._number = 0

    def start_worker(self) -> int:
        self.started += 1
        worker = self.started
        self._free[worker] = self.now + self.start
        self._dies[worker] = self.now + self.life * self._random.expovariate(1.0)
        self._given[worker] = []
        self._will(self._free[worker], Ready(worker))
        self._will(self._dies[worker], Lost(worker, RuntimeError("The worker died.")))
        return worker

    def give(self, worker: Any, batch: Batch) -> None:
        begun = max(self.now, self._free[worker])
        seconds = sum(self._random.choice(self.seconds) for _ in batch.jobs)
        self._given[worker].append((batch, seconds))
        self._free[worker] = end = begun + seconds
        if any(job.key in self.lethal for job in batch.jobs) and begun < self._dies[worker]:
            self._dies[worker] = begun
            self._will(begun, Lost(worker, RuntimeError("The job killed it.")))
        if end <= self._dies[worker]:
            self._will(end, Answer(worker, batch, [DONE] * len(batch.jobs)))
            heapq.heappush(self._ends, end)

    def next(self) -> Ready | Answer | Lost:
        while True:
            moment, _, event = heapq.heappop(self._coming)
            if event.worker in self._given and moment <= self._dies[event.worker]:
                break
        self.now = max(self.now, moment)
        while self._ends and self._ends[0] <= self.now:
            heapq.heappop(self._ends)
            self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        cost = self.message + (self.keep if isinstance(event, Answer) else 0.0)
        self.now, self.driving, self.heard = self.now + cost, self.driving + cost, self.heard + 1
        if isinstance(event, Answer):
            self.waiting -= 1
            _, seconds = self._given[event.worker].pop(0)
            self.useful += seconds
        elif isinstance(event, Lost):
            self._bury(event.worker)
        return event

    def dismiss(self, worker: Any) -> None:
        del self._given[worker]
        self.dismissed += 1

    def _will(self, moment: float, event: Ready | Answer | Lost) -> None:
        self._number += 1
        heapq.heappush(self._coming, (moment, self._number, event))

    def _bury(self, worker: Any) -> None:
        self.lost += 1
        for batch, _ in self._given[worker][:1]:
            self.deaths.update(job.key for job in batch.jobs)


def simulate(seconds: Sequence[float], driver: float, workers: int, jobs: int, life: float = HOUR, seed: int = 0) -> dict[str, float]:
    """A run of so many jobs. seconds: of measured jobs. driver: its seconds for a result."""
    pool = Simulated(seconds, start=START, keep=driver, message=0.0, life=life, seed=seed)
    began, done = time.process_time(), 0
    for batch, _ in Scheduler(pool, workers).run(_batches(jobs)):
        done += len(batch.jobs)
    if done != jobs:
        raise SystemExit(f"{done} outcomes of {jobs} jobs: the plan is wrong.")
    return {
        "workers": workers,
        "makespan": pool.now,
        "utilisation": pool.useful / (workers * pool.now),
        "driver busy": pool.driving / pool.now,
        "messages a second": pool.heard / pool.now,
        "most results waiting": pool.most_waiting,
        "workers lost": pool.lost,
        "plan, ms a message": 1e3 * (time.process_time() - began) / pool.heard,  # with the simulation
    }


def measured(units: int = 3, iterations: int | None = None) -> dict[str, Any]:
    """The processor's seconds for the jobs of a small atlas of SqueezeNet 1.1, and for the loop of the Ray backend's driver a result.

    Of the processor, not of the clock, so that other work on the machine counts little; less the first job, which opens the network.
    """
    alone = _watched("local", units, iterations)
    with connected("local", 1):
        driver = _watched("ray", units, 1)
    jobs = [came - kept for (_, kept), (came, _) in itertools.pairwise(alone)]
    return {"seconds": jobs, "driver": (driver[-1][1] - driver[0][1]) / (len(driver) - 1)}


def _watched(backend: str, units: int, iterations: int | None) -> list[tuple[float, float]]:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(folder)
        study, experiments = atlas(Study(store, iterations=iterations), str(units))
        watched = Watched(known_backends()[backend])
        run([job for e in experiments.values() for job in e.jobs(study)], store, backend=watched, progress=False)
    return watched.processor


def plot(found: dict[str, list[dict[str, float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for (name, rows), marker in zip(found.items(), "os", strict=True):
        workers = [row["workers"] for row in rows]
        (line,) = axes[0].loglog(workers, [row["makespan"] / 60 for row in rows], marker=marker, label=name)
        ideal = [rows[0]["makespan"] / 60 * workers[0] / w for w in workers]
        axes[0].loglog(workers, ideal, color=line.get_color(), linewidth=0.8, linestyle=":")
        axes[1].semilogx(workers, [100 * row["utilisation"] for row in rows], marker=marker, label=name)
        axes[2].semilogx(workers, [100 * row["driver busy"] for row in rows], marker=marker, label=name)
    titles = (
        "minutes for all jobs (dotted: 1 worker's, divided)",
        "% of the workers' time that is useful",
        "% of the time that the driver works",
    )
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("workers")
        axis.grid(alpha=0.3)
    for axis in axes[1:]:
        axis.set_ylim(0, 105)
    axes[0].legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """A row a run, as in docs/ray.md."""
    lines = [
        "| jobs | workers | all done after | useful | driver busy | messages a second | most results waiting | workers lost |",
        "|---" * 8 + "|",
    ]
    for name, rows in found.items():
        for row in rows:
            lines.append(
                f"| {name} | {row['workers']:,} | {_duration(row['makespan'])} | {row['utilisation']:.0%} | {row['driver busy']:.0%} | "
                f"{row['messages a second']:.3g} | {row['most results waiting']:.0f} | {row['workers lost']:.0f} |"
            )
    return "\n".join(lines)


def _batches(count: int) -> Iterator[Batch]:
    for k in range(count):
        yield Batch([Job(experiment="planned", task="maximize", network="squeezenet1_1", layer="fire2", unit=k, C=1.0)], [None])


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="run the small atlas again")
    parser.add_argument("--measured", type=Path, default=Path("benchmarks/schedule.json"), help="its numbers (%(default)s)")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--json", type=Path, default=Path("build/schedule.json"))
    parser.add_argument("--plot", type=Path, default=Path("build/schedule.png"))
    given = parser.parse_args()
    if given.measure:
        write(given.measured, measured())
    known = json.loads(given.measured.read_text())
    mean = sum(known["seconds"]) / len(known["seconds"])
    found = {}
    for factor in (1, LONGER):
        name = f"{factor * mean:.2g} s each"
        found[name] = [simulate([factor * s for s in known["seconds"]], known["driver"], w, given.jobs) for w in WORKERS]
    write(given.json, {"benchmark": "schedule", "jobs": given.jobs, "driver": known["driver"], "runs": found})
    plot(found, given.plot)
    print(f"The driver takes {1e3 * known['driver']:.1f} ms for a result.\n\n{table(found)}")


if __name__ == "__main__":
    main()
