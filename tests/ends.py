"""Every command of the program, with words that it can be tried with in a small place: for the tables of how a command ends."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
import typer.main

import preimage
from preimage.cli import app
from preimage.files import atomic_write
from preimage.statistics import Keep, collect_statistics

from .test_hostile_stores import tiny_store

OUT = ["-o", "out", "-q"]
STUDY = ["--layers", "conv1", "--workers", "1", "--iterations", "2", "-o", "out", "-q"]
TASK = ["--iterations", "2", *OUT]
COMMANDS = {
    "invert": ["photo.png", "--layer", "conv1", *TASK],
    "maximize": ["--layer", "conv1", "-u", "1", *TASK],
    "caricature": ["photo.png", "--layer", "conv1", *TASK],
    "recipes": [],
    "again": ["old", *OUT],
    "compare": ["--unit", "1", "--layer", "conv1", "--recipes", "mahendran2016", "--judge", "none", "--iterations", "2", *OUT],
    "networks": [],
    "layers": ["squeezenet1_1"],
    "fetch": ["vgg-vd-16", "-q"],
    "statistics": ["squeezenet1_1", "photo.png", "--layers", "conv1", *OUT],
    "direction": ["squeezenet1_1", "some", "others", "--layer", "conv1", "-o", "out.safetensors"],
    "inverse fit": ["hog", "-o", "out.safetensors", "-q"],
    "vocabulary": ["photo.png", "--words", "2", *OUT],
    "invert-shallow": ["photo.png", "--name", "hog", "--size", "32", *TASK],
    "paper caricature": ["photo.png", *STUDY],  # and all experiments, which are one function
    "paper shallow-table": ["wide.png", "--size", "48", *TASK],
    "paper hog-template": ["person.npy", *TASK],
    "paper quirks": [],
    "atlas": ["squeezenet1_1", "--units", "1", *STUDY],
    "activation-atlas": ["squeezenet1_1", "some", "--layer", "conv1", *["--crops", "30", "--grid", "2", "--layout", "pca"], *TASK],
    "audit": ["photo.png", "photo.png", "--attack", "smoothness", *STUDY],
    "saliency": ["photo.png", "--layer", "conv1", "--unit", "1", "-o", "out"],
    "runs": ["store"],
    "export": ["store", "-o", "out"],
    "push": ["store", "out"],
    "pull": ["store", "-o", "out"],
    "report": ["store", "-q"],
    "microscope": ["stats", "-o", "out.html", "-q"],
    "match": ["stats", "stats", "-o", "out.csv"],
    "demo": ["-o", "out"],
    "app": ["--port", "0"],
    "doctor": [],
    "schema": [],
    "completion": ["bash"],
}


def words(name: str) -> list[str]:
    """The command as it is written."""
    return [*name.split(), *COMMANDS[name]]


def known() -> dict[str, list[str]]:
    """The functions behind the commands, each with the names that it has: one for all experiments, one for statistics and stats."""
    found: dict[str, list[str]] = {}
    for name, command in _leaves(typer.main.get_command(app), ()):
        found.setdefault(f"{command.callback.__module__}:{command.callback.__qualname__}", []).append(name)
    return found


def _leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    inside = getattr(command, "commands", None)
    if inside is None:
        yield " ".join(path), command
        return
    for name, one in inside.items():
        yield from _leaves(one, (*path, name))


def check_every_command_is_in(table: Any) -> None:
    """Fail for a command that a table of ends does not have."""
    missing = [names[0] for names in known().values() if not set(names) & set(table)]
    assert not missing, f"how do these end? {missing}"


def make_place(folder: Path) -> Path:
    """Fill a folder with what the commands are given: photographs, a store, a mirror, a result, a template, statistics."""
    rng = np.random.default_rng(0)
    for path in (folder / "photo.png", *(folder / k / f"{i}.png" for k in ("some", "others") for i in range(4))):
        path.parent.mkdir(exist_ok=True)
        PIL.Image.fromarray(rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
    PIL.Image.fromarray(rng.integers(0, 255, (100, 100, 3), dtype=np.uint8)).save(folder / "wide.png")
    tiny_store(folder / "store")
    ramp = np.linspace(0, 255, 32).astype(np.uint8)[None].repeat(32, 0)
    preimage.invert(preimage.HOG(), ramp, iterations=3, progress=False).save(folder / "old")
    np.save(folder / "person.npy", np.ones((3, 3, 31), np.float32))
    torch.manual_seed(0)
    module, space = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3)), preimage.PixelSpace(16, "rgb")
    keep = Keep(sample=40, places=40)
    collect_statistics(module, [folder / "photo.png"], space=space, top=1, keep=keep, progress=False).save(folder / "stats")
    return folder


def shorten(monkeypatch: Any) -> None:
    """Take the long parts out of what is run to its end: what is fetched, learned, served, looked at, and shown in the demo."""
    from preimage import demo, doctor
    from preimage.app import server
    from preimage.experiments import hoggles
    from preimage.networks import fetch

    learn = functools.partial(hoggles.learn_dictionary, ["wide.png"], 8, windows=200, steps=1)
    monkeypatch.setattr(hoggles, "learn_dictionary", lambda images, progress: learn(progress=progress))
    monkeypatch.setattr(fetch, "fetch", lambda file, progress: _written(Path(file.name)))
    monkeypatch.setattr(server, "make", lambda *args, **more: None)
    monkeypatch.setattr(server, "serve", lambda *args: None)
    monkeypatch.setattr(doctor, "_small_inversion", lambda: (0.5, 0.1))
    monkeypatch.setattr(demo, "DEPTHS", ("conv1",))
    monkeypatch.setattr(demo, "CLASSES", ("goose",))
    monkeypatch.setattr(demo, "CARICATURE", "conv1")
    monkeypatch.setattr(demo, "load_network", lambda name: preimage.load_network(name, size=48))
    for task in ("invert", "maximize", "caricature"):
        monkeypatch.setattr(demo, task, functools.partial(getattr(preimage, task), iterations=2))


def _written(path: Path) -> Path:
    with atomic_write(path) as file:
        file.write(b"weights")
    return path
