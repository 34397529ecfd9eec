"""The natural examples of a unit: crops kept in the pass, sources of images, the sample of activations."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import numpy as np
import PIL.Image
import pytest
import torch
from typer.testing import CliRunner

from preimage.cli import app
from preimage.errors import InputError, MissingExtra
from preimage.schemas import schema
from preimage.statistics import Keep, collect_statistics, load_statistics
from preimage.statistics.sources import find, hugging_face

from . import planted


@pytest.fixture(scope="module")
def module():
    return planted.build()[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return planted.write(tmp_path_factory.mktemp("planted") / "in")


def collect(module, images, path=None, **options):
    keep = Keep(**{k: options.pop(k) for k in ("crops", "sample", "places", "seed") if k in options})
    return collect_statistics(module, images, path, space=planted.SPACE, progress=False, keep=keep, **{"batch": 3, "top": 4} | options)


def kinds(stats, layer, channel):
    return {Path(t.image).name.rpartition("-")[0] for t in stats.top(layer, channel)}


def test_the_examples_of_a_channel_show_what_it_was_built_to_answer_to(module, folder):
    stats = collect(module, folder)
    assert [kinds(stats, "3", k) for k in range(3)] == [{"red-vertical"}, {"red-horizontal"}, {"green-vertical"}]
    for found in stats.top("3", 0):
        top, left, bottom, right = found.box
        assert (bottom - top, right - left) == (13, 13)
        assert found.digest == hashlib.sha256(Path(found.image).read_bytes()).hexdigest()
        original = np.asarray(PIL.Image.open(found.image).convert("RGB"))[top:bottom, left:right]
        crop = np.asarray(found.pil())
        assert crop.shape == original.shape
        assert np.abs(crop.astype(float) - original).mean() < 8  # what JPEG takes away
        assert crop[..., 0].mean(axis=0).std() > 3 * crop[..., 0].mean(axis=1).std()  # stripes that run down


def test_the_crop_is_what_the_unit_sees_and_nothing_beside_it(module, folder):
    found = collect(module, folder).top("3", 0)[0]
    top, left, bottom, right = found.box
    x = planted.SPACE.encode(found.image)
    only = torch.zeros_like(x)
    only[..., top:bottom, left:right] = x[..., top:bottom, left:right]
    with torch.no_grad():
        assert module(planted.SPACE.to_network(only))[0, 0][found.place].item() == pytest.approx(found.value, rel=1e-5)


def test_a_layer_that_sees_the_whole_image_has_whole_images_made_smaller(module, folder):
    whole = torch.nn.Sequential(module, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    found = collect(whole, folder, crops=16).top("2", 0)[0]
    assert found.box == (0, 0, 32, 32) and found.pil().size == (16, 16)


def test_crops_are_at_most_k_a_channel_and_are_shared(module, folder):
    stats = collect(module, folder, batch=1, layers=["2", "3"])
    needed = {(t.image, t.box) for layer in stats for k in range(4) for t in stats.top(layer, k)}
    assert len(stats.examples.kept) == len(needed) <= 4 * 4 * 2
    assert not collect(module, folder, crops=0).top("3", 0)[0].jpeg
    with pytest.raises(InputError, match=r"collect them again with keep=Keep\(crops=64\)"):
        collect(module, folder, crops=0).top("3", 0)[0].pil()


def test_examples_and_sample_survive_their_file_and_merge_as_if_they_had_been_one(module, folder, tmp_path):
    files = sorted(folder.iterdir())
    options = {"batch": 1, "sample": 30, "places": 3, "seed": 5}
    whole = collect(module, files, tmp_path / "s.safetensors", **options)
    read = load_statistics(tmp_path / "s.safetensors")
    a, b = (collect(module, part, **options) for part in (files[:7], files[7:]))
    for other in (read, a.merge(b)):
        assert other.images == whole.images and other.digests == whole.digests
        assert other.examples.kept == whole.examples.kept
        assert all(torch.equal(t, other.sample.tensors()[k]) for k, t in whole.sample.tensors().items())
    other = b.merge(a)  # another order of the images, the same choice
    assert [t.jpeg for t in other.top("3", 0)] == [t.jpeg for t in whole.top("3", 0)]
    assert torch.equal(other.sample.vectors["3"], whole.sample.vectors["3"])
    with pytest.raises(InputError, match="different sample"):
        whole.merge(collect(module, files, sample=29, places=3, seed=5))


def test_a_sample_is_made_of_true_activations_at_the_same_places_of_all_layers(module, folder):
    stats = collect(module, folder, sample=40, places=3, seed=1)
    sample = stats.sample
    assert sample.drawn.shape == (40, 2) and {n: tuple(v.shape) for n, v in sample.vectors.items()} == dict.fromkeys("0123", (40, 4))
    for row in (0, 17, 39):
        x = planted.SPACE.to_network(planted.SPACE.encode(stats.images[int(sample.drawn[row, 1])]))
        with torch.no_grad():
            early, late = module[:2](x)[0], module(x)[0]
        for features, name in ((early, "1"), (late, "3")):
            at = [int(s * n) for s, n in zip(sample.spots[row].tolist(), features.shape[1:], strict=True)]
            torch.testing.assert_close(sample.vectors[name][row], features[:, at[0], at[1]], rtol=1e-4, atol=1e-5)
    assert torch.equal(collect(module, folder, sample=40, places=3, seed=1, batch=7).sample.drawn, sample.drawn)
    assert not torch.equal(collect(module, folder, sample=40, places=3, seed=2).sample.drawn, sample.drawn)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("crops-index", torch.tensor([[0, 0, 0, 13, 13, 0, 10**9]]), "not in its file"),
        ("crops-index", torch.tensor([[99, 0, 0, 13, 13, 0, 1]]), "not in its file or not in its image"),
        ("crops-index", torch.tensor([[0, 0, 0, 33, 13, 0, 1]]), "not in its image"),
        ("crops-index", torch.zeros(3, 2, dtype=torch.int64), "no list of files"),
        ("sample-drawn", torch.full((4, 2), 77), "does not fit"),
        ("sample:3", torch.zeros(4, 9), "does not fit"),
    ],
)
def test_crops_and_samples_that_were_tampered_with_are_refused(module, folder, tmp_path, name, value, reason):
    from .test_stats import rewritten

    path = tmp_path / "s.safetensors"
    collect(module, sorted(folder.iterdir())[:2], path, sample=4, layers=["3"])
    rewritten(path, lambda record: None, {name: value})
    with pytest.raises(InputError, match=reason):
        load_statistics(path)


def test_a_crop_that_is_no_picture_is_refused_in_words(module, folder):
    stats = collect(module, sorted(folder.iterdir())[:2], layers=["3"])
    for key in stats.examples.kept:
        stats.examples.kept[key] = b"no picture"
    with pytest.raises(InputError, match="crop cannot be read"):
        stats.top("3", 0)[0].pil()


def shard(path, folder):
    with tarfile.open(path, "w") as tar:
        for k, file in enumerate(sorted(folder.iterdir())):
            for name, data in ((f"{k:05}.png", file.read_bytes()), (f"{k:05}.cls", b"3")):
                info = tarfile.TarInfo(name if k else f"../../{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def test_lists_and_tars_give_the_same_numbers_as_the_folder(module, folder, tmp_path):
    whole = collect(module, folder)
    listed = tmp_path / "all.txt"
    listed.write_text("# the planted pictures\n\n" + "\n".join(map(str, sorted(folder.iterdir()))))
    tar = shard(tmp_path / "shard.tar", folder)
    for images in (listed, [tar], [PIL.Image.open(p).convert("RGB") for p in sorted(folder.iterdir())]):
        stats = collect(module, images, workers=int(images == [tar]))
        assert torch.equal(stats["3"].max, whole["3"].max)
        assert [t.jpeg for t in stats.top("3", 1)] == [t.jpeg for t in whole.top("3", 1)]
    in_tar = collect(module, tar)
    assert in_tar.digests == whole.digests
    assert in_tar.images[0] == f"{tar}/../../00000.png"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.txt", "shard.tar"]  # nothing is unpacked


def test_a_data_set_of_rows_is_taken_as_it_is(module, folder):
    files = sorted(folder.iterdir())

    class Rows:
        def __len__(self):
            return len(files)

        def __getitem__(self, k):
            return {"label": 3, "image": PIL.Image.open(files[k]).convert("RGB")}

    stats = collect(module, Rows())
    assert torch.equal(stats["3"].max, collect(module, folder)["3"].max) and stats.images[0] == "row 0"


def test_sources_that_cannot_be_used_say_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "gone.txt").write_text("gone.png\n")
    (tmp_path / "cut.tar").write_bytes(b"no tar")
    with tarfile.open(tmp_path / "text.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("a.txt"))
    for name, reason in [("empty.txt", "names no file"), ("gone.txt", "no file"), ("cut.tar", "no tar"), ("text.tar", "no picture")]:
        with pytest.raises(InputError, match=reason):
            find(tmp_path / name)
    with pytest.raises(InputError, match="a column image"):
        find(torch.utils.data.TensorDataset(torch.zeros(2)))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"package datasets, the extra preimage\[datasets\]"):
        hugging_face("beans")


@pytest.mark.parametrize(("file", "opened"), [("dataset_dict.json", "disk, train"), ("state.json", "disk"), ("README.md", "hub, train")])
def test_a_data_set_that_was_kept_in_a_folder_is_opened_as_it_was_kept(tmp_path, monkeypatch, file, opened):
    """The files are those that the package's `save_to_disk` writes; with version 3.6 itself all three were tried."""
    (tmp_path / file).write_text("{}")
    kept = {"train": "disk, train"} if file == "dataset_dict.json" else "disk"
    package = SimpleNamespace(load_from_disk=lambda name: kept, load_dataset=lambda name, split: f"hub, {split}")
    monkeypatch.setitem(sys.modules, "datasets", package)
    assert hugging_face(str(tmp_path)) == opened


def test_an_entry_of_a_tar_that_is_too_large_is_left_out_and_named(module, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("preimage.statistics.sources.LARGEST", 10)
    with pytest.raises(InputError, match="more than 10"):
        collect(module, shard(tmp_path / "shard.tar", folder))


def test_the_command_collects_examples_and_a_sample(folder, tmp_path, monkeypatch):
    out = tmp_path / "s.safetensors"
    arguments = ["tests.planted:build", folder, "--crops", 16, "--sample", 8, "--seed", 3, "-o", out, "--json"]
    for name in ("statistics", "stats"):  # the second is the older name
        found = CliRunner().invoke(app, [str(a) for a in (name, *arguments)])
        jsonschema.validate(json.loads(found.stdout), schema("statistics"))
        assert found.exit_code == 0 and json.loads(found.stdout)["layers"][0]["channels"] == 4, found.output
    stats = load_statistics(out)
    assert len(stats.sample.drawn) == 8 and stats.about["crops"] == 16 and stats.top("2", 0)[0].pil().size == (13, 13)
    refused = CliRunner().invoke(app, ["statistics", "squeezenet1_1", "-o", str(out)])
    assert refused.exit_code == 2 and "Give images, or --dataset NAME" in refused.output
