"""A run of several experiments in one store: all their jobs together, then each one's summary."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import PreimageError
from ..registry import unknown
from .base import Experiment, Found, Study, check_flags

if TYPE_CHECKING:
    from ..studies.backends import Backend
    from ..studies.runner import Run

_FEW = 24  # jobs for which another process is not worth its start


def run_study(
    study: Study,
    experiments: Mapping[str, Experiment],
    *,
    workers: int | None = None,
    threads: int = 1,
    batch: int | None = None,
    backend: str | Backend = "local",
    mirror: str | None = None,
    progress: bool = True,
) -> tuple[Run, list[str]]:
    """Run the jobs of these experiments (by name), those that they share once, and write summary/NAME/ of each into the store.

    workers: None is one a core on a CPU, if there are enough jobs. mirror: as in `run`. Gives what the run did
    and a line for each summary. An experiment whose summary cannot be made, as none of its jobs went well, is named among the failures, and
    so are photographs that could not be read.
    """
    from ..studies.runner import run

    for experiment in experiments.values():
        check_flags(experiment)
    wanted = {name: experiment.jobs(study) for name, experiment in experiments.items()}
    jobs = [job for listed in wanted.values() for job in listed]
    left = sum(not study.store.done(key) for key in {job.key for job in jobs})
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = max(1, cores // threads) if study.device == "cpu" and left > _FEW else 1
    done = run(jobs, study.store, backend=backend, workers=workers, threads=threads, batch=batch, mirror=mirror, progress=progress)
    done.failed |= {path: f"{reason} It was left out." for path, reason in study.unreadable.items()}
    lines = []
    for name, experiment in experiments.items():
        found = Found(study.store, wanted[name])
        try:
            lines.append(
                f"{name}: {_summarise(study, name, experiment, found)} of {len(found.jobs)} results in {study.store.path}/summary/{name}/"
            )
        except (PreimageError, OSError) as error:
            done.failed[name] = f"{name}: no summary: {error}"
    return done, lines


def choose_quirks(kinds: Sequence[type[Experiment]], names: Sequence[str], every: bool) -> frozenset[str]:
    """The quirks that are wanted. Raises UnknownName for one that none of these experiments has."""
    known = {quirk: text for kind in kinds for quirk, text in kind.quirks.items()}
    for name in names:
        if name not in known:
            raise unknown("quirk of this experiment", name, list(known), "preimage paper quirks")
    return frozenset(known if every else names)


def _summarise(study: Study, name: str, experiment: Experiment, found: Found) -> int:
    folder = study.store.path / "summary" / name
    folder.mkdir(parents=True, exist_ok=True)
    summary = experiment.summarise(study, found, folder)
    summary.keys = list(dict.fromkeys(record.key for _, record in found.pairs))
    chosen = sorted(study.quirks & set(experiment.quirks))
    summary.notes += [f"As published: {quirk}. {experiment.quirks[quirk]}" for quirk in chosen]
    others = len({r.key for r in study.store.records(experiment=name, status="done")} - set(summary.keys))
    summary.notes += (
        [f"The store holds {others} more of its results, of other settings; the numbers here leave them out."] if others else []
    )
    lost = len(study.unreadable)
    summary.notes += [f"Could not be read and missing here: {lost} photograph{'s' if lost > 1 else ''}."] if lost else []
    summary.notes += found.missing()
    summary.write(folder)
    return len(summary.keys)
