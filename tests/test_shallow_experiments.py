"""The shallow table and the templates, from the command line down: what is written, what goes on, what is reported."""

from __future__ import annotations

import csv
import math
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.errors import InputError, UnknownName
from preimage.experiments import shallow_table as experiment
from preimage.experiments.hog_template import hog_template
from preimage.experiments.hoggles import learn_dictionary, load_dictionary
from preimage.representations.base import Representation
from preimage.representations.hog import HOG
from preimage.representations.shallow import SHALLOW, load_shallow
from preimage.representations.template import HOGTemplate, load_template
from preimage.representations.vocabulary import load_vocabulary
from preimage.solvers.methods import FourierAdam
from preimage.solvers.run import Stage
from preimage.studies import runner
from preimage.studies.store import Store
from preimage.tasks.result import load_result

METHODS = ["hoggles", "hog", "hogb", "dsift"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small photographs and HOGgles' dictionary."""
    path = tmp_path_factory.mktemp("shallow")
    (path / "photos").mkdir()
    for name in ("chelsea", "coffee"):
        with PIL.Image.open(next(p for p in preimage.images.reference_images() if name in p)) as picture:
            picture.resize((90, 72)).save(path / "photos" / f"{name}.png")
    learn_dictionary(preimage.images.reference_images(), 40, windows=2000, steps=4, progress=False).save(path / "pairs.safetensors")
    return path


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result.exit_code, result.output


def run_table(folder: Path, out: Path, *more: object) -> tuple[int, str]:
    pairs = ("--dictionary", folder / "pairs.safetensors")
    options = ("--size", 64, "--iterations", 30, "-q", "-o", out)
    return call("paper", "shallow-table", folder / "photos", *pairs, *options, *more)


def test_the_table_is_written_and_goes_on_where_it_stopped(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text = run_table(folder, out)
    assert code == 0, text
    assert "8 reconstructions (0 were in the store already), 0 failed" in text
    rows = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    assert [(r["image"], r["method"]) for r in rows] == [(i, m) for i in ("chelsea", "coffee") for m in METHODS]
    store = Store.open(out / "store", create=False)
    for row in rows:
        assert (row["compared"] == row["error"]) == (row["method"] in ("hogb", "dsift"))
        assert (row["key"] == "") == (row["method"] == "hoggles")
        if row["key"]:
            found = store.result(row["key"])
            assert found.error is not None
            assert found.error.item() == pytest.approx(float(row["error"]))
            assert found.images.shape == (1, 1, 64, 64)
    stamps = {p: p.stat().st_mtime_ns for p in (out / "store" / "runs").rglob("*")}
    shutil.rmtree(store.folder(rows[1]["key"]))  # one job lost: it alone is run again
    code, text = run_table(folder, out)
    assert code == 0
    assert "8 reconstructions (5 were in the store already)" in text
    again = list(csv.DictReader((out / "table.csv").read_text().splitlines()))
    assert again == rows
    kept = [p for p in stamps if rows[1]["key"] not in str(p) and p.is_file()]
    assert all(p.stat().st_mtime_ns == stamps[p] for p in kept)
    code, text = run_table(folder, out, "--iterations", 31)
    assert "8 reconstructions (0 were in the store already)" in text  # other settings, other jobs
    assert not list(out.rglob("*.part"))


def test_an_edit_of_the_code_runs_no_job_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    assert "8 reconstructions (0 were in the store already), 0 failed" in run_table(folder, out)[1]
    monkeypatch.setattr("preimage.tasks.result.code_version", lambda: "another")
    assert "8 reconstructions (6 were in the store already)" in run_table(folder, out)[1]
    monkeypatch.setattr("preimage.studies.jobs.PLAN_REVISION", 999)
    assert "8 reconstructions (0 were in the store already)" in run_table(folder, out)[1]


def test_the_numbers_are_the_mean_and_the_interval() -> None:
    cells = [experiment.Cell(f"i{k}", "hog", e, e / 2, 1.0, 3, torch.zeros(1, 8, 8)) for k, e in enumerate((0.2, 0.3, 0.7))]
    table = experiment.Table(cells)
    mean, spread, n = table.row("hog", "error")
    assert (mean, n) == (pytest.approx(40.0), 3)
    assert spread == pytest.approx(1.96 * np.std([20, 30, 70], ddof=1) / math.sqrt(3))
    assert table.row("hog", "compared")[0] == pytest.approx(20.0)
    assert math.isnan(table.row("dsift", "error")[0])
    assert math.isnan(experiment.Table(cells[:1]).row("hog", "error")[1])
    assert "40.0 ± 29.9" in table.text()
    assert table.latex().count("&") == 12
    assert "$20.0$" in table.latex()


@pytest.mark.parametrize("name", ["hog", "hogb", "dsift", "lbp"])
def test_a_pre_image_lies_in_the_middle_of_the_range(folder: Path, name: str) -> None:
    """Descriptors do not know brightness: around black, half of the picture would be clipped."""
    result = preimage.invert(load_shallow(name), folder / "photos" / "chelsea.png", iterations=30, progress=False)
    assert 90 < result.images.mean() < 166
    assert (result.images < 0).float().mean() < 0.05


def test_the_papers_run_is_one_stage_of_its_own_rate(folder: Path, tmp_path: Path) -> None:
    run_table(folder, tmp_path / "out")
    store = Store.open(tmp_path / "out" / "store", create=False)
    (found,) = store.records(representation="hogb", image="chelsea")
    record = store.result(found.key)
    assert record.evaluations == 30
    assert [p["stages"] for p in record.config["plan"]] == [[{"iterations": 30, "rate": 1.0, "jitter": True}]]
    assert (record.config["solver"], record.config["C"], record.config["jitter"]) == ("paper", 100.0, 1)
    direct = preimage.invert(
        HOG(bilinear=True),
        HOG().space.encode(folder / "photos" / "chelsea.png", size=(64, 64)),
        solver="paper",
        stages=(Stage(30),),
        seed=record.seeds,
        progress=False,
    )
    assert torch.equal(record.images, direct.images)


@pytest.mark.parametrize("stages", [(), (300,), [Stage(3), None]], ids=str)
def test_stages_that_are_none_are_refused(stages: object) -> None:
    with pytest.raises(InputError, match="at least one"):
        preimage.invert(HOG(), torch.zeros(1, 1, 32, 32), stages=stages, progress=False)  # type: ignore[arg-type]


def test_fast_takes_the_rate_that_a_descriptor_asks_for(folder: Path) -> None:
    photo, options = folder / "photos" / "coffee.png", {"stages": (Stage(10),), "progress": False}
    fast = preimage.invert(HOG(), photo, **options)
    assert fast.config["plan"][0]["solver"]["rate"] == 8.0
    assert torch.equal(fast.images, preimage.invert(HOG(), photo, solver=FourierAdam(rate=8), **options).images)
    own = preimage.invert(load_shallow("lbp"), photo, **options)
    assert own.config["plan"][0]["solver"]["rate"] == 14.0
    assert torch.equal(own.images, preimage.invert(load_shallow("lbp"), photo, solver=FourierAdam(), **options).images)


def test_the_benchmark_of_solvers_imports() -> None:
    from benchmarks import shallow_solvers

    assert shallow_solvers.RUNS["paper"] == ("paper", 300)


def test_a_broken_image_fails_alone(folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG not really")
    out = tmp_path / "out"
    code, text = run_table(folder, out, broken)
    assert code == 1
    assert "8 reconstructions" in text
    assert "1 failed" in text
    assert "broken failed: " in text
    assert "failed: broken: " in (out / "table.txt").read_text()
    with PIL.Image.open(out / "table.png") as picture:
        assert picture.size[1] == 20 + 2 * 196


def test_an_image_too_small_for_one_method_fails_in_that_alone(folder: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    PIL.Image.effect_noise((48, 41), 60).save(small)
    lines: list[str] = []
    dictionary = load_dictionary(folder / "pairs.safetensors")
    table = experiment.shallow_table([small], tmp_path / "out", dictionary, iterations=5, progress=False, report=lines.append)
    assert list(table.failures) == ["small dsift"]
    assert [c.method for c in table.cells] == ["hoggles", "hog", "hogb"]
    assert "at least 42x42" in lines[0]


def test_interrupting_keeps_what_was_done(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, calls = runner.execute, []

    def stop(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return own(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "execute", stop)
    code, text = run_table(folder, tmp_path / "out")
    assert code == 130
    assert "the same command goes on" in text
    monkeypatch.undo()
    assert "2 were in the store already" in run_table(folder, tmp_path / "out")[1]


def test_wrong_use_of_the_table_is_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert call("paper", "shallow-table", tmp_path / "empty", "-o", tmp_path / "out")[0] == 2
    code, text = call("paper", "shallow-table", folder / "photos", "--workers", 0, "-o", tmp_path / "none")
    assert (code, "workers is a whole number of at least 1" in text, (tmp_path / "none").exists()) == (2, True, False)
    (tmp_path / "file").write_text("x")
    code, text = call("paper", "shallow-table", folder / "photos", "-o", tmp_path / "file")
    assert (code, "Nothing can be written" in text) == (1, True)
    code, text = run_table(folder, tmp_path / "out", "--learn-from", folder / "photos")
    assert (code, "dictionary" in text) == (2, True)


def disc(h: int = 8, w: int = 6) -> torch.Tensor:
    """A template that likes a bright disc: its HOG less that of its negative's directions."""
    y, x = torch.meshgrid(torch.arange(8.0 * (h + 2)), torch.arange(8.0 * (w + 2)), indexing="ij")
    inside = 200.0 * ((y - y.mean()).square() + (x - x.mean()).square() < 18**2)
    w_ = HOG()(inside[None, None])[0, :, 1:-1, 1:-1]
    return w_ - w_.mean()


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_template_becomes_an_image_that_it_likes(tmp_path: Path, suffix: str) -> None:
    w = disc()
    array = w.permute(1, 2, 0).numpy()
    path = tmp_path / f"disc.{suffix}"
    np.save(path, array) if suffix == "npy" else np.savez(path, template=array, bias=np.zeros(1))
    code, text = call("paper", "hog-template", path, "-o", tmp_path / "out", "--iterations", 60, "--C", 3, "-q")
    assert code == 0, text
    found = load_result(tmp_path / "out")
    assert found.images.shape == (1, 1, 80, 64)
    assert found.activation is not None
    phi = HOGTemplate(w)
    assert found.activation.item() == pytest.approx(phi(found.images - 128).item(), rel=1e-4)
    noise = 255 * torch.rand(20, 1, 80, 64, generator=torch.Generator().manual_seed(0))
    assert found.activation.item() > phi(noise).max().item() + 3
    # the directed bins know the sign of the contrast: the centre is brighter than its surroundings
    image = found.images[0, 0]
    assert image[32:48, 24:40].mean() > image[:16].mean()
    assert (tmp_path / "out" / "disc.png").exists()


def test_the_score_is_the_inner_product_without_the_outer_ring() -> None:
    w = torch.randn(31, 4, 3, generator=torch.Generator().manual_seed(0))
    phi = HOGTemplate(w)
    x = 255 * torch.rand(2, 1, 48, 40, generator=torch.Generator().manual_seed(1))
    expected = (HOG(texture=True)(x)[:, :, 1:5, 1:4] * w).sum(dim=(1, 2, 3))
    assert (phi(x)[:, 0] - expected).abs().max() < 1e-4
    assert isinstance(phi, Representation)
    with pytest.raises(InputError, match=r"\(48, 40\)"):
        phi(torch.zeros(1, 1, 64, 64))
    assert hog_template(w[:27], iterations=3, progress=False).config["Z"] == [1.0]


@pytest.mark.parametrize(("shape", "planes"), [((6, 4, 27), 27), ((27, 6, 4), 27), ((6, 4, 31), 31), ((6, 4, 32), 31), ((32, 6, 4), 31)])
def test_templates_are_read_in_either_layout(shape: tuple[int, ...], planes: int, tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=shape)
    np.save(tmp_path / "w.npy", array)
    found = load_template(tmp_path / "w.npy")
    assert found.shape == (planes, 6, 4)
    expected = array.transpose(2, 0, 1) if shape[2] in (27, 31, 32) else array
    assert np.allclose(found.numpy(), expected[:31])


class _Bomb:
    """Unpickled, it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.mkdir, (self.path,)


def test_untrusted_or_wrong_templates_are_refused(tmp_path: Path) -> None:
    cases = {
        "pickled.npy": np.array([_Bomb(tmp_path / "ran")], dtype=object),
        "flat.npy": np.zeros(27),
        "other.npy": np.zeros((6, 4, 28)),
        "both.npy": np.zeros((27, 4, 27)),
        "text.npy": np.full((6, 4, 27), "x"),
    }
    for name, array in cases.items():
        np.save(tmp_path / name, array, allow_pickle=True)
        with pytest.raises(InputError, match=name):
            load_template(tmp_path / name)
    assert not (tmp_path / "ran").exists()
    np.savez(tmp_path / "two.npz", a=np.zeros((2, 2, 27)), b=np.zeros(3))
    with pytest.raises(InputError, match="2 arrays"):
        load_template(tmp_path / "two.npz")
    (tmp_path / "text.npy").write_text("not numpy")
    with pytest.raises(InputError, match=r"no \.npy or \.npz"):
        load_template(tmp_path / "text.npy")
    with pytest.raises(InputError, match="no file"):
        load_template(tmp_path / "absent.npy")
    for wrong in (torch.zeros(27, 3, 3), torch.full((27, 3, 3), math.nan), torch.ones(9, 3, 3)):
        with pytest.raises(InputError, match="template"):
            HOGTemplate(wrong)
    code, text = call("paper", "hog-template", tmp_path / "both.npy", "-o", tmp_path / "out")
    assert code == 2
    assert "not clear" in text


def test_a_vocabulary_learned_on_the_command_line_inverts(folder: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.safetensors"
    learn = ("vocabulary", folder / "photos", "-o", words, "--words", 8, "--descriptors", 400, "-q")
    code, text = call(*learn)
    assert code == 0, text
    vocabulary = load_vocabulary(words)
    assert (vocabulary.words, vocabulary.about["images"], vocabulary.about["seed"]) == (8, 2, 0)
    assert call(*learn)[0] == 2  # it is there already
    assert call(*learn, "--overwrite")[0] == 0
    photo = folder / "photos" / "chelsea.png"
    code, text = call("invert-shallow", photo, "--name", "bow", "--vocabulary", words, "-o", tmp_path / "out", "--iterations", 20, "-q")
    assert code == 0, text
    assert (tmp_path / "out" / "chelsea.png").exists()
    code, text = call("invert-shallow", photo, "--name", "fisher", "--vocabulary", words, "-o", tmp_path / "no", "-q")
    assert (code, "--kind gmm" in text) == (2, True)


@pytest.mark.parametrize("name", ["hog", "hogb", "dsift", "lbp"])
def test_every_plain_descriptor_inverts_by_name(folder: Path, tmp_path: Path, name: str) -> None:
    photo = folder / "photos" / "coffee.png"
    code, text = call("invert-shallow", photo, "--name", name, "--size", 64, "--iterations", 60, "-o", tmp_path / "out", "-q")
    assert code == 0, text
    found = load_result(tmp_path / "out")
    assert found.error is not None
    assert found.error.item() < 0.5
    assert found.labels == ["coffee"]


def test_names_are_known_and_others_refused() -> None:
    plain = ["brief", "dsift", "freak", "hog", "hogb", "lbp"]
    assert sorted(SHALLOW) == sorted([*plain, "bow", "fisher", "llc", "scspm", "super-vector", "textons", "vlad"])
    with pytest.raises(UnknownName, match="hogb"):
        load_shallow("hogg")
    with pytest.raises(InputError, match="needs a vocabulary"):
        load_shallow("bow")
    with pytest.raises(InputError, match="no vocabulary"):
        load_shallow("hog", preimage.Vocabulary("kmeans", torch.zeros(3, 128)))


@pytest.mark.parametrize(
    "command", [["vocabulary"], ["invert-shallow"], ["paper", "shallow-table"], ["paper", "hog-template"]], ids=" ".join
)
def test_help_teaches_by_an_example(command: list[str]) -> None:
    code, text = call(*command, "--help")
    assert code == 0
    assert f"preimage {' '.join(command)}" in text


@pytest.mark.slow
def test_the_papers_table_holds_on_photographs(photographs: list[Path], tmp_path: Path) -> None:
    table = experiment.shallow_table(photographs, tmp_path / "out", learn_dictionary(progress=False), size=256, progress=False)
    assert not table.failures
    hoggles, hog, hogb, dsift = (table.row(m, "compared")[0] for m in METHODS)
    assert hoggles > hog + 15
    assert hog > 2 * hogb
    assert max(hogb, dsift) <= 12
    by = {(c.image, c.method): c.compared for c in table.cells}
    assert all(by[i, "hog"] < by[i, "hoggles"] - 0.1 for i in {c.image for c in table.cells})
