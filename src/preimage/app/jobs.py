"""The runs that visitors start: a few at once, a few waiting, each on its own copy of a network, none beyond its time."""

from __future__ import annotations

import base64
import io
import logging
import shutil
import tempfile
import threading
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import tasks
from ..errors import InputError, Interrupted, PreimageError
from ..networks.network import Network, load_network
from ..pixels import images as pictures
from ..statistics import Statistics
from ..tasks import Monitor
from ..tasks.planned import planned_iterations
from ..tasks.result import Result, data_uri, file_names
from .parts import PartTexts, check_inverse
from .units import beside

PATIENCE = 15.0
"""Seconds after which a run that nobody looks at any more is stopped."""

GRACE = 1.0
"""Seconds that a stopped run has to end before there is anything to see; then its page goes on without it. Later it has `PATIENCE`."""

WAITING, RUNNING, DONE, STOPPED, FAILED = "waiting", "running", "done", "stopped", "failed"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """What a visitor asks for; checked by whoever makes it. image: a file; unit: as `maximize` takes it.

    What is None has not been said: the task's own default decides, as in Python and on the command line.
    """

    task: str
    network: str
    layer: str
    image: Path | None = None
    unit: int | str | None = None
    C: float | None = None
    solver: str | None = None
    iterations: int | None = None
    seed: int | None = None
    restarts: int | None = None
    quality: str | None = None
    parts: PartTexts = field(default_factory=PartTexts)

    @property
    def said(self) -> dict[str, Any]:
        """The settings that were given, as arguments of the task.

        >>> Order("invert", "squeezenet1_1", "fire2", C=30.0, seed=0).said
        {'C': 30.0, 'seed': 0}
        """
        names = ["C", "solver", "iterations", "quality", "seed", *([] if self.task == "caricature" else ["restarts"])]
        return {n: value for n in names if (value := getattr(self, n)) is not None} | self.parts.arguments()


@dataclass(frozen=True)
class Frame:
    """What can be seen of a run. pictures: data URIs, one an image; seconds: since the first frame."""

    evaluations: int
    seconds: float
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What a run left: its result's captions, verdicts and figures, the exact pictures, and the zip of its folder.

    nature: what is to be said of the images beside natural ones.
    """

    task: str
    captions: tuple[str, ...]
    troubles: tuple[str, ...]
    evaluations: int
    pictures: tuple[str, ...]
    archive: Path
    nature: tuple[str, ...] = ()


@dataclass
class Job:
    """One run. The worker writes, the page reads; every field is replaced whole."""

    order: Order
    limit: float
    state: str = WAITING
    message: str = ""
    frame: Frame | None = None
    curve: list[tuple[int, float]] = field(default_factory=list)
    original: str = ""
    outcome: Outcome | None = None
    planned: int | None = None
    seen: float = field(default_factory=time.monotonic)
    stop: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    ending: bool = False
    _stopped: float = 0.0
    _began: float = 0.0
    _next: float = 0.0

    @property
    def total(self) -> int | None:
        """How many evaluations there are, where that is known: those of a run that is over, or those that it plans."""
        return self.outcome.evaluations if self.outcome is not None else self.planned or self.order.iterations

    @property
    def abandoned(self) -> bool:
        """Nobody has looked for a while."""
        return time.monotonic() - self.seen > PATIENCE

    @property
    def overdue(self) -> bool:
        """It was stopped a while ago and is still at something that does not ask, as opening a network or estimating Z."""
        return self.stop.is_set() and not self.ending and time.monotonic() - self._stopped > (GRACE if self.frame is None else PATIENCE)

    def end(self) -> None:
        """Ask it to end."""
        if not self.stop.is_set():
            self._stopped = time.monotonic()
            self.stop.set()

    def touch(self) -> Job:
        """Say that somebody is looking."""
        self.seen = time.monotonic()
        return self

    def watch(self, evaluations: int, images: Tensor, energy: Tensor) -> bool:
        """The callback of the loop: keep the newest frame, and say whether to stop. Frames become rarer as a run grows long."""
        now = time.monotonic()
        self._began = self._began or now
        if now >= self._next or evaluations == self.planned:
            self.curve.append((evaluations, float(energy.mean())))
            self.frame = Frame(evaluations, now - self._began, tuple(preview(i) for i in images))
            self._next = now + max(0.2, 0.01 * (now - self._began))
        if now - self._began > self.limit:
            self.message = f"Ended after {self.limit:g} s, the longest that a run may take here: this is what was found by then."
            return True
        return self.stop.is_set() or self.abandoned


class Desk:
    """Takes orders and runs them.

    folder: private, for results (and the page's uploads); what is in it is deleted after `keep` seconds. workers: runs at once, each
    with its share of the CPU when it begins and its own copies of the networks it used last. queue: runs that may wait.
    seconds: the longest run. load: opens a network by its name on the page. statistics: those of a network, where there are any.
    """

    networks_kept = 2

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 1,
        queue: int = 8,
        seconds: float = 600.0,
        keep: float = 3600.0,
        device: str | None = None,
        load: Callable[[str], Network] = load_network,
        statistics: Callable[[str], Statistics | None] = lambda name: None,
    ) -> None:
        self._load, self._statistics = load, statistics
        self.folder, self.workers, self.queue, self.seconds, self.keep, self.device = folder, workers, queue, seconds, keep, device
        self._jobs: dict[str, Job] = {}
        self._lock, self._writing = threading.RLock(), threading.Lock()
        self._own = threading.local()
        self._threads = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(workers, "preimage-run")
        self._closed = threading.Event()
        threading.Thread(target=self._sweep_now_and_then, name="preimage-sweep", daemon=True).start()

    def submit(self, session: str, order: Order) -> Job:
        """A run for one page. Raises InputError if that page has one already, or if too many wait."""
        with self._lock:
            if session in self._jobs:
                raise InputError("This page has a run already, or its last one is just ending. Press Stop, and try again in a moment.")
            if len(self._jobs) >= self.workers + self.queue:
                raise InputError(f"All {self.workers + self.queue} places are taken, running or waiting. Try again in a minute.")
            job = self._jobs[session] = Job(order, self.seconds)
        self._pool.submit(self._work, session, job)
        return job

    def job(self, session: str) -> Job | None:
        """The run of a page, waiting or running."""
        with self._lock:
            return self._jobs.get(session)

    def ahead(self, job: Job) -> int:
        """How many must begin before this one can."""
        with self._lock:
            waiting = [j for j in self._jobs.values() if j.state == WAITING]
        return waiting.index(job) if job in waiting else 0

    def stop(self, session: str) -> None:
        """End the run of a page, if it has one; a waiting one gives up its place at once."""
        with self._lock:
            job = self._jobs.get(session)
            if job is None:
                return
            job.end()
            if job.state == WAITING:
                self._end(session, job, STOPPED, "It had not begun.")

    def let_go(self, session: str, job: Job) -> None:
        """Give a page its place back whose stopped run is overdue; what the worker still finds is thrown away."""
        with self._lock:
            if job.overdue and not job.over.is_set():
                seen = "This is what was seen last." if job.frame is not None else "There was nothing to show yet."
                self._end(session, job, STOPPED, seen)

    def close(self) -> None:
        """Stop everything and wait for it."""
        for session in list(self._jobs):
            self.stop(session)
        self._closed.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def sweep(self) -> None:
        """Delete what is older than `keep` seconds."""
        limit = time.time() - self.keep
        for entry in self.folder.iterdir():
            if entry.stat().st_mtime < limit:
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)

    def _sweep_now_and_then(self) -> None:
        while not self._closed.wait(min(60.0, self.keep)):
            try:
                self.sweep()
            except OSError:
                _log.exception("Old results could not be deleted")

    def _work(self, session: str, job: Job) -> None:
        with self._lock:
            if job.over.is_set():
                return
            job.state = RUNNING
            running = sum(j.state == RUNNING for j in self._jobs.values())
        torch.set_num_threads(max(1, self._threads // running))  # of this worker
        state, message = STOPPED, "There was nothing to show yet."
        try:
            if not (job.stop.is_set() or job.abandoned):
                result = self._run(job)
                with self._lock:
                    job.ending = True
                    if job.over.is_set():
                        return
                if job.curve and result.evaluations > job.curve[-1][0]:
                    job.curve.append((result.evaluations, float(result.trace["total"][-1].mean())))
                if not job.abandoned:
                    nature = () if result.interrupted else self._beside(job, result)
                    job.outcome = replace(self._keep(result), nature=nature)
                state = STOPPED if result.interrupted else DONE
                message = job.message or ("This is what was found by then." if result.interrupted else "")
        except PreimageError as error:
            state, message = FAILED, plain(error, job.order.image)
        except Exception as error:
            _log.exception("A run failed: %s", job.order)
            state, message = FAILED, f"This run failed on the server ({type(error).__name__}); its log says where. Try other settings."
        self._end(session, job, state, message)

    def _end(self, session: str, job: Job, state: str, message: str) -> None:
        with self._lock:
            if job.over.is_set():
                return
            job.state, job.message = state, message
            if self._jobs.get(session) is job:
                del self._jobs[session]
            job.over.set()

    def _run(self, job: Job) -> Result:
        order = job.order
        network = self._network(order.network)
        phi = network.layer(order.layer)
        check_inverse(order.parts, order.task, phi)
        job.planned = planned_iterations(order.task, phi, order.unit, **order.said)
        if order.image is not None:
            levels = network.space.decode(network.space.encode(str(order.image)))
            job.original = preview(levels[0])
        task: Callable[..., Result] = getattr(tasks, order.task)
        given: Any = order.unit if order.task == "maximize" else str(order.image)
        try:
            return task(phi, given, **order.said, device=self.device, progress=False, monitor=Monitor(watch=job.watch))
        except Interrupted as stop:
            result: Result = stop.result
            return result

    def _beside(self, job: Job, result: Result) -> tuple[str, ...]:
        """What natural examples say of the images of a unit, where there are statistics of its layer."""
        order, stats = job.order, self._statistics(job.order.network)
        if order.task != "maximize" or stats is None or order.layer not in stats:
            return ()
        return beside(result, self._network(order.network), order.layer, stats)

    def _network(self, name: str) -> Network:
        """This worker's own copy: hooks and settings of one run never meet another's."""
        shelf: OrderedDict[str, Network] = self._own.__dict__.setdefault("shelf", OrderedDict())
        if name not in shelf:
            while len(shelf) >= self.networks_kept:
                shelf.popitem(last=False)
            with self._writing:  # random initialisation uses torch's one global generator
                shelf[name] = self._load(name)
        shelf.move_to_end(name)
        return shelf[name]

    def _keep(self, result: Result) -> Outcome:
        """Write the result folder as a zip, in a folder whose name cannot be guessed."""
        said = dict.fromkeys(result.labels)  # a class or a photograph; several units are named by their layer alone
        name = file_names(["-".join(["preimage", result.task, result.config["representation"], *(said if len(said) == 1 else [])])])[0]
        place = Path(tempfile.mkdtemp(dir=self.folder, prefix="result-"))
        with self._writing:  # matplotlib draws one figure at a time
            result.save(place / name)
        archive = place / f"{name}.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for part in sorted((place / name).iterdir()):
                file.write(part, f"{name}/{part.name}")
        shutil.rmtree(place / name)
        troubles = tuple(dict.fromkeys(s for s in result.status if s != "ok"))
        exact = tuple(data_uri(p) for p in result.pil())
        return Outcome(result.task, captions(result), troubles, result.evaluations, exact, archive)


def captions(result: Result) -> tuple[str, ...]:
    """A line for each image: which unit or which start, and what was reached."""
    starts = result.config.get("restarts", 1)
    lines = []
    for k, (label, caption) in enumerate(zip(result.labels, result.captions(), strict=True)):
        reached = caption[len(label) + 2 :]
        start = f"start {k + 1}: " if starts > 1 and result.task != "maximize" else ""
        lines.append(caption if result.task == "maximize" else f"found, {start}{reached}")
    return tuple(lines)


def preview(image: Tensor) -> str:
    """One image (C, H, W) of levels 0–255 as a small JPEG for the page."""
    buffer = io.BytesIO()
    pictures.to_pil(image).save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def plain(error: Exception, path: Path | None) -> str:
    """An error's own words, with the name of a visitor's file but not its place on the server."""
    return str(error) if path is None else str(error).replace(str(path), path.name)
