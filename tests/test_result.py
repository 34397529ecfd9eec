"""A result's folder: complete or absent, read back as it was, never over somebody's files."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import preimage
from preimage.errors import InputError, MissingExtra, ResultFolderError
from preimage.tasks import result as result_module
from preimage.tasks.result import check_folder, file_names, load_result, write_video


@pytest.fixture(scope="module")
def result():
    phi = preimage.from_callable(lambda x: x.mean(dim=(2, 3)), preimage.PixelSpace((10, 13), "rgb"))
    return preimage.maximize(phi, [0, 1, 2], iterations=6, monitor=preimage.Monitor(frames=2), progress=False)


@pytest.fixture(scope="module")
def inversion():
    phi = preimage.from_callable(lambda x: x * 2, preimage.PixelSpace(8, "grey"))
    return preimage.invert(phi, np.full((8, 8), 90, np.uint8), iterations=6, progress=False)


def test_a_folder_holds_everything_and_is_read_back_as_it_was(result, inversion, tmp_path):
    folder = result.save(tmp_path / "deep" / "out")
    names = sorted(p.name for p in folder.iterdir())
    assert names == ["energy.png", "result.json", "tensors.safetensors", "unit-0.png", "unit-1.png", "unit-2.png"]
    record = json.loads((folder / "result.json").read_text())
    assert sorted(record["files"]) == sorted(n for n in names if n != "result.json")
    assert record["seeds"] == result.seeds
    assert {"versions", "weights_sha256", "C", "solver"} <= set(record["config"])
    with PIL.Image.open(folder / "unit-1.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(result.pil()[1]))
    with PIL.Image.open(folder / "energy.png") as picture:
        assert np.asarray(picture.convert("L")).std() > 10  # there is a curve
    for one in (result, inversion):
        back = load_result(one.save(tmp_path / one.task))
        assert bool((back.images == one.images).all())
        assert (back.labels, back.seeds, back.status, back.config) == (one.labels, one.seeds, one.status, one.config)
        for name in one.energy:
            assert bool((back.energy[name] == one.energy[name]).all())
            assert bool((back.trace[name] == one.trace[name]).all())
        assert (back.error is None) == (one.error is None)
    assert (tmp_path / "invert" / "image-original.png").exists()


def test_folders_are_readable_by_others_and_no_part_stays(result, tmp_path):
    folder = result.save(tmp_path / "out")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_earlier_result_is_replaced_only_when_asked_and_other_files_never(result, inversion, tmp_path):
    result.save(tmp_path / "out")
    with pytest.raises(ResultFolderError, match="holds a result already"):
        inversion.save(tmp_path / "out")
    assert load_result(tmp_path / "out").task == "maximize"
    inversion.save(tmp_path / "out", overwrite=True)
    assert load_result(tmp_path / "out").task == "invert"
    assert not (tmp_path / "out" / "unit-0.png").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(ResultFolderError, match="holds other files"):
            result.save(tmp_path / "mine", overwrite=overwrite)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ResultFolderError, match="is a file"):
        result.save(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert result.save(tmp_path / "empty").is_dir()


def test_a_full_disk_leaves_no_half_result_and_keeps_the_earlier_one(result, tmp_path, monkeypatch):
    result.save(tmp_path / "out")

    def full(self, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(result_module.Result, "_write_tensors", full)
    for name in ("out", "new"):
        with pytest.raises(ResultFolderError, match="No space left on device"):
            result.save(tmp_path / name, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert load_result(tmp_path / "out").task == "maximize"


def test_a_folder_that_cannot_be_written_is_told_before_the_work(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ResultFolderError, match="Name a folder that can be written"):
        check_folder(tmp_path / "file" / "out", False)
    check_folder(tmp_path / "a" / "b", False)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]  # asking leaves nothing


def test_what_is_no_result_is_not_read(result, tmp_path):
    with pytest.raises(ResultFolderError, match="no whole result"):
        load_result(tmp_path)
    folder = result.save(tmp_path / "out")
    (folder / "tensors.safetensors").write_bytes(b"damaged")
    with pytest.raises(ResultFolderError, match="no whole result"):
        load_result(folder)


@given(st.lists(st.text(max_size=30), min_size=1, max_size=6))
def test_any_labels_become_distinct_names_inside_the_folder(labels):
    names = file_names(labels)
    assert len({n.lower() for n in names}) == len(labels)
    for name in names:
        assert Path(name).name == name
        assert not name.startswith((".", "-"))


def test_films_in_both_forms(result, inversion, tmp_path):
    assert len(result.frames) == 4
    folder = result.save(tmp_path / "gif", video="gif")
    with PIL.Image.open(folder / "frames.gif") as film:
        assert film.n_frames > 1
        assert film.size == (26, 20)
    pytest.importorskip("imageio_ffmpeg")
    folder = result.save(tmp_path / "mp4", video="mp4")
    assert (folder / "frames.mp4").read_bytes()[4:8] == b"ftyp"
    with pytest.raises(InputError, match="No frames were kept"):
        write_video(inversion, tmp_path / "a.gif")
    with pytest.raises(InputError, match="mp4 or gif"):
        write_video(result, tmp_path / "a.avi")


def test_without_ffmpeg_the_extra_is_named(result, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "imageio_ffmpeg", None)
    with pytest.raises(MissingExtra, match=r"preimage\[video\]"):
        result.save(tmp_path / "out", video="mp4")
    assert list(tmp_path.iterdir()) == []


def test_many_channels_are_kept_as_tensors(tmp_path):
    phi = preimage.from_callable(lambda x: x.mean(dim=(2, 3)), preimage.PixelSpace(6, 5))
    r = preimage.maximize(phi, 4, iterations=4, progress=False)
    folder = r.save(tmp_path / "out")
    assert sorted(p.name for p in folder.iterdir()) == ["energy.png", "result.json", "tensors.safetensors"]
    assert load_result(folder).images.shape == (1, 5, 6, 6)
    assert "Result(maximize" in r._repr_html_()


def test_names_are_escaped_where_they_are_shown(result):
    evil = preimage.Result(**{**vars(result), "labels": ["<script>alert(1)</script>"] * 3})
    assert "<script>" not in evil._repr_html_()


def test_the_page_escapes_names_and_holds_its_pictures(result, tmp_path):
    from preimage.report import Section, write_page

    evil = preimage.Result(**{**vars(result), "labels": ["<script>alert(1)</script>"] * 3})
    page = write_page(tmp_path / "index.html", "a <title>", "text", [Section("heading", "text", [evil])]).read_text()
    assert "<script>alert" not in page and "a &lt;title&gt;" in page
    assert page.count("data:image/png;base64,") == 3
    assert 'class="line s0"' in page  # the energy, drawn
    assert not re.search(r"(src|href)=.?http", page)
    assert torch.__version__ in page
