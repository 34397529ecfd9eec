"""The runner: nothing lost and nothing twice, whoever is killed and whatever fails."""

from __future__ import annotations

import errno
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from preimage.errors import InputError, UnknownName
from preimage.solvers.plans import solver_names
from preimage.studies import runner
from preimage.studies.backends import Batch
from preimage.studies.jobs import execute
from preimage.studies.processes import Processes, run_in_processes
from preimage.studies.runner import run
from preimage.studies.store import Store

from .stores import contents, leftovers, small_jobs, start


def test_what_is_done_is_not_done_again(store, monkeypatch):
    assert str(run(small_jobs(3), store, progress=False)).startswith("3 jobs done")
    before = contents(store)
    calls = []
    monkeypatch.setattr(runner, "execute", lambda jobs, inputs: calls.append(len(jobs)) or execute(jobs, inputs))
    found = run(small_jobs(4) + small_jobs(2), store, progress=False)
    assert (len(found.done), len(found.skipped), calls) == (1, 3, [1])
    assert {k: v for k, v in contents(store).items() if k in before} == before
    assert len(run(small_jobs(1, iterations=4), store, progress=False).done) == 1  # another setting, another result
    assert len(store.records()) == 5


def test_an_image_does_not_depend_on_its_batch_or_its_worker(store, undisturbed, tmp_path):
    run(small_jobs(8), store, progress=False, batch=4)
    ours = contents(store)
    assert ours.keys() == undisturbed.keys()
    assert all(ours[k][name] == undisturbed[k][name] for k in ours for name in ("images", "trace.total", "energy.total"))
    other = Store.open(tmp_path / "other")
    assert len(run(small_jobs(8), other, progress=False, workers=2).done) == 8
    assert contents(other) == undisturbed


def test_units_of_different_divisors_share_a_batch_and_no_image_depends_on_it(store, tmp_path, monkeypatch):
    jobs = [replace(job, Z=z) for job, z in zip(small_jobs(4), (30.0, 800.0, 30.0, 7.5), strict=True)]
    other, sizes = Store.open(tmp_path / "other"), []
    monkeypatch.setattr(runner, "execute", lambda jobs, inputs: sizes.append(len(jobs)) or execute(jobs, inputs))
    run(jobs, store, progress=False, batch=4)
    run(jobs, other, progress=False, batch=1)
    assert sizes == [4, 1, 1, 1, 1]
    together, alone = contents(store), contents(other)
    assert all(together[job.key][name] == alone[job.key][name] for job in jobs for name in ("images", "energy.total", "picture"))
    assert [store.result(job.key).config["Z"] for job in jobs] == [[job.Z] for job in jobs]
    assert len({together[job.key]["images"] for job in jobs}) == 4


def test_a_given_divisor_and_an_estimated_one_are_not_mixed(store):
    given, estimated = replace(small_jobs(1)[0], Z=30.0), small_jobs(2)[1]
    assert given.shape != estimated.shape
    assert len(run([given, estimated], store, progress=False, batch=2).done) == 2


def test_a_failed_job_is_recorded_and_tried_again_and_the_others_go_on(store):
    good, bad = small_jobs(2), small_jobs(1, layer="no-such-layer")
    found = run([good[0], *bad, good[1]], store, progress=False)
    assert len(found.done) == 2
    assert "no-such-layer" in found.failed[bad[0].key]
    assert "No layer of squeezenet1_1 named 'no-such-layer'" in store.records(status="failed")[0].reason
    assert list(run([*good, *bad], store, progress=False).failed) == [bad[0].key]  # tried again
    assert len(store.records()) == 3


def test_one_bad_job_does_not_take_its_batch_with_it(store):
    good = small_jobs(3)
    bad = [small_jobs(97)[96]]  # conv1 has 64 units
    found = run([*good, *bad], store, progress=False, batch=4)
    assert (len(found.done), list(found.failed)) == (3, [bad[0].key])


def test_a_full_disk_fails_one_job_and_not_the_others(store, monkeypatch):
    plain, calls = Store.save, []

    def full(self, job, *rest):
        calls.append(job)
        if len(calls) == 2:
            from preimage.tasks import result as result_module

            with monkeypatch.context() as patch:

                def no_room(self, path):
                    Path(path).write_bytes(b"half")
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

                patch.setattr(result_module.Result, "_write_tensors", no_room)
                return plain(self, job, *rest)
        return plain(self, job, *rest)

    monkeypatch.setattr(Store, "save", full)
    found = run(small_jobs(3), store, progress=False)
    assert len(found.done) == 2
    assert "No space left" in next(iter(found.failed.values()))
    assert [r.status for r in store.records()].count("failed") == 1
    assert not leftovers(store)
    assert len(run(small_jobs(3), store, progress=False).done) == 1
    assert not list((store.path / "failed").iterdir())


def test_a_disk_with_no_room_for_the_reason_either_does_not_end_the_run(store, monkeypatch):
    def no_room(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Store, "save", no_room)
    monkeypatch.setattr(Store, "fail", no_room)
    found = run(small_jobs(2), store, progress=False)
    assert len(found.failed) == 2
    assert all("could not be recorded" in reason for reason in found.failed.values())


def test_a_damaged_photograph_fails_its_jobs_alone(store):
    sha = store.add_input(torch.ones(1, 3, 227, 227))
    (store.path / "inputs" / f"{sha}.safetensors").write_bytes(b"x")
    one = small_jobs(1)[0]
    bad = type(one)(experiment="small", task="invert", C=1.0, network="squeezenet1_1", layer="conv1", original=sha, iterations=1)
    found = run([bad, one], store, progress=False)
    assert (found.done, list(found.failed)) == ([one.key], [bad.key])


def test_interrupting_leaves_a_usable_store(store, monkeypatch):
    calls = []

    def interrupted(jobs, inputs):
        calls.append(jobs)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return execute(jobs, inputs)

    monkeypatch.setattr(runner, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(small_jobs(5), store, progress=False)
    assert len(store.records(status="done")) == 2
    assert not leftovers(store)
    monkeypatch.undo()
    assert len(run(small_jobs(5), store, progress=False).done) == 3  # and no claim is left


def test_a_job_that_another_run_is_at_is_left_to_it(store):
    jobs = small_jobs(2)
    assert store.claims.take(jobs[0].key)

    def elsewhere():
        time.sleep(0.3)
        outcome = execute([jobs[0]], [None])[0]
        store.save(jobs[0], outcome.result, outcome.metrics, 1.0)
        store.claims.release(jobs[0].key)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    found = run(jobs, store, progress=False)
    thread.join()
    assert (found.done, found.skipped) == ([jobs[1].key], [jobs[0].key])


class _Fatal:
    """Ends the process that reads it."""

    def __reduce__(self):
        return os._exit, (3,)


def test_a_job_that_kills_its_process_is_given_up_and_others_are_not(monkeypatch):
    started, own = [], Processes.start_worker
    monkeypatch.setattr(Processes, "start_worker", lambda self: started.append(own(self)) or started[-1])
    fatal, other = small_jobs(2)
    batches = [Batch([fatal], [_Fatal()]), Batch([other], [None])]
    found = {b.jobs[0].key: o[0].reason for b, o in run_in_processes(batches, 8, 1)}
    assert "3 workers died while they ran this job: its process ended with exit code 3" in found[fatal.key]
    assert found.keys() == {fatal.key, other.key} and not found[other.key]
    assert len(started) == 2 + 3  # one a batch at first, and one for each that died
    assert all(pipe.closed for pipe in started) and not multiprocessing.active_children()


def test_no_process_is_started_for_nothing(monkeypatch):
    monkeypatch.setattr(Processes, "start_worker", lambda self: pytest.fail("a process was started"))
    assert list(run_in_processes([], 4, 1)) == []


def test_killed_workers_lose_nothing(store, undisturbed):
    killed = []

    def kill():
        while len(killed) < 1:
            for child in multiprocessing.active_children():
                if len(store.records()) >= 2:
                    os.kill(child.pid, signal.SIGKILL)
                    killed.append(child.pid)
                    return
            time.sleep(0.05)

    thread = threading.Thread(target=kill)
    thread.start()
    found = run(small_jobs(8), store, workers=2, progress=False)
    thread.join()
    assert killed and len(found.done) == 8
    assert contents(store) == undisturbed


@pytest.mark.slow
def test_two_runs_at_once_do_each_job_once(tmp_path, undisturbed):
    Store.open(tmp_path / "store")
    processes = [start(tmp_path / "store", 8) for _ in range(2)]
    counts = [p.communicate(timeout=600)[0].split() for p in processes]
    assert [p.returncode for p in processes] == [0, 0]
    assert sum(int(c[1]) for c in counts) == 8, counts
    assert contents(Store.open(tmp_path / "store")) == undisturbed


def _kill_and_resume(path: Path, rounds: int, undisturbed, workers: int = 1) -> int:
    """Kill a run -9 at a random moment, `rounds` times, look at the store each time, then let it end. Gives how many kills hit it."""
    chance, hits = random.Random(0), 0
    for _ in range(rounds):
        process = start(path, 8, workers)
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.0, 0.45 if workers == 1 else 6.0))
        hits += process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        found = contents(Store.open(path)) if path.exists() and (path / "store.json").exists() else {}
        assert all(undisturbed[key] == value for key, value in found.items())  # what is there is whole
    process = start(path, 8)
    process.communicate(timeout=600)
    store = Store.open(path)
    assert contents(store) == undisturbed
    assert {r.key for r in store.records(status="done")} == undisturbed.keys()
    assert len(store.records()) == 8 and not leftovers(store)
    return hits


@pytest.mark.slow
def test_a_run_killed_at_random_moments_ends_as_if_undisturbed(tmp_path, undisturbed):
    assert _kill_and_resume(tmp_path / "store", 3, undisturbed) >= 1


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_ctrl_c_on_the_command_line_ends_the_workers_too(tmp_path):
    command = [sys.executable, "-m", "preimage", "paper", "inversion", "--layers", "conv1,pool1", "--iterations", "300", "--workers", "2"]
    process = subprocess.Popen([*command, "-q", "-o", tmp_path / "s"], stderr=subprocess.PIPE, text=True, start_new_session=True)
    while not list((tmp_path / "s").glob("runs/??/*/job.json")):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
    _, said = process.communicate(timeout=600)
    assert process.returncode == 130 and "goes on from there" in said and "Traceback" not in said
    deadline = time.monotonic() + 600  # multiprocessing's own helper process ends a little after the parent
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _alive(process.pid)
    assert 1 <= len(Store.open(tmp_path / "s").records()) < 24


@pytest.mark.slow
def test_a_run_killed_twenty_times_ends_as_if_undisturbed(tmp_path, undisturbed):
    assert _kill_and_resume(tmp_path / "store", 20, undisturbed) >= 10


@pytest.mark.slow
def test_a_run_of_workers_killed_ten_times_ends_as_if_undisturbed(tmp_path, undisturbed):
    assert _kill_and_resume(tmp_path / "store", 10, undisturbed, workers=2) >= 5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_computes_a_batch_and_gives_the_images_of_the_cpu(store, undisturbed):
    jobs = small_jobs(8, device="cuda")
    assert len(run(jobs, store, progress=False).done) == 8
    for ours, its in zip(jobs, small_jobs(8), strict=True):
        images = store.result(ours.key).images
        theirs = torch.frombuffer(bytearray(undisturbed[its.key]["images"]), dtype=torch.float32).view_as(images)
        assert (images - theirs).abs().mean() < 1.0  # grey levels: the sums of a GPU are in another order


def test_arguments_that_cannot_be_are_refused(store):
    with pytest.raises(InputError, match="workers"):
        run(small_jobs(1), store, workers=0)
    with pytest.raises(UnknownName, match="backend"):
        run(small_jobs(1), store, backend="locall")


def test_every_solver_gives_the_same_bits_in_every_run(store, tmp_path):
    other = Store.open(tmp_path / "other")
    for solver in solver_names():
        jobs = small_jobs(1, solver=solver)
        run(jobs, store, progress=False)
        run(jobs, other, progress=False, threads=1)
    assert contents(store) == contents(other)
