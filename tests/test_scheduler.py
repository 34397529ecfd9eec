"""The plan of a scheduler, on workers that are only simulated: nothing lost, nothing twice, no more out at once than there is room for."""

from __future__ import annotations

from collections import Counter

import pytest
from benchmarks.schedule import Simulated
from hypothesis import given, settings
from hypothesis import strategies as st

from preimage.errors import InputError
from preimage.studies.backends import Batch
from preimage.studies.jobs import Job
from preimage.studies.scheduler import DEPTH, LIVES, STARTS, Scheduler


def job(k: int) -> Job:
    return Job(experiment="planned", task="maximize", network="squeezenet1_1", layer="fire2", unit=k, C=1.0)


JOBS = [job(k) for k in range(40)]


@settings(max_examples=60, deadline=None)
@given(
    workers=st.integers(1, 9),
    count=st.integers(0, 40),
    size=st.integers(1, 4),
    life=st.sampled_from([2.0, 8.0, 1e9]),
    seed=st.integers(0, 10**6),
)
def test_every_job_has_one_outcome_whoever_dies_and_no_more_is_out_than_there_is_room_for(workers, count, size, life, seed):
    pool = Simulated(seconds=[0.5, 1.0, 3.0], start=0.02, life=life, keep=0.01, message=0.001, seed=seed)
    taken, answered = 0, 0

    def batches():
        nonlocal taken
        for k in range(0, count, size):
            taken += len(JOBS[k : min(k + size, count)])
            yield Batch(JOBS[k : min(k + size, count)], [None] * len(JOBS[k : min(k + size, count)]))

    found: Counter[str] = Counter()
    for batch, outcomes in Scheduler(pool, workers).run(batches()):
        assert len(batch.jobs) == len(outcomes)
        answered += len(batch.jobs)
        found.update(j.key for j in batch.jobs)
        for j, outcome in zip(batch.jobs, outcomes, strict=True):
            assert not outcome.reason or pool.deaths[j.key] == LIVES
        assert taken - answered <= (DEPTH * workers + pool.lost * DEPTH) * size
    assert found == Counter(j.key for j in JOBS[:count])
    assert life < 1e9 or pool.lost == 0
    assert pool.dismissed == pool.started == workers + pool.lost


def test_a_job_that_kills_its_workers_is_given_up_and_the_one_that_waited_behind_it_is_not():
    pool = Simulated(seconds=[1.0], start=0.0, keep=0.0, message=0.0, lethal={JOBS[0].key})
    found = {b.jobs[0].key: o[0].reason for b, o in Scheduler(pool, 1).run(Batch([j], [None]) for j in JOBS[:3])}
    assert "3 workers died while they ran this job" in found.pop(JOBS[0].key)
    assert list(found.values()) == ["", ""] and pool.lost == LIVES


@pytest.mark.parametrize(("workers", "failures"), [(2, STARTS), (40, 40)])
def test_workers_that_do_not_start_end_the_run_but_not_if_only_those_of_one_machine_do_not(workers, failures):
    pool = Simulated(seconds=[1.0], start=10.0, life=1e-6, keep=0.0, message=0.0)
    with pytest.raises(InputError, match="do not start"):
        list(Scheduler(pool, workers).run([Batch([JOBS[0]], [None])]))
    assert pool.lost == failures and pool.dismissed == pool.started
