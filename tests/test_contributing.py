"""What CONTRIBUTING.md shows is true: a network takes no file, or one."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.errors import FetchError
from preimage.networks.network import NETWORKS, known_networks

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
    listed = json.loads(CliRunner().invoke(app, ["layers", "lenet", "--json"]).stdout)
    assert [(r["layer"], r["output"]) for r in listed][-1] == ("fc3", "10x1x1")
    net = preimage.load_network("lenet", weights=None)
    assert net.predict(np.zeros((32, 32), np.uint8)).shape == (1, 10)
    assert net.layer("fc3").unit_named("7") == 7
    with pytest.raises(FetchError, match=r"lenet.safetensors is not in .*`preimage fetch lenet`"):
        preimage.load_network("lenet")
    save_file(net.module.state_dict(), tmp_path / "lenet.safetensors")
    assert torch.equal(preimage.load_network("lenet").module.conv1.weight, net.module.conv1.weight)
    assert "lenet" in {r["name"] for r in json.loads(CliRunner().invoke(app, ["networks", "--json"]).stdout)}
