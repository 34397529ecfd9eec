"""Studies and the page take a network from every source: with the pixels that it does not say itself, and a program where it is trusted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import preimage
from preimage.app.catalogue import Catalogue
from preimage.app.jobs import Desk
from preimage.cli import app
from preimage.errors import InputError
from preimage.statistics import load_statistics
from preimage.studies.jobs import Job
from preimage.studies.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::preimage.errors.PreimageWarning")
PIXELS = ["--space", "imagenet:40", "--size", "24x32"]


def build() -> nn.Module:
    """A network that does not say which pixels it takes."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 3, 3))


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with two photographs."""
    for k in range(2):
        levels = np.random.default_rng(k).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        PIL.Image.fromarray(levels).save(tmp_path / f"{k}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


STUDY = ["--iterations", "2", "--workers", "1", "-q", "-o", "study"]
COMMANDS = {
    "stats": ["stats", "NET", "0.png", "1.png", "-q", "-o", "found"],
    "atlas": ["atlas", "NET", "--layers", "0", "--units", "2", *STUDY],
    "audit": ["audit", "0.png", "1.png", "--net", "NET", "--layers", "0", "--lpips", "none", "--C", "20", "--attack", "smoothness", *STUDY],
    "paper": ["paper", "inversion", "0.png", "--net", "NET", "--layers", "0", "--C", "20", *STUDY],
}


def command(*words):
    return CliRunner().invoke(app, [str(w) for w in words])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_study_takes_a_function_s_network_with_the_pixels_that_it_is_told(name, place):
    words = [f"{__name__}:build" if w == "NET" else w for w in COMMANDS[name]]
    refused = command(*words)
    assert refused.exit_code == 2 and "--space imagenet:224" in refused.stderr and not (place / "study").exists()
    done = command(*words, *PIXELS)
    assert done.exit_code in (0, 1) and "preimage: error" not in done.stderr, done.output
    if name == "stats":
        assert load_statistics(place / "found").about["space"]["size"] == [24, 32]
        return
    records = Store.open(place / "study").records(status="done")
    assert records and {(r.config["space"], r.config["size"]) for r in records} == {("imagenet:40", "24x32")}
    image = Store.open(place / "study").result(records[0].key)
    assert image.config["space"]["size"] == [24, 32]
    again = command(*words, *PIXELS)
    assert "0 jobs done" in again.stdout or name == "audit"


def test_a_program_enters_a_study_only_where_it_is_trusted(place, monkeypatch):
    torch.jit.save(torch.jit.script(nn.Identity()), place / "net.ts")
    words = ["atlas", "net.ts", "--space", "size=24x32,channels=rgb,scale=1,mean=0.5,std=0.5", "--layers", "0", "--units", "1", *STUDY]
    refused = command(*words)
    assert refused.exit_code == 2 and "--trust" in refused.stderr and refused.stderr.count("\n") == 1 and not (place / "study").exists()

    def opened(card, *args, **more):
        raise InputError(f"opened {card} with trust={more['trust']}")

    monkeypatch.setattr("preimage.studies.jobs.load_network", opened)
    assert "opened net.ts with trust=True" in command(*words, "--trust").stderr


def test_pixels_are_part_of_a_job_s_key_and_trust_is_not():
    def key(**more) -> str:
        return Job(experiment="a", task="maximize", C=1.0, network="x:y", layer="0", unit=0, **more).key

    assert len({key(), key(space="imagenet:24"), key(size="24"), key(space="imagenet:24", size="24")}) == 4
    assert key() == key(trust=True)


def test_the_page_opens_the_one_network_as_it_is_told(place, tmp_path):
    name = f"{__name__}:build"
    weights = tmp_path / "w.safetensors"
    from safetensors.torch import save_file

    module = build()
    module[0].bias.data += 5
    save_file(module.state_dict(), weights)
    with pytest.raises(InputError, match="does not say which pixels"):
        Catalogue([name]).entry(name)
    catalogue = Catalogue([name], {name: {"space": preimage.PixelSpace.imagenet(24), "weights": weights}})
    assert catalogue.entry(name).size == (24, 24)
    desk = Desk(tmp_path, load=catalogue.load)
    try:
        assert torch.equal(desk._network(name).module[0].bias, module[0].bias)
    finally:
        desk.close()
    refused = command("app", "--weights", str(weights))
    assert refused.exit_code == 2 and "--net once" in refused.stderr
    refused = command("app", "--net", name, "--port", "0")
    assert refused.exit_code == 2 and "--space imagenet:224" in refused.stderr


def test_the_uploads_of_a_killed_server_go_when_the_next_one_begins(tmp_path, monkeypatch):
    pytest.importorskip("fcntl")
    import tempfile

    from preimage.app.server import private_folder

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead, foreign = tmp_path / "preimage-app-dead", tmp_path / "preimage-app-mine"
    for folder in (dead, foreign):
        folder.mkdir()
        (folder / "upload.png").write_text("private")
    (dead / ".held").write_text("")
    (tmp_path / "preimage-app-link").symlink_to(foreign)
    with private_folder() as one, private_folder() as two:
        assert one.is_dir() and two.is_dir() and not dead.exists()
        assert (foreign / "upload.png").exists()  # nothing says that it is a server's
    assert sorted(p.name for p in tmp_path.iterdir()) == ["preimage-app-link", "preimage-app-mine"]


def test_options_of_a_study_are_those_of_a_task():
    for words in (["stats"], ["atlas"], ["audit"], ["paper", "inversion"], ["invert"], ["layers"], ["app"], ["inverse", "fit"]):
        text = json.dumps(command(*words, "--help").stdout)
        assert all(option in text for option in ("--space", "--size", "--trust", "--weights")), words
