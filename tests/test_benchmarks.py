"""The benchmarks count as they say, run on a small case, and record where."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from benchmarks import common, convergence, overhead, scaling, schedule
from hypothesis import given, settings
from hypothesis import strategies as st

import preimage


def test_needed_is_interpolated_for_each_image_and_none_if_one_never_gets_there() -> None:
    rows = [{"evaluations": 20, "ratio": [2.0, 0.5]}, {"evaluations": 40, "ratio": [0.0, 0.4]}]
    assert convergence.needed(rows) == (30 + 20) / 2
    assert convergence.needed(rows[:1]) is None


def test_a_study_sets_each_solver_against_the_papers_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    phi = preimage.HOG(cell=4, bilinear=True)
    monkeypatch.setattr(convergence, "representation", lambda case: phi)
    monkeypatch.setattr(
        convergence, "encoded", lambda phi, paths: 60 * torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    )
    monkeypatch.setattr(convergence, "LENGTHS", (5, 10))
    lines: list[str] = []
    found, pictures = convergence.study("hogb", [], ("fast",), 100.0, lines.append)
    rows = found["solvers"]["fast"]
    assert [r["evaluations"] for r in rows] == [5, 10]
    assert rows[1]["ratio"] == [a / b for a, b in zip(rows[1]["energy"], found["paper"]["energy"], strict=True)]
    assert (len(lines), len(pictures)) == (2, 2)
    convergence.plot({"hogb": found}, tmp_path / "plot.png")
    common.write(tmp_path / "deep" / "record.json", {"cases": {"hogb": found}})
    record = json.loads((tmp_path / "deep" / "record.json").read_text())
    assert record["machine"]["versions"]["torch"] == torch.__version__
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_an_evaluation_takes_at_least_about_the_bare_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    phi = preimage.HOG(cell=4, bilinear=True)
    monkeypatch.setattr(overhead, "representation", lambda case: phi)
    monkeypatch.setattr(overhead, "photographs", lambda: [""])
    monkeypatch.setattr(overhead, "encoded", lambda phi, paths: 60 * torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)))
    found = overhead.measure("hogb", 2)
    assert set(found) == {"evaluation", "paper", "fourier-adam", "fast"}
    assert found["evaluation"][1] > 0.3


@given(st.integers(1, 4), st.integers(0, 20), st.floats(0.1, 10), st.floats(0, 30))
def test_workers_that_always_have_a_job_do_their_number_of_jobs_at_a_time_whenever_they_begin(workers, more, seconds, late) -> None:
    count = int(late // seconds) + 5 + more  # jobs of the first worker; the others begin late
    spans = [(k * seconds, (k + 1) * seconds) for k in range(count)]
    for _ in range(1, workers):
        spans += [(late + k * seconds, late + (k + 1) * seconds) for k in range(2 + more)]
    assert scaling.throughput(spans, workers) == pytest.approx(workers / seconds)


def test_too_few_jobs_to_compute_side_by_side_are_refused() -> None:
    with pytest.raises(SystemExit, match="more --jobs"):
        scaling.throughput([(0, 1), (0.99, 2), (2, 3)], 2)


def test_scaling_is_the_ratio_within_a_round_and_alternates() -> None:
    lines: list[str] = []
    found = scaling.scaling(["local"], 1, 60.0, 3, 1, lines.append)["local"]
    (one,), (two,) = found["rounds"]["1"], found["rounds"]["2"]
    assert found["ratio"][1] == two / one and [line.split(":")[1] for line in lines] == [" local, 1 workers", " local, 2 workers"]
    assert 0 < found["seconds to keep one"]["1"] < 1
    assert scaling.table({"local": found}).splitlines()[-1].startswith(f"| local | {one:.1f} [{one:.1f}, {one:.1f}] | {two:.1f}")


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 120), st.floats(0.5, 20), st.floats(0, 0.2))
def test_a_simulated_run_takes_no_less_than_its_work_and_wastes_no_more_than_two_jobs(workers, jobs, seconds, driver) -> None:
    found = schedule.simulate([seconds], driver, workers, jobs, life=math.inf)
    least = max(math.ceil(jobs / workers) * seconds, jobs * driver)
    most = math.ceil(jobs / workers) * seconds + jobs * driver + 2 * seconds
    assert schedule.START + least <= found["makespan"] * (1 + 1e-9) and found["makespan"] <= schedule.START + most
    assert found["utilisation"] * workers * found["makespan"] == pytest.approx(jobs * seconds)
    assert found["driver busy"] * found["makespan"] == pytest.approx(jobs * driver)
    assert found["most results waiting"] <= 2 * workers and found["workers lost"] == 0


def test_simulated_workers_that_die_cost_time_and_no_job(tmp_path: Path) -> None:
    runs = {name: [schedule.simulate([5.0, 9.0], 0.005, w, 200, life) for w in (1, 10)] for name, life in (("calm", 1e9), ("wild", 300.0))}
    assert [row["workers lost"] for row in runs["calm"]] == [0, 0]
    for calm, wild in zip(runs["calm"], runs["wild"], strict=True):
        assert wild["workers lost"] > 3 and wild["makespan"] > calm["makespan"] and wild["utilisation"] < calm["utilisation"]
    schedule.plot(runs, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000
    minutes = runs["calm"][0]["makespan"] / 60
    assert schedule.table(runs).splitlines()[2].startswith(f"| calm | 1 | {minutes:.1f} min | ")


@pytest.mark.slow
def test_the_measured_jobs_of_the_simulation_are_those_of_a_real_run() -> None:
    pytest.importorskip("ray")
    found = schedule.measured(units=1, iterations=2)
    assert len(found["seconds"]) == 9 and min(found["seconds"]) > 0 and 0 < found["driver"] < 0.5
