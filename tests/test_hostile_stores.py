"""A store is data: whatever stands in it, no code runs, nothing outside is read or written, and one bad record costs only itself."""

from __future__ import annotations

import base64
import gc
import json
import os
import sqlite3
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from preimage.cli import app
from preimage.cli.common import table
from preimage.errors import InputError, ResultFolderError
from preimage.report import write_report
from preimage.report.boxes import geometry
from preimage.studies.about import describe, read_about
from preimage.studies.jobs import Job, execute
from preimage.studies.mirror import pull, push
from preimage.studies.store import Store
from preimage.studies.table import Table
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
        result = Result("invert", x.flip(3), torch.tensor([0.1]), None, {"total": trace[-1]}, terms, 5, ["a"], [0], ["ok"], config)
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


def deep(levels: int) -> object:
    value: object = []
    for _ in range(levels):
        value = [value]
    return value


CONFIGS = {
    "a mapping for a layer": {"layer": {}},
    "a list for a network": {"network": ["a"]},
    "a huge number": {"unit": 10**30},
    "a mapping in a unit": {"unit": [1, {"a": 2}]},
    "deep nesting": {"variant": deep(900)},
    "nesting": {"more": deep(20)},
    "NaN": {"C": float("nan")},
    "infinite": {"more": float("inf")},
    "a text for a number": {"C": "many"},
    "a long text": {"image": "x" * 10**5},
    "no experiment": {"experiment": None},
    "many settings": {str(k): k for k in range(10_000)},
}
FACTS = {
    "no config": {"config": None},
    "a list of metrics": {"metrics": [1]},
    "a text for a metric": {"metrics": {"error": "<b>"}},
    "another status": {"status": "great"},
    "a time of its own": {"created": {"$": 1}},
    "seconds": {"seconds": "9"},
    "negative seconds": {"seconds": -1e300},
    "a reason": {"reason": ["x"]},
    "another key": {"key": "0" * 64},
}


@pytest.mark.parametrize("damage", [*CONFIGS, *FACTS, "no json", "a list", "empty", "a pipe", "a link", "deep json", "large"])
def test_a_record_that_cannot_be_is_set_aside_and_named_and_the_others_are_shown(tmp_path, damage):
    store = tiny_store(tmp_path / "store")
    bad, good = (p.parent for p in sorted(store.path.glob("runs/??/*/job.json")))
    path = bad / "job.json"
    facts = json.loads(path.read_text())
    if damage in CONFIGS:
        path.write_text(json.dumps(facts | {"config": facts["config"] | CONFIGS[damage]}))
    elif damage in FACTS:
        path.write_text(json.dumps(facts | FACTS[damage]))
    elif damage in ("a pipe", "a link"):
        path.rename(tmp_path / "kept.json")
        os.mkfifo(path) if damage == "a pipe" else path.symlink_to(tmp_path / "kept.json")
    else:
        path.write_text({"no json": "{", "a list": "[]", "empty": "", "deep json": "[" * 10**5, "large": " " * 2**21}[damage])
    (store.path / "index.sqlite").unlink()
    found = Store.open(store.path)
    assert [r.key for r in found.records()] == [good.name] and list(found.damaged) == [bad.name]
    assert not found.done(bad.name) and found.done(good.name)
    (aside,) = (store.path / "damaged").iterdir()
    assert aside.name.startswith(bad.name)
    assert [r.key for r in Store.open(store.path).records()] == [good.name]


def test_what_is_set_aside_is_named_by_every_list_and_page(tmp_path):
    store = tiny_store(tmp_path / "store", 3)
    key = edit(store, lambda facts: facts | {"config": facts["config"] | {"layer": {"[/b]": 1}}})
    listed = command("runs", store.path)
    assert listed.exit_code == 0 and f"left out {key}: its setting 'layer' cannot be a mapping of 1" in listed.stderr
    key = edit(store, lambda facts: facts | {"metrics": 3})
    page = command("report", store.path, "-q")
    assert page.exit_code == 0 and f"left out {key}" in page.stderr
    assert f"Left out, as it is damaged: {key}: its metrics are no numbers" in (store.path / "report.html").read_text()


@pytest.mark.parametrize("status", ["'[/b][red]\x1b[31m'", "NULL", "3"])
def test_a_table_of_anybodys_making_is_not_believed(tmp_path, status):
    store = tiny_store(tmp_path / "store")
    with sqlite3.connect(store.path / "index.sqlite") as table:
        table.execute(f"UPDATE records SET status = 'done', metrics = '{{\"error\": \"x\"}}', created = {status} WHERE rowid = 1")
    table.close()
    found = Store.open(store.path)
    assert len(found.records()) == 1 and len(found.damaged) == 1


def test_a_view_or_a_trigger_is_no_table(tmp_path):
    store = tiny_store(tmp_path / "store")
    with sqlite3.connect(store.path / "index.sqlite") as table:
        table.execute("CREATE TRIGGER t AFTER DELETE ON records BEGIN DELETE FROM records; END")
    table.close()
    assert len(Store.open(store.path).records()) == 2
    with sqlite3.connect(store.path / "index.sqlite") as table:
        assert table.execute("SELECT count(*) FROM sqlite_master WHERE type = 'trigger'").fetchone() == (0,)
    table.close()


def test_a_table_that_is_kept_in_memory_is_closed_with_its_store(tmp_path):
    (tmp_path / "index.sqlite").mkdir()  # no file can be had
    kept = Table(tmp_path / "index.sqlite", lambda: None)
    assert kept.read("SELECT key FROM records") == []
    connection = kept._memory
    del kept
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):  # Python 3.13 warns of those that are not
        connection.execute("SELECT 1")


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_a_table_that_is_no_file_of_the_stores_own_is_left_alone(tmp_path, kind):
    store = tiny_store(tmp_path / "store")
    table = store.path / "index.sqlite"
    table.rename(tmp_path / "foreign.sqlite")
    before = (tmp_path / "foreign.sqlite").read_bytes()
    {"pipe": lambda: os.mkfifo(table), "link": lambda: table.symlink_to(tmp_path / "foreign.sqlite"), "folder": table.mkdir}[kind]()
    assert len(Store.open(store.path).records()) == 2
    assert command("runs", store.path).exit_code == 0
    assert (tmp_path / "foreign.sqlite").read_bytes() == before


@pytest.mark.parametrize("name", ["image.png", "tensors.safetensors", "result.json"])
@pytest.mark.parametrize("kind", ["pipe", "link", "absent"])
def test_files_of_a_result_that_lead_elsewhere_are_not_followed_by_pages_or_mirrors(tmp_path, name, kind):
    store = tiny_store(tmp_path / "store")
    bad, good = (p.parent for p in sorted(store.path.glob("runs/??/*/job.json")))
    (bad / name).rename(tmp_path / "secret")
    if kind != "absent":
        os.mkfifo(bad / name) if kind == "pipe" else (bad / name).symlink_to(tmp_path / "secret")
    secret = base64.b64encode((tmp_path / "secret").read_bytes()).decode()
    for options in ([], ["--gallery-from", "1", "--copy"], ["--compare", store.path]):
        done = command("report", store.path, "-q", *options, "-o", tmp_path / "page.html")
        assert done.exit_code == 0, done.output
        assert name != "image.png" or secret not in (tmp_path / "page.html").read_text()
    assert not [p for p in tmp_path.glob("page_files/*.png") if p.read_bytes() == (tmp_path / "secret").read_bytes()]
    pushed = command("push", store.path, tmp_path / "mirror")
    assert pushed.exit_code == 1 and bad.name[:12] in pushed.stderr
    assert {p.parent.name for p in (tmp_path / "mirror").glob("runs/??/*/job.json")} == {good.name}


def test_a_folder_of_a_result_that_is_a_link_is_neither_read_nor_written_through(tmp_path):
    store = tiny_store(tmp_path / "store")
    bad = sorted(store.path.glob("runs/??/*"))[0]
    bad.rename(tmp_path / "elsewhere")
    bad.symlink_to(tmp_path / "elsewhere")
    found = Store.open(store.path)
    assert len(found.records()) == 1 and "link" in found.damaged[bad.name]
    with pytest.raises(ResultFolderError, match="is a link out of the store"):
        found.make_way(bad.name)


SIZES = [
    {"../../../../evil": 3}, {"/etc/passwd": 3}, {"..": 1}, {"": 1}, {"a/b": 1}, {"a\\b/../c": 1}, {"image.png": -1}, {"image.png": True},
    {"image.png": "9"}, {"image.png": 2**60}, {"image.png": 1e3}, {"x" * 999: 1}, {"a\0b": 1}, {".hidden": 1},
    {f"f{k}": 1 for k in range(99)},
]  # fmt: skip


@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: ascii(next(iter(sizes.items())))[:30])
def test_sizes_that_lead_out_or_make_no_sense_copy_nothing_in_either_direction(tmp_path, sizes):
    (tmp_path / "evil").write_text("abc")
    store = tiny_store(tmp_path / "store")
    keys = [p.name for p in sorted(store.path.glob("runs/??/*"))]
    assert len(push(store, str(tmp_path / "mirror")).done) == 2
    place = tmp_path / "mirror" / "runs" / keys[0][:2] / keys[0] / "job.json"
    facts = json.loads(place.read_text())
    place.write_text(json.dumps(facts | {"sizes": facts["sizes"] | sizes}))
    before = sorted(p for p in tmp_path.rglob("*") if "back" not in p.parts)
    found = pull(str(tmp_path / "mirror"), Store.open(tmp_path / "back"))
    assert found.done == [keys[1]] and list(found.failed) == [keys[0]]
    edit(store, lambda facts: facts | {"sizes": facts["sizes"] | sizes})
    found = push(Store.open(store.path), str(tmp_path / "again"))
    assert found.done == [keys[1]] and list(found.failed) == [keys[0]]
    known = ("back", "again")
    assert [p for p in sorted(tmp_path.rglob("*")) if not set(known) & set(p.parts) and p.name != "index.sqlite"] == [
        p for p in before if p.name != "index.sqlite"
    ]
    assert (tmp_path / "evil").read_text() == "abc" and not list(tmp_path.glob("*/**/evil"))


@pytest.mark.parametrize("name", ["image.png", "job.json"])
def test_a_link_in_a_mirror_is_not_followed(tmp_path, name):
    store = tiny_store(tmp_path / "store")
    push(store, str(tmp_path / "mirror"))
    path = sorted((tmp_path / "mirror").glob(f"runs/??/*/{name}"))[0]
    path.rename(tmp_path / "secret")
    path.symlink_to(tmp_path / "secret")
    found = pull(str(tmp_path / "mirror"), Store.open(tmp_path / "back"))
    assert len(found.done) == 1 and "a link or no regular file" in found.failed[path.parent.name]


def test_a_setting_that_is_no_number_is_refused_before_a_job_exists_and_leaves_no_store(tmp_path):
    with pytest.raises(InputError, match="C is the weight of the loss, a number above 0; got nan"):
        small_jobs(1, C=float("nan"))
    with pytest.raises(InputError, match=r"Z is at most .*; got inf"):
        small_jobs(1, Z=float("inf"))
    (tmp_path / "mine").mkdir()
    for out in ("new", "mine"):
        for words in (
            ["paper", "caricature", "--C", "nan"],
            ["paper", "inversion", "--layers", "nosuch"],
            ["atlas", "squeezenet1_1", "--layers", "x"],
        ):
            done = command(*words, "-q", "-o", tmp_path / out)
            assert done.exit_code == 2, done.output
    assert [p.name for p in tmp_path.rglob("*")] == ["mine"]


def test_names_are_text_wherever_they_are_printed(tmp_path, capsys):
    table(["[b]name", "value"], [["encoder[last_hidden_state]", 1], ["[/b] [link=x]y\x1b[31m", 2]])
    printed = capsys.readouterr().out
    assert "encoder[last_hidden_state]" in printed and "[/b] [link=x]y?[31m" in printed and "[b]name" in printed
    store = tiny_store(tmp_path / "store")
    edit(store, lambda facts: facts | {"config": facts["config"] | {"image": "[/b][red]\x1b[2J", "layer": "a[b]"}})
    done = command("runs", store.path)
    assert done.exit_code == 0 and "a[b]" in done.stdout and "\x1b" not in done.stdout


def test_damaged_or_empty_results_and_inputs_are_made_again(tmp_path):
    store = tiny_store(tmp_path / "store", 1)
    (record,) = store.records()
    x = store.input(record.config["original"][7:-4])
    levels = store.result(record.key).originals
    for name in ("job.json", "image.png", "tensors.safetensors"):
        other = tiny_store(tmp_path / name.replace(".", "-"), 1)
        assert other.done(record.key)
        (other.folder(record.key) / name).write_bytes(b"")
        assert not other.done(record.key)
        assert len(tiny_store(other.path, 1).records()) == 1 and other.done(record.key)
    for path in sorted((store.path / "inputs").iterdir()):
        before = path.read_bytes()
        for damaged in (b"", before[:-9], before[:200] + b"x" + before[201:]):
            path.write_bytes(damaged)
            store.add_input(x, levels)
            assert path.read_bytes() == before


def test_a_layer_that_no_result_has_is_said(tmp_path):
    store = tiny_store(tmp_path / "store")
    done = command("runs", store.path, "--layer", "nosuch")
    assert done.exit_code == 2 and "No layer in" in done.stderr and "fire2" in done.stderr
    assert command("runs", store.path, "--experiment", "inversoin").exit_code == 2
    assert command("runs", store.path, "--status", "bogus").exit_code == 2
    assert command("runs", store.path, "--where", "unit=" + "9" * 40).exit_code == 2
    assert "2 of 2" in command("runs", store.path, "--layer", "fire2").stdout
