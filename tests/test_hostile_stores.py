"""A store is data: whatever stands in it, no code runs, nothing outside is read or written, and one bad record costs only itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from preimage.cli import app
from preimage.errors import InputError
from preimage.report import write_report
from preimage.report.boxes import geometry
from preimage.studies.about import describe, read_about
from preimage.studies.jobs import Job, execute
from preimage.studies.store import Store
from preimage.tasks.result import Result

from .stores import small_jobs


def command(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


def edit(store: Store, change, name: str = "job.json", which: int = 0) -> str:
    """Change a record's file by hand; gives the key of its job."""
    path = sorted(store.path.glob(f"runs/??/*/{name}"))[which]
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    (store.path / "index.sqlite").unlink(missing_ok=True)
    return path.parent.name


def tiny_store(path: Path, count: int = 2) -> Store:
    """A store of inversions made by hand: pictures of 16 pixels, each with its photograph."""
    store = Store.open(path)
    for k in range(count):
        x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(k)) * 255
        trace = torch.linspace(9, 1, 5)[:, None]
        config = {"versions": {"preimage": "0.1.0"}, "solver": "fast"}
        terms = {"total": trace, "loss": trace / 2}
        result = Result("invert", x, torch.tensor([0.1]), None, {"total": trace[-1]}, terms, 5, ["a"], [0], ["ok"], config)
        sha = store.add_input(x - 110, x)
        job = Job(experiment="inversion", task="invert", network="squeezenet1_1", layer="fire2", C=1.0 + k, original=sha, image="a")
        store.save(job, result, {"error": 0.1}, 0.5)
    return store


@pytest.fixture
def hostile(tmp_path, monkeypatch):
    """A module in the folder where the command runs, which must not be imported."""
    (tmp_path / "evil_preimage_module.py").write_text(
        "from pathlib import Path\nPath('ran').write_text('x')\ndef build(): Path('ran').touch()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("evil_preimage_module", None)


NAMES = ["evil_preimage_module:build", "transformers/somebody/else", "net.onnx", "torchvision/resnet18", "nothing like it"]


def test_no_page_list_or_mirror_opens_a_network_that_a_store_names(hostile):
    store = tiny_store(hostile / "store", len(NAMES))
    for k, name in enumerate(NAMES):
        edit(store, lambda facts, name=name: {**facts, "config": {**facts["config"], "network": name}}, which=k)
    before = set(sys.modules)
    for words in (
        ["report", "store", "-q", "--figures", "figures"],
        ["report", "store", "-q", "-o", "large.html", "--gallery-from", "1"],
        ["report", "store", "-q", "--compare", "store"],
        ["runs", "store", "--rebuild"],
        ["push", "store", "mirror"],
        ["pull", "mirror", "-o", "back"],
        ["report", "back", "-q"],
    ):
        done = command(*words)
        assert done.exit_code == 0, (words, done.output)
    assert not (hostile / "ran").exists()
    assert not {m for m in set(sys.modules) - before if m.partition(".")[0] in ("evil_preimage_module", "transformers", "onnx", "timm")}
    text = Path("store/report.html").read_text()
    for name in NAMES:
        assert f"No receptive fields are drawn for {name}: the store does not hold them, and the network is none of this package" in text


def test_what_a_page_draws_of_a_network_is_kept_with_its_results(tmp_path, monkeypatch):
    (job,) = small_jobs(1, layer="fire4")
    store = Store.open(tmp_path / "store")
    outcome = execute([job], [None])[0]
    store.save(job, outcome.result, outcome.metrics, 1.0)
    about = read_about(store.trace(job.key)[1]["about"])
    known = geometry("squeezenet1_1")
    assert about.size == known.size and about.layer.field.rows == known.layers["fire4"].field.rows
    assert (about.layer.shape, about.layer.stride) == (known.layers["fire4"].shape, known.layers["fire4"].stride)
    monkeypatch.setattr("preimage.report.view.geometry", lambda name: pytest.fail("a network was opened"))
    assert "No receptive fields" not in write_report(store, tmp_path / "page.html").read_text()


def test_layers_are_told_in_the_order_in_which_they_run(net):
    names = ["conv1", "fire2", "pool3", "fire5", "fire9", "pool10"]
    places = [describe(net.layer(n), n)["place"] for n in names]
    assert places == sorted(set(places))


def test_the_class_of_a_unit_is_kept_with_its_result(net):
    layer = net.layer("pool10")
    assert describe(layer, "pool10", "tree frog")["unit"] == describe(layer, "pool10", 31)["unit"] == "tree frog"
    assert "unit" not in describe(net.layer("fire9"), "fire9", 31)


LAYER = {"name": "a", "kind": "b", "shape": [1, 2, 3], "receptive_field": 3, "stride": 1, "jitter": 1, "field": None}
GOOD = {"size": [9, 9], "place": 1, "layer": LAYER}
BAD = [
    None,
    [],
    3,
    {"note": ["x"] * 10**4},
    {**GOOD, "size": [9]},
    {**GOOD, "size": [9, 10**30]},
    {**GOOD, "place": "first"},
    {**GOOD, "layer": {}},
    *({**GOOD, "layer": LAYER | change} for change in (
        {"stride": float("nan")}, {"shape": {"a": 1}}, {"name": "n" * 10**5}, {"field": {"rows": 3}}, {"shape": [-1]}
    )),
]  # fmt: skip


@pytest.mark.parametrize("about", BAD)
def test_a_geometry_that_makes_no_sense_is_a_note_on_the_page(tmp_path, about):
    with pytest.raises(InputError) as refused:
        read_about(about)
    assert len(str(refused.value)) < 400
    assert read_about(GOOD).layer.name == "a"
    store = tiny_store(tmp_path / "store")
    for k in range(2):
        edit(store, lambda facts: {**facts, "config": {**facts["config"], "about": about}}, "result.json", k)
        edit(store, lambda facts: {**facts, "config": {**facts["config"], "network": "mine"}}, which=k)
    text = write_report(Store.open(store.path), tmp_path / "page.html").read_text()
    assert text.count("No receptive fields are drawn for mine") == 1
