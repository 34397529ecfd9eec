"""What CONTRIBUTING.md shows is true: a part takes one class, a network no file, or one."""

from __future__ import annotations

import json
import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.energy.losses import LOSSES
from preimage.energy.objectives import OBJECTIVES
from preimage.energy.parameterizations import PARAMETERIZATIONS
from preimage.energy.regularizers import REGULARIZERS
from preimage.energy.transforms import TRANSFORMS
from preimage.errors import FetchError
from preimage.experiments.audit_numbers import Comparison, columns
from preimage.methods.recipe import RECIPES
from preimage.metrics import METRICS
from preimage.networks.network import NETWORKS, known_networks
from preimage.report import write_report
from preimage.solvers.run import SOLVERS
from preimage.studies.jobs import Job
from preimage.studies.runner import run
from preimage.studies.store import Store

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()


def block(first_line: str) -> str:
    (found,) = re.findall(rf"```python\n({re.escape(first_line)}\n.*?)```", TEXT, flags=re.S)
    return found


def test_a_network_takes_no_file():
    names: dict = {}
    exec(compile(block("import preimage"), "CONTRIBUTING.md", "exec"), names)
    result = preimage.invert(names["phi"], np.zeros((64, 64, 3), np.uint8), iterations=2, progress=False)
    assert result.images.shape == (1, 3, 64, 64)


@pytest.fixture
def mypkg(tmp_path, monkeypatch):
    (tmp_path / "mypkg").mkdir()
    (tmp_path / "mypkg" / "models.py").write_text(block("# mypkg/models.py"))
    monkeypatch.chdir(tmp_path)
    yield
    for name in [n for n in sys.modules if n.partition(".")[0] == "mypkg"]:
        del sys.modules[name]


def test_a_function_of_one_s_own_is_a_network_on_the_command_line(mypkg):
    net = preimage.load_network("mypkg.models:build")
    assert (net.layer("2").shape, net.space.size) == ((16, 28, 28), (64, 64))
    (command,) = re.findall(r"preimage invert photo.jpg (--net \S+ --layer 2) -o out/", TEXT)
    assert command == "--net mypkg.models:build --layer 2"


@pytest.fixture
def lenet(monkeypatch):
    """The file, run as the module of this package that it would be; forgotten afterwards."""
    known_networks()
    monkeypatch.setattr(NETWORKS, "_entries", dict(NETWORKS._entries))
    monkeypatch.setattr(NETWORKS, "_examples", dict(NETWORKS._examples))
    code = compile(block("# src/preimage/networks/lenet.py"), "lenet.py", "exec")
    exec(code, {"__name__": "preimage.networks.lenet", "__package__": "preimage.networks"})


def test_a_known_network_takes_one_file(lenet, tmp_path, monkeypatch):
    monkeypatch.setenv("PREIMAGE_CACHE", str(tmp_path))
    listed = json.loads(CliRunner().invoke(app, ["layers", "lenet", "--json"]).stdout)["layers"]
    assert [(r["name"], r["shape"]) for r in listed][-1] == ("fc3", [10, 1, 1])
    net = preimage.load_network("lenet", weights=None)
    assert net.predict(np.zeros((32, 32), np.uint8)).shape == (1, 10)
    assert net.layer("fc3").unit_named("7") == 7
    with pytest.raises(FetchError, match=r"lenet.safetensors is not in .*`preimage fetch lenet`"):
        preimage.load_network("lenet")
    save_file(net.module.state_dict(), tmp_path / "lenet.safetensors")
    assert torch.equal(preimage.load_network("lenet").module.conv1.weight, net.module.conv1.weight)
    assert "lenet" in {r["name"] for r in json.loads(CliRunner().invoke(app, ["networks", "--json"]).stdout)["networks"]}


PARTS = {
    "loss": lambda: {"objective": preimage.Match(loss="mean-absolute")},
    "objective": lambda: {"objective": OBJECTIVES["half"]()},
    "transform": lambda: {"transform": TRANSFORMS["mirror"]()},
    "parameterization": lambda: {"parameterization": PARAMETERIZATIONS["scaled"](), "solver": "adam"},
    "regularizer": lambda: {"regularizers": {"of-pixels": REGULARIZERS["energy-of-pixels"]()}},
    "solver": lambda: {"solver": "signs"},
    "recipe": lambda: {"recipe": "sketch"},
}


TEXTS = {  # on the command line, and as settings of a job
    "loss": ("--objective match:loss=mean-absolute", {"objective": ("match:loss=mean-absolute",)}),
    "objective": ("--objective half", {"objective": ("half",)}),
    "transform": ("--transform mirror", {"transform": ("mirror",)}),
    "parameterization": ("--parameterization scaled --solver adam", {"parameterization": "scaled", "solver": "adam"}),
    "regularizer": ("--prior energy-of-pixels", {"prior": ("energy-of-pixels",)}),
    "solver": ("--solver signs:rate=3", {"solver": "signs:rate=3"}),
    "recipe": ("--recipe sketch", {"recipe": "sketch"}),
}


@pytest.fixture
def registered(monkeypatch):
    """A function that runs an example of the text; what it registers is forgotten afterwards."""
    preimage.recipes()
    for registry in (LOSSES, OBJECTIVES, TRANSFORMS, PARAMETERIZATIONS, REGULARIZERS, SOLVERS, RECIPES):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_examples", dict(registry._examples))

    def register(part: str) -> None:
        example = block(f"# a {part}" if part != "objective" else "# an objective")
        exec(compile(example, "CONTRIBUTING.md", "exec", dont_inherit=True), {"__name__": "one_file"})

    return register


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_the_energy_takes_one_class(part, registered):
    registered(part)
    phi = preimage.from_callable(lambda x: x[:, :, ::2, ::2], preimage.PixelSpace(8, "grey"))
    photograph = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
    first, last = (preimage.invert(phi, photograph, iterations=n, progress=False, **PARTS[part]()) for n in (1, 30))
    assert last.energy["total"].item() < first.energy["total"].item()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_one_class_gives_the_same_bits_in_python_on_the_command_line_and_in_a_store(part, registered, tmp_path):
    registered(part)
    given = PARTS[part]() | ({"solver": "signs:rate=3"} if part == "solver" else {})
    given |= {"regularizers": {"energy-of-pixels": REGULARIZERS["energy-of-pixels"]()}} if part == "regularizer" else {}
    flags, settings = TEXTS[part]
    picture = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(picture)
    phi = preimage.load_network("tests.tiny:build").layer("2")
    wanted = preimage.invert(phi, picture, iterations=3, progress=False, **given)

    out = ["--net", "tests.tiny:build", "--layer", "2", "--iterations", "3", "--quiet", "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["invert", str(picture), *flags.split(), *out], catch_exceptions=False)
    assert (tmp_path / "out" / "result.json").is_file(), done.output
    assert torch.equal(preimage.load_result(tmp_path / "out").images, wanted.images)

    store, x = Store.open(tmp_path / "store"), phi.space.encode(picture)
    common = {"experiment": "e", "task": "invert", "C": 100.0, "network": "tests.tiny:build", "layer": "2", "iterations": 3}
    original = store.add_input(x, phi.space.decode(x))
    job = Job(**common, original=original, **settings)
    assert job.key != Job(**common, original=original).key
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", preimage.PreimageWarning)  # three iterations do not come far
        ran = run([job], store, progress=False)
    assert not ran.failed
    assert torch.equal(store.result(job.key).images, wanted.images)


def test_a_metric_takes_one_class_and_is_in_the_result_the_store_its_report_and_the_audit(tmp_path, monkeypatch):
    phi = preimage.from_callable(lambda x: x[:, :, ::2, ::2], preimage.PixelSpace(16, "grey"))
    result = preimage.invert(phi, np.arange(256, dtype=np.uint8).reshape(16, 16), iterations=2, progress=False)
    store = Store.open(tmp_path / "store")
    x = result.originals - phi.space.mean_colour
    job = Job(experiment="e", task="invert", C=1.0, representation="hog", original=store.add_input(x, result.originals))
    before = store.save(job, replace(result, originals=None), {"psnr": 1.0}, 1.0)

    monkeypatch.setattr(METRICS, "_entries", dict(METRICS._entries))
    monkeypatch.setattr(METRICS, "_examples", dict(METRICS._examples))
    exec(compile(block("# a metric"), "CONTRIBUTING.md", "exec", dont_inherit=True), {"__name__": "one_file"})
    wanted = (result.images - result.originals).abs().mean().item()

    record = json.loads((result.save(tmp_path / "out") / "result.json").read_text())
    assert record["metrics"]["mean-difference"] == [pytest.approx(wanted)]
    shown = CliRunner().invoke(app, ["runs", str(store.path), "--measure", "--json"], catch_exceptions=False)
    (row,) = json.loads(shown.stdout)["runs"]
    assert row["metrics"]["mean-difference"] == pytest.approx(wanted)
    assert row["key"] == before.key == replace(job).key
    assert "mean-difference" in write_report(Store.open(store.path), tmp_path / "page.html").read_text()
    assert columns()["mean-difference"] == "mean difference of the levels from the photograph's"
    photographs = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 255
    comparison = Comparison.__new__(Comparison)
    comparison.levels, comparison.notes = photographs, []
    measure = comparison._similarities(None)["mean-difference"]
    assert measure(photographs[:1], photographs[:1] + 4).item() == pytest.approx(4, abs=1e-4)


def test_every_test_that_the_list_of_faults_names_is_there():
    here = Path(__file__).parent
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (here / "faults.md").read_text(encoding="utf-8"))
    assert len(named) > 100
    assert [f"{file}::{name}" for file, name in named if f"def {name}(" not in (here / file).read_text(encoding="utf-8")] == []
