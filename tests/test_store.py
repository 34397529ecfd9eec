"""The store: keys, folders that are whole or not there, the table and the files, claims."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
import torch

import preimage
from preimage.energy.fourier import Fourier
from preimage.energy.losses import LOSSES, InnerProduct
from preimage.energy.margin import Distinguish
from preimage.energy.parameterizations import Pixels
from preimage.energy.regularizers import AlphaNorm, TVBeta
from preimage.energy.resampling import RandomView
from preimage.energy.transforms import Jitter
from preimage.errors import InputError, ResultFolderError
from preimage.metrics import METRICS
from preimage.networks.network import NETWORKS
from preimage.solvers.methods import Adam, Paper
from preimage.studies import jobs
from preimage.studies.claims import claims_of
from preimage.studies.jobs import Job, execute
from preimage.studies.measure import measure_store
from preimage.studies.store import Store
from preimage.tasks import result as result_module
from preimage.tasks.result import Result

from .stores import leftovers, small_jobs


@pytest.fixture(scope="module")
def outcomes():
    """Three jobs with their outcomes, computed once."""
    wanted = small_jobs(3)
    return [(job, execute([job], [None])[0]) for job in wanted]


@pytest.fixture
def store(tmp_path, outcomes):
    made = Store.open(tmp_path / "store")
    for job, outcome in outcomes[:2]:
        made.save(job, outcome.result, outcome.metrics, outcome.seconds)
    made.fail(outcomes[2][0], "OutOfMemoryError: too large")
    return made


def test_a_key_changes_with_every_setting_that_changes_the_image_and_with_no_name():
    job = small_jobs(1)[0]
    changes = {
        "C": 5.0, "layer": "fire2", "unit": 4, "restart": 1, "seed": 1, "beta": 1.0, "regularized": False, "jitter": 2, "canvas": 31,
        "solver": "paper", "iterations": 4, "Z": 2.0, "leak": 0.1, "quirks": ("no-mean",), "weights_sha256": "0" * 64,
        "experiment": "other",
        "everywhere": True, "dtype": "float64", "precision": "bfloat16",
    }  # fmt: skip
    keys = [replace(job, **{name: value}).key for name, value in changes.items()]
    assert len({job.key, *keys}) == len(changes) + 1
    assert {replace(job, name="frog", image="photo", variant="v").key, job.key} == {job.key}


def test_a_setting_that_is_added_later_changes_no_key_until_it_is_used():
    @dataclass(frozen=True, kw_only=True)
    class Later(Job):
        sharpness: float = 1.0

    job = small_jobs(1)[0]
    settings = {f.name: getattr(job, f.name) for f in fields(job)}
    assert Later(**settings).key == job.key
    assert Later(**settings, sharpness=2.0).key != job.key


def test_a_key_changes_with_the_revision_of_a_class_that_decides_the_image_and_with_no_other(monkeypatch):
    job = replace(small_jobs(1)[0], solver="paper")
    before = job.key
    monkeypatch.setattr(Adam, "revision", 7, raising=False)
    assert replace(job).key == before  # it does not run here
    monkeypatch.setattr(Paper, "revision", 7, raising=False)
    assert replace(job).key != before
    monkeypatch.undo()
    for cls in (TVBeta, AlphaNorm, Jitter, Pixels, InnerProduct):
        with monkeypatch.context() as patch:
            patch.setattr(cls, "revision", 7, raising=False)
            assert replace(job).key != before, cls
    assert replace(job).key == before


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"objective": ("match:loss=cosine",)}, LOSSES["cosine"]),
        ({"objective": ("gram",)}, LOSSES["gram"]),
        ({"recipe": "preimage2026"}, Distinguish),
        ({"recipe": "preimage2026"}, LOSSES["margin"]),
        ({"recipe": "preimage2026"}, Fourier),
        ({"recipe": "preimage2026"}, RandomView),
    ],
)
def test_a_key_changes_with_the_revision_of_the_losses_of_objectives_and_of_the_parts_of_a_recipe(settings, part, monkeypatch):
    job = small_jobs(1)[0]
    before = job.key
    used = replace(job, **settings).key
    monkeypatch.setattr(part, "revision", 7, raising=False)
    assert replace(job, **settings).key != used and replace(job).key == before


def test_several_objectives_have_the_revision_of_a_common_pass_in_their_key(monkeypatch):
    one, two = (replace(small_jobs(1)[0], objective=("match",) * n) for n in (1, 2))
    before = one.key, two.key
    monkeypatch.setattr(jobs, "PASS_REVISION", 7)
    assert replace(one).key == before[0] and replace(two).key != before[1]


def test_a_new_network_a_new_metric_and_another_docstring_change_no_key(monkeypatch):
    before = [job.key for job in small_jobs(3)]
    monkeypatch.setattr(NETWORKS, "_entries", {**NETWORKS._entries, "dummy": NETWORKS["squeezenet1_1"]})
    monkeypatch.setattr(METRICS, "_entries", {**METRICS._entries, "brand-new": METRICS["psnr"]})
    monkeypatch.setattr(Paper, "__doc__", "Another sentence.")
    monkeypatch.setattr(result_module, "code_version", lambda: "of other sources")
    assert [job.key for job in small_jobs(3)] == before


def test_metrics_of_an_earlier_revision_are_taken_again_and_nothing_else_changes(tmp_path, monkeypatch):
    store = Store.open(tmp_path / "store")
    levels = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 255
    job = Job(experiment="e", task="invert", C=1.0, representation="hog", original=store.add_input(levels - 117, levels))
    result = Result(
        "invert", levels + 2, torch.ones(1), None, {"total": torch.ones(1)}, {"total": torch.ones(1, 1)}, 1, ["a"], [0], ["ok"], {}
    )
    store.save(job, result, {"error": 0.5, "psnr": 3.0, "ssim": 0.25}, 1.0)
    files = {p.name: p.read_bytes() for p in store.folder(job.key).iterdir() if p.name != "job.json"}
    assert store.record(job.key).measured == {"psnr": 1, "ssim": 1}
    monkeypatch.setattr(METRICS["psnr"], "revision", 2)
    assert measure_store(store).numbers == 3  # psnr again, naturalness and roughness for the first time
    found = Store.open(store.path).record(job.key)
    assert found.metrics["psnr"] > 40 and (found.metrics["ssim"], found.metrics["error"]) == (0.25, 0.5)
    assert (found.measured["psnr"], found.measured["ssim"]) == (2, 1) and found.key == job.key
    assert {p.name: p.read_bytes() for p in store.folder(job.key).iterdir() if p.name != "job.json"} == files
    assert measure_store(store).results == 0


def test_measuring_opens_no_network_of_somebody_else_s(tmp_path):
    store = Store.open(tmp_path / "store")
    levels = torch.full((1, 3, 16, 16), 90.0)
    sha = store.add_input(levels - 117, levels)
    job = Job(experiment="e", task="invert", C=1.0, network="os.path:join", layer="x", original=sha)
    result = Result("invert", levels, None, None, {"total": torch.ones(1)}, {"total": torch.ones(1, 1)}, 1, ["a"], [0], ["ok"], {})
    store.save(job, result, {}, 1.0)
    done = measure_store(store)
    assert "no network of this package" in done.left_out[job.key] and "psnr" in store.record(job.key).measured


def test_a_result_comes_back_bit_by_bit(store, outcomes):
    job, outcome = outcomes[0]
    found = store.result(job.key)
    assert torch.equal(found.images, outcome.result.images)
    assert torch.equal(found.trace["total"], outcome.result.trace["total"])
    record = store.record(job.key)
    assert (record.status, record.experiment, record.config["unit"]) == ("done", "small", 0)
    assert record.metrics == outcome.metrics
    assert record.picture.is_file() and record.created and record.seconds > 0
    assert not leftovers(store)


def test_a_photograph_is_kept_once_and_given_back_with_its_result(tmp_path):
    space = preimage.PixelSpace(16, "grey")
    x = space.encode(np.arange(256, dtype=np.uint8).reshape(16, 16))
    store = Store.open(tmp_path / "s")
    sha = store.add_input(x, space.decode(x))
    assert store.add_input(x, space.decode(x)) == sha
    assert sorted(p.suffix for p in (tmp_path / "s" / "inputs").iterdir()) == [".png", ".safetensors"]
    assert torch.equal(store.input(sha), x)
    job = Job(experiment="e", task="invert", C=100.0, representation="hog", original=sha, image="ramp", iterations=2)
    assert job.config()["original"] == f"inputs/{sha}.png"
    outcome = execute([job], [x])[0]
    store.save(job, outcome.result, outcome.metrics, 1.0)
    assert torch.equal(store.result(job.key).originals, x)
    assert set(outcome.metrics) >= {"error", "psnr", "ssim", "naturalness", "energy", "evaluations", "ok"}


def test_a_damaged_photograph_is_found_out(tmp_path):
    store = Store.open(tmp_path / "s")
    sha = store.add_input(torch.ones(1, 1, 4, 4))
    path = tmp_path / "s" / "inputs" / f"{sha}.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ResultFolderError, match="another hash"):
        store.input(sha)
    path.write_bytes(data[:20])
    with pytest.raises(ResultFolderError, match="missing or damaged"):
        store.input(sha)


def test_records_are_chosen_by_settings(store):
    assert len(store.records()) == 3
    assert [r.config["unit"] for r in store.records(status="done", layer="conv1")] == [0, 1]
    assert [r.config["unit"] for r in store.records(unit=1)] == [1]
    assert store.records(C=1e4, canvas=23, experiment="small", mask=None) == store.records()
    assert store.records(experiment="other") == []
    failed = store.records(status="failed")[0]
    assert failed.reason == "OutOfMemoryError: too large"
    with pytest.raises(ResultFolderError, match="failed and has no picture"):
        _ = failed.picture
    with pytest.raises(InputError, match="no name of a setting"):
        store.records(**{"unit') OR 1=1 --": 1})


def test_the_table_can_be_asked_in_plain_sql(store):
    with sqlite3.connect(store.path / "index.sqlite") as table:
        rows = table.execute(
            "SELECT layer, unit, json_extract(metrics, '$.ok') FROM records WHERE status = 'done' ORDER BY unit"
        ).fetchall()
    table.close()
    assert rows == [("conv1", 0, 1.0), ("conv1", 1, 1.0)]


@pytest.mark.parametrize("damage", ["garbage", "truncated", "missing", "other table", "a page"])
def test_a_table_that_is_damaged_or_lost_is_made_again_from_the_files(store, damage):
    before, path = store.records(), store.path / "index.sqlite"
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "other table":
        path.unlink()
        with sqlite3.connect(path) as table:
            table.execute("CREATE TABLE records (x)")
        table.close()
    else:
        parts = {"garbage": b"no database" * 500, "truncated": data[:1500], "a page": data[:4096] + b"\xff" * 4096 + data[8192:]}
        path.write_bytes(parts[damage])
    assert Store.open(store.path, create=False).records() == before


def test_rebuild_gives_the_same_table_and_sets_damaged_results_aside(store, outcomes):
    before = store.records()
    assert store.rebuild() == 3
    assert store.records() == before
    folder = store.folder(outcomes[0][0].key)
    tensors = folder / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    (store.folder(outcomes[1][0].key) / "job.json").write_text("{")
    assert store.rebuild() == 1
    assert not any(store.done(job.key) for job, _ in outcomes)
    assert len(list((store.path / "damaged").iterdir())) == 2


def test_rows_follow_the_files(store, outcomes):
    shutil.rmtree(store.folder(outcomes[0][0].key))
    (store.folder(outcomes[1][0].key) / "job.json").unlink()
    again = Store.open(store.path)
    assert [r.status for r in again.records()] == ["failed"]
    assert not again.done(outcomes[1][0].key)


def test_a_result_takes_the_place_of_its_failure(store, outcomes):
    job, outcome = outcomes[2]
    store.save(job, outcome.result, outcome.metrics, 1.0)
    assert store.record(job.key).status == "done"
    assert not list((store.path / "failed").iterdir())


def test_half_a_result_under_the_right_name_is_replaced(store, outcomes):
    job, outcome = outcomes[0]
    folder = store.folder(job.key)
    for name in ("job.json", "result.json"):
        (folder / name).unlink()
    assert not store.done(job.key)
    store.save(job, outcome.result, outcome.metrics, 1.0)
    assert store.done(job.key) and store.result(job.key).images.shape == outcome.result.images.shape


def test_leftovers_of_killed_runs_are_removed_but_not_those_of_live_ones(store, outcomes):
    dead, live = (outcomes[k][0].key for k in (0, 1))
    for key in (dead, live):
        part = store.folder(key).with_name(f".{key}.abc.part")
        part.mkdir()
        (part / "image.png").write_bytes(b"")
    (store.path / "failed" / f".{dead}.json.x.part").write_bytes(b"")
    (store.path / "inputs" / f".{dead}.png.x.part").write_bytes(b"")  # nobody's job; young, so somebody may be writing it
    other = "import sys; from preimage.studies.claims import claims_of; from pathlib import Path\n"
    other += "assert claims_of(Path(sys.argv[1])).take(sys.argv[2]); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", other, str(store.path / "claims.lock"), live]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        assert store.tidy() == 2
        assert {p.name for p in leftovers(store)} == {f".{live}.abc.part", f".{dead}.png.x.part"}
        assert not store.claims.take(live)
        process.kill()
    assert store.tidy() == 1  # the claim has ended with its process
    assert store.claims.take(live)
    store.claims.release(live)


def test_a_key_can_be_claimed_once_within_a_process_too(tmp_path):
    claims = claims_of(tmp_path / "lock")
    assert claims_of(tmp_path / "." / "lock") is claims
    assert claims.take("ab" * 32) and not claims.take("ab" * 32)
    assert claims.take("cd" * 32)
    claims.release("ab" * 32)
    assert claims.take("ab" * 32)


def test_a_folder_that_is_no_store_is_refused(tmp_path, store):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    (tmp_path / "file").write_text("x")
    for path in ("full", "file"):
        with pytest.raises(ResultFolderError, match="no store of results"):
            Store.open(tmp_path / path)
    with pytest.raises(ResultFolderError, match="no store of results"):
        Store.open(tmp_path / "nothing", create=False)
    assert not (tmp_path / "nothing").exists()
    (store.path / "store.json").write_text(json.dumps({"preimage store": 99}))
    with pytest.raises(ResultFolderError, match="version 99"):
        Store.open(store.path)


def test_a_store_that_another_process_is_making_is_no_foreign_folder(tmp_path):
    (tmp_path / "s" / "runs").mkdir(parents=True)
    (tmp_path / "s" / ".store.json.abc.part").write_text("")
    assert Store.open(tmp_path / "s").records() == []


def test_a_job_that_makes_no_sense_is_refused():
    with pytest.raises(InputError, match="task"):
        Job(experiment="e", task="dream", C=1.0, representation="hog")
    with pytest.raises(InputError, match="either a network"):
        Job(experiment="e", task="invert", C=1.0)
    with pytest.raises(InputError, match="unit"):
        Job(experiment="e", task="maximize", C=1.0, representation="hog")
    with pytest.raises(InputError, match="not to be decided by a trial; got 'auto'"):
        Job(experiment="e", task="invert", C=1.0, representation="hog", precision="auto")
