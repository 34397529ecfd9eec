"""Stores of the version before this one: read and shown as ever, and nothing is run in them."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from preimage.cli import app
from preimage.errors import ResultFolderError
from preimage.report.store_page import write_report
from preimage.studies.jobs import execute
from preimage.studies.mirror import pull, push
from preimage.studies.runner import run
from preimage.studies.store import Store

from .stores import small_jobs


@pytest.fixture(scope="module")
def outcomes():
    (job,) = small_jobs(1)
    return [(job, execute([job], [None])[0])]


@pytest.fixture
def earlier(tmp_path, outcomes):
    """A store of version 1: its keys are other hashes, as they were made of the source code."""
    job, outcome = outcomes[0]
    made = Store.open(tmp_path / "earlier")
    made.save(job, outcome.result, outcome.metrics, 1.0)
    key = "ab" * 32
    made.folder(key).parent.mkdir()
    made.folder(job.key).rename(made.folder(key))
    facts = json.loads((made.folder(key) / "job.json").read_text())
    text = json.dumps(facts | {"key": key})
    (made.folder(key) / "job.json").write_text(text)
    (made.path / "store.json").write_text('{"preimage store": 1}')
    (made.path / "index.sqlite").unlink()
    return made.path, key


def test_a_store_of_the_earlier_version_is_read_and_shown(earlier, outcomes, tmp_path):
    path, key = earlier
    old = Store.open(path, create=False)
    assert old.version == 1 and [r.key for r in old.records()] == [key] and old.damaged == {}
    torch.testing.assert_close(old.result(key).images, outcomes[0][1].result.images)
    assert write_report(old, tmp_path / "page.html").exists()
    said = CliRunner().invoke(app, ["runs", str(path)])
    assert said.exit_code == 0 and "1 of 1 results" in said.output
    assert json.loads((path / "store.json").read_text()) == {"preimage store": 1}


def test_nothing_is_run_in_a_store_of_the_earlier_version_and_the_line_says_what_to_do(earlier, outcomes):
    path, key = earlier
    with pytest.raises(ResultFolderError, match=r"name a new folder\. `preimage report .*` still shows it") as error:
        run([outcomes[0][0]], Store.open(path), progress=False)
    assert "\n" not in str(error.value)
    said = CliRunner().invoke(app, ["paper", "inversion", "--smoke", "-q", "-o", str(path)])
    assert said.exit_code != 0 and "name a new folder" in " ".join(said.output.split())
    assert [p.name for p in path.glob("runs/??/*")] == [key]


def test_a_new_store_is_of_the_present_version(tmp_path):
    assert Store.open(tmp_path / "s").version == 2
    assert json.loads((tmp_path / "s" / "store.json").read_text()) == {"preimage store": 2}


def test_a_store_of_the_earlier_version_is_pushed_and_pulled_as_one_and_mixed_with_no_other(earlier, tmp_path):
    pytest.importorskip("fsspec")
    path, key = earlier
    url, new = f"file://{tmp_path / 'mirror'}", Store.open(tmp_path / "new")
    assert push(Store.open(path), url).done == [key]
    for act in (lambda: push(new, url), lambda: pull(url, new)):
        with pytest.raises(ResultFolderError, match="do not belong together"):
            act()
    said = CliRunner().invoke(app, ["pull", url, "-o", str(tmp_path / "back")])
    assert said.exit_code == 0, said.output
    back = Store.open(tmp_path / "back")
    assert back.version == 1 and [r.key for r in back.records()] == [key]
