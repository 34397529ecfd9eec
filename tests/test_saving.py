"""What was computed is not lost when it is saved, nothing that is not ours is touched, and what is there is on the disk."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from pathlib import Path

import PIL.Image
import pytest
import torch
from typer.testing import CliRunner

from preimage.cli import app, common
from preimage.errors import PreimageWarning, ResultFolderError
from preimage.files import atomic_write
from preimage.tasks import result as result_module
from preimage.tasks.folders import own_files
from preimage.tasks.result import Result, file_names, load_result

from .patching import patch_os


def made(label: str = "a", value: float = 1.0) -> Result:
    trace = torch.linspace(9, value, 5)[:, None]
    image = torch.full((1, 3, 8, 8), 100.0 * value)
    config = {"solver": "fast"}
    return Result("invert", image, torch.tensor([0.1]), None, {"total": trace[-1]}, {"total": trace}, 5, [label], [0], ["ok"], config)


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    monkeypatch.setattr(result_module, "plot_energy", lambda result, path: path.write_bytes(b"a drawing"))


@pytest.fixture
def photo(tmp_path) -> Path:
    path = tmp_path / "photo.png"
    PIL.Image.new("RGB", (30, 30), "teal").save(path)
    return path


def command(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


def full(*args, **more):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    "record", ["{}", '{"preimage": 2, "files": []}', '{"files": ["a"]}', "[]", "no json", '{"preimage": 1}', "[" * 10**5]
)
def test_a_folder_whose_record_is_not_ours_is_never_replaced(tmp_path, record):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.json").write_text(record)
    (tmp_path / "out" / "thesis.tex").write_text("mine")
    with pytest.raises(ResultFolderError, match="holds other files"):
        made().save(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "mine" and (tmp_path / "out" / "result.json").read_text() == record


def test_replacing_a_result_removes_its_own_files_and_keeps_all_others(tmp_path):
    out = made("first").save(tmp_path / "out")
    (out / "notes").mkdir()
    (out / "notes" / "a.txt").write_text("mine")
    (out / ".hidden").write_text("mine")
    (out / "link").symlink_to(tmp_path / "elsewhere")
    made("second").save(out, overwrite=True)
    assert sorted(p.name for p in out.iterdir()) == [
        ".hidden", "energy.png", "link", "notes", "result.json", "second.png", "tensors.safetensors",
    ]  # fmt: skip
    assert (out / "notes" / "a.txt").read_text() == "mine" and load_result(out).labels == ["second"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_file_that_is_not_the_results_is_not_covered_by_one_that_is(tmp_path):
    out = made("first").save(tmp_path / "out")
    (out / "second.png").write_text("mine")
    with pytest.raises(ResultFolderError, match=r"'second\.png', which is no file of its result"):
        made("second").save(out, overwrite=True)
    assert (out / "second.png").read_text() == "mine" and load_result(out).labels == ["first"]


def test_a_record_that_lists_files_elsewhere_removes_none_of_them(tmp_path):
    (tmp_path / "precious").write_text("mine")
    out = made().save(tmp_path / "out")
    record = json.loads((out / "result.json").read_text())
    record["files"] += ["../precious", str(tmp_path / "precious"), ".", "..", "", None, {}, "energy.png/../../precious"]
    (out / "result.json").write_text(json.dumps(record))
    made("b").save(out, overwrite=True)
    assert (tmp_path / "precious").read_text() == "mine" and load_result(out).labels == ["b"]


def test_a_link_stays_a_link_and_its_target_is_what_is_replaced(tmp_path):
    made("first").save(tmp_path / "deep" / "target")
    (tmp_path / "out").symlink_to(tmp_path / "deep" / "target")
    made("second").save(tmp_path / "out", overwrite=True)
    assert (tmp_path / "out").is_symlink() and load_result(tmp_path / "deep" / "target").labels == ["second"]
    assert own_files(tmp_path / "out") == ["second.png", "energy.png", "tensors.safetensors", "result.json"]
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(ResultFolderError):
        made().save(tmp_path / "circle")


def test_every_file_of_a_result_can_be_read_by_others(tmp_path):
    out = made().save(tmp_path / "out")
    assert {stat.S_IMODE(p.stat().st_mode) for p in out.iterdir()} == {0o666 & ~umask()}


def umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


@pytest.mark.parametrize("label", ["caf\udce9", "\ud800", "名" * 200, "é" * 500, "a..b", "." * 300, "\x00\n"])
def test_a_result_with_any_name_is_saved_and_replaced(tmp_path, label):
    for _ in range(2):
        out = made(label).save(tmp_path / "out", overwrite=True)
    assert len(list(out.glob("*.png"))) == 2
    load_result(out).labels[0].encode()
    assert all(len(os.fsencode(name)) < 200 for name in file_names([label] * 3))


def test_tensors_that_share_their_memory_are_saved(tmp_path):
    one = made()
    one.trace["loss"] = one.trace["total"]
    assert torch.equal(load_result(one.save(tmp_path / "out")).trace["loss"], one.trace["total"])


def test_a_drawing_or_a_film_that_fails_costs_only_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(result_module, "plot_energy", lambda *a: 1 / 0)
    monkeypatch.setattr(result_module, "write_video", lambda *a: 1 / 0)
    one = made()
    one.frames = [one.images]
    with pytest.warns(PreimageWarning, match="left out") as told:
        out = one.save(tmp_path / "out", video="gif")
    assert len(told) == 2
    assert sorted(json.loads((out / "result.json").read_text())["files"]) == ["a.png", "tensors.safetensors"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="tells which file is meant by a number")
def test_everything_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    events = []
    real = {name: getattr(os, name) for name in ("fsync", "rename", "replace")}

    def watched(name):
        def call(first, *rest):
            events.append((name, str(Path(f"/proc/self/fd/{first}").readlink()) if name == "fsync" else str(first)))
            return real[name](first, *rest)

        return call

    for name in real:
        patch_os(monkeypatch, name, watched(name))
    made().save(tmp_path / "out")
    renamed = next(k for k, e in enumerate(events) if e[0] == "rename")
    part = events[renamed][1]
    synced = {path for name, path in events[:renamed] if name == "fsync"}
    assert synced >= {part, *(f"{part}/{n}" for n in ("a.png", "energy.png", "tensors.safetensors", "result.json"))}
    assert ("fsync", str(tmp_path)) in events[renamed:]
    events.clear()
    with atomic_write(tmp_path / "file") as file:
        file.write(b"x")
    assert [name for name, _ in events] == ["fsync", "replace", "fsync"]


@pytest.mark.parametrize("failing", ["replace", "fsync", "chmod"])
def test_a_file_that_cannot_be_written_leaves_nothing_and_says_why(tmp_path, monkeypatch, failing):
    patch_os(monkeypatch, failing, full)
    with pytest.raises(ResultFolderError, match="cannot be written: No space left on device"), atomic_write(tmp_path / "x") as file:
        file.write(b"x")
    assert list(tmp_path.iterdir()) == []


SMALL = ("--layer", "conv1", "--iterations", "1", "-q")


def test_a_result_that_cannot_be_saved_where_it_should_is_kept_elsewhere_and_said(photo, tmp_path, monkeypatch):
    real, spare = result_module.new_folder, tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setattr(common, "_SPARE", (lambda: tmp_path / "absent", lambda: spare))
    monkeypatch.setattr(result_module, "new_folder", lambda d, overwrite: full() if d == tmp_path / "out" else real(d, overwrite))
    done = command("invert", photo, *SMALL, "-o", tmp_path / "out")
    (kept,) = spare.iterdir()
    assert (
        done.exit_code == 1 and f"No space left on device. Make room, or name another place. The result is kept in {kept}/" in done.stderr
    )
    assert load_result(kept).task == "invert" and not (tmp_path / "out").exists()
    monkeypatch.setattr(result_module, "new_folder", full)
    done = command("invert", photo, *SMALL, "-o", tmp_path / "out")
    assert done.exit_code == 1 and "It is lost" in done.stderr and done.stderr.count("\n") == 1
    assert list(spare.iterdir()) == [kept]


def test_a_film_that_cannot_be_made_here_is_said_before_the_work(photo, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    monkeypatch.setattr("preimage.cli.tasks.load", lambda *a: pytest.fail("the network was loaded"))
    done = command("invert", photo, *SMALL, "-o", tmp_path / "out", "--video", "mp4")
    assert done.exit_code == 1 and "preimage[video]" in done.stderr and not (tmp_path / "out").exists()


def test_a_wrong_path_costs_no_loading_of_a_network(photo, tmp_path, monkeypatch):
    monkeypatch.setattr("preimage.cli.tasks.load", lambda *a: pytest.fail("the network was loaded"))
    for task in ("invert", "caricature"):
        done = command(task, photo, tmp_path / "phto.png", *SMALL, "-o", tmp_path / "out")
        assert done.exit_code == 1 and "There is no file" in done.stderr


def test_the_record_says_which_file_was_inverted_also_where_its_name_is_no_unicode(photo, tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.png"))
    odd.write_bytes(photo.read_bytes())
    done = command("invert", photo, odd, *SMALL, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    files = load_result(tmp_path / "out").config["files"]
    assert [Path(f["path"]).name for f in files] == ["photo.png", "caf?.png"] and files[0]["sha256"] == files[1]["sha256"]


def test_an_earlier_result_is_not_replaced_and_the_option_that_would_is_named(photo, tmp_path):
    made().save(tmp_path / "out")
    done = command("invert", photo, *SMALL, "-o", tmp_path / "out")
    assert done.exit_code == 1 and "--overwrite, overwrite=True in Python" in done.stderr
