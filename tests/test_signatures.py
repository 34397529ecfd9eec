"""What public functions take: few arguments, groups with names, and one line where something else is given."""

from __future__ import annotations

import contextlib
import inspect
import pydoc
import re

import numpy as np
import pytest
import torch
from torch import nn

import preimage
from preimage import Jitter, Stage
from preimage.energy.fourier import Fourier
from preimage.errors import InputError, PreimageError
from preimage.experiments.arguments import RunArguments, StudyArguments
from preimage.statistics.collect import ReadingArguments
from preimage.tasks.choice import PartArguments

SPACE = preimage.PixelSpace(16, "rgb", scale=1.0, mean=0.5, std=0.25)
GROUPS = {"recipe", "compute", "monitor", "parts"}
NAMED = {  # the groups of names that other functions take, and the dataclasses beside them
    "audit": ("study", StudyArguments),
    "compare": ("run", RunArguments),
    "collect_statistics": ("reading", ReadingArguments),
}
KEPT = {"keep", "threat", *(group for group, _ in NAMED.values())}
TASKS = ("invert", "maximize", "caricature")
# What the plan of the package protects, by name; beside it a function has its groups and little else.
PROTECTED = {
    "invert": "phi image C restarts mask solver iterations seed device dtype progress recipe",
    "maximize": "phi unit C restarts canvas solver iterations seed device dtype progress recipe",
    "caricature": "phi image C mask solver iterations seed device dtype progress recipe",
}
OWN = {  # what only this task can be asked, and the run to go on from
    "invert": "fit release resume",
    "maximize": "everywhere Z stats resume",
    "caricature": "fit seen resume",
}


def arguments(function) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_takes_what_is_protected_its_own_question_and_groups(name):
    assert set(arguments(getattr(preimage, name))) == {*PROTECTED[name].split(), *OWN[name].split(), *GROUPS}


def functions() -> list[str]:
    return [n for n in preimage.__all__ if inspect.isfunction(getattr(preimage, n))]


@pytest.mark.parametrize("name", functions())
def test_no_public_function_takes_more_than_about_a_dozen_arguments_beside_its_groups(name):
    many = {task: len(PROTECTED[task].split()) + len(OWN[task].split()) - 1 for task in TASKS}
    assert len([a for a in arguments(getattr(preimage, name)) if a not in GROUPS | KEPT]) <= many.get(name, 12)


@pytest.mark.parametrize("name", TASKS)
def test_help_lists_every_argument_and_every_part_in_lines_that_fit(name):
    text = pydoc.plain(pydoc.render_doc(getattr(preimage, name)))
    described = re.findall(r"^    ([\w, ]+) : ", text, re.M)
    listed = {word for line in described for word in line.split(", ")}
    assert listed >= {a for a in arguments(getattr(preimage, name)) if a != "parts"} | set(PartArguments.__annotations__)
    assert max(len(line) for line in text.splitlines()[6:]) <= 148


@pytest.mark.parametrize("name", NAMED)
def test_help_lists_every_argument_of_a_group_and_a_name_that_is_not_in_it_is_answered_with_a_near_one(name):
    function, (group, names) = getattr(preimage, name), NAMED[name]
    listed = re.findall(r"^    ([\w, ]+?)(?: : .*)?$", inspect.getdoc(function).replace("\n", "\n    "), re.M)
    described = {word for line in listed for word in line.split(", ")}
    assert described >= {a for a in arguments(function) if a != group} | set(names.__annotations__)
    required = {a: "x" for a, p in inspect.signature(function).parameters.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD}
    required |= {"phi": preimage.HOG()} if "phi" in required else {"images": ["a", "b"]} if name == "audit" else {}
    required |= {"units": [3]} if name == "compare" else {}
    known = next(iter(names.__annotations__))
    with pytest.raises(InputError, match=rf"no argument '{known}s'. Did you mean '{known}'.*help\(preimage.{name}\)"):
        function(**required, **{f"{known}s": 1})


@pytest.fixture(scope="module")
def phi() -> preimage.Layer:
    torch.manual_seed(0)  # some weights answer to nothing
    return preimage.Layer(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), "1", space=SPACE)


PICTURE = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"jitter": 3}, r"There is no argument 'jitter'. Say transform=Jitter\(N\)"),
        ({"frames": 3}, r"Say monitor=Monitor\(frames=N\)"),
        ({"max_memory": "1GB"}, r"Say compute=Compute\(max_memory=…\)"),
        ({"regularisers": None}, "Did you mean 'regularizers'"),
        ({"nonsense": 1}, r"help\(preimage.invert\)"),
        ({"transform": "jitter"}, r"as Jitter\(4\).*got 'jitter'"),
        ({"parameterization": 3}, r"as Fourier\(\).*got 3"),
        ({"regularizers": [1]}, r"by name.*got \[1\]"),
        ({"regularizers": {"a": 3}}, "'a' is 3"),
        ({"stages": 3}, "Stage.*got 3"),
        ({"stages": [1]}, "Stage"),
        ({"objective": 4}, "An objective is"),
        ({"bound": "x"}, "bound is a number"),
        ({"mask": 3}, "A mask is"),
        ({"release": 3}, "release is a function"),
        ({"start": 3}, "An image is"),
    ],
)
def test_what_is_no_argument_or_of_another_kind_is_refused_with_what_to_say(given, said, phi):
    with pytest.raises(InputError, match=said):
        preimage.invert(phi, PICTURE, iterations=2, progress=False, **given)


def test_every_part_is_taken_by_its_name(phi):
    found = preimage.invert(
        phi, PICTURE, transform=Jitter(2), parameterization=Fourier(), regularizers={}, bound=90.0, stages=[Stage(3)], progress=False
    )
    parts = found.config["parts"]
    assert (parts["transform"]["name"], parts["parameterization"]["name"]) == ("jitter", "fourier")
    assert (parts["regularizers"], parts["bound"], len(parts["stages"])) == ({}, 90.0, 1)


@pytest.mark.parametrize("device", ["cuda:77", "nowhere", 3])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(device, phi):
    with pytest.raises(InputError, match=r"cannot be used here\. There is: cpu"):
        preimage.invert(phi, PICTURE, device=device, progress=False)


STRANGE = [np.array([1, 2]), 10**30, float("nan"), 1j, object(), [], "", b"x", torch.tensor(3), ...]
NAMES = "C solver iterations recipe seed restarts mask dtype device fit start objective bound transform regularizers stages compute monitor"


@pytest.mark.filterwarnings("ignore::preimage.errors.PreimageWarning")
@pytest.mark.parametrize("name", [*NAMES.split(), "progress"])
def test_no_value_of_an_argument_meets_an_error_of_another_library(name, phi):
    for value in STRANGE:
        with contextlib.suppress(PreimageError):
            preimage.invert(phi, PICTURE, **{"iterations": 1, "progress": False} | {name: value})


@pytest.mark.parametrize(
    "call",
    [
        lambda v: preimage.PixelSpace(v, "rgb"),
        lambda v: preimage.PixelSpace(16, v),
        lambda v: preimage.PixelSpace(16, "rgb", scale=v),
        lambda v: preimage.PixelSpace(16, "rgb", mean=v),
        lambda v: preimage.PixelSpace(16, "rgb", std=v),
        lambda v: preimage.PixelSpace(16, "rgb", fit=v),
        lambda v: preimage.from_callable(lambda x: x, v),
        lambda v: preimage.layers(nn.ReLU(), v),
        lambda v: preimage.Layer(nn.ReLU(), v, space=SPACE),
        lambda v: preimage.Layer(nn.ReLU(), "", space=SPACE, leak=v),
        preimage.load_result,
        preimage.load_network,
    ],
)
def test_no_value_of_what_is_made_or_loaded_meets_an_error_of_another_library(call):
    for value in [*STRANGE, None, 1.5, [1], {}]:
        with contextlib.suppress(PreimageError):
            call(value)


def test_numbers_of_numpy_are_kept_as_numbers(phi, tmp_path):
    found = preimage.invert(phi, PICTURE, C=np.float32(2), bound=np.float64(100), iterations=np.int64(2), progress=False)
    assert (found.config["C"], found.config["bound"], found.config["iterations"]) == (2.0, 100.0, 2)
    found.save(tmp_path / "out")


def test_lists_of_nothing_are_refused(phi):
    for call in (
        lambda: preimage.maximize(phi, []),
        lambda: preimage.maximize(phi, 0, start=[]),
        lambda: preimage.invert(phi, PICTURE, start=[]),
    ):
        with pytest.raises(InputError, match="empty list"):
            call()


def test_a_mask_beyond_the_channels_and_a_second_cpu_are_refused(phi):
    with pytest.raises(InputError, match=r"names channel 9999; the features have channels 0 to 3"):
        preimage.invert(phi, PICTURE, mask=preimage.masks.parse_mask("channels:0-9999"))
    with pytest.raises(InputError, match=r"'cpu:7' cannot be used here\. There is: cpu"):
        preimage.invert(phi, PICTURE, device="cpu:7")
