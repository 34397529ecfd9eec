"""The benchmark of recognition: its classes are fixed, what is kept is not made again, and a tool that fails has a row."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks import ablation, recognition
from benchmarks.peer_tools import Clock, NoSuchTask, Problem, Tool
from torch import Tensor

import preimage


@pytest.fixture(scope="module")
def maker() -> preimage.Network:
    """The network with random weights: the trained one may judge what it made."""
    return preimage.load_network("squeezenet1_1", weights=None)


def painter(calls: list[str], level: float = 0.5) -> Tool:
    """A tool that paints every picture grey in three steps."""

    def run(problem: Problem, clock: Clock) -> Tensor | None:
        calls.append(problem.name)
        while True:
            clock.see(torch.full((1, 3, 32, 40), level))

    return Tool("painter, grey", run, own=3)


def test_the_reported_classes_are_fixed_and_none_of_those_that_may_be_tuned_on() -> None:
    found = recognition.report_classes()
    assert len(set(found)) == 100 and min(found) >= 100 and max(found) < 1000
    assert found[:3] == [761, 740, 334] and recognition.report_classes(7) == found[:7]
    random.seed(1)
    assert recognition.report_classes() == found


def test_the_recipe_for_channels_is_asked_for_classes_alone() -> None:
    names = {task: [t.name for t in recognition.contestants(task)] for task in recognition.TASKS}
    assert [task for task, found in names.items() if "preimage, recipe preimage2026-units" in found] == ["class"]


def test_each_photograph_has_its_label(photographs: list[Path]) -> None:
    chosen = recognition.cases("invert")
    assert [c.photo for c in chosen] == [str(p) for p in sorted(photographs, key=lambda p: int(p.stem.split("_")[1]))]
    assert all(Path(c.photo or "").stem.endswith(f"_{c.label}") and 0 <= c.label < 1000 for c in chosen)
    assert len(chosen) == 20


def test_a_tool_ends_at_its_own_steps_and_what_is_kept_is_not_made_again(maker: preimage.Network, tmp_path: Path) -> None:
    calls: list[str] = []
    case = recognition.cases("class", 1)[0]
    first = recognition.make(painter(calls), case, maker, tmp_path)
    again = recognition.make(painter(calls, level=0.9), case, maker, tmp_path)
    assert calls == ["class-761"]
    assert first["evaluations"] == again["evaluations"] == 3
    assert first["picture"].shape == (32, 40, 3) and (first["picture"] == again["picture"]).all() and first["picture"].max() == 128


def test_a_loop_without_a_number_of_its_own_takes_the_papers(
    maker: preimage.Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognition, "PLAIN_STEPS", 5)
    endless = Tool("endless", painter([]).run, own=None)
    assert recognition.make(endless, recognition.cases("class", 1)[0], maker, tmp_path)["evaluations"] == 5


@pytest.mark.parametrize(("error", "said"), [(NoSuchTask("it has none"), "it has none"), (ValueError("bad\nvery"), "ValueError: bad")])
def test_a_tool_that_does_not_run_has_a_row_that_says_why_and_is_tried_again(
    maker: preimage.Network, net: preimage.Network, tmp_path: Path, error: Exception, said: str
) -> None:
    def run(problem: Problem, clock: Clock) -> None:
        raise error

    row, made = recognition.row_of(Tool("broken", run), recognition.cases("class", 2), maker, {"squeezenet1_1": net}, tmp_path)
    assert (row, made) == ({"did not run": said}, [])
    lines = list(recognition.table("class", "a net", {"broken": row}, ["squeezenet1_1"]))
    assert said in lines[2] and len({line.count("|") for line in lines}) == 1
    assert not list(tmp_path.rglob("*.npy"))


@pytest.mark.parametrize("task", ["class", "invert"])
def test_a_row_has_what_the_judge_says_and_of_photographs_what_came_back(
    maker: preimage.Network, net: preimage.Network, tmp_path: Path, task: str
) -> None:
    def copies(problem: Problem, clock: Clock) -> Tensor:
        return problem.levels() if problem.task == "invert" else torch.full((1, 3, 32, 32), 0.5)

    chosen = recognition.cases(task, 2)
    row, made = recognition.row_of(Tool("copies", copies), chosen, maker, {"squeezenet1_1": net}, tmp_path)
    assert json.dumps(row)
    lines = list(recognition.table(task, "a net", {"copies": row}, ["squeezenet1_1"]))
    assert len({line.count("|") for line in lines}) == 1
    assert row["judges"]["squeezenet1_1"]["recognised"]["top1"]["trials"] == 2
    assert ("features" in row) == (task == "invert")
    if task == "invert":  # what is given back as it was
        assert row["judges"]["squeezenet1_1"]["found"]["found"]["hits"] == 2
        assert max(row["features"]["error"]) < 0.05 and min(row["features"]["psnr"]) > 50
    recognition.sheet({"copies": made}, chosen, net, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_the_network_that_made_the_pictures_may_not_judge_them(net: preimage.Network, tmp_path: Path) -> None:
    with pytest.raises(preimage.errors.InputError, match="another judge"):
        recognition.row_of(painter([]), recognition.cases("class", 1), net, {"squeezenet1_1": net}, tmp_path)


def test_the_program_runs_ours_prints_a_table_and_writes_a_record(
    net: preimage.Network, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = preimage.load_network
    monkeypatch.setattr(preimage, "load_network", lambda name: trained("squeezenet1_1", None if name == "squeezenet1_1" else "default"))
    threads = torch.get_num_threads()
    try:
        recognition.main(["--smoke", "--threads", "1", "--tasks", "invert", "--json", str(tmp_path / "record.json")])
    finally:
        torch.set_num_threads(threads)
    record: dict[str, Any] = json.loads((tmp_path / "record.json").read_text())
    assert list(record["tasks"]["invert"]["tools"]) == ["preimage"]
    assert any(line.startswith("| preimage | 2 |") for line in capsys.readouterr().out.splitlines())


def test_the_ablation_prints_a_table_a_set_and_writes_a_record(
    net: preimage.Network, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = preimage.load_network
    monkeypatch.setattr(preimage, "load_network", lambda name: trained("squeezenet1_1", None if name == "squeezenet1_1" else "default"))
    monkeypatch.setattr(ablation, "variants", lambda name: [painter([])])
    threads = torch.get_num_threads()
    try:
        ablation.main(["--smoke", "--threads", "1", "--sets", "quality", "parts", "--json", str(tmp_path / "record.json")])
    finally:
        torch.set_num_threads(threads)
    record: dict[str, Any] = json.loads((tmp_path / "record.json").read_text())
    assert list(record["sets"]) == ["quality", "parts"]
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("| quality, squeezenet1_1 |", "| parts, squeezenet1_1 |")) for line in lines) == 2


def test_what_is_chosen_is_chosen_on_classes_that_are_not_reported() -> None:
    assert not set(ablation.tuning_classes(100)) & set(recognition.report_classes())
    assert ablation.tuning_classes(4) == ablation.tuning_classes(9)[:4]


def test_views_are_compared_at_equal_evaluations_and_every_variant_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(ablation, "ours", lambda **more: asked.append(more))
    names = [tool.name for name in ablation.SETS for tool in ablation.variants(name)]
    assert len(names) == len(set(names)) == len(asked)
    views = [(a["transform"].views, a["iterations"]) for a in asked if "iterations" in a]
    assert [n for n, _ in views] == [1, 2, 4, 8, 16] and all(abs(n * steps - 150) <= n / 2 for n, steps in views)
    assert [a["quality"] for a in asked if "quality" in a] == ["draft", "normal", "best"]
