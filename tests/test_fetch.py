"""Fetching weights: on request alone, whole or not at all, and what was fetched must stay what it was."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.errors import FetchError, InputError
from preimage.networks import matconvnet
from preimage.networks.chain import Chain, initialise
from preimage.networks.fetch import RECORD, RemoteFile, cache_folder, check, fetch
from preimage.networks.network import NETWORKS, NetworkCard, find_card, known_networks

from .test_matconvnet import STEPS, small_file


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path not in self.server.content:
            self.send_error(404)
            return
        data = self.server.content[self.path]
        self.send_response(200)
        self.send_header("Content-Length", str(len(data) + self.server.missing))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.content, found.asked, found.missing = {"/w.mat": b"weights" * 1000}, [], 0
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


@pytest.fixture
def url(server):
    return f"http://127.0.0.1:{server.server_port}/w.mat"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PREIMAGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def digest(kind, data=b"weights" * 1000):
    return hashlib.new(kind, data).hexdigest()


def test_the_first_use_is_recorded_and_the_second_asks_nobody(server, url, cache):
    file = RemoteFile("w.mat", url)
    assert cache_folder() == cache
    path = fetch(file, progress=False)
    assert path.read_bytes() == server.content["/w.mat"]
    assert json.loads((cache / RECORD).read_text()) == {"w.mat": digest("sha256")}
    assert fetch(file, progress=False) == check(file) == path
    assert server.asked == ["/w.mat"]
    assert sorted(p.name for p in cache.iterdir()) == [RECORD, "w.mat"]


@pytest.mark.parametrize("known", ["sha256", "md5", None])
def test_a_changed_file_is_refused(url, cache, known):
    file = RemoteFile("w.mat", url, **({known: digest(known)} if known else {}))
    path = fetch(file, progress=False)
    path.write_bytes(b"other")
    for look in (check, lambda f: fetch(f, progress=False)):
        with pytest.raises(FetchError, match=r"w.mat.* has (sha256|md5) .*(wanted|but had) .*Remove it and fetch it") as caught:
            look(file)
        assert str(cache) in str(caught.value)


def test_a_file_with_a_published_sum_is_still_held_to_its_record(url, cache):
    file = RemoteFile("w.mat", url, md5=digest("md5"))
    path = fetch(file, progress=False)
    (cache / RECORD).write_text(json.dumps({"w.mat": "0" * 64}))
    with pytest.raises(FetchError, match="but had 0000"):
        check(file)
    (cache / RECORD).write_text("{broken")
    with pytest.raises(FetchError, match=r"fetched.json'.* is damaged .*Remove it"):
        check(file)
    (cache / RECORD).unlink()
    assert check(file) == path


def test_the_wrong_file_is_not_kept(url, cache):
    for sums in ({"sha256": "0" * 64}, {"md5": "0" * 32}):
        with pytest.raises(FetchError, match=r"What came for w.mat has .*, wanted 000.*Nothing was kept"):
            fetch(RemoteFile("w.mat", url, **sums), progress=False)
        assert list(cache.iterdir()) == []


def test_half_a_download_leaves_nothing(server, url, cache):
    server.missing = 500
    with pytest.raises(FetchError, match=r"w.mat could not be fetched from http://127.0.0.1.*bring the file by other means and put it in"):
        fetch(RemoteFile("w.mat", url), progress=False)
    assert list(cache.iterdir()) == []
    server.missing = 0
    assert fetch(RemoteFile("w.mat", url), progress=False).is_file()


def test_nothing_there_and_nobody_there_say_what_to_do(server, url, cache):
    with pytest.raises(FetchError, match="404"):
        fetch(RemoteFile("w.mat", url + "x"), progress=False)
    with pytest.raises(FetchError) as caught:
        fetch(RemoteFile("w.mat", "http://127.0.0.1:9/w.mat"), progress=False)  # the port "discard": nobody listens
    for part in ("w.mat", "http://127.0.0.1:9/w.mat (no connection)", str(cache), "give its path as the weights"):
        assert part in str(caught.value)
    (cache.parent / "file").write_text("")
    with pytest.raises(FetchError, match="cannot be written"):
        fetch(RemoteFile("w.mat", url), cache.parent / "file", progress=False)


@pytest.mark.parametrize("name", ["../w.mat", "a/b.mat", "", "..", "a\\b", RECORD])
def test_a_name_cannot_lead_out_of_the_cache(name):
    with pytest.raises(InputError, match="a plain file name"):
        RemoteFile(name, "https://example.org/w.mat")


# -- networks -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(server, tmp_path, monkeypatch):
    """A registered network whose weights are on the server, as the classic ones' are elsewhere."""
    small_file(tmp_path / "small.mat")
    server.content["/small.mat"] = (tmp_path / "small.mat").read_bytes()
    card = NetworkCard(
        "small",
        preimage.PixelSpace(6, mean=(9.0, 9.0, 9.0)),
        lambda: initialise(Chain(STEPS)),
        names={s.name: s.name for s in STEPS},
        classes=lambda: ["one", "two"],
        file=RemoteFile("small.mat", f"http://127.0.0.1:{server.server_port}/small.mat"),
    )
    card = replace(card, adopt=lambda path: matconvnet.with_file(card, STEPS, path))
    known_networks()
    monkeypatch.setitem(NETWORKS._entries, "small", card)
    return card


def test_loading_never_fetches_and_says_what_to_do(server, small, cache):
    with pytest.raises(FetchError) as caught:
        preimage.load_network("small")
    for part in ("small.mat is not in", str(cache), "`preimage fetch small`", small.file.url, "put it there"):
        assert part in str(caught.value)
    assert server.asked == []
    assert not cache.exists()


def test_fetched_weights_are_the_default_and_bring_mean_and_classes(server, small, cache, tmp_path):
    done = CliRunner().invoke(app, ["fetch", "small", "-q"])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"small: {cache / 'small.mat'}\n"
    net = preimage.load_network("small")
    assert (net.card.name, net.weights, net.classes) == ("small", "default", ["dog", "cat"])
    assert net.space.mean == (1, 2, 3)
    assert [i.name for i in net.layers()] == ["conv1", "relu1", "drop", "fc"]
    copy = preimage.load_network("small", weights=tmp_path / "small.mat")
    assert copy.weights == str(tmp_path / "small.mat")
    assert torch.equal(copy.module.fc.weight, net.module.fc.weight)
    random = preimage.load_network("small", weights=None)
    assert (random.classes, random.space.mean) == (["one", "two"], (9, 9, 9))
    assert server.asked == ["/small.mat"]
    (cache / "small.mat").write_bytes(b"changed")
    with pytest.raises(FetchError, match="it was changed"):
        preimage.load_network("small")


def test_the_command_line_says_where_weights_come_from(small, cache):
    def listed():
        rows = json.loads(CliRunner().invoke(app, ["networks", "--json"]).stdout)["networks"]
        return {r["name"]: r["weights"] for r in rows}

    assert (listed()["small"], listed()["squeezenet1_1"]) == ("fetchable", "packaged")
    assert listed()["vgg-m"] == "fetchable"
    CliRunner().invoke(app, ["fetch", "small", "-q"])
    assert listed()["small"] == "fetched"


def test_fetch_refuses_what_has_nothing_to_fetch_before_it_fetches_anything(server, small, cache):
    done = CliRunner().invoke(app, ["fetch", "small", "squeezenet1_1"])
    assert done.exit_code == 2
    assert "nothing to fetch for squeezenet1_1" in done.stderr
    assert server.asked == []
    server.content.clear()
    done = CliRunner().invoke(app, ["fetch", "small", "-q"])
    assert done.exit_code == 1
    assert "could not be fetched" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_classic_networks_name_their_files():
    for name in ("caffe-alex", "caffe-ref", "vgg-f", "vgg-m", "vgg-s", "vgg-vd-16", "vgg-vd-19"):
        file = find_card(name).file
        assert file.url == f"https://www.vlfeat.org/matconvnet/models/{file.name}"
        assert file.name.startswith("imagenet-") and Path(file.name).suffix == ".mat"
        assert len(file.md5) == 32
    assert find_card("vgg-vd-16").file.name == "imagenet-vgg-verydeep-16.mat"


@pytest.mark.parametrize("name", ["w.mat", "nowhere.mat"])
def test_a_download_keeps_no_connection_whether_there_is_one_or_not(server, url, cache, name, monkeypatch):
    import requests

    answers, get = [], requests.get
    monkeypatch.setattr(requests, "get", lambda *a, **k: answers.append(get(*a, **k)) or answers[-1])
    with contextlib.suppress(FetchError):
        fetch(RemoteFile("w.mat", url.replace("w.mat", name)), progress=False)
    assert [answer.raw.closed for answer in answers] == [True]
