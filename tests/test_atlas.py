"""The atlas: many units of many layers in one store, each as if maximized alone, and nothing done twice."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.errors import InputError, UnknownName
from preimage.experiments.atlas import EVALUATIONS, atlas
from preimage.experiments.base import ChosenParts, Found, Study
from preimage.methods.recipe import TASKS, recipe_named
from preimage.studies.jobs import Job
from preimage.studies.store import Store
from preimage.tasks.units import estimated_largest

UNITS = {"conv1": 3, "pool10": 3}


def command(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three units of two layers in two restarts, and one photograph by the same layers, with two evaluations each."""
    out = tmp_path_factory.mktemp("atlas") / "store"
    photo = next(p for p in preimage.images.reference_images() if "chelsea" in p)
    done = command("atlas", "squeezenet1_1", photo, *OPTIONS, "--restarts", 2, "-o", out)
    assert done.exit_code == 0, done.output
    assert "16 jobs done" in done.output
    return out


OPTIONS = ("--layers", "conv1,pool10", "--units", 3, "--iterations", 2, "--workers", 1, "-q")


@pytest.fixture
def study(tmp_path):
    return Study(Store.open(tmp_path / "s"), layers=["conv1"], iterations=2)


def test_every_layer_has_its_units_and_every_photograph_its_inversion_and_caricature(folder):
    store = Store.open(folder, create=False)
    for layer, count in UNITS.items():
        rows = store.records(experiment=f"atlas-{layer}", status="done")
        assert [(r.config["unit"], r.config["restart"]) for r in sorted(rows, key=lambda r: (r.config["unit"], r.config["restart"]))] == [
            (k, r) for k in range(count) for r in range(2)
        ]
        summary = json.loads((folder / "summary" / f"atlas-{layer}" / "summary.json").read_text())
        divided = layer == "conv1"  # classes are made by a recipe whose formula has no divisor
        assert ("Z" in summary["columns"], "divided" in summary["caption"]) == (divided, divided)
        assert len(summary["rows"]) == 2 * count and (folder / "summary" / f"atlas-{layer}" / summary["figures"][0]).is_file()
    assert {(r.experiment, r.config["layer"]) for r in store.records() if r.config["task"] != "maximize"} == {
        (task, layer) for task in ("inversion", "caricature") for layer in UNITS
    }


def test_an_image_of_the_atlas_is_that_of_maximize(folder, net):
    store = Store.open(folder, create=False)
    for layer in UNITS:
        (record,) = store.records(experiment=f"atlas-{layer}", unit=2, restart=1)
        Z = record.config["Z"] if layer == "conv1" else None  # of a class by the recipe that it has by itself
        alone = preimage.maximize(net.layer(layer), [2], restarts=2, Z=Z, iterations=2, progress=False)
        assert torch.equal(store.result(record.key).images[0], alone.images[1])
        assert record.config.get("recipe") == (None if layer == "conv1" else "preimage2026")


def test_a_recipe_and_parts_take_the_place_of_the_atlas_s_own(tmp_path):
    parts = ChosenParts("mahendran2016", transform=("jitter:amount=3",))
    study = Study(Store.open(tmp_path / "s"), preimage.images.reference_images()[:1], layers=["pool10"], parts=parts)
    chosen, found = atlas(study, "1")
    jobs = {job.task: job for experiment in found.values() for job in experiment.jobs(chosen)}
    assert {(j.recipe, j.transform, j.iterations) for j in jobs.values()} == {("mahendran2016", ("jitter:amount=3",), None)}
    wanted = recipe_named("mahendran2016")
    assert {task: job.C for task, job in jobs.items()} == {task: wanted.parts(task).C for task in TASKS}
    plain = [e.jobs(replace(chosen, parts=ChosenParts())) for e in found.values()]
    assert not {j.key for jobs in plain for j in jobs} & {j.key for j in jobs.values()}


def test_a_recipe_of_another_task_or_of_no_name_is_refused_before_anything_runs(tmp_path):
    study = Study(Store.open(tmp_path / "s"), preimage.images.reference_images()[:1], layers=["pool10"], parts=ChosenParts("simonyan2014"))
    with pytest.raises(InputError, match="is for maximize, not for invert"):
        atlas(study, "1")
    done = command("atlas", "squeezenet1_1", *OPTIONS, "--recipe", "simonian2014", "-o", tmp_path / "t")
    assert done.exit_code == 2 and "simonyan2014" in done.output and not (tmp_path / "t").exists()
    with pytest.raises(InputError, match="recipe by name"):
        Job(experiment="e", task="maximize", unit=1, C=1.0, network="n", recipe="own.json")


def test_the_divisor_is_the_unit_s_largest_answer_times_the_area_of_what_it_sees(study, net):
    jobs = atlas(study, "2")[1]["atlas-conv1"].jobs(study)
    M, _ = estimated_largest(net.layer("conv1"), [(0,), (1,)], (25, 25), torch.empty(0))
    assert [job.Z for job in jobs] == pytest.approx([m * 3**2 for m in M], rel=1e-5)


def test_the_same_command_goes_on_and_more_units_cost_only_themselves(folder, tmp_path):
    folder = shutil.copytree(folder, tmp_path / "store")  # the others count what is in theirs
    again = command("atlas", "squeezenet1_1", *OPTIONS, "--restarts", 2, "-o", folder)
    assert again.exit_code == 0 and "0 jobs done, 12 were there already" in again.output
    more = command("atlas", "squeezenet1_1", "--layers", "conv1", "--units", 4, *OPTIONS[4:], "-o", folder)
    assert more.exit_code == 0 and "1 jobs done" in more.output and "3 were there already" in more.output


def test_the_numbers_list_every_unit_that_the_page_shows(folder, tmp_path, net):
    folder = shutil.copytree(folder, tmp_path / "store")
    statistics = tmp_path / "s.safetensors"
    preimage.collect_statistics(net, preimage.images.reference_images(), statistics, layers=["conv1"], progress=False)
    more = command("atlas", "squeezenet1_1", "--layers", "conv1", "--units", "top:2", "--stats", statistics, *OPTIONS[4:], "-o", folder)
    assert more.exit_code == 0, more.output
    rows = json.loads((folder / "summary" / "atlas-conv1" / "table.json").read_text())
    shown = Store.open(folder, create=False).records(experiment="atlas-conv1", status="done")
    assert len(rows) == len(shown) == 3 * 2 + 2
    assert sorted(r["unit"] for r in rows) == sorted(r.config["unit"] for r in shown)


def test_classes_are_called_by_name_and_other_units_by_number(folder):
    store = Store.open(folder, create=False)
    assert store.records(experiment="atlas-pool10", unit=1)[0].config["name"] == "goldfish (1)"
    assert "name" not in store.records(experiment="atlas-conv1", unit=1)[0].config


def test_the_page_shows_the_atlas_by_layer_with_class_names(folder):
    done = command("report", folder)
    assert done.exit_code == 0, done.output
    page = (folder / "report.html").read_text()
    assert all(text in page for text in ("Atlas of conv1", "Atlas of pool10", "goldfish (1)", "unit 1"))


def test_top_units_are_those_of_the_largest_recorded_answers(study, tmp_path, net):
    stats = preimage.collect_statistics(
        net, preimage.images.reference_images(), tmp_path / "s.safetensors", layers=["conv1"], progress=False
    )
    path = str(tmp_path / "s.safetensors")
    jobs = atlas(study, "top:5", stats=path)[1]["atlas-conv1"].jobs(study)
    largest = stats["conv1"].max
    assert [job.unit for job in jobs] == largest.sort(descending=True, stable=True).indices[:5].tolist()
    top = jobs[0].Z
    assert top == pytest.approx(largest.max().item() * 3**2, rel=1e-5)
    assert len(atlas(study, "top", stats=path)[1]["atlas-conv1"].jobs(study)) == 25


def test_all_units_are_as_many_as_there_are(study):
    (one,) = atlas(study, "all")[1].values()
    assert [job.unit for job in one.jobs(study)] == list(range(64))
    (few,) = atlas(study, "1000")[1].values()
    assert len(few.jobs(study)) == 64


def test_without_layers_it_takes_those_that_compute_something(tmp_path):
    chosen, found = atlas(Study(Store.open(tmp_path / "s")), "1")
    assert chosen.layers == ["conv1", *[f"fire{k}" for k in range(2, 10)], "conv10"]
    assert list(found) == [f"atlas-{name}" for name in chosen.layers]
    assert found["atlas-conv1"].jobs(chosen)[0].iterations == EVALUATIONS


def test_a_failed_unit_is_listed_at_the_end_and_the_others_are_kept(tmp_path, monkeypatch):
    from preimage.studies import jobs

    plain = jobs.maximize

    def failing(phi, units, **more):
        if units == [1]:
            raise RuntimeError("no memory left")
        return plain(phi, units, **more)

    monkeypatch.setattr(jobs, "maximize", failing)
    done = command("atlas", "squeezenet1_1", "--layers", "conv1", "--units", 3, *OPTIONS[4:], "-o", tmp_path / "s")
    assert done.exit_code == 1 and "2 jobs done" in done.output
    assert "atlas-conv1 conv1 unit 1" in done.output and "no memory left" in done.output.splitlines()[-1]


@pytest.mark.parametrize("units", ["0", "-1", "some", "top:0", "top:x", "²", ""])
def test_units_that_cannot_be_read_are_refused(study, units):
    with pytest.raises(InputError, match="--units"):
        atlas(study, units, stats="there.safetensors")


def test_top_without_statistics_and_unknown_layers_are_refused(study, tmp_path):
    with pytest.raises(InputError, match="preimage statistics"):
        atlas(study, "top")
    with pytest.raises(InputError, match="restarts"):
        atlas(study, "all", restarts=0)
    with pytest.raises(UnknownName, match="conv10"):
        atlas(Study(study.store, layers=["conv11"]), "all")
    assert command("atlas", "squeezenet1_1", "--units", "many", "-o", tmp_path / "a").exit_code == 2


def test_a_unit_without_an_image_is_named_with_its_reason():
    """A reader of the page has no result.json at hand."""
    found = Found(SimpleNamespace(records=lambda status: []), [])
    reasons = {"a": "the unit is closed", "b": "ok", "c": "the unit is closed", "d": "NaN after 3 evaluations"}
    found.store = SimpleNamespace(result=lambda key: SimpleNamespace(status=[reasons[key]]))
    found.pairs = [
        (None, SimpleNamespace(key=key, config={"unit": k}, metrics={"ok": float(reason == "ok")}))
        for k, (key, reason) in enumerate(reasons.items())
    ]
    assert found.without_image(lambda r: f"unit {r.config['unit']}") == [
        "No image was found for unit 0, unit 2, which stay grey: the unit is closed",
        "No image was found for unit 3, which stay grey: NaN after 3 evaluations",
    ]
