"""The benchmark runs and writes what it printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from benchmarks import shallow


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_the_benchmark_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str], threads: None) -> None:
    shallow.main(["--size", "64", "--repeats", "2", "--json", str(tmp_path / "times.json")])
    record = json.loads((tmp_path / "times.json").read_text())
    assert set(record["about"]) >= {"machine", "torch", "commit"}
    printed = capsys.readouterr().out
    for name, times in record["milliseconds"].items():
        assert name in printed
        assert 0 < times["lower"] <= times["median"] <= times["upper"]
    assert all(name in printed for name in record["ratios"])
