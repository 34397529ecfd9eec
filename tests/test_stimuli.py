"""Stimuli: several seeds, folders of pictures, and the export with equal mean and contrast and a row an image."""

from __future__ import annotations

import csv
import io
import json
import zipfile

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.studies.export import Look, export
from preimage.studies.store import Store

NET = ["--net", "tests.tiny:build", "--layer", "2"]
QUICK = ["--iterations", "3", "-q"]
pytestmark = pytest.mark.filterwarnings("ignore::preimage.PreimageWarning")  # three iterations do not come far


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for k, name in enumerate(("bird", "cat")):
        PIL.Image.fromarray(np.random.default_rng(k).integers(60 * k, 120 + 60 * k, (24, 24, 3), dtype=np.uint8)).save(
            folder / f"{name}.png"
        )
    return folder


@pytest.fixture(scope="module")
def study(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "store"
    done = run("invert", photos, *NET, "--seeds", "0-1", "-o", out, *QUICK)
    assert done.exit_code == 0, done.output
    return out


def rows_of(folder):
    return list(csv.DictReader(io.StringIO((folder / "images.csv").read_text(encoding="utf-8"))))


def opened(path):
    with PIL.Image.open(path) as picture:
        return picture.mode, picture.size, np.asarray(picture, dtype=float)


def test_each_of_several_seeds_gives_the_image_that_it_gives_alone(photos, tmp_path):
    done = run("invert", photos / "cat.png", *NET, "--seeds", "2,5", "-o", tmp_path / "both", *QUICK)
    assert done.exit_code == 0, done.output
    both = preimage.load_result(tmp_path / "both")
    assert both.labels == ["cat seed 2", "cat seed 5"]
    run("invert", photos / "cat.png", *NET, "--seed", "5", "-o", tmp_path / "one", *QUICK)
    assert both.images[1].equal(preimage.load_result(tmp_path / "one").images[0])


@pytest.mark.parametrize(
    ("more", "text"), [(["--seeds", "7-2"], "0-7, or 0,3,9"), (["--seeds", "1,2", "--seed", "3"], "takes the place of")]
)
def test_seeds_that_say_nothing_or_too_much_are_refused(more, text, photos, tmp_path):
    done = run("invert", photos / "cat.png", *NET, *more, "-o", tmp_path / "out", *QUICK)
    assert (done.exit_code, text in " ".join(done.stderr.replace("│", " ").split())) == (2, True), done.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_becomes_a_store_with_the_images_of_the_single_command(study, photos, tmp_path):
    records = Store.open(study, create=False).records(status="done")
    assert sorted((r.config["image"], r.config["seed"]) for r in records) == [("bird", 0), ("bird", 1), ("cat", 0), ("cat", 1)]
    run("invert", photos / "cat.png", *NET, "--seed", "1", "-o", tmp_path / "one", *QUICK)
    (record,) = [r for r in records if (r.config["image"], r.config["seed"]) == ("cat", 1)]
    assert Store.open(study).result(record.key).images.equal(preimage.load_result(tmp_path / "one").images)
    again = run("invert", photos, *NET, "--seeds", "0-1", "-o", study, *QUICK)
    assert "0 jobs done, 4 were there already" in again.stdout


def test_a_folder_is_inverted_by_the_default_of_the_layer_as_one_picture_is(photos, tmp_path):
    run("invert", photos / "cat.png", "--layer", "fire4", "--size", "64", "--iterations", "2", "-q", "-o", tmp_path / "one")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes((photos / "cat.png").read_bytes())
    done = run("invert", tmp_path / "photos", "--layer", "fire4", "--size", "64", "--iterations", "2", "-q", "-o", tmp_path / "store")
    assert done.exit_code == 0, done.output
    (record,) = Store.open(tmp_path / "store").records()
    one = preimage.load_result(tmp_path / "one")
    assert record.config.get("recipe") == one.config.get("recipe")
    assert Store.open(tmp_path / "store").result(record.key).images.equal(one.images)


def test_one_bad_picture_costs_no_other(photos, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes((photos / "cat.png").read_bytes())
    (tmp_path / "photos" / "broken.png").write_text("no picture")
    done = run("invert", tmp_path / "photos", *NET, "-o", tmp_path / "out", *QUICK)
    assert done.exit_code == 1
    assert "1 jobs done" in done.stdout and "broken.png" in done.stderr
    assert len(Store.open(tmp_path / "out").records(status="done")) == 1


def test_the_export_has_readable_names_and_a_row_an_image_with_settings_and_numbers(study, tmp_path):
    done = run("export", study, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    rows = rows_of(tmp_path / "out")
    assert sorted(row["file"] for row in rows) == [f"2-{name}-C100-seed{s}.png" for name in ("bird", "cat") for s in (0, 1)]
    assert all((tmp_path / "out" / row["file"]).is_file() for row in rows)
    for row in rows:
        assert (row["network"], row["layer"], float(row["C"])) == ("tests.tiny:build", "2", 100.0)
        assert float(row["error"]) > 0 and float(row["energy"]) > 0 and len(row["key"]) == 64
        _, _, levels = opened(tmp_path / "out" / row["file"])
        assert abs((levels @ [0.298936, 0.587043, 0.114021]).mean() - float(row["mean"])) < 0.5  # of rounding to 8 bits


def test_equal_means_the_same_mean_and_contrast_for_all_and_grey_one_channel(study, tmp_path):
    rows = export(study, tmp_path / "out", Look(grey=True, alike=True, size=12))
    for row in rows:
        assert opened(tmp_path / "out" / row["file"])[:2] == ("L", (12, 12))
        assert abs(row["mean"] - rows[0]["mean"]) < 0.2 and abs(row["contrast"] - rows[0]["contrast"]) < 0.2
    rows = export(study, tmp_path / "asked", Look(mean=128, contrast=30))
    assert all(abs(row["mean"] - 128) < 0.2 and abs(row["contrast"] - 30) < 0.2 for row in rows)
    levels = opened(tmp_path / "asked" / rows[0]["file"])[2] @ [0.298936, 0.587043, 0.114021]
    assert abs(levels.mean() - 128) < 0.7 and abs(levels.std() - 30) < 0.7  # of rounding to 8 bits


def test_a_result_is_exported_too_and_settings_choose_among_a_store_s(study, photos, tmp_path):
    run("maximize", "-u", "1", *NET, "--seeds", "0-1", "-o", tmp_path / "max", *QUICK)
    rows = export(tmp_path / "max", tmp_path / "a")
    assert [row["file"] for row in rows] == ["unit-1-seed-0.png", "unit-1-seed-1.png"] and all(
        row["activation"] is not None for row in rows
    )
    assert len(export(study, tmp_path / "b", image="cat")) == 2
    with pytest.raises(preimage.InputError, match="holds no finished image"):
        export(study, tmp_path / "c", image="dog")
    assert not (tmp_path / "c").exists()


def test_who_names_the_zip_of_a_result_is_told_to_unpack_it(tmp_path):
    packed = tmp_path / "preimage-maximize-fire8.zip"
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("preimage-maximize-fire8/result.json", "{}")
    told = run("export", packed, "-o", tmp_path / "out")
    assert told.exit_code == 1 and "python -m zipfile -e preimage-maximize-fire8.zip ." in told.stderr
    assert "is no store of results. It is a zip" in told.stderr  # and no word of the commands that make stores
    with pytest.raises(preimage.ResultFolderError, match=r"no whole result .* It is a zip: unpack it"):
        preimage.load_result(packed)


def test_an_export_replaces_its_own_earlier_files_alone_and_never_what_it_reads(study, tmp_path):
    assert run("export", study, "-o", tmp_path / "out").exit_code == 0
    (tmp_path / "out" / "notes.txt").write_text("mine")
    refused = run("export", study, "-o", tmp_path / "out", "--where", "image=cat")
    assert refused.exit_code == 1 and "--overwrite" in refused.stderr
    done = run("export", study, "-o", tmp_path / "out", "--where", "image=cat", "--grey", "--overwrite")
    assert done.exit_code == 0, done.output
    cats = [f"2-cat-C100-seed{s}.png" for s in (0, 1)]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [*cats, "export.json", "images.csv", "notes.txt"]
    made = json.loads((tmp_path / "out" / "export.json").read_text())
    assert made["source"] == str(study) and made["look"]["grey"] is True
    itself = run("export", study, "-o", study, "--overwrite")
    assert itself.exit_code == 2 and "Name another folder" in itself.stderr


def test_numbers_that_no_picture_has_are_refused(study, tmp_path):
    for look in (["--mean", "300"], ["--contrast", "200"], ["--size", "0"]):
        assert run("export", study, "-o", tmp_path / "out", *look).exit_code == 2
    assert not (tmp_path / "out").exists()


def test_lists_in_the_table_are_json(study, photos, tmp_path):
    run("invert", photos / "cat.png", *NET, "--prior", "none", "-o", tmp_path / "one", *QUICK)
    export(tmp_path / "one", tmp_path / "out")
    (row,) = rows_of(tmp_path / "out")
    assert isinstance(json.loads(row["files"]), list)
