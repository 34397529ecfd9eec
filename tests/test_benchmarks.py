"""The benchmarks count as they say, run on a small case, and record where."""

from __future__ import annotations

import copy
import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks import (
    against,
    closed,
    common,
    convergence,
    inverses,
    memory,
    overhead,
    paper_loop,
    peer_tools,
    peers,
    same_bits,
    scaling,
    schedule,
    throughput,
    wall,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import preimage
from preimage.studies.store import Store
from preimage.tasks.result import Result

from .marks import slow

ROOT = Path(__file__).parents[1]
HOLD_AND_HOLD = """
import json
import numpy as np
from benchmarks import memory

earlier = np.ones(2**25)
del earlier
before, source = memory.mark()
held = np.ones(2**23)
print(json.dumps([memory.peak() - before, held.nbytes, source]))
"""


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """The programs set torch's threads for themselves."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


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
    lines: list[str] = []
    found, pictures = convergence.study("hogb", [], ("fast",), 100.0, lines.append, (5, 10))
    rows = found["solvers"]["fast"]
    assert [r["evaluations"] for r in rows] == [5, 10]
    assert rows[1]["ratio"] == [a / b for a, b in zip(rows[1]["energy"], found["paper"]["energy"], strict=True)]
    assert (len(lines), len(pictures)) == (2, 2)
    convergence.plot({"hogb": found}, tmp_path / "plot.png")
    common.write(tmp_path / "deep" / "record.json", {"cases": {"hogb": found}})
    record = json.loads((tmp_path / "deep" / "record.json").read_text())
    assert record["machine"]["versions"]["torch"] == torch.__version__
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_the_papers_energy_is_the_same_question_whatever_was_minimised() -> None:
    phi = preimage.HOG(cell=4, bilinear=True)
    x = 60 * torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    options = {"iterations": 4, "progress": False, "C": 30.0}
    plain = preimage.invert(phi, x, **options)
    torch.testing.assert_close(convergence.papers_energy(phi, x, plain.images - phi.space.mean_colour, 30.0), plain.energy["total"])
    other = preimage.invert(phi, x, regularizers={"tv-beta": preimage.TVBeta(V=1e3)}, **options)
    row, images = convergence.run(phi, x, "fast", 4, 30.0)
    assert row["energy"] == convergence.papers_energy(phi, x, images - phi.space.mean_colour, 30.0).tolist()
    found = convergence.papers_energy(phi, x, other.images - phi.space.mean_colour, 30.0)
    assert bool((found > other.energy["loss"] + preimage.TVBeta()(other.images)).all())


def test_the_transformers_grid_is_of_the_same_random_weights_each_time() -> None:
    pytest.importorskip("timm")
    first, second = (convergence.representation("vit") for _ in range(2))
    assert first.shape == (192, 7, 7)
    x = 60 * torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(first(x), second(x))


def test_an_evaluation_takes_at_least_about_the_bare_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3, padding=1))
    phi = preimage.Layer(net, "2", space=preimage.PixelSpace(64))
    monkeypatch.setattr(overhead, "representation", lambda case: phi)
    monkeypatch.setattr(overhead, "photographs", lambda: [""])
    monkeypatch.setattr(overhead, "encoded", lambda phi, paths: 60 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    found = overhead.measure("fire2", 2)
    assert set(found) == {"evaluation", "paper", "fourier-adam", "fast", "descent alone", "float32", "bfloat16"}
    assert found["evaluation"][1] > 0.3
    assert found["descent alone"][1] > 0
    assert list(overhead.measure("fire2", 2, alone=True)) == ["descent alone"]
    assert all(found[name][1] > 0 for name in overhead.TYPES)


@pytest.mark.parametrize(
    "program",
    slow(
        [convergence, overhead, throughput, memory, wall],
        *(p.__name__ for p in (overhead, throughput, memory, wall)),
    ),
)
def test_each_program_runs_in_seconds_prints_a_table_writes_a_record_and_draws(
    program: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program.main(["--smoke", "--threads", "1", "--json", str(tmp_path / "record.json"), "--plot", str(tmp_path / "plot.png")])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) >= 3 and set(lines[1]) <= set("|-")
    assert all(line.count("|") == lines[0].count("|") for line in lines[:3])
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["benchmark"] == program.__name__.rpartition(".")[2]
    assert record["machine"]["threads"] == 1
    assert (tmp_path / "plot.png").stat().st_size > 1000


@pytest.mark.parametrize("program", [convergence, overhead, throughput, memory, wall, peers, inverses, against, same_bits])
def test_help_says_what_is_measured(program: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(["--help"])
    assert ended.value.code == 0
    assert " ".join(program.__doc__.split()[:6]) in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(("theirs", "ends"), [({"invert fire2": "a", "gone": "c"}, 0), ({"invert fire2": "b"}, 1), ({}, 1)])
def test_a_request_whose_bits_are_others_in_the_other_tree_ends_with_one(
    theirs: dict[str, str], ends: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(same_bits, "digests", lambda tree, count: theirs if tree == tmp_path.resolve() else {"invert fire2": "a"})
    try:
        same_bits.main([str(tmp_path), "--smoke"])
        ended = 0
    except SystemExit as error:
        ended = error.code
    assert ended == ends
    assert f"| invert fire2 | {'NO' if ends else 'yes'} |" in capsys.readouterr().out


def test_inverses_are_fitted_once_and_judged_beside_the_paper(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for turn in range(2):
        inverses.main(["--smoke", "--threads", "1", "--json", str(tmp_path / "record.json"), "--picture", str(tmp_path / "p.png")])
        assert "of paper's" in capsys.readouterr().out
        found = json.loads((tmp_path / "record.json").read_text())["layers"]["fire4"]
        assert {"start", "paper", "cold", "warm 2", "near 1"} <= set(found)
        assert (found["fit seconds"] is None) == (turn == 1)  # read from the folder
    assert (tmp_path / "p-fire4.png").stat().st_size > 1000


def test_precision_is_passed_on_only_where_one_was_asked_for() -> None:
    assert preimage.Compute(**common.precision("bfloat16")).precision == "bfloat16"
    assert common.precision(None) == {}


def test_the_peak_grows_with_what_is_held_and_not_with_what_was_held_before() -> None:
    """In a process of its own, as the benchmark measures: threads that other tests left may free memory in between."""
    done = subprocess.run([sys.executable, "-c", HOLD_AND_HOLD], cwd=ROOT, capture_output=True, text=True, check=True)
    grown, held, source = json.loads(done.stdout)
    if source.startswith("getrusage"):
        assert sys.platform != "linux"
        pytest.skip("this system cannot set the high-water mark back")
    assert held * 0.9 < grown < held * 1.5


def test_many_in_one_call_are_set_against_as_many_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "seconds", lambda call: call())
    rows = throughput.in_one_call(lambda samples, batch, seed: 0.25 * samples + (0.25 if batch == 1 else 0.0), (1, 4), 2, ("1", "all"))
    assert [(r["samples"], r["batch"]) for r in rows] == [(1, "1"), (4, "1"), (4, "all")]
    assert rows[1]["ratio"] == [4 * 0.5 / 1.25] * 2 and rows[2]["ratio"] == [4 * 0.5 / 1.0] * 2
    assert rows[2]["per minute"] == [60 * 4 / 1.0] * 2


def test_the_plain_loop_takes_the_steps_of_the_solver_paper() -> None:
    """Written apart from each other; float64, so that the kinks of the ReLU do not part them in so many steps."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, stride=4), torch.nn.ReLU()).double().requires_grad_(False)
    target = net(60 * torch.randn(1, 3, 24, 24, dtype=torch.float64))
    start = 40 * torch.randn(1, 3, 24, 24, dtype=torch.float64)
    stages = [preimage.Stage(40), preimage.Stage(20, rate=0.1, jitter=False)]
    energy = preimage.Energy(preimage.FeatureTerm(preimage.Euclidean(), net, target, C=100.0))
    ours = preimage.minimize(energy, start, solver="paper", stages=stages)
    phases = (paper_loop.Phase(40), paper_loop.Phase(20, rate=0.1, jitter=False))
    loop = paper_loop.run(
        lambda x: 100 * (net(x) - target).square().sum() / target.square().sum(), (24, 24), 1, phases, start=start.clone()
    )
    assert float((loop - ours.x).norm()) < 1e-6 * float(ours.x.norm())
    assert float((loop - start).norm()) > 0.3 * float(start.norm())


def test_the_plain_loop_of_a_network_ends_near_the_solver_papers_energy() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, stride=4), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 3, stride=2), torch.nn.ReLU())
    phi = preimage.Layer(net.requires_grad_(False), "3", space=preimage.PixelSpace.caffe(48))
    x0 = phi.space.encode(preimage.images.reference_images()[0])
    loop = wall.plain(phi, net, x0)
    assert phi.stride == 8 and loop["evaluations"] == 350
    assert loop["energy"] == pytest.approx(wall.timed(phi, x0, solver="paper")["energy"], rel=0.2)  # seeds spread by up to 15 %


def test_fast_is_run_longer_until_it_is_as_good_as_the_papers_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def timed(phi: object, x0: object, solver: str, iterations: int | None, **more: object) -> dict[str, Any]:
        paper = solver == "paper"
        return {
            "seconds": 40.0 if paper else iterations,
            "evaluations": iterations or 350,
            "energy": 5.0 if paper else 100.0 / (iterations or 1),
        }

    monkeypatch.setattr(wall, "timed", timed)
    photo: Any = None
    found = wall.race(None, photo, photo, (10, 20, 40), {}, loop=False, papers=None)
    assert [r["evaluations"] for r in found["fast"]] == [10, 20]
    assert found["reached"] and found["ratio"] == 2.0
    missed = wall.race(None, photo, photo, (10,), {}, loop=False, papers=None)
    assert missed["ratio"] is None
    assert "not reached on 1 of 2" in wall.rows("x", [found, missed])[-1]


def pause(problem: peer_tools.Problem, clock: peer_tools.Clock) -> Tensor:
    """A tool that gets to the photograph in five steps."""
    grey = torch.full_like(problem.levels(), 0.5)
    for k in range(6):
        image = grey + k / 5 * (problem.levels() - grey)
        time.sleep(0.02)
        clock.see(image)
    return image


def test_a_level_is_reached_from_above_by_an_error_and_from_below_by_an_activation() -> None:
    curve = [{"seconds": float(t), "quality": q} for t, q in enumerate((0.6, 0.4, 0.9, 0.2))]
    assert [peers.reached(curve, level, "invert") for level in (0.5, 0.3, 0.1)] == [1.0, 3.0, None]
    assert [peers.reached(curve, level, "maximize") for level in (0.5, 0.7, 1.0)] == [0.0, 2.0, None]


def broken(problem: peer_tools.Problem, clock: peer_tools.Clock) -> Tensor:
    raise AttributeError("module 'torch' has no attribute 'rfft'\nand more")


@pytest.fixture(scope="module")
def problem() -> peer_tools.Problem:
    return on_whole_levels(peers.problems(preimage.load_network("squeezenet1_1"), preimage.images.reference_images(), 0, 64)[0])


def on_whole_levels(problem: peer_tools.Problem) -> peer_tools.Problem:
    """Without what resizing left between the levels and beyond white, so that 8 bits hold the photograph."""
    levels = (problem.levels() * 255).round().clamp(0, 255)
    return replace(problem, photo=levels - problem.net.space.mean_colour)


def test_a_tool_that_inverts_reaches_each_level_in_turn_and_a_broken_one_gets_a_row(problem: peer_tools.Problem) -> None:
    found = {
        "good": [peers.measure(peer_tools.Tool("good", pause), problem, 5.0, 1.0)],
        "broken": [peers.measure(peer_tools.Tool("broken", broken), problem, 5.0, 1.0)],
    }
    curve = found["good"][0]["curve"]
    assert curve[-1]["quality"] == pytest.approx(0.0, abs=0.01)  # 8 bits of levels that are whole numbers
    assert curve[-1]["psnr"] > 50 and not found["good"][0]["cut"]
    times = [peers.reached(curve, level, "invert") for level in (0.5, 0.1)]
    assert times[0] is not None and times[1] is not None and times[0] <= times[1] <= found["good"][0]["seconds"]
    lines = peers.table(problem.name, "invert", found)
    assert lines[3].startswith("| broken | did not run: AttributeError: module 'torch' has no attribute 'rfft' |")
    assert len({line.count("|") for line in lines}) == 1


def test_everybody_is_given_the_same_layer(problem: peer_tools.Problem) -> None:
    for each in peers.problems(problem.net, preimage.images.reference_images(), 0, 64):
        wanted, x = each.phi(each.photo), each.levels()
        model = each.model()
        kept: list[Tensor] = []
        model.network.get_submodule(each.dotted).register_forward_hook(lambda module, given, output, kept=kept: kept.append(output))
        model(x)
        for features in (each.truncated()(x), kept[0]):
            assert float((features.reshape(wanted.shape) - wanted).norm()) < 1e-4 * float(wanted.norm())
    for case in ("fire4", "fire9"):
        phi, part = wall.network(case, 64, "cpu")
        with torch.no_grad():
            alone, wanted = part(phi.space.to_network(problem.photo)), phi(problem.photo)
        assert float((alone - wanted).norm()) < 1e-4 * float(wanted.norm())


def test_activation_is_judged_on_the_picture_at_the_networks_size(problem: peer_tools.Problem) -> None:
    channel = replace(on_whole_levels(peers.problems(problem.net, preimage.images.reference_images(), 0, 64)[2]), unit=30)
    largest = peers.largest_of(channel, preimage.images.reference_images())
    first = peers.judge(channel, channel.levels(), largest)["quality"]
    phi = channel.net.layer("fire6")
    assert first == pytest.approx(float(phi(channel.photo)[:, channel.unit].mean()) / largest, rel=1e-4)
    larger = torch.nn.functional.interpolate(channel.levels(), scale_factor=2, mode="nearest")
    assert peers.judge(channel, larger, largest)["quality"] == pytest.approx(first, rel=0.1)  # a little softer


def test_the_clock_lets_a_tool_end_its_own_run_and_ends_one_that_never_ends() -> None:
    own = peer_tools.Clock(0.05, own=3, every=0.0)
    own.start()
    time.sleep(0.06)
    for _ in range(3):
        own.see(torch.zeros(1, 3, 2, 2))
    with pytest.raises(peer_tools.TimeUp):
        own.see(torch.zeros(1, 3, 2, 2))
    assert [n for _, n, _ in own.seen] == [0, 1, 2, 3] and not own.cut
    endless = peer_tools.Clock(0.01, own=peer_tools.ENDLESS)
    endless.start()
    time.sleep(0.04)
    with pytest.raises(peer_tools.TimeUp):
        copy.deepcopy(endless).see(torch.zeros(1, 3, 2, 2))
    assert endless.cut and len(endless.seen) == 1


@pytest.mark.slow
def test_peers_that_are_not_installed_are_named_and_the_others_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["preimage", "the paper's loop, plain PyTorch", "plain Adam on pixels", "captum"]
    files = {kind: tmp_path / f"peers.{kind}" for kind in ("json", "plot.png", "pictures.png")}
    given = [f"--{kind.partition('.')[0]}={path}" for kind, path in files.items()]
    peers.main(["--smoke", "--only", *names, *given])
    record = json.loads(files["json"].read_text())
    assert [p["task"] for p in record["problems"].values()] == ["invert", "maximize", "maximize"]
    for panel in record["problems"].values():
        assert list(panel["tools"]) == names
        assert all("curve" in panel["tools"][name][0] for name in names[:3])
        assert "did not run" in panel["tools"]["captum"][0]
    assert "did not run" in capsys.readouterr().out
    assert all(path.stat().st_size > 1000 for path in files.values())


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


def test_scaling_is_the_ratio_within_a_round_and_alternates(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = iter([10.0, 19.0, 22.0, 11.0])  # 1, 2 workers; then in the opposite order

    def measured(backend: str, workers: int, jobs: int, iterations: int) -> dict[str, float]:
        assert (backend, jobs, iterations) == ("local", 3, 1)
        return {"a minute": next(speeds), "seconds": 1.0, "keeping": 0.01 * workers}

    monkeypatch.setattr(scaling, "measure", measured)
    lines: list[str] = []
    found = scaling.scaling(["local"], 2, 60.0, 3, 1, lines.append)["local"]
    assert found["rounds"] == {"1": [10.0, 11.0], "2": [19.0, 22.0]} and found["ratio"][1] == pytest.approx(1.95)
    assert [line.split(":")[1] for line in lines] == [f" local, {n} workers" for n in (1, 2, 2, 1)]
    assert found["seconds to keep one"] == {"1": 0.01, "2": 0.02}
    assert scaling.table({"local": found}).splitlines()[-1].startswith("| local | 10.5 [10.2, 10.8] | 20.5 [19.8, 21.2] | 1.95")


@pytest.mark.slow
def test_scaling_measures_real_processes() -> None:
    found = scaling.measure("local", 1, 6, 5)
    assert found["a minute"] > 0 and 0 < found["keeping"] < 1 and found["seconds"] > 0


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


def test_the_table_of_closed_units_counts_each_unit_once(tmp_path) -> None:
    """One that is well, one that was found again from another start, one that closed, and one without a result."""
    store = Store.open(tmp_path / "store")
    wanted = closed.jobs("fire5", 4)
    assert [(j.layer, j.unit, j.C, j.solver, j.iterations, j.Z) for j in wanted[:1]] == [("fire5", 0, 1e4, "fast", None, None)]
    images = torch.zeros(1, 3, 8, 8)
    for job, status, again in zip(wanted, ("ok", "ok", "the unit has closed."), ({}, {"0": "noise 1"}, {}), strict=False):
        trace = {"total": torch.zeros(2, 1)}
        config = {"opened": [0] if again else [], "reopened": again}
        result = Result("maximize", images, None, torch.ones(1), {"total": torch.zeros(1)}, trace, 2, ["a"], [0], [status], config)
        store.save(job, result, {"ok": float(status == "ok")}, 1.0)
    store.fail(wanted[3], "no image was found")
    row = closed.count(store, "fire5", 4)
    assert {k: row[k] for k in ("done", "ok", "opened", "reopened", "failed")} == {
        "done": 4, "ok": 2, "opened": 1, "reopened": 1, "failed": 2,
    }  # fmt: skip
    assert row["which"] == [{"unit": 2, "status": "the unit has closed."}, {"unit": 3, "status": "no image was found"}]
    assert closed.table([row], 4).splitlines()[1].split() == ["fire5", "4", "2", "1", "1", "2", "2,", "3"]
    assert closed.count(store, "fire5", 4, "preimage2026-units")["done"] == 0  # another recipe's units are others
