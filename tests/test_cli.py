"""The command line: what it prints, what it writes, and the code with which it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from preimage import tasks
from preimage.cli import app
from preimage.methods.recipe import DEFAULTS
from preimage.tasks.result import load_result

QUICK = ["--iterations", "4", "-q"]


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).resize((227, 227)).save(path)
    return path


def test_invert_writes_a_folder_and_says_where(photo, tmp_path):
    done = run("invert", photo, "--layer", "fire2", "-o", tmp_path / "out", *QUICK, "--mask", "central:5", "--squash", "--C", "20")
    assert done.exit_code == 0, done.output
    assert re.search(r"photo: error \d+\.\d%", done.stdout)
    assert f"Saved in {tmp_path / 'out'}/" in done.stdout
    result = load_result(tmp_path / "out")
    assert (result.config["C"], result.config["fit"], result.config["representation"]) == (20, "squash", "fire2")


def test_precision_and_memory_reach_the_task_and_a_trial_is_told(photo, tmp_path):
    options = ["--layer", "fire2", "-o", tmp_path / "out", *QUICK]
    done = run("invert", photo, *options, "--precision", "auto", "--max-memory", "2GB")
    assert done.exit_code == 0, done.output
    chosen = load_result(tmp_path / "out").config["precision"]
    assert re.search(rf"Computed in {chosen}: bfloat16 is \d+\.\d times as fast as float32", done.stdout)
    done = run("invert", photo, *options, "--overwrite", "--max-memory", "1MB")
    assert done.exit_code == 2 and "the limit is 1 MB" in done.stderr


def test_maximize_takes_classes_numbers_and_positions(tmp_path):
    done = run("maximize", "-u", "tree frog", "-u", "3", "-o", tmp_path / "a", "--judge", "efficientnet-lite0", *QUICK)
    assert done.exit_code == 0, done.output
    assert re.search(r"tree frog: .*, efficientnet-lite0: rank \d+", done.stdout)
    assert load_result(tmp_path / "a").labels == ["tree frog", "unit 3"]
    done = run("maximize", "-u", "7,2,2", "--layer", "conv1", "--canvas", "30", "-o", tmp_path / "b", *QUICK)
    assert done.exit_code == 0, done.output
    assert load_result(tmp_path / "b").images.shape[-1] == 30


def test_json_is_one_object_and_nothing_else(photo, tmp_path):
    done = run("caricature", photo, "--layer", "fire2", "-o", tmp_path / "out", "--iterations", "4", "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["task"] == "caricature"
    assert record["folder"] == str(tmp_path / "out")
    assert len(record["energy"]["total"]) == 1
    names = json.loads(run("networks", "--json").stdout)
    assert {"squeezenet1_1", "efficientnet-lite0"} <= {n["name"] for n in names["networks"]}
    listed = json.loads(run("layers", "squeezenet1_1", "--json").stdout)["layers"]
    fire9 = {"name": "fire9", "shape": [512, 14, 14], "receptive_field": 207, "stride": 16, "jitter": 4, "kind": "Fire", "parts": []}
    assert fire9 in listed


def test_layers_and_networks_are_tables(tmp_path):
    text = run("layers", "squeezenet1_1").stdout
    assert re.search(r"fire4\s+256x28x28\s+47\s+8\s+2\s+Fire", text)
    assert re.search(r"pool10\s+1000x1x1\s+global", text)
    assert "features.3" not in text
    assert "classifier" in run("layers", "squeezenet1_1", "--all").stdout
    assert "squeezenet1_1" in run("networks").stdout


def test_one_s_own_network_by_function_space_size_and_weights(photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cli_models_of_test.py").write_text(
        "from torch import nn\ndef build(): return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())"
    )
    net = ["--net", "cli_models_of_test:build"]
    done = run("invert", photo, "--layer", "0", *net, "--space", "imagenet:40", "--size", "24x32", "-o", "out", *QUICK)
    assert done.exit_code == 0, done.output
    result = load_result(tmp_path / "out")
    assert tuple(result.images.shape[-2:]) == (24, 32)
    assert result.config["network"] == "cli_models_of_test:build"
    listed = json.loads(run("layers", net[1], "--space", "caffe:20", "--json").stdout)["layers"]
    assert [(row["name"], row["shape"]) for row in listed] == [("0", [2, 18, 18]), ("1", [2, 18, 18])]
    for command in (["invert", photo, "--layer", "0"], ["caricature", photo, "--layer", "0"], ["maximize", "-u", "0"]):
        done = run(*command, *net, "-o", "out2", *QUICK)
        assert (done.exit_code, "--space imagenet:224" in done.stderr) == (2, True), done.output
    done = run("maximize", "-u", "0", *net, "--space", "imagenet:16", "--weights", "none", "-o", "out2", *QUICK)
    assert (done.exit_code, "has no random initialisation" in done.stderr) == (2, True), done.output
    done = run("maximize", "-u", "0", *net, "--space", "imagenet:16", "-o", "out2", *QUICK)
    assert done.exit_code == 0, done.output


def test_token_parts_are_listed_and_taken(photo, tmp_path):
    listed = json.loads(run("layers", "timm/vit_tiny_patch16_224", "--size", "64", "--json").stdout)["layers"]
    row = next(row for row in listed if row["name"] == "blocks.3")
    assert (row["shape"], row["parts"]) == ([17, 192], ["cls", "prefix", "grid"])
    net = ["--net", "timm/vit_tiny_patch16_224", "--weights", "none", "--size", "64"]
    done = run("maximize", "-u", "5,1,2", "--layer", "blocks.0:grid", *net, "-o", tmp_path / "out", *QUICK)
    assert done.exit_code == 0, done.output


def test_networks_lists_the_forms_of_all_others():
    text, listed = run("networks").stdout, json.loads(run("networks", "--json").stdout)
    for form in (
        "torchvision/NAME[:WEIGHTS]",
        "timm/NAME[.TAG]",
        "transformers/FOLDER-OR-ID",
        "FILE.onnx",
        "FILE.pt2",
        "package.module:function",
    ):
        assert form in text
    assert all("/" not in row["name"] and row["paper"] for row in listed["networks"])
    assert "timm/NAME[.TAG]" in [row["form"] for row in listed["sources"]]


def test_a_film_is_made_on_request(photo, tmp_path):
    done = run("invert", photo, "--layer", "pool1", "-o", tmp_path / "out", "--iterations", "6", "-q", "--video", "gif", "--every", "2")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "frames.gif").exists()


BAD = [
    (["invert", "absent.png", "--layer", "fire2", "-o", "out"], 1, "There is no file 'absent.png'"),
    (["invert", "text.png", "--layer", "fire2", "-o", "out"], 1, "is not an image, whatever its name says"),
    (["invert", "photo.png", "--layer", "fire22", "-o", "out"], 2, "Did you mean 'fire2'"),
    (["invert", "photo.png", "--layer", "fire2", "--net", "vgg", "-o", "out"], 2, "No network named 'vgg'"),
    (["invert", "photo.png", "--layer", "fire2", "--C", "0", "-o", "out"], 2, "C is the weight of the loss"),
    (["invert", "photo.png", "--layer", "fire2", "--mask", "centre", "-o", "out"], 2, "A mask is central:N"),
    (["invert", "photo.png", "--layer", "pool10", "--mask", "channels:1000", "-o", "out"], 2, "names channel 1000"),
    (["invert", "photo.png", "--layer", "fire2", "--solver", "sgd", "-o", "out"], 2, "No solver named 'sgd'"),
    (["invert", "photo.png", "--layer", "fire2", "--device", "cuda:77", "-o", "out"], 2, "cannot be used here"),
    (["invert", "photo.png", "--layer", "fire2", "--weights", "text.png", "-o", "out"], 2, "Weights come as"),
    (["invert", "photo.png", "--layer", "fire2", "-o", "text.png"], 1, "is a file"),
    (["invert", "photo.png", "--layer", "fire2", "-o", "text.png/out"], 1, "Name a folder that can be written"),
    (["invert", "photo.png", "--layer", "fire2", "-o", "full"], 1, "holds other files"),
    (["maximize", "-u", "1000", "-o", "out"], 2, "There is no unit 1000"),
    (["maximize", "-u", "frog", "-o", "out"], 2, "30 bullfrog, 31 tree frog"),
    (["layers", "vgg"], 2, "No network named 'vgg'"),
    (["invert", "photo.png", "--layer", "fire2", "--space", "imagenet:x", "-o", "out"], 2, "A size is written 224"),
    (["invert", "photo.png", "--layer", "fire2", "--space", "bgr", "-o", "out"], 2, "A pixel space is written imagenet:224"),
    (["invert", "photo.png", "--layer", "fire2", "--size", "4", "-o", "out"], 2, "cannot take 3 channels of 4x4 pixels"),
    (["invert", "photo.png", "--layer", "fire2", "--net", "text.pt2", "-o", "out"], 2, "--trust"),
    (["invert", "photo.png", "--layer", "fire2", "--video", "avi", "-o", "out"], 2, "mp4 or gif"),
    (["invert", "photo.png", "--layer", "fire2", "--video", "gif", "--every", "0", "-o", "out"], 2, "--every"),
    (["invert", "photo.png", "-o", "out"], 2, "--layer"),
    (["invert", "photo.png", "--layer", "", "-o", "out"], 2, "a layer has a name"),
    (["maximize", "--layer", " ", "-u", "1", "-o", "out"], 2, "a layer has a name"),
    (["saliency", "photo.png", "--layer", "", "--unit", "1", "-o", "out"], 2, "a layer has a name"),
    (["invrt"], 2, "No such command"),
    (["demo", "-o", "text.png"], 1, "Nothing can be written to 'text.png': File exists"),
    (["vocabulary", "photo.png", "-o", "full", "--overwrite"], 2, "'full' is a folder. Name a file in it."),
    (["stats", "squeezenet1_1", "photo.png", "-o", "full", "--overwrite"], 2, "'full' is a folder. Name a file in it."),
    (["stats", "squeezenet1_1", "photo.png", "-o", "gone/new"], 2, "There is no folder"),
]


@pytest.mark.parametrize(("arguments", "code", "text"), BAD, ids=[" ".join(b[0][:6]) for b in BAD])
def test_bad_input_ends_in_a_clear_line_an_honest_code_and_no_folder(arguments, code, text, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    before = sorted(tmp_path.iterdir())
    done = run(*arguments, *(QUICK if arguments[0] in ("invert", "maximize", "caricature") else []))
    assert done.exit_code == code, done.output
    assert text in " ".join(done.stderr.split())
    assert "Traceback" not in done.output
    if done.stderr.startswith("preimage: error"):
        assert done.stderr.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_ctrl_c_saves_what_was_found_and_ends_with_130(photo, tmp_path):
    # a process started in the background ignores SIGINT, and its children with it
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from preimage.cli import main; main()"
    arguments = ["invert", str(photo), "--layer", "fire4", "--iterations", "100000", "-o", str(tmp_path / "out")]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
    seen = b""
    while b"energy" not in seen:  # the bar runs
        seen += os.read(process.stderr.fileno(), 4096)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 130
    assert b"Interrupted." in out
    result = load_result(tmp_path / "out")
    assert result.interrupted
    assert 1 < result.evaluations < 100000


def test_an_unexpected_error_is_one_line_too(photo, tmp_path, monkeypatch):
    monkeypatch.setattr(tasks, "invert", lambda *a, **k: 1 / 0)
    done = run("invert", photo, "--layer", "fire2", "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert done.stderr == "preimage: error: ZeroDivisionError: division by zero (PREIMAGE_DEBUG=1 shows where)\n"
    monkeypatch.setenv("PREIMAGE_DEBUG", "1")
    assert isinstance(run("invert", photo, "--layer", "fire2", "-o", tmp_path / "out").exception, ZeroDivisionError)


def test_help_teaches_and_its_defaults_are_those_of_the_tasks():
    for command, default in ((task, parts.C) for task, parts in DEFAULTS.items()):
        text = " ".join(run(command, "--help").stdout.split())
        assert "Example" in text
        assert re.search(rf"--C NUMBER .{{0,40}}\[default: \(?{default:g}\)?\]", text), text
    assert "130 interrupted" in " ".join(run("--help").stdout.split())


def test_warnings_are_one_line_on_stderr(photo, tmp_path, monkeypatch):
    import warnings

    real = tasks.invert

    def warned(*a, **k):
        warnings.warn("look\nhere", UserWarning, stacklevel=1)
        return real(*a, **k)

    monkeypatch.setattr(tasks, "invert", warned)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        done = run("invert", photo, "--layer", "pool1", "-o", tmp_path / "out", *QUICK)
    assert "preimage: warning: look here\n" in done.stderr


@pytest.mark.parametrize(
    "arguments", [["--help"], ["networks", "--json"], pytest.param(["networks"], marks=pytest.mark.slow)], ids=" ".join
)
def test_a_reader_that_has_seen_enough_ends_the_command_quietly(arguments):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "preimage", *arguments], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + 13, "")  # as of a command that SIGPIPE ended
