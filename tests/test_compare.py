"""`preimage compare`: many methods on the same unit or photograph, one store, one page, in which nothing is left unsaid."""

from __future__ import annotations

import json

import jsonschema
import pytest
from typer.testing import CliRunner

from preimage.cli import app
from preimage.errors import InputError, PreimageError
from preimage.experiments.methods import compare
from preimage.pixels.images import reference_images
from preimage.report.methods_page import write_methods
from preimage.schemas import schema

QUICK = {"layer": "fire2", "judge": None, "smoke": True, "progress": False}


@pytest.fixture(scope="module")
def unit(tmp_path_factory):
    """One unit by three methods that are for it and one that is not, from two seeds."""
    names = ["mahendran2016", "szegedy2014", "simonyan2014", "deepdream2015"]
    return compare([3], recipes=names, out=tmp_path_factory.mktemp("unit"), seeds=2, **QUICK)


def test_each_method_has_a_row_and_an_image_for_each_seed(unit):
    assert [row["method"] for row in unit.rows] == ["mahendran2016", "szegedy2014", "simonyan2014"]
    assert [e.seed for e in unit.entries] == [0, 1] * 3
    for row in unit.rows:
        assert row["images"] == 2 and row["evaluations"] >= 2 and row["seconds"] > 0 and 0 <= row["out of range"] <= 1
    a, b = (e.image for e in unit.entries[:2])
    assert unit.rows[0]["spread"] == pytest.approx((a - b).square().mean().sqrt().item(), rel=1e-5)
    assert unit.rows[0]["activation"] == pytest.approx(sum(e.record.metrics["activation"] for e in unit.entries[:2]) / 2)


def test_what_is_not_for_the_task_and_what_others_begin_with_is_said(unit):
    assert "Not for maximize, and left out: deepdream2015." in unit.notes
    assert any("2 iterations alone" in note for note in unit.notes)
    assert any("chelsea.jpg" in note and "szegedy2014" in note for note in unit.notes)
    changed = next(e for e in unit.entries if e.recipe == "szegedy2014")
    assert changed.record.config["original"].startswith("inputs/")


def test_another_number_of_iterations_than_the_methods_own_is_said(tmp_path):
    short = compare([3], recipes=["mahendran2016"], out=tmp_path, iterations=1, **(QUICK | {"smoke": False}))
    assert "Every method ran for 1 iterations, in place of its own number." in short.notes


def test_the_page_needs_no_other_file_and_names_every_method_with_its_source(unit):
    text = write_methods(unit).read_text()
    assert text.count("data:image/png;base64") == 7 and "http" not in text.partition("</style>")[2].partition("<script>")[0]
    for said in ("mahendran2016", "IJCV", "Not for maximize", "root mean square difference", "seed 1"):
        assert said in text


def test_the_page_begins_with_the_method_that_goes_furthest(unit):
    best = max((r for r in unit.rows if r.get("activation") is not None), key=lambda r: r["activation"])
    head = write_methods(unit).read_text().partition('<p class="lead">')[2].partition("</p>")[0]
    assert head.startswith(f"{best['method']} excites {best['subject']} most ({best['activation']:.3g}).")


def test_the_same_folder_goes_on_where_it_stopped(unit):
    again = compare([3], recipes=["mahendran2016"], out=unit.store, seeds=2, **QUICK)
    assert [e.record.created for e in again.entries] == [e.record.created for e in unit.entries[:2]]


def test_two_checkpoints_and_a_photograph_stand_side_by_side_and_the_judge_does_not_judge_itself(tmp_path):
    options = QUICK | {"judge": "squeezenet1_1", "layer": "pool1"}
    photo = [reference_images()[0]]
    found = compare(images=photo, recipes=["mahendran2016", "erhan2009"], weights=["default", "none"], out=tmp_path, **options)
    assert [(r["method"], r["network"]) for r in found.rows] == [
        ("mahendran2016", "squeezenet1_1"),
        ("mahendran2016", "squeezenet1_1 none"),
    ]
    assert all(row["error"] > 0 for row in found.rows) and "similarity" not in found.rows[0] and "similarity" in found.rows[1]
    assert any("Not judged" in note and "network recognises what was made on itself" in note for note in found.notes)
    assert next(iter(found.originals.values())).shape == (1, 3, 227, 227)


def test_a_network_of_another_kind_is_a_line_and_not_the_end_of_all(tmp_path, monkeypatch):
    from preimage.energy.parameterizations import Box

    def refuse(self, shape, space):
        raise InputError("no box today")

    monkeypatch.setattr(Box, "at", refuse)
    found = compare([3], recipes=["mahendran2016", "nguyen2015"], out=tmp_path, **QUICK)
    assert [row["method"] for row in found.rows] == ["mahendran2016"] and any("no box today" in note for note in found.notes)
    assert not found.failed  # a method that is not for this network does not make the run a failure
    with pytest.raises(PreimageError, match="no box today"):
        compare([3], recipes=["nguyen2015"], out=tmp_path / "alone", **QUICK)


def test_the_command_prints_the_numbers_and_where_the_page_is(tmp_path):
    given = ["--unit", "3", "--layer", "fire2", "--recipes", "erhan2009", "--smoke", "--judge", "none", "-o", str(tmp_path)]
    done = CliRunner().invoke(app, ["compare", *given, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    jsonschema.validate(found, schema("compare"))
    assert found["rows"][0]["method"] == "erhan2009" and found["page"].endswith("methods.html")
    plain = CliRunner().invoke(app, ["compare", *given, "-q"])
    assert "erhan2009" in plain.stdout and "Open the page: file:" in plain.stdout


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"units": [1], "images": ["a.png"]},
        {"units": [1], "task": "invert"},
        {"units": [1], "seeds": 0},
        {"units": [1], "recipes": ["mine.json"]},
        {"units": [1], "recipes": ["no-such-method"]},
        {"units": [1], "recipes": ["gatys2015"]},
    ],
)
def test_what_cannot_be_compared_is_refused_before_a_store_is_made(tmp_path, wrong):
    with pytest.raises((InputError, KeyError)):
        compare(out=tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()
