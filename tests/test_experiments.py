"""The experiments: every family runs, its numbers are those of the results, and each quirk does what it says."""

from __future__ import annotations

import csv
import inspect
import json
import statistics

import numpy as np
import PIL.Image
import pytest
import torch
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.errors import InputError, UnknownName
from preimage.experiments import known_experiments
from preimage.experiments.base import Found, Study, curve, interval
from preimage.experiments.classes import Classes
from preimage.experiments.figures import draw_mosaics
from preimage.experiments.neighbourhood import central_box
from preimage.experiments.neurons import Neurons
from preimage.experiments.restarts import Restarts
from preimage.experiments.spread import Spread
from preimage.experiments.study import choose_quirks, run_study
from preimage.pixels.images import reference_images
from preimage.representations.masks import central
from preimage.studies import jobs, runner
from preimage.studies.jobs import execute
from preimage.studies.store import Store

from . import letters

FAMILIES = list(known_experiments())
SMOKE = ("--smoke", "--iterations", 2, "--size", 64, "-q")  # small pictures: what is tried here does not depend on their size


def command(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`preimage paper all --smoke` with two iterations, once for all tests; `test_a_figure_is_whole…` sees to the fonts."""
    out = tmp_path_factory.mktemp("paper") / "store"
    with pytest.MonkeyPatch.context() as patch:
        letters.leave_out(patch)
        done = command("paper", "all", *SMOKE, "--workers", 1, "-o", out)
    assert done.exit_code == 0, done.output
    assert all(f"{name}: " in done.output for name in FAMILIES)
    return out


@pytest.fixture
def store(folder):
    return Store.open(folder, create=False)


@pytest.fixture
def study(tmp_path):
    return Study(Store.open(tmp_path / "s"), images=reference_images()[:1], layers=["conv1"], iterations=2)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_experiment_says_what_it_is(name):
    kind = known_experiments()[name]
    assert inspect.getdoc(kind).endswith(".") and kind.title and kind.caption.endswith(".")
    assert all(text.endswith(".") for text in kind.quirks.values())
    shown = command("paper", name, "--help")
    assert shown.exit_code == 0 and "--as-published" in shown.output


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_writes_a_table_and_figures_of_results_that_are_there(name, folder, store):
    out = folder / "summary" / name
    summary = json.loads((out / "summary.json").read_text())
    assert summary["rows"] and summary["figures"] and summary["keys"] and not summary["notes"]
    assert all(set(row) == set(summary["columns"]) for row in summary["rows"])
    assert json.loads((out / "table.json").read_text()) == summary["rows"]
    with (out / "table.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(summary["rows"])
    for figure in summary["figures"]:
        with PIL.Image.open(out / figure) as picture:
            assert picture.convert("L").getextrema()[0] < 200  # not blank
        assert (out / figure).with_suffix(".svg").stat().st_size > 1000
        assert (out / figure).with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    assert all(store.done(key) for key in summary["keys"])


def test_the_same_command_again_finds_everything_done(folder, store):
    before = len(store.records())
    done = command("paper", "inversion", *SMOKE, "-o", folder)
    assert done.exit_code == 0 and "0 jobs done" in done.output
    assert len(store.records()) == before


def test_the_error_curve_is_the_mean_of_the_inversions_with_its_interval(folder, store):
    summary = json.loads((folder / "summary" / "errors" / "summary.json").read_text())
    assert [c["label"] for c in summary["curves"]] == ["C=1", "C=20", "C=100", "C=300"]
    for c, strength in zip(summary["curves"], (1, 20, 100, 300), strict=True):
        for k, layer in enumerate(c["x_names"]):
            phi = preimage.load_network("squeezenet1_1").layer(layer)
            errors = []
            for record in store.records(experiment="inversion", layer=layer, C=strength):
                result = store.result(record.key)
                ours, its = (phi(x - phi.space.mean_colour).numpy().astype(float) for x in (result.images, result.originals))
                errors.append(np.linalg.norm(ours - its) / np.linalg.norm(its))
            half = 1.96 * np.std(errors, ddof=1) / np.sqrt(len(errors))
            assert np.allclose([c["y"][k], c["low"][k], c["high"][k]], np.mean(errors) + np.array([0, -half, half]), rtol=1e-4)
            assert c["n"][k] == 2


def test_the_distance_curve_is_that_of_the_pictures_on_a_screen(folder, store):
    summary = json.loads((folder / "summary" / "pixel-errors" / "summary.json").read_text())
    for c, strength in zip(summary["curves"], (1, 20, 100, 300), strict=True):
        for k, layer in enumerate(c["x_names"]):
            results = [store.result(r.key) for r in store.records(experiment="inversion", layer=layer, C=strength)]
            apart = [(r.images.clamp(0, 255) - r.originals.clamp(0, 255)).numpy().astype(float) for r in results]
            assert c["y"][k] == pytest.approx(np.mean([np.sqrt(np.mean(d**2)) for d in apart]), rel=1e-4)


def test_consistency_asks_the_network_about_both_pictures(folder, store):
    net = preimage.load_network("squeezenet1_1")
    rows = json.loads((folder / "summary" / "consistency" / "table.json").read_text())
    for row in rows:
        found = [store.result(r.key) for r in store.records(experiment="inversion", layer=row["layer"], C=float(row["strength"][2:]))]
        same = [
            net.top(r.images - net.space.mean_colour, 1)[0][0][0] == net.top(r.originals - net.space.mean_colour, 1)[0][0][0] for r in found
        ]
        assert row["mean"] == statistics.fmean(same)


def test_an_interval_is_that_of_numpy_and_absent_for_one_value():
    values = np.random.default_rng(0).normal(size=9)
    mean, half = interval(values.tolist())
    assert np.allclose([mean, half], [values.mean(), 1.96 * values.std(ddof=1) / 3])
    assert np.isnan(interval([2.0])[1]) and np.isnan(interval([])[0])
    assert curve("c", ["a"], [[1.0, 3.0]])["low"] == [2.0 - 1.96 * 2**0.5 / 2**0.5]


@pytest.mark.parametrize("layer", ["conv1", "pool1", "fire2", "fire5"])
def test_the_box_is_where_the_central_features_have_a_gradient(layer):
    net = preimage.load_network("squeezenet1_1")
    phi = net.layer(layer)
    top, left, bottom, right = central_box(phi.info, 5)
    x = (torch.rand(8, 3, 227, 227, generator=torch.Generator().manual_seed(0)) * 255 - 128).requires_grad_()
    (gradient,) = torch.autograd.grad((phi(x) * central(5)(phi.shape)).abs().sum(), x)
    seen = gradient.abs().sum(dim=(0, 1)) > 0
    rows, columns = (torch.nonzero(seen.any(dim=d)).flatten() for d in (1, 0))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (top, bottom, left, right)


def test_a_figure_is_whole_with_a_white_edge_and_the_same_each_time(tmp_path):
    blue = torch.tensor([0.0, 0.0, 255.0]).view(1, 3, 1, 1).expand(4, 3, 40, 40)
    files = [f"a-layer.{kind}" for kind in ("png", "svg", "pdf")]
    assert draw_mosaics(tmp_path, "a/layer", [(f"layer {k}", blue) for k in range(3)]) == files[:1]
    before = [(tmp_path / name).read_bytes() for name in files]
    assert b"/FontFile2" in before[2]  # the letters are in the PDF, as TrueType, so that a printer has them
    with PIL.Image.open(tmp_path / files[0]) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    edges = [pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]
    assert all((edge > 200).all() for edge in edges)
    assert 0.4 < (pixels[..., 0] < 50).mean() < 0.98
    draw_mosaics(tmp_path, "a/layer", [(f"layer {k}", blue) for k in range(3)])
    assert [(tmp_path / name).read_bytes() for name in files] == before


def test_restarts_are_those_of_one_call_with_all_of_them(study):
    jobs = Restarts(C=(100.0,), restarts=3).jobs(study)
    x = study.store.input(jobs[0].original)
    together = preimage.invert(study.phi("conv1"), x, restarts=3, iterations=2, progress=False)
    for r, job in enumerate(jobs):
        alone = execute([job], [x])[0].result
        assert torch.equal(alone.images, together.images[r : r + 1])
        assert (alone.seeds, alone.error) == ([together.seeds[r]], together.error[r : r + 1])


def test_repeated_seeds_repeat_every_fourth_restart(study):
    keys = [j.key for j in Spread(C=(1.0,), restarts=6).jobs(study)]
    assert len(set(keys)) == 6
    study.quirks = frozenset({"repeated-seeds"})
    assert [j.key for j in Spread(C=(1.0,), restarts=6).jobs(study)] == [*keys[:4], *keys[:2]]


def test_the_control_is_the_loss_alone_in_pixels_and_its_roughness_a_curve_beside_the_others(folder, store):
    records = store.records(experiment="no-regularizer", layer="fire2")
    assert records and {(r.config["solver"], r.config["regularized"], r.config["jitter"]) for r in records} == {("paper", False, 1)}
    summary = json.loads((folder / "summary" / "roughness" / "summary.json").read_text())
    assert [c["label"] for c in summary["curves"]] == ["C=1", "C=100", "no regularizers"]
    control = summary["curves"][-1]
    expected = statistics.fmean(r.metrics["roughness"] for r in records)
    assert control["y"][control["x_names"].index("fire2")] == pytest.approx(expected)


def test_stretched_png_takes_the_numbers_of_the_stretched_picture(folder, store):
    command("paper", "naturalness", *SMOKE, "-o", folder, "--quirk", "stretched-png")
    summary = json.loads((folder / "summary" / "naturalness" / "summary.json").read_text())
    assert summary["notes"][0].startswith("As published: stretched-png.")
    row = next(r for r in summary["rows"] if (r["layer"], r["case"]) == ("fire2", "C=100"))
    values = []
    for record in store.records(experiment="inversion", layer="fire2", C=100):
        result = store.result(record.key)
        low, high = result.images.min(), result.images.max()
        levels = ((result.images - low) / (high - low) * 255).round()
        values.append(preimage.metrics.naturalness(levels, result.originals).item())
    assert row["mean"] == pytest.approx(statistics.fmean(values), abs=1e-6)
    plain = [r.metrics["naturalness"] for r in store.records(experiment="inversion", layer="fire2", C=100)]
    assert row["mean"] != pytest.approx(statistics.fmean(plain), abs=1e-6)
    command("paper", "naturalness", *SMOKE, "-o", folder)


def test_the_early_error_is_that_of_the_last_step_before_its_update(folder, store):
    command("paper", "errors", *SMOKE, "-o", folder, "--quirk", "early-error")
    rows = json.loads((folder / "summary" / "errors" / "table.json").read_text())
    records = store.records(experiment="inversion", layer="fire2", C=20)
    early = [(store.result(r.key).trace["loss"][-1, 0].item() / 20) ** 0.5 for r in records]
    row = next(r for r in rows if (r["layer"], r["strength"]) == ("fire2", "C=20"))
    assert row["mean"] == pytest.approx(statistics.fmean(early), rel=1e-5)
    assert row["mean"] != pytest.approx(statistics.fmean(r.metrics["error"] for r in records), rel=1e-4)
    command("paper", "errors", *SMOKE, "-o", folder)


def test_forgetting_the_mean_changes_what_a_caricature_exaggerates(study):
    from preimage.experiments.caricature import Caricatures

    plain = Caricatures(C=(1.0,), control=False).jobs(study)[0]
    study.quirks = frozenset({"no-mean"})
    forgot = Caricatures(C=(1.0,), control=False).jobs(study)[0]
    x = study.store.input(plain.original)
    phi = study.phi("conv1")
    expected = preimage.caricature(phi, x, C=1.0, seen=x + phi.space.mean_colour, iterations=2, progress=False)
    assert plain.key != forgot.key
    assert torch.equal(execute([forgot], [x])[0].result.images, expected.images)
    assert not torch.equal(execute([plain], [x])[0].result.images, expected.images)
    with pytest.raises(InputError, match="seen is one image for each"):
        preimage.caricature(phi, x, seen=torch.cat([x, x]), iterations=2, progress=False)


def test_one_weight_gives_all_units_that_of_the_last(study):
    study.quirks = frozenset({"one-weight"})
    weights = {job.Z for job in Neurons(units=5).jobs(study)}
    assert len(weights) == 1 and None not in weights
    study.quirks = frozenset()
    assert {job.Z for job in Neurons(units=5).jobs(study)} == {None}


def test_the_control_of_the_neurons_keeps_its_regularizers_only_as_published(study):
    control = [j for j in Neurons(units=1, control=True).jobs(study) if j.variant]
    assert [(j.regularized, j.jitter, j.leak) for j in control] == [(False, 1, 0.05)]
    study.quirks = frozenset({"keeps-regularizers"})
    control = [j for j in Neurons(units=1, control=True).jobs(study) if j.variant]
    assert [(j.regularized, j.jitter, j.leak) for j in control] == [(True, 1, 0.05)]


def test_both_readings_of_a_class_canvas(study):
    jobs = Classes(classes=("tree frog", "7"), reading="both").jobs(study)
    assert [(j.canvas, j.layer, j.name) for j in jobs[:3]] == [
        ("input", "pool10", "tree frog"),
        ("input", "pool10", "cock"),
        ("receptive-field", "relu_conv10", "tree frog"),
    ]
    outcome = execute([jobs[2]], [None])[0]
    assert outcome.result.images.shape[-1] > 227
    with pytest.raises(InputError, match="reading is one of"):
        Classes(reading="neither").jobs(study)
    with pytest.raises(UnknownName, match="class"):
        Classes(classes=("treefrog",)).jobs(study)


def test_quirks_are_listed_and_wrong_ones_refused(tmp_path):
    listed = json.loads(command("paper", "quirks", "--json").output)["quirks"]
    assert {"experiment": "caricature", "quirk": "no-mean"}.items() <= next(r for r in listed if r["quirk"] == "no-mean").items()
    done = command("paper", "errors", "--quirk", "stretched", "-o", tmp_path / "x", "--smoke")
    assert done.exit_code == 2 and "No quirk of this experiment named 'stretched'" in done.output
    kinds = [known_experiments()[n] for n in ("errors", "caricature")]
    assert choose_quirks(kinds, [], True) == {"squash", "early-error", "no-mean"}
    with pytest.raises(UnknownName):
        choose_quirks(kinds[:1], ["no-mean"], False)


def test_as_published_is_the_papers_solver_on_squashed_pictures(tmp_path):
    flags = ["--layers", "conv1", "--C", 5, "--iterations", 2, "-q", reference_images()[0], "-o", tmp_path / "s"]
    assert command("paper", "inversion", "--as-published", *flags).exit_code == 0
    (record,) = Store.open(tmp_path / "s").records()
    assert (record.config["solver"], record.config["fit"], record.config["C"]) == ("paper", "squash", 5.0)


def test_a_study_can_be_computed_in_bfloat16_but_not_decide_that_by_a_trial(tmp_path):
    flags = ["--layers", "conv1", "--C", 5, "--iterations", 2, "-q", reference_images()[0], "-o", tmp_path / "s"]
    assert (
        command("paper", "inversion", *flags).exit_code == command("paper", "inversion", "--precision", "bfloat16", *flags).exit_code == 0
    )
    store = Store.open(tmp_path / "s")
    exact, rounded = sorted((store.result(r.key) for r in store.records()), key=lambda r: r.config["precision"], reverse=True)
    assert (exact.config["precision"], rounded.config["precision"]) == ("float32", "bfloat16")
    assert not torch.equal(exact.images, rounded.images)
    done = command("paper", "inversion", "--precision", "auto", *flags)
    assert done.exit_code == 2 and "precision is float32 or bfloat16" in done.output


def test_a_failed_job_ends_in_exit_code_1_and_is_missing_from_the_summary(tmp_path, monkeypatch):
    def broken(jobs, inputs):
        outcomes = execute(jobs, inputs)
        return [runner.Outcome(reason="MemoryError: no memory") if j.C == 20 else o for j, o in zip(jobs, outcomes, strict=True)]

    monkeypatch.setattr(runner, "execute", broken)
    flags = ["--layers", "conv1", "--iterations", 1, "-q", reference_images()[0], "-o", tmp_path / "s"]
    done = command("paper", "inversion", *flags)
    assert done.exit_code == 1
    assert "error: inversion conv1 astronaut C=20: MemoryError: no memory" in done.output
    summary = json.loads((tmp_path / "s" / "summary" / "inversion" / "summary.json").read_text())
    assert (len(summary["rows"]), summary["notes"]) == (
        3,
        ["1 of its jobs failed and are missing here: inversion conv1 astronaut C=20: MemoryError: no memory"],
    )
    monkeypatch.undo()
    assert command("paper", "inversion", *flags).exit_code == 0
    assert len(json.loads((tmp_path / "s" / "summary" / "inversion" / "table.json").read_text())) == 4


def test_a_broken_photograph_is_left_out_and_named_and_the_others_go_on(tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    flags = ["--layers", "conv1", "--C", 5, "--iterations", 1, "-q"]
    done = command("paper", "inversion", *flags, broken, reference_images()[0], "-o", tmp_path / "s")
    assert done.exit_code == 1 and "broken.jpg' is not an image" in done.output and "It was left out." in done.output
    (record,) = Store.open(tmp_path / "s").records()
    assert (record.status, record.config["image"]) == ("done", "astronaut")
    summary = json.loads((tmp_path / "s" / "summary" / "inversion" / "summary.json").read_text())
    assert summary["notes"] == ["Could not be read and missing here: 1 photograph."]
    done = command("paper", "inversion", *flags, broken, "-o", tmp_path / "t")
    assert done.exit_code == 2 and "None of the 1 images could be read; the first: " in done.output


def test_ctrl_c_ends_with_130_and_a_store_that_goes_on(tmp_path, monkeypatch):
    def interrupted(jobs, inputs):
        if jobs[0].C == 100:
            raise KeyboardInterrupt
        return execute(jobs, inputs)

    flags = ["--layers", "conv1", "--iterations", 1, "-q", reference_images()[0], "-o", tmp_path / "s"]
    monkeypatch.setattr(runner, "execute", interrupted)
    done = command("paper", "inversion", *flags)
    assert done.exit_code == 130 and "goes on from there" in done.output
    monkeypatch.undo()
    assert "2 jobs done" in command("paper", "inversion", *flags).output


def test_runs_lists_and_filters(folder, store):
    listed = command("runs", folder, "--experiment", "inversion", "--layer", "fire2", "--where", "C=100")
    assert listed.exit_code == 0 and "2 of" in listed.output and "chelsea" in listed.output
    found = json.loads(
        command("runs", folder, "--where", "C=100", "--where", "image=chelsea", "--experiment", "inversion", "--json").output
    )["runs"]
    assert [r["config"]["layer"] for r in found] == ["pool1", "fire2"]
    assert all((folder / "runs" / r["key"][:2] / r["key"] / "image.png").is_file() and r["folder"] for r in found)
    assert command("runs", folder, "--status", "failed").output.startswith("0 of")
    before = store.records()
    (folder / "index.sqlite").write_bytes(b"gone")
    assert f"{len(before)} of {len(before)} results" in command("runs", folder, "--rebuild").output
    assert store.records() == before


def test_runs_refuses_what_is_no_store_and_what_is_no_setting(folder, tmp_path):
    done = command("runs", tmp_path)
    assert done.exit_code == 1 and "no store of results" in done.output
    assert command("runs", folder, "--where", "C").exit_code == 2


def test_layers_must_be_chosen_where_a_network_has_no_names(study, monkeypatch):
    from dataclasses import replace

    study.layers = ()
    monkeypatch.setattr(study.net, "card", replace(study.net.card, names={}))
    with pytest.raises(InputError, match="choose with --layers"):
        _ = study.chosen


def test_no_results_at_all_is_a_failure_and_no_crash(study, monkeypatch):
    def fails(*given, **more):
        raise InputError("Nothing can be inverted here.")

    monkeypatch.setattr(jobs, "invert", fails)
    found, lines = run_study(study, {"inversion": known_experiments()["inversion"](C=(1.0,))}, workers=1, progress=False)  # type: ignore[call-arg]
    assert "Nothing can be inverted here." in next(iter(found.failed.values()))
    assert len(Found(study.store, []).pairs) == 0 and len(lines) <= 1


@pytest.mark.parametrize("flags", [{"groups": 0}, {"C": (0.0,)}, {"positions": 0}, {"units": 0}, {"restarts": 0}])
def test_a_flag_outside_the_table_of_ranges_is_refused_before_anything_is_made(flags, study, tmp_path):
    registry = known_experiments()
    takes = {"groups": "groups", "C": "inversion", "positions": "neighbourhood", "units": "neurons", "restarts": "restarts"}
    experiment = registry[takes[next(iter(flags))]](**flags)
    with pytest.raises(InputError, match=r"of at least|above 0"):
        run_study(study, {"x": experiment}, progress=False)
    assert not study.store.records()


def test_a_number_of_units_that_is_said_wins_over_the_number_for_wide_layers(study):
    study.layers = ["conv10", "conv1"]  # of 1000 and 64 channels
    assert len(Neurons().jobs(study)) == 2 + 25
    assert len(Neurons(units=4).jobs(study)) == 4 + 4


def test_a_network_without_the_paper_s_classes_shows_its_own(study, monkeypatch):
    names = [f"thing {k}" for k in range(1000)]
    monkeypatch.setattr(study.net, "classes", names)
    assert [job.name for job in Classes().jobs(study)] == names[:25]
    with pytest.raises(InputError, match="has 1000 classes, from 0 to 999; got --class 1000"):
        Classes(classes=("1000",)).jobs(study)


def test_results_of_other_settings_that_the_numbers_leave_out_are_counted(tmp_path):
    store = Store.open(tmp_path / "s")
    for C in (1.0, 2.0):
        study = Study(store, images=reference_images()[:1], layers=["conv1"], iterations=2)
        run_study(study, {"inversion": known_experiments()["inversion"](C=(C,))}, progress=False)
    notes = json.loads((tmp_path / "s" / "summary" / "inversion" / "summary.json").read_text())["notes"]
    assert any("holds 1 more of its results" in note for note in notes), notes
