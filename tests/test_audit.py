"""The leakage audit: what it says of perfect, swapped and real reconstructions, and features released with less precision."""

from __future__ import annotations

import csv
import json
import math
import tempfile
from dataclasses import replace

import jsonschema
import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.ndimage import gaussian_filter
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.errors import InputError, ResultFolderError, UnknownName
from preimage.experiments.audit import RISK, SPREAD, chosen_layers
from preimage.experiments.audit_numbers import BLUR, COLUMNS, Comparison, blurred, interval
from preimage.experiments.base import Found, Study
from preimage.experiments.leakage import Leakage
from preimage.representations.release import InTurn, Noisy, Quantised, parse_release
from preimage.schemas import schema
from preimage.studies import runner
from preimage.studies.jobs import Job
from preimage.studies.store import Store
from preimage.tasks.result import Result

TAKEN = ("top1", "found by pixels", "found by ssim", "found by features")  # shares, without a judge
FEATURES = hnp.arrays(np.float32, (3, 40), elements=st.floats(-100, 100, width=32))


@given(FEATURES, st.integers(1, 12))
def test_quantised_features_have_few_levels_and_keep_their_ends(x, bits):
    features = torch.from_numpy(x)
    out = Quantised(bits)(features)
    for before, after in zip(features, out, strict=True):
        step = (before.max() - before.min()) / (2**bits - 1)
        assert len(after.unique()) <= 2**bits
        assert (after - before).abs().max() <= step / 2 + 1e-3
        assert torch.allclose(torch.stack([after.min(), after.max()]), torch.stack([before.min(), before.max()]), atol=1e-3)


@given(FEATURES)
@pytest.mark.parametrize("release", [Quantised(3), Noisy(0.5), InTurn((Noisy(0.1), Quantised(4)))])
def test_what_is_released_of_a_sample_does_not_depend_on_its_batch(release, x):
    features = torch.from_numpy(x)
    alone = torch.cat([release(f[None]) for f in features])
    assert torch.equal(release(features), alone)


def test_noise_is_as_large_as_it_says():
    x = torch.randn(2, 50_000, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [20.0]])
    difference = Noisy(0.3)(x) - x
    ratio = difference.std(dim=1) / x.square().mean(dim=1).sqrt()
    assert torch.allclose(ratio, torch.full((2,), 0.3), atol=0.01)  # 0.3/√(2·50000), three times over
    assert abs(torch.corrcoef(difference)[0, 1]) < 0.02  # each sample has its own


@pytest.mark.parametrize("text", ["bits:0", "bits:17", "noise:0", "noise:-1", "bits:4.5", "8", "", "bits:8,", "noise:inf", "exact"])
def test_a_release_that_is_none_is_refused(text):
    with pytest.raises(InputError, match=r"bits|noise"):
        parse_release(text)


def test_releases_are_read_in_turn():
    assert parse_release("noise:0.25, bits:8") == InTurn((Noisy(0.25), Quantised(8)))


def test_an_inversion_reaches_what_was_released_and_not_the_features():
    phi = preimage.from_callable(lambda x: x, preimage.PixelSpace(8, "grey"))
    found = preimage.invert(phi, np.full((8, 8), 200, np.uint8), C=1e4, release=lambda f: f * 0 + 50, progress=False)
    assert found.images.mean().item() == pytest.approx(50, abs=1)
    assert found.error.item() < 0.05 and "release" in found.config


def test_a_release_is_part_of_what_makes_a_job():
    job = Job(experiment="audit", task="invert", C=1.0, network="squeezenet1_1", layer="fire2", original="0" * 64)
    assert len({job.key, replace(job, release="bits:4").key, replace(job, release="bits:5").key}) == 3


@pytest.fixture(scope="module")
def study(tmp_path_factory, photographs):
    return Study(Store.open(tmp_path_factory.mktemp("audit") / "store"), photographs[:3], layers=("fire2",))


def measured(study, images, **settings):
    """The audit's summary where each photograph's reconstruction is the given image, levels 0–255."""
    experiment = Leakage(**{"C": (100.0,)} | settings)
    jobs = experiment.jobs(study)
    place = {p.sha: k for k, p in enumerate(study.photographs)}
    for job in jobs:
        study.store.save(job, _result(images[place[job.original]][None]), {"error": 1.0}, 1.0)
    out = study.store.path / "summary" / "audit"
    out.mkdir(parents=True, exist_ok=True)
    return experiment.summarise(study, Found(study.store, jobs), out)


def _result(images):
    energy, trace = {"total": torch.ones(1)}, {"total": torch.ones(1, 1)}
    return Result("invert", images, torch.ones(1), None, energy, trace, 1, ["a"], [0], ["ok"], {"versions": {}})


def levels(study):
    return study.net.space.decode(torch.cat([study.store.input(p.sha) for p in study.photographs]))


def test_a_nearly_perfect_reconstruction_gets_nearly_perfect_numbers(study):
    original = levels(study)
    noise = torch.randn(original.shape, generator=torch.Generator().manual_seed(0))
    row = measured(study, original + noise).rows[0]
    assert row["error"] < 0.2 < row["error of another"]
    assert row["psnr"] > 45 and row["ssim"] > 0.98 and row["ms_ssim"] > 0.99
    assert [row[name] for name in TAKEN] == [1.0] * 4
    assert row["images"] == 3


@pytest.mark.slow
def test_another_image_in_its_place_is_never_found_and_gets_what_the_guess_gets(study):
    original = levels(study)
    one, two = measured(study, original.roll(-1, dims=0)), measured(study, original.roll(-2, dims=0))
    rows, guess = [one.rows[0], two.rows[0]], one.rows[-1]
    for name in ("psnr", "ssim", "ms_ssim", "top1"):
        assert guess[name] == pytest.approx(np.mean([r[name] for r in rows]), rel=1e-5)
    assert [r[name] for r in rows for name in TAKEN[1:]] == [0.0] * 6
    assert rows[0]["error of another"] == pytest.approx(np.mean([r["error"] for r in rows]), rel=1e-4)


def test_of_several_c_the_best_fit_of_each_image_counts_and_not_the_best_picture(study):
    original = levels(study)
    experiment = Leakage((20.0, 100.0))
    jobs = experiment.jobs(study)
    assert [job.C for job in jobs] == [20.0] * 3 + [100.0] * 3
    fits = [0.5, 0.1, 0.2, 0.3, 0.4, 0.1]  # of the first image C = 100 fits better, of the second C = 20, of the third C = 100
    for k, (job, fit) in enumerate(zip(jobs, fits, strict=True)):
        chosen = k in (1, 3, 5)
        image = original[k % 3] if chosen else original[k % 3] * 0 + 300
        study.store.save(job, _result(image[None] + 1), {"error": fit}, 1.0)
    row = experiment.summarise(study, Found(study.store, jobs), study.store.path / "summary").rows[0]
    assert row["psnr"] > 40 and row["found by pixels"] == 1.0 and row["images"] == 3


def test_the_guesses_are_the_mean_of_the_others_and_chance(study):
    original = levels(study)
    rows = {row["layer"]: row for row in measured(study, original + 1).rows}
    array = original.numpy().clip(0, 255).astype(np.float64)
    plain = []
    for k in range(3):
        mean = np.mean([array[j] for j in range(3) if j != k], axis=0)
        plain.append(10 * math.log10(255**2 / np.mean((mean - array[k]) ** 2)))
    assert rows["mean of the other images"]["psnr"] == pytest.approx(np.mean(plain), abs=0.01)
    assert [rows["another image"][name] for name in TAKEN[1:]] == pytest.approx([1 / 3] * 3)
    assert rows["mean of the other images"].get("found by pixels") is None  # that would not be a guess at an identity


def test_what_is_not_to_be_had_is_left_out_and_said(study, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    summary = measured(study, levels(study) + 1, lpips="alex")
    (note,) = [note for note in summary.notes if note.startswith("No LPIPS: ")]
    assert str(tmp_path) not in note  # of a page that others may read
    assert "lpips" not in summary.columns and all("lpips" not in row for row in summary.rows)
    assert set(summary.columns) < set(COLUMNS)
    with pytest.raises(UnknownName):
        measured(study, levels(study), lpips="alexandria")


def test_a_layer_whose_jobs_failed_is_left_out_and_none_at_all_is_an_error(study, tmp_path):
    alone = Study(Store.open(tmp_path / "store"), study.images, layers=("fire2", "fire9"))
    experiment = Leakage((100.0,))
    jobs = experiment.jobs(alone)
    with pytest.raises(InputError, match="None of the audit's jobs"):
        experiment.summarise(alone, Found(alone.store, jobs), tmp_path)
    for job in jobs[:2]:
        alone.store.save(job, _result(alone.net.space.decode(alone.store.input(job.original))), {"error": 1.0}, 1.0)
    summary = experiment.summarise(alone, Found(alone.store, jobs), tmp_path)
    assert (summary.rows[0]["layer"], summary.rows[0]["images"]) == ("fire2", 2) and summary.rows[1]["layer"] != "fire9"
    assert math.isnan(summary.curves[0]["y"][1])


class Largest(TorchDispatchMode):
    """Remembers the numbers of the largest tensor that is made."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.numbers = max([self.numbers, *(t.numel() for t in tree_leaves(out) if isinstance(t, torch.Tensor))])
        return out


def test_many_images_are_compared_without_all_of_them_in_memory_at_their_size(tmp_path):
    many = [tmp_path / f"{k}.png" for k in range(8)]
    for k, path in enumerate(many):
        levels = np.random.default_rng(k).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        PIL.Image.fromarray(levels).resize((64, 64), PIL.Image.Resampling.BICUBIC).save(path)
    study = Study(Store.open(tmp_path / "store"), many, "tests.tiny:build", layers=("2",), size="64")
    assert len(study.photographs) == 8
    with Largest() as largest:
        guesses = Comparison(study, Found(study.store, []), None).guesses()
    assert len(guesses["mean of the other images"]["psnr"]) == len(guesses["another image"]["ssim"]) == 8
    assert largest.numbers <= 4 * 3 * 64**2  # four of the images


def test_an_audit_that_was_stopped_goes_on_where_it_stopped_and_ends_the_same(tmp_path, photographs, monkeypatch):
    settings = {
        "C": 100,
        "iterations": 1,
        "lpips": None,
        "workers": 1,
        "progress": False,
        "threat": preimage.Threat(["smoothness"], judge=None),
    }

    def audit(folder):
        return preimage.audit("tests.tiny:build", photographs[:2], ["0", "2"], out=folder, **settings)

    real, begun, stopped = runner.execute, [], []

    def until_the_fourth(jobs, inputs):
        if len(begun) == 3 and not stopped:
            stopped.append(True)
            raise KeyboardInterrupt
        begun.append(jobs[0].key)
        return real(jobs, inputs)

    monkeypatch.setattr(runner, "execute", until_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        audit(tmp_path / "a")
    again = audit(tmp_path / "a")
    assert len(begun) == len(set(begun)) == 4  # two images at two layers, none of them twice
    assert again.table == audit(tmp_path / "b").table


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    # Wilson (1927) with z = 1.96, computed with statsmodels' formula by hand: (p + z²/2n ± z√(p(1−p)/n + z²/4n²)) / (1 + z²/n)
    [(8, 8, 0.6756, 1.0), (0, 8, 0.0, 0.3244), (5, 10, 0.2366, 0.7634)],
)
def test_shares_have_an_interval_that_is_honest_at_its_ends(hits, count, low, high):
    sample = torch.tensor([1.0] * hits + [0.0] * (count - hits))
    assert interval("top1", sample) == pytest.approx((hits / count, low, high), abs=1e-3)


def test_the_blur_is_a_gaussian():
    x = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0)) * 255
    plain = gaussian_filter(x.numpy(), (0, 0, BLUR, BLUR), mode="nearest", truncate=3.0)
    assert np.abs(blurred(x).numpy() - plain).max() < 0.01


def test_without_names_an_audit_takes_the_spread_and_no_more(photographs, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(Leakage, "jobs", lambda self, study: asked.append([i.name for i in study.chosen]) or [])
    with pytest.raises(InputError, match="No job of the audit went well"):
        preimage.audit("squeezenet1_1", photographs[:2], out=tmp_path / "store", progress=False)
    assert len(asked[0]) == SPREAD and (asked[0][0], asked[0][-1]) == ("conv1", "conv10")


def test_an_audit_attacks_by_a_recipe_and_parts_with_the_recipe_s_strength_unless_another_is_given(photographs, tmp_path, monkeypatch):
    asked = []
    own = Leakage.jobs
    monkeypatch.setattr(Leakage, "jobs", lambda self, study: asked.append(own(self, study)) or [])
    line = [
        "audit",
        *map(str, photographs[:2]),
        "--layers",
        "fire2",
        "--recipe",
        "preimage2026",
        "--prior",
        "tv-beta",
        "--attack",
        "smoothness",
        "-q",
    ]
    for more in ([], ["--C", "7"]):
        done = CliRunner().invoke(app, [*line, *more, "-o", str(tmp_path / "store")])
        assert done.exit_code == 2 and "No job of the audit went well" in done.output
    first, second = ({(j.recipe, j.prior, j.C) for j in jobs} for jobs in asked)
    assert (first, second) == ({("preimage2026", ("tv-beta",), 20.0)}, {("preimage2026", ("tv-beta",), 7.0)})


def test_the_layers_are_spread_from_the_first_that_computes_to_the_last(study):
    free = Study(study.store, study.images)
    chosen = chosen_layers(free, ())
    assert len(chosen) == len(set(chosen)) == SPREAD
    assert (chosen[0], chosen[-1]) == ("conv1", "conv10")
    assert chosen_layers(free, "all") == () and chosen_layers(free, "fire2") == ["fire2"] and chosen_layers(free, ["a", "b"]) == ["a", "b"]


def command(*arguments):
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


@pytest.fixture(scope="module")
def audited(tmp_path_factory, photographs):
    out = tmp_path_factory.mktemp("command") / "audit"
    options = ["--layers", "conv1", "--bits", "2", "--C", "100", "--iterations", "3", "-q", "--workers", "1", "--attack", "smoothness"]
    return out, [*photographs[:2], "-o", out, *options]


def test_the_command_writes_the_table_the_curves_and_the_page_and_does_nothing_twice(audited):
    out, arguments = audited
    done = command(*arguments)
    assert done.exit_code == 0, done.output
    assert RISK in done.stdout and (out / "audit.html").as_uri() in done.stdout
    created = [r.created for r in Store.open(out).records()]
    assert len(created) == 4
    text = (out / "audit.html").read_text(encoding="utf-8")
    for word in ("a lower bound on what leaks", "bits:2", "found by pixels", "mean of the other images", 'class="line s0"'):
        assert word in text, word
    folder = out / "summary" / "audit"
    assert {"summary.json", "table.csv", "table.json", "table.txt", "leakage.pdf", "leakage.png", "leakage.svg"} == {
        p.name for p in folder.iterdir()
    }
    with (folder / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(r["layer"], r["release"]) for r in rows[:2]] == [("conv1", "exact"), ("conv1", "bits:2")]
    assert 0 < float(rows[0]["error"]) < float(rows[1]["error"])
    assert {"psnr_low", "psnr_high"} <= set(json.loads((folder / "table.json").read_text())[0])
    again = command(*arguments, "--json")
    assert again.exit_code == 0
    jsonschema.validate(json.loads(again.stdout), schema("audit"))
    assert [r["layer"] for r in json.loads(again.stdout)["table"]] == [r["layer"] for r in rows]
    assert [r.created for r in Store.open(out).records()] == created


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--bits", "0"], "1 to 16 bits"),
        (["--noise", "-1"], "bits:N, noise:AMOUNT"),
        (["--layers", "fire22"], "Did you mean 'fire2'"),
        (["--net", "vgg"], "No network named 'vgg'"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_computed(audited, photographs, tmp_path, more, text):
    done = command(*photographs[:2], "-o", tmp_path / "new", "-q", *more)
    assert done.exit_code == 2 and text in " ".join(done.stderr.split()), done.output
    assert not list((tmp_path / "new" / "runs").glob("*")) if (tmp_path / "new").exists() else True


def test_one_image_cannot_be_audited(photographs, tmp_path):
    done = command(photographs[0], "-o", tmp_path / "new", "-q")
    assert done.exit_code == 2 and "at least 2 images" in done.stderr
    assert not (tmp_path / "new").exists()


def test_the_function_gives_the_table_and_saves_everything(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # without a folder it makes one there, for its user to look at
    found = preimage.audit(
        "squeezenet1_1",
        photographs[:2],
        "conv1",
        C=100,
        iterations=2,
        lpips=None,
        workers=1,
        progress=False,
        threat=preimage.Threat(["smoothness"]),
    )
    assert [r["layer"] for r in found.table] == ["conv1", "mean of the other images", "another image"]
    assert not found.failed and RISK in found.text()
    assert str(found) == found.text()
    assert repr(found) == f"Audit(1 layer, 2 images, {str(found.store)!r})"
    page = found.save(tmp_path / "saved")
    assert page == tmp_path / "saved" / "audit.html" and len(Store.open(tmp_path / "saved").records()) == 2
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    with pytest.raises(ResultFolderError, match="is not empty"):
        found.save(tmp_path / "full")
    place = found.store
    assert place.is_dir()
    del found
    assert not place.exists()
