"""A report with a judge: ranks by a network that made none of the pictures, kept in the store and shown beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.networks.network import weights_hash
from preimage.report import judge_store
from preimage.studies.jobs import Job
from preimage.studies.store import Store

from .report_store import _result

JUDGE = "rank by squeezenet1_1"


@pytest.fixture
def store(tmp_path) -> Store:
    return build(tmp_path / "store", "0" * 64)


def build(path: Path, weights: str) -> Store:
    """Two class images, one under another name, a unit that is no class, and an inversion, which is the photograph itself."""
    found = Store.open(path)
    photo = torch.from_numpy(preimage.images.read_image(next(p for p in preimage.images.reference_images() if "chelsea" in p)))
    x = photo.permute(2, 0, 1)[None].float()
    sha = found.add_input(x - 110, x)
    cat, frog = _result("invert", 48, 0.2), _result("maximize", 48)
    common = {"experiment": "e", "network": "resnet", "C": 1.0}
    for name, unit, of_classes in (("tree frog (31)", 31, True), ("a number three (3)", 3, True), (None, 7, False)):
        job = Job(task="maximize", layer="fc", unit=unit, name=name, **common)
        found.save(job, replace(frog, config={"of_classes": of_classes, "weights_sha256": weights}), {"activation": 3.0}, 1.0)
    same = replace(cat, images=x, config={"weights_sha256": weights})
    found.save(Job(task="invert", layer="conv", original=sha, image="cat", **common), same, {"error": 0.2}, 1.0)
    return found


def test_a_judge_ranks_classes_and_photographs_once_and_says_what_it_left_out(store, net, monkeypatch):
    judged = judge_store(store, net)
    assert judged.photographs == [1], "the photograph itself shows the class that is first for it"
    assert len(judged.classes) == 1 and 1 <= judged.classes[0] <= 1000
    assert judged.left_out == {
        "units that are no class": 1,
        "classes that squeezenet1_1 does not have under the same name and number": 1,
    }
    ranks = [r.metrics[JUDGE] for r in store.records() if JUDGE in r.metrics]
    assert sorted(ranks) == sorted([1.0, float(judged.classes[0])])
    monkeypatch.setattr("preimage.report.judged.recognition", lambda *args, **more: pytest.fail("asked again"))
    assert judge_store(store, net) == judged


def test_a_network_does_not_judge_what_it_made_itself(net, tmp_path):
    judged = judge_store(build(tmp_path / "own", weights_hash(net.module)), net)
    assert judged.classes == judged.photographs == []
    assert [n for why, n in judged.left_out.items() if "made these images" in why] == [2]


def test_the_page_says_the_rank_beside_the_picture(store, tmp_path):
    done = CliRunner().invoke(app, ["report", str(store.path), "--judge", "squeezenet1_1", "-o", str(tmp_path / "page.html"), "-q"])
    assert done.exit_code == 0, done.output
    assert (
        "squeezenet1_1 puts the photograph's first class first for 1.00" in done.output
        and "Not judged: 1, units that are no" in done.output
    )
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "20.0%, squeezenet1_1: rank 1" in page
    assert "rank by squeezenet1_1" in page  # the number, in the table of all results
