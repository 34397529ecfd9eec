"""MatConvNet's files with every field damaged in every way: a network comes of it or an InputError that names the file, nothing else."""

from __future__ import annotations

import copy
import os
import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import preimage
from preimage.errors import InputError, PreimageWarning
from preimage.networks import matconvnet, matfile
from preimage.networks.matfile import Unreadable, read_mat

from . import matfiles

WHOLE = matfiles.network(np.random.default_rng(0))
NETWORK = {  # one layer of each kind
    "layers": [*WHOLE["layers"][:7], WHOLE["layers"][9], WHOLE["layers"][-1]],
    "meta": {"normalization": WHOLE["meta"]["normalization"], "classes": {"description": ["kit fox", "swan", "goose", "tench"]}},
}

DAMAGE = {
    "a text": "text",
    "no text": "",
    "a long text": "x" * 100_000,
    "a text with controls": "a\x1b[31m\x00b:c/..\n",
    "a lone surrogate": "\ud800",
    "rows of text": ["one", "two"],
    "an object": Unreadable("object"),
    "no cells": [],
    "cells of cells": [[["a"], 1.0], []],
    "cells of objects": [Unreadable("function handle")] * 3,
    "a struct": {"type": "conv", "name": "x"},
    "an empty struct": {},
    "a struct array": [{"type": "relu"}, {"type": "relu"}],
    "no numbers": np.zeros((0, 0)),
    "nothing along one side": np.zeros((3, 0, 2)),
    "one number": np.ones((1, 1)),
    "zero": np.zeros((1, 1)),
    "a negative number": np.full((1, 1), -1.0),
    "a fraction": np.full((1, 1), 0.3),
    "NaN": np.full((1, 1), np.nan),
    "infinity": np.full((1, 2), np.inf),
    "more than single precision": np.full((1, 1), 1e300),
    "less than single precision": np.full((1, 1), 1e-300),
    "the lowest whole number": np.full((1, 1), np.iinfo(np.int64).min),
    "the highest whole number": np.full((1, 1), np.iinfo(np.uint64).max),
    "a billion": np.full((1, 2), 1e9),
    "four thousand": np.full((1, 4), 4000.0),
    "truth": np.ones((1, 4), dtype=bool),
    "half precision": np.ones((3, 3), np.float16),
    "the other byte order": np.ones((1, 4), ">f8"),
    "numbers of codes": np.array([[109, 97, 120]], np.uint16),
    "five dimensions": np.ones((2, 1, 2, 1, 2)),
    "a hundred numbers": np.arange(100.0).reshape(1, -1),
}


def places(value, way=()):
    """The way to each value in a network, from the whole to the smallest."""
    yield way
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*way, key))


def plain(value):
    """A network as `read_mat` gives it: numbers are arrays."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list) and not all(isinstance(v, (int, float)) for v in value):
        return [plain(v) for v in value]
    return value if isinstance(value, (str, np.ndarray)) else np.atleast_2d(np.asarray(value, dtype=float))


def put(net, way, value):
    """The network with this value in that place; None takes what is there away."""
    if not way:
        return {} if value is None else value if isinstance(value, dict) else {"net": value}
    net = copy.copy(net)
    if len(way) == 1 and value is None:
        del net[way[0]]
    else:
        net[way[0]] = value if len(way) == 1 else put(net[way[0]], way[1:], value)
    return net


def load(path):
    """What may come of a file, as a word. A network must also run."""
    try:
        net = preimage.load_network(path)
    except InputError as error:
        assert path.name in str(error)
        assert len(str(error)) < 1000
        return "refused"
    except PreimageWarning as warning:
        assert path.name in str(warning)
        return "warned"
    with torch.no_grad():  # shapes alone: an image may have 4096 pixels along each side
        net.module.to("meta")(torch.zeros(1, len(net.space.mean), *net.space.size, device="meta"))
    return "a network"


@pytest.mark.parametrize("damage", [*DAMAGE, "absent"])
def test_every_field_may_be_damaged_in_every_way(tmp_path, monkeypatch, damage):
    path = tmp_path / "damaged.mat"
    path.touch()
    net = plain(NETWORK)
    monkeypatch.setattr(matconvnet, "read_mat", lambda _: net)
    assert load(path) == "a network"
    found = []
    for way in places(net):
        damaged = put(net, way, DAMAGE.get(damage))
        monkeypatch.setattr(matconvnet, "read_mat", lambda _, damaged=damaged: damaged)
        found.append(load(path))
    assert len(found) > 50
    assert found[0] == "refused"


VALUES = st.recursive(
    st.sampled_from([v for v in DAMAGE.values() if not isinstance(v, (list, dict))]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "name", "weights", "pad", "pool"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=st.lists(st.tuples(st.sampled_from([w for w in places(plain(NETWORK)) if w]), VALUES), min_size=1, max_size=4))
@example(damage=[(("layers", 5, "weights"), np.empty((3, 0, 2))), (("layers", 5, "weights", 0), "text")])
def test_several_fields_may_be_damaged_at_once(tmp_path, damage):
    path = tmp_path / "damaged.mat"
    path.touch()
    net = plain(NETWORK)
    for way, value in damage:
        try:
            net = put(net, way, value)
        except (KeyError, IndexError, TypeError, ValueError):  # an earlier damage has taken the place away, or numbers stand there
            continue
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matconvnet, "read_mat", lambda _: net)
        load(path)


def test_deviations_of_zero_and_a_root_of_a_negative_number_are_refused(tmp_path):
    path = tmp_path / "net.mat"
    for index, values, match in [
        (5, {"weights": [np.ones((4, 1)), np.ones((4, 1)), np.zeros((4, 2))]}, "its deviations are from 0 to 0; wanted them above 0"),
        (2, {"param": [5, 0, 0.05, 0.75]}, "wanted kappa above 0"),
        (2, {"param": [5, 1, -0.05, 0.75]}, "alpha and beta from 0"),
    ]:
        net = copy.deepcopy(NETWORK)
        net["layers"][index].update(values)
        matfiles.save_v5(path, net)
        with pytest.raises(InputError, match=match):
            preimage.load_network(path)


def test_padding_and_windows_that_would_take_all_memory_are_refused(tmp_path):
    path = tmp_path / "net.mat"
    net = copy.deepcopy(NETWORK)
    del net["meta"]["classes"]
    net["layers"][0].update(pad=4096.0, stride=4096.0)
    net["meta"]["normalization"].update(imageSize=[4096.0, 4096.0, 3.0], averageImage=np.ones((1, 1, 3)))
    net["layers"] = net["layers"][:1]
    matfiles.save_v5(path, net)
    assert preimage.load_network(path).space.size == (4096, 4096)
    net["meta"]["normalization"].update(imageSize=[4096.0, 4096.0, 64.0], averageImage=np.ones((1, 1, 64)))
    net["layers"][0]["weights"] = [np.ones((3, 2, 64, 2)), np.zeros(2)]
    matfiles.save_v5(path, net)
    with pytest.raises(InputError, match="a map of 64 x 12288 x 12288 values is absurdly large"):
        preimage.load_network(path)
    net["layers"] = [{"type": "pool", "name": "p", "pool": 2000.0}]
    net["meta"]["normalization"].update(imageSize=[4096.0, 4096.0, 3.0], averageImage=np.ones((1, 1, 3)))
    matfiles.save_v5(path, net)
    with pytest.raises(InputError, match=r"its window of 4000000 values at each of \(2097, 2097\) places is absurdly large"):
        preimage.load_network(path)


# -- version 5: the bytes ------------------------------------------------------------------------------------------------------------

_HAMMER = """
import resource, struct, sys
from pathlib import Path
from preimage.errors import InputError
from preimage.networks.matfile import read_mat
path, whole = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
read_mat(sys.argv[2])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = 0
for at in range(128, len(whole), 4):
    for word in (0, 2, 8, 9, 17, 40, 1000, 1 << 20, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x00050001):
        path.write_bytes(whole[:at] + struct.pack("<I", word) + whole[at + 4 :])
        try:
            read_mat(path)
        except InputError:
            count += 1
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_no_word_of_a_file_ends_the_process_or_takes_much_memory(tmp_path):
    """Each word of a file with one value of each kind becomes each of a dozen others."""
    kinds = {
        "n": {"a": ["b", 1.0], "c": {"d": np.ones((1, 2), np.uint8)}, "e": np.zeros((0, 2))},
        "z": np.array([[1 + 2j]]),
        "m": np.array(["ab", "cd"]),
    }
    matfiles.save_v5(tmp_path / "whole.mat", kinds)
    done = subprocess.run(
        [sys.executable, "-c", _HAMMER, str(tmp_path / "one.mat"), str(tmp_path / "whole.mat")], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    refused, kilobytes = map(int, done.stdout.split())
    assert refused > 500
    assert kilobytes < 100_000


def element(kind, content):
    return struct.pack("<II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def array(kind, dimensions, content, flags=None, name=b"layers"):
    head = element(6, struct.pack("<II", kind, 0)) if flags is None else flags
    body = head + element(5, struct.pack(f"<{len(dimensions)}i", *dimensions)) + element(1, name) + content
    return struct.pack("<II", 14, len(body)) + body


@pytest.mark.parametrize(
    ("variable", "match"),
    [
        (array(6, (1, 1), element(9, b"\0" * 8), flags=element(6, b"\6\0\0\0" + b"\0" * 12)), "does not open with its flags"),
        (array(6, (1, 1), element(9, b"\0" * 8), flags=struct.pack("<HHI", 6, 4, 6)), "does not open with its flags"),
        (array(6, (1, 1), element(60_000, b"\0" * 8)), "of no known type"),
        (array(6, (1 << 30, 1), element(9, b"\0" * 8)), "not as many as its dimensions say"),
        (array(6, (-1, 1), element(9, b"\0" * 8)), r"has the dimensions \[-1, 1\]"),
        (array(6, (1,) * 33, element(9, b"\0" * 8)), "has the dimensions"),
        (array(4, (1 << 15, 1 << 15), element(4, b"")), "a text is shorter than its dimensions say"),
        (array(4, ((1 << 31) - 1, 0), element(4, b"")), "an empty array claims the dimensions"),
        (array(2, (1 << 15, 1 << 15), element(5, struct.pack("<i", 32)) + element(1, b"")), "claims a cell array or struct of 1073741824"),
        (array(2, (1, 1), element(5, struct.pack("<i", 0)) + element(1, b"abc")), "names of a struct's fields"),
        (array(2, (1, 1), element(5, struct.pack("<i", 1)) + element(1, b"a" * 5000)), "names of a struct's fields"),
        (array(1, (1, 1), array(6, (1, 1), element(9, b"\0" * 8) + b"\0" * 64)), "longer or shorter than it says"),
        (array(77, (1, 1), element(9, b"\0" * 8)), "the unknown class 77"),
        (element(9, b"\0" * 8), "in the place of a variable is none"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_scipy_would_take_otherwise_than_it_was_looked_at_is_refused(tmp_path, variable, match):
    (tmp_path / "bad.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + variable)
    with pytest.raises(InputError, match=match):
        read_mat(tmp_path / "bad.mat")


def test_a_pipe_and_a_name_that_cannot_be_one_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.mat")
    with pytest.raises(InputError, match=r"pipe.mat' is no MAT-file that can be read, or damaged: it is no ordinary file"):
        read_mat(tmp_path / "pipe.mat")
    for name in (tmp_path / "pipe.mat", tmp_path / ("x" * 300 + ".mat"), "a\0b.mat", tmp_path):
        with pytest.raises(InputError, match="There is no file"):
            matconvnet.read_network(name)


# -- version 7.3: HDF5 ---------------------------------------------------------------------------------------------------------------


def _texts(file, name, parent):
    file["#refs#/out"] = h5py.ExternalLink("secret.h5", "/x")
    parent.create_dataset(name, data=np.array([["/#refs#/out"], ["/#refs#/out"]], dtype=object), dtype=h5py.string_dtype())


def _region(file, name, parent):
    target = file.create_dataset("#target", data=np.ones(4))
    parent.create_dataset(name, data=np.array([[target.regionref[0:2]]], dtype=h5py.regionref_dtype), dtype=h5py.regionref_dtype)


def _nowhere(file, name, parent):
    parent.create_dataset(name, data=np.array([[h5py.Reference()]], dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)


def _kept_outside(file, name, parent):
    parent.create_dataset(name, shape=(1, 3), dtype="u1", external=[("secret.h5", 0, 3)])


def _virtual(file, name, parent):
    layout = h5py.VirtualLayout(shape=(3,), dtype="f8")
    layout[:] = h5py.VirtualSource("secret.h5", "x", shape=(3,))
    parent.create_virtual_dataset(name, layout)


def _large_blocks(file, name, parent):
    parent.create_dataset(name, shape=(1, 1), maxshape=(None, None), chunks=(1 << 14, 1 << 14), dtype="f8", compression="gzip")


def _soft(file, name, parent):
    parent[name] = h5py.SoftLink("/meta")


HOSTILE = {
    "texts that lead out": _texts,
    "references to regions": _region,
    "references to nothing": _nowhere,
    "numbers kept outside": _kept_outside,
    "a virtual dataset": _virtual,
    "blocks larger than all memory": _large_blocks,
    "a soft link": _soft,
    "a table": lambda f, name, p: p.create_dataset(name, data=np.zeros(2, dtype=[("a", "f4"), ("b", "i4")])),
    "lists of any length": lambda f, name, p: p.create_dataset(name, shape=(2,), dtype=h5py.vlen_dtype("f8")),
    "no shape": lambda f, name, p: p.create_dataset(name, data=h5py.Empty("f8")),
    "an enumeration": lambda f, name, p: p.create_dataset(name, data=np.ones(2, "i4"), dtype=h5py.enum_dtype({"a": 1}, basetype="i4")),
    "bytes": lambda f, name, p: p.create_dataset(name, data=np.array([b"abc", b"de"])),
    "a type": lambda f, name, p: p.__setitem__(name, np.dtype("f8")),
    "a group in a circle": lambda f, name, p: p.__setitem__(name, f["/"]),
}
MARKS = {
    "letters beyond all": ("char", np.array([[0xD800], [0xFFFF], [0xDC00]], np.uint16)),
    "letters below zero": ("char", np.array([[-1], [1 << 30]], np.int64)),
    "letters that are fractions": ("char", np.array([[0.5], [np.nan]])),
    "letters in a block": ("char", np.ones((2, 2, 2), np.uint16)),
    "letters in rows": ("char", np.full((3, 2), 97, np.uint16)),
    "no letters": ("char", np.zeros((0, 3), np.uint16)),
    "a cell array of numbers": ("cell", np.ones((2, 2))),
    "a mark that is a block": (np.ones((100, 10)), np.ones((2, 2))),
    "a mark that is a number": (7, np.ones((2, 2))),
}


def change_each(path, change):
    """Applies a change to each dataset of a network's file in turn, and loads what comes of it."""
    matfiles.save_v73(path, {"layers": NETWORK["layers"][:5], "meta": NETWORK["meta"]})
    whole, found = path.read_bytes(), []
    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visititems(lambda name, node: names.append(name) if isinstance(node, h5py.Dataset) else None)
    for name in names:
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            change(file, name)
        found.append(load(path))
    assert len(found) > 20
    return found


@pytest.mark.parametrize("damage", HOSTILE)
def test_whatever_hdf5_can_hold_may_stand_in_the_place_of_a_value(tmp_path, damage):
    """The places in groups alone: behind a reference there is what was referred to."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = np.array([4242.0, 1.0, 2.0])

    def change(file, name):
        parent, _, last = name.rpartition("/")
        del file[name]
        HOSTILE[damage](file, last, file[parent or "/"])

    change_each(tmp_path / "damaged.mat", change)


@pytest.mark.parametrize("damage", MARKS)
def test_marks_and_letters_may_be_anything(tmp_path, damage):
    mark, data = MARKS[damage]

    def change(file, name):
        del file[name]
        node = file.create_dataset(name, data=data)
        node.attrs["MATLAB_class"] = np.bytes_(mark) if isinstance(mark, str) else mark

    change_each(tmp_path / "damaged.mat", change)


def test_a_text_that_names_a_link_reads_nothing_outside_the_file(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = np.array([4242.0])
    with h5py.File(tmp_path / "texts.mat", "w", userblock_size=512) as file:
        _texts(file, "layers", file)
    with pytest.raises(InputError, match="a cell array holds no references"):
        read_mat(tmp_path / "texts.mat")


def test_blocks_that_unpack_to_more_than_a_network_are_refused_before_they_do(tmp_path):
    with h5py.File(tmp_path / "blocks.mat", "w", userblock_size=512) as file:
        _large_blocks(file, "layers", file)
    with pytest.raises(InputError, match="unpack to more than 2147483648"):
        read_mat(tmp_path / "blocks.mat")


def test_letters_are_read_as_matlab_keeps_them(tmp_path):
    """UTF-16: two units for what is beyond the first 65,536 letters."""
    units = np.frombuffer("tench 🐟".encode("utf-16-le"), np.uint16).reshape(-1, 1)
    with h5py.File(tmp_path / "t.mat", "w", userblock_size=512) as file:
        node = file.create_dataset("layers", data=units)
        node.attrs["MATLAB_class"] = np.bytes_("char")
        node = file.create_dataset("lone", data=units[-1:])
        node.attrs["MATLAB_class"] = np.bytes_("char")
    assert read_mat(tmp_path / "t.mat") == {"layers": "tench 🐟", "lone": "\ufffd"}
    assert isinstance(matfile._letters(np.zeros((0, 0), np.uint16)), str)
