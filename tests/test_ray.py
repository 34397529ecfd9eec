"""The Ray backend on a real local cluster: the same bits as in this process, and nothing lost when a worker is killed."""

from __future__ import annotations

import gc
import os
import pickle
import shutil
import signal
import tempfile
import threading
import time
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from preimage.cli import app
from preimage.errors import InputError, MissingExtra
from preimage.pixels.pixelspace import PixelSpace
from preimage.studies import ray as backend
from preimage.studies.backends import Batch
from preimage.studies.jobs import Job
from preimage.studies.ray import Ray
from preimage.studies.runner import run
from preimage.studies.scheduler import DEPTH
from preimage.studies.store import Store

from .stores import contents, leftovers, small_jobs

ray = pytest.importorskip("ray", reason="the backend ray is tested on Ray: pip install 'preimage[ray]'")


@pytest.fixture(scope="module", autouse=True)
def tidy():
    """Ray sets variables of the environment and a handler of signals, leaves sockets to the collector and keeps its logs: it ends here."""
    before, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    shutil.rmtree(Path(tempfile.gettempdir(), "ray"), ignore_errors=True)
    os.environ.clear()
    os.environ.update(before)
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="module")
def cluster(tidy):
    """Two workers' room on this machine."""
    ray.init("local", num_cpus=2, object_store_memory=100 * 2**20, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def _workers() -> list[int]:
    """The actors that this process's cluster has started, from what the system says of its processes."""
    facts = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            facts[int(folder.name)] = (parent, (folder / "cmdline").read_bytes())
        except OSError:  # it has ended
            continue

    def ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in facts and ours(facts[pid][0]))

    return [pid for pid, (_, line) in facts.items() if line.startswith(b"ray::Worker") and ours(pid)]


def lethal():
    """A network that ends the process that runs it."""

    class End(nn.Module):
        def forward(self, x):
            os._exit(1)

    return nn.Sequential(End()), PixelSpace(8, "grey", scale=1.0, mean=0.0, std=1.0)


def test_ray_gives_the_same_bits_as_this_process(cluster, store, undisturbed):
    found = run(small_jobs(8), store, backend="ray", workers=2, progress=False)
    assert len(found.done) == 8 and not found.failed
    assert contents(store) == undisturbed
    assert run(small_jobs(8), store, progress=False).done == []  # for the local backend they are there


@pytest.mark.slow  # that nothing is lost is also seen of this machine's own workers
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the workers are found in Linux's /proc")
def test_a_killed_worker_loses_nothing(cluster, store, undisturbed):
    killed = []

    def kill():
        deadline = time.monotonic() + 600
        while not killed and time.monotonic() < deadline:
            if len(list(store.path.glob("runs/??/*/job.json"))) >= 2 and (workers := _workers()):
                os.kill(workers[0], signal.SIGKILL)
                killed.append(workers[0])
            time.sleep(0.01)

    thread = threading.Thread(target=kill)
    thread.start()
    found = run(small_jobs(8, iterations=3), store, backend="ray", workers=2, progress=False)
    thread.join()
    assert killed and len(found.done) == 8 and not found.failed
    assert contents(store) == undisturbed and not leftovers(store)


@pytest.mark.slow
def test_a_job_that_kills_its_workers_fails_and_the_others_go_on(cluster, store):
    bad = Job(experiment="small", task="maximize", network="tests.test_ray:lethal", layer="0", unit=0, C=1.0, canvas=8, iterations=1)
    found = run([bad, *small_jobs(3)], store, backend="ray", workers=2, progress=False)
    assert len(found.done) == 3 and list(found.failed) == [bad.key]
    assert "3 workers died while they ran this job" in found.failed[bad.key]


@pytest.mark.slow
def test_failures_and_photographs_travel(cluster, store, tmp_path):
    sha = store.add_input(torch.full((1, 3, 227, 227), 20.0))
    good = Job(experiment="small", task="invert", C=1.0, network="squeezenet1_1", layer="conv1", original=sha, iterations=2)
    bad = small_jobs(1, layer="no-such-layer")[0]
    found = run([good, bad], store, backend=Ray(every=True), progress=False)
    assert found.done == [good.key] and "No layer of squeezenet1_1 named 'no-such-layer'" in found.failed[bad.key]
    other = Store.open(tmp_path / "other")
    other.add_input(torch.full((1, 3, 227, 227), 20.0))
    run([good], other, progress=False)
    assert contents(other) == contents(store)


@pytest.mark.slow
def test_batches_are_taken_only_as_there_is_room(cluster):
    taken, most, given = [], 0, 0

    def batches():
        for job in small_jobs(12):
            taken.append(job)
            yield Batch([job], [None])

    for _, outcomes in Ray()(batches(), 2, 1):
        most = max(most, len(taken) - given)
        given += 1
        assert outcomes[0].result is not None
    assert given == 12 and most <= 2 * DEPTH


def test_workers_with_other_code_are_refused(cluster, store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(backend, "code_version", lambda: "of this process")
        with pytest.raises(InputError, match="another version"):
            run(small_jobs(1), store, backend="ray", progress=False)
    assert all(store.claims.take(job.key) for job in small_jobs(1))  # and no claim is left


@pytest.mark.slow
def test_workers_that_do_not_start_end_the_run(cluster, store, monkeypatch):
    class Broken(backend.Worker):
        def __init__(self, threads):
            raise RuntimeError("cannot begin")

    Broken.__module__ = "__main__"  # sent by value
    monkeypatch.setattr(backend, "Worker", Broken)
    with pytest.raises(InputError, match="do not start"):
        run(small_jobs(1), store, backend="ray", progress=False)


def test_more_than_the_cluster_has_is_refused(cluster, store):
    with pytest.raises(InputError, match="has 2 CPU and a worker takes 3"):
        run(small_jobs(1), store, backend=Ray(every=True), threads=3, progress=False)


@pytest.mark.slow
def test_the_command_line_computes_on_ray(cluster, tmp_path):
    arguments = ["atlas", "squeezenet1_1", "--layers", "conv1", "--units", "2", "--iterations", "2", "-q", "-o"]
    done = CliRunner().invoke(app, [*arguments, str(tmp_path / "ray"), "--backend", "ray"])
    assert done.exit_code == 0 and "2 jobs done" in done.output, done.output
    assert CliRunner().invoke(app, [*arguments, str(tmp_path / "local")]).exit_code == 0
    assert contents(Store.open(tmp_path / "ray")) == contents(Store.open(tmp_path / "local"))


def test_an_address_where_nobody_listens_is_refused_at_once(store, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(InputError, match=r"No Ray cluster answers at '127\.0\.0\.1:1'"):
        run(small_jobs(1), store, backend=Ray("127.0.0.1:1"), progress=False)


def test_an_address_without_ray_and_ray_without_its_extra_say_what_to_do(store, monkeypatch):
    done = CliRunner().invoke(app, ["paper", "neurons", "-o", str(store.path), "--address", "auto"])
    assert done.exit_code == 2 and "--backend ray" in done.output
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"preimage\[ray\]"):
        run(small_jobs(1), store, backend="ray", progress=False)


def test_what_travels_is_the_worker_s_answer_bit_by_bit():
    job = small_jobs(1)
    (outcome,) = pickle.loads(backend.Worker(1).work(pickle.dumps(Batch(job, [None]))))
    assert outcome.metrics["ok"] == 1.0 and outcome.result.images.shape == (1, 3, 23, 23)
