"""A mirror has what the store has, whole or not at all; what cannot be copied costs no job; what comes back is checked."""

from __future__ import annotations

import json
import shutil
import uuid

import fsspec
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from typer.testing import CliRunner

from preimage.cli import app
from preimage.errors import InputError, MissingExtra, ResultFolderError
from preimage.studies.jobs import Job
from preimage.studies.mirror import Mirror, pull, push
from preimage.studies.runner import run
from preimage.studies.store import Store

from .stores import contents, leftovers, small_jobs


@pytest.fixture(params=["memory", "file", "object"])
def url(request, tmp_path, monkeypatch):
    """An empty place of each kind: of file systems, where a file is moved to its name, and of object stores, where it is put whole."""
    if request.param == "file":
        return f"file://{tmp_path}/there"
    if request.param == "object":
        monkeypatch.setattr("preimage.studies.mirror._WHOLE", {"memory"})
    return f"memory://{uuid.uuid4().hex}/there"


def files_at(url: str) -> dict[str, bytes]:
    files, root = fsspec.core.url_to_fs(url)
    return {path.removeprefix(root).lstrip("/"): files.cat_file(path) for path in files.find(root)}


def with_photograph(store: Store) -> list[Job]:
    sha = store.add_input(torch.full((1, 3, 227, 227), 20.0), torch.full((1, 3, 227, 227), 140.0))
    common = {"experiment": "small", "C": 1.0, "network": "squeezenet1_1", "layer": "conv1", "iterations": 1}
    return [Job(task="invert", original=sha, **common), *small_jobs(2, iterations=1)]


def test_results_are_in_the_mirror_after_a_run_and_come_back_whole(store, tmp_path, url):
    found = run(with_photograph(store), store, mirror=url, progress=False)
    assert sorted(found.mirrored.done) == sorted(found.done) and not found.mirrored.failed
    assert "3 results copied" in str(found)
    there = files_at(url)
    for path in [*store.path.glob("runs/??/*/*"), *store.path.glob("inputs/*")]:
        assert there.pop(path.relative_to(store.path).as_posix()) == path.read_bytes()
    assert list(there) == ["store.json"]  # and nothing under a temporary name
    back = Store.open(tmp_path / "back")
    assert len(pull(url, back).done) == 3
    assert contents(back) == contents(store) and back.records() == [replaced(r, back) for r in store.records()]
    key = next(r.key for r in back.records() if r.config["task"] == "invert")
    assert torch.equal(back.result(key).originals, torch.full((1, 3, 227, 227), 140.0))


def replaced(record, store):
    from dataclasses import replace

    return replace(record, folder=store.folder(record.key))


def test_a_mirror_in_a_folder_is_itself_a_store(store, tmp_path):
    run(small_jobs(2, iterations=1), store, mirror=str(tmp_path / "there"), progress=False)
    assert contents(Store.open(tmp_path / "there", create=False)) == contents(store)


def test_what_is_there_is_not_copied_again(store, url, tmp_path):
    jobs = small_jobs(3, iterations=1)
    run(jobs[:2], store, mirror=url, progress=False)
    again = run(jobs, store, mirror=url, progress=False)
    assert (len(again.mirrored.done), again.mirrored.there) == (1, 2)
    assert (push(store, url).there, pull(url, store).there) == (3, 3)


def test_metrics_that_are_taken_later_reach_the_mirror_with_the_next_push(store, tmp_path, url):
    run(small_jobs(2, iterations=1), store, mirror=url, progress=False)
    key = store.records()[0].key
    store.add_metrics(key, {"mean-difference": 0.5}, {"mean-difference": 1})
    again = push(store, url)
    assert (again.done, again.there) == ([key], 1)
    back = Store.open(tmp_path / "back")
    pull(url, back)
    assert back.record(key).metrics["mean-difference"] == 0.5
    assert push(store, url).there == 2  # and no more than once


def test_an_upload_that_fails_costs_no_job_and_is_tried_again_by_the_next_run(store, monkeypatch):
    url = f"memory://{uuid.uuid4().hex}"
    jobs = small_jobs(3, iterations=1)
    plain = MemoryFileSystem.put_file

    def failing(self, path, place, **more):
        if jobs[1].key in place and "tensors" in place:
            raise OSError("the network is down\nat line 3")
        return plain(self, path, place, **more)

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "put_file", failing)
        found = run(jobs, store, mirror=url, progress=False)
    assert len(found.done) == 3 and not found.failed
    assert found.mirrored.failed == {jobs[1].key: f"result {jobs[1].key[:12]}: OSError: the network is down"}
    assert Mirror.open(url).keys() == {jobs[0].key, jobs[2].key}  # the half of a result is none
    assert not [name for name in files_at(url) if name.endswith(".part")]
    again = run(jobs, store, mirror=url, progress=False)
    assert again.mirrored.done == [jobs[1].key] and not again.done
    assert Mirror.open(url).keys() == {job.key for job in jobs}


def test_interrupting_leaves_whole_results_in_the_mirror(store, url):
    def interrupted(batches, workers, threads):
        from preimage.studies.runner import local

        for k, done in enumerate(local(batches, workers, threads)):
            if k == 2:
                raise KeyboardInterrupt
            yield done

    with pytest.raises(KeyboardInterrupt):
        run(small_jobs(4, iterations=1), store, backend=interrupted, mirror=url, progress=False)
    assert Mirror.open(url).keys() <= contents(store).keys()
    assert len(run(small_jobs(4, iterations=1), store, mirror=url, progress=False).done) == 2
    assert Mirror.open(url).keys() == contents(store).keys()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda facts: {**facts, "sizes": {**facts["sizes"], "../../evil.txt": 1}}, "names files"),
        (lambda facts: {**facts, "sizes": {**facts["sizes"], "image.png": 3}}, "larger than the 3 bytes"),
        (lambda facts: {**facts, "sizes": {**facts["sizes"], "image.png": 10**6}}, "not whole"),
        (lambda facts: {**facts, "sizes": {}}, "not whole"),
        (lambda facts: {**facts, "key": "0" * 64}, "another result"),
        (lambda facts: [facts], "no record"),
    ],
)
def test_a_damaged_or_hostile_result_is_not_taken_and_the_others_are(store, tmp_path, damage, said):
    jobs = small_jobs(2, iterations=1)
    there = tmp_path / "there"
    run(jobs, store, mirror=str(there), progress=False)
    bad = jobs[0].key
    facts = there / "runs" / bad[:2] / bad / "job.json"
    facts.write_text(json.dumps(damage(json.loads(facts.read_text()))))
    back = Store.open(tmp_path / "back")
    found = pull(str(there), back)
    assert found.done == [jobs[1].key] and said in found.failed[bad]
    assert contents(back).keys() == {jobs[1].key} and not leftovers(back)
    assert not list(tmp_path.rglob("evil.txt"))


def test_an_input_that_was_changed_elsewhere_is_found_out(store, tmp_path):
    jobs = with_photograph(store)[:1]
    run(jobs, store, mirror=str(tmp_path / "there"), progress=False)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1, 3, 227, 227)}, tmp_path / "there" / "inputs" / f"{jobs[0].original}.safetensors")
    back = Store.open(tmp_path / "back")
    pull(str(tmp_path / "there"), back)
    with pytest.raises(ResultFolderError, match="another hash"):
        back.result(jobs[0].key)


def test_places_that_cannot_be_mirrors_are_refused_before_anything_is_computed(store, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    cases = [(str(tmp_path / "full"), ResultFolderError, "no mirror"), ("nowhere://x", InputError, "no place that fsspec knows")]
    for place, error, said in cases:
        with pytest.raises(error, match=said):
            run(small_jobs(1), store, mirror=place, progress=False)
    assert not contents(store)
    with pytest.raises(ResultFolderError, match="no mirror"):
        pull(str(tmp_path / "nothing"), store)
    with pytest.raises(ResultFolderError, match="cannot be reached") as refused:
        Mirror.open("ftp://me:secret@127.0.0.1:1/x", create=False)
    assert "secret" not in str(refused.value) and "ftp://127.0.0.1:1/x" in str(refused.value)


def test_what_must_be_installed_is_named(store, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(MissingExtra, match=r"s3://bucket/x: .*s3fs"):
        push(store, "s3://bucket/x")
    monkeypatch.setitem(__import__("sys").modules, "fsspec.core", None)
    with pytest.raises(MissingExtra, match=r"preimage\[mirror\]"):
        push(store, "memory://x")


def test_the_command_line_mirrors_pushes_and_pulls(tmp_path):
    there, out = f"file://{tmp_path}/there", str(tmp_path / "a")

    def command(*words):
        return CliRunner().invoke(app, list(words))

    options = ["--layers", "conv1", "--units", "2", "--iterations", "1", "--workers", "1", "-q", "-o", out]
    done = command("atlas", "squeezenet1_1", *options, "--mirror", there)
    assert done.exit_code == 0 and "in the mirror: 2 results copied, 0 were there already, 0 failed" in done.output
    assert "0 results copied, 2 were there already" in command("push", out, there).output
    back = command("pull", there, "-o", str(tmp_path / "b"))
    assert back.exit_code == 0 and "2 results copied" in back.output
    assert contents(Store.open(tmp_path / "b")) == contents(Store.open(out))
    shutil.rmtree(tmp_path / "there")
    assert command("pull", there, "-o", str(tmp_path / "c")).exit_code == 1 and not (tmp_path / "c").exists()
    full = tmp_path / "full"
    full.mkdir()
    (full / "runs").write_text("a file where a folder belongs")
    (full / "store.json").write_text('{"preimage store": 2}')
    failed = command("push", out, str(full))
    assert failed.exit_code == 1 and "preimage: error: result" in failed.output
