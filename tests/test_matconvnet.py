"""MatConvNet's files: what they mean is what a plain evaluation gives, and what is no network is refused by name."""

from __future__ import annotations

import copy
import shutil
import struct
import subprocess
import sys
import zlib

import h5py
import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import preimage
from preimage.errors import InputError, PreimageWarning, UnknownName
from preimage.networks import matfile
from preimage.networks.chain import Chain, Conv, Norm, Pool, ReLU, differences
from preimage.networks.matconvnet import read_network, with_file
from preimage.networks.network import NetworkCard

from . import matfiles

WRITERS = {
    "old, v5": ("old", lambda p, n: matfiles.save_v5(p, n)),
    "new, v5": ("new", lambda p, n: matfiles.save_v5(p, n)),
    "old, v7": ("old", lambda p, n: matfiles.save_v5(p, n, do_compression=True)),
    "new, v7": ("new", lambda p, n: matfiles.save_v5(p, n, do_compression=True)),
    "old, v7.3": ("old", matfiles.save_v73),
    "new, v7.3": ("new", matfiles.save_v73),
}


@pytest.fixture
def written(tmp_path):
    net = matfiles.network(np.random.default_rng(0))
    matfiles.save_v5(tmp_path / "net.mat", net)
    return tmp_path / "net.mat", net


def rewrite(path, net, change):
    """The network after a change, in the file's place."""
    net = copy.deepcopy(net)
    change(net)
    matfiles.save_v5(path, net)
    return path


@pytest.mark.parametrize("writer", WRITERS)
def test_every_form_gives_the_activations_of_a_plain_evaluation(tmp_path, writer):
    form, save = WRITERS[writer]
    source = matfiles.network(np.random.default_rng(1), form)
    save(tmp_path / "net.mat", source)
    net = preimage.load_network(tmp_path / "net.mat")
    picture = np.random.default_rng(2).integers(0, 256, (12, 10, 3)).astype(np.uint8)
    x = net.space.encode(picture)
    average = (source if form == "old" else source["meta"])["normalization"]["averageImage"]
    wanted = matfiles.evaluate(source, picture - average.mean(axis=(0, 1), dtype=np.float64))
    assert [i.name for i in net.layers()] == [entry["name"] for entry in source["layers"]][:-1]
    for name in wanted:
        if name != "prob":
            found = net.layer(name)(x)[0].permute(1, 2, 0).numpy()
            assert found.shape == wanted[name].shape
            scale = np.abs(wanted[name]).max()  # float32 against float64: some 1e-7 of the largest term in each of a few layers
            np.testing.assert_allclose(found, wanted[name], atol=3e-6 * scale, rtol=0, err_msg=name)
    assert net.predict(picture).shape == (1, 5)
    assert net.classes[1] == "black swan, Cygnus"
    assert net.layer("fc").unit_named("black swan") == 1


def test_old_and_new_and_compressed_files_hold_the_same(tmp_path):
    old = matfiles.network(np.random.default_rng(3), "old")
    matfiles.save_v5(tmp_path / "a.mat", old)
    matfiles.save_v5(tmp_path / "b.mat", old, do_compression=True)
    matfiles.save_v73(tmp_path / "c.mat", old)
    first, *others = [read_network(tmp_path / f"{k}.mat") for k in "abc"]
    for other in others:
        assert other.steps == first.steps
        assert all(torch.equal(other.state[k], v) for k, v in first.state.items())
        np.testing.assert_array_equal(other.average, first.average)
        assert other.classes == first.classes


def test_the_average_image_is_kept_and_reduced_to_its_colour(written):
    path, net = written
    found = read_network(path)
    average = net["meta"]["normalization"]["averageImage"]
    np.testing.assert_array_equal(found.average, average)
    np.testing.assert_allclose(found.space().mean, average.mean(axis=(0, 1)), rtol=1e-5)  # a sum of 120 single-precision numbers
    assert found.space().channels == "rgb"
    assert found.space().size == (12, 10)
    for given_as in (np.array([[[1.0, 2.0, 3.0]]]), np.array([[1.0, 2.0, 3.0]]), np.array([[1.0], [2.0], [3.0]])):
        rewrite(path, net, lambda n, v=given_as: n["meta"]["normalization"].update(averageImage=v))
        assert read_network(path).space().mean == (1, 2, 3)


def test_random_weights_and_the_record_of_a_file(written):
    path, _ = written
    net = preimage.load_network(str(path), weights=None, seed=3)
    assert net.weights == "random (seed 3)"
    trained = preimage.load_network(str(path))
    assert not torch.equal(trained.layer("conv2").module.conv2.weight, net.module.conv2.weight)
    result = preimage.invert(trained.layer("conv2"), np.zeros((12, 10, 3), np.uint8), iterations=2, progress=False)
    assert result.config["network"] == str(path)


def test_a_grey_network_and_trailing_dimensions_that_matlab_drops(tmp_path):
    filters = np.random.default_rng(0).normal(size=(3, 3)).astype(np.float32)  # 3 x 3 x 1 x 1
    layers = [{"type": "conv", "name": "only", "weights": [filters, np.zeros((0, 0))], "pad": 1.0}]
    normal = {"imageSize": [6.0, 6.0, 1.0], "averageImage": np.full((6, 6), 10.0)}
    matfiles.save_v5(tmp_path / "grey.mat", {"layers": layers, "meta": {"normalization": normal}})
    net = preimage.load_network(tmp_path / "grey.mat")
    assert (net.space.channels, net.space.mean) == ("grey", (10.0,))
    assert net.layer("only").shape == (1, 6, 6)
    assert torch.equal(net.module.only.weight[0, 0], torch.from_numpy(filters))
    assert not net.module.only.bias.any()


# -- what is refused ---------------------------------------------------------------------------------------------------------------


def changed(index, **values):
    return lambda net: net["layers"][index].update(values)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (changed(0, type="convt"), r"layer 1 \(conv1\) is of type 'convt'; the types that can be read are conv, pool"),
        (changed(0, weights=[np.full((3, 2, 3, 6), np.nan), np.zeros(6)]), r"layer 1 \(conv1\): its weights hold NaN"),
        (changed(0, weights=[np.ones((3, 2, 3, 6)), np.zeros(5)]), r"layer 1 \(conv1\): 5 biases for 6 filters"),
        (changed(4, weights=[np.ones((3, 3, 5, 4)), np.zeros(4)]), r"layer 5 \(conv2\): 4 filters of 5 channels do not fit 6 channels"),
        (changed(0, weights=["text", np.zeros(6)]), r"layer 1 \(conv1\): its weights hold the text 'text'"),
        (changed(0, weights=[]), r"layer 1 \(conv1\)"),
        (changed(0, stride=[0, 1]), r"layer 1 \(conv1\): stride is \[0.0, 1.0\]"),
        (changed(0, stride=1.5), r"layer 1 \(conv1\): stride is"),
        (changed(0, pad=[1, 2]), r"layer 1 \(conv1\): pad is \[1.0, 2.0\]; wanted one or four"),
        (changed(0, pad=-1.0), r"layer 1 \(conv1\): pad is"),
        (changed(0, pad=1e9), r"layer 1 \(conv1\): pad is"),
        (changed(0, opts=["Dilate", 2.0]), r"layer 1 \(conv1\): the option 'Dilate' in its opts"),
        (changed(3, method="sum"), r"layer 4 \(pool1\): its method is 'sum'; wanted 'max' or 'avg'"),
        (changed(3, pool=[1, 1], pad=[0, 1, 0, 1]), r"layer 4 \(pool1\): padding \(0, 1, 0, 1\) is not smaller than the window"),
        (changed(3, pool=[9, 9]), r"layer 4 \(pool1\): nothing is left of the image"),
        (changed(2, param=[5, 1]), r"layer 3 \(norm1\): param is \[5.0, 1.0\]"),
        (changed(1, leak=2.0), r"layer 2 \(relu1\): leak is \[2.0\]"),
        (changed(5, weights=[np.ones(4), np.ones(4)]), r"layer 6 \(bn2\): wanted a factor, a bias and two moments"),
        (lambda n: n["layers"].insert(0, "text"), "layer 1 is no layer: wanted a struct with a type, got the text 'text'"),
        (lambda n: n["layers"][0].pop("type"), "layer 1 is no layer"),
        (lambda n: n.pop("layers"), "is no MatConvNet network: it has no cell array `layers`. It holds: meta"),
        (lambda n: n.update(params=["a"]), "is a DagNN network, a graph"),
        (lambda n: n["meta"].pop("normalization"), "normalization.imageSize is absent"),
        (lambda n: n["meta"]["normalization"].update(imageSize=[1e6, 1e6, 3]), "normalization.imageSize is"),
        (lambda n: n["meta"]["normalization"].update(imageSize="big"), "normalization.imageSize is the text 'big', wanted a few numbers"),
        (
            lambda n: n["meta"]["normalization"].pop("averageImage"),
            "net.mat does not say which pixels of 12x10 it takes",
        ),
        (lambda n: n["meta"]["normalization"].update(averageImage=np.ones((4, 4, 2))), r"averageImage has shape \(4, 4, 2\)"),
        (lambda n: n["meta"]["classes"].update(description=[1.0, "a"]), "classes.description is no cell array of texts"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_file_and_the_layer(written, change, match):
    path, net = written
    with pytest.raises(InputError, match=match) as caught:
        preimage.load_network(rewrite(path, net, change))
    assert "net.mat" in str(caught.value)


def test_names_of_other_classes_are_left_out_with_a_warning(written):
    path, net = written
    rewrite(path, net, lambda n: n["meta"]["classes"].update(description=["one", "two"]))
    with pytest.warns(PreimageWarning, match=r"names 2 classes, but its last layer has 5 channels"):
        assert preimage.load_network(path).classes == []


def test_names_that_python_or_the_command_line_cannot_take_are_changed_and_stay_apart(written):
    path, net = written
    names = ["a.b", "a b", "forward", "x[1]#2", "", "children"]

    def change(n):
        for entry, name in zip(n["layers"], names, strict=False):
            entry["name"] = name

    found = preimage.load_network(rewrite(path, net, change))
    listed = [i.name for i in found.layers()]
    assert listed[:6] == ["a_b", "a_b_2", "forward_2", "x_1__2", "layer5", "children_2"]
    assert found.layer("x_1__2").shape


def test_a_module_s_object_or_function_in_the_place_of_a_layer_is_named(tmp_path):
    function = scipy.io.matlab.MatlabFunction(np.zeros((1, 1), dtype=[("a", "O")]))
    assert matfile._plain(function) == matfile.Unreadable("function handle")
    assert isinstance(matfile._plain(scipy.io.matlab.MatlabOpaque(np.zeros(1))), matfile.Unreadable)
    path = tmp_path / "v73.mat"
    matfiles.save_v73(path, matfiles.network(np.random.default_rng(0)))
    with h5py.File(path, "r+") as file:
        file["#refs#"]["r0"].attrs["MATLAB_object_decode"] = 3
    with pytest.raises(InputError, match="layer 1 is no layer: wanted a struct with a type, got a MATLAB object"):
        read_network(path)


@pytest.mark.parametrize("save", [matfiles.save_v5, lambda p, n: matfiles.save_v5(p, n, do_compression=True), matfiles.save_v73])
def test_a_file_cut_anywhere_is_refused(tmp_path, save):
    whole = tmp_path / "whole.mat"
    save(whole, matfiles.network(np.random.default_rng(0)))
    data = whole.read_bytes()
    for length in [0, 1, 127, 130, len(data) // 3, len(data) // 2, len(data) - 40]:
        (tmp_path / "cut.mat").write_bytes(data[:length])
        with pytest.raises(InputError, match=r"cut.mat' (is no MAT-file|is no MatConvNet)"):
            read_network(tmp_path / "cut.mat")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(["v5", "v7", "v73"]))
def test_damaged_bytes_give_a_network_or_a_clear_error_and_nothing_else(tmp_path, data, kind):
    whole = tmp_path / f"{kind}.mat"
    if not whole.exists():
        small = {
            "layers": matfiles.network(np.random.default_rng(0))["layers"][:4],
            "meta": matfiles.network(np.random.default_rng(0))["meta"],
        }
        {"v5": matfiles.save_v5, "v7": lambda p, n: matfiles.save_v5(p, n, do_compression=True), "v73": matfiles.save_v73}[kind](
            whole, small
        )
    damaged = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
    (tmp_path / "damaged.mat").write_bytes(damaged)
    with np.errstate(all="ignore"):
        try:
            preimage.load_network(tmp_path / "damaged.mat")
        except InputError as error:
            assert "damaged.mat" in str(error)
        except PreimageWarning:
            pass


def test_files_of_other_kinds_are_refused(tmp_path):
    (tmp_path / "text.mat").write_text("hello" * 100)
    scipy.io.savemat(tmp_path / "four.mat", {"a": np.ones(3)}, format="4")
    scipy.io.savemat(tmp_path / "other.mat", {"a": np.ones(3)})
    with h5py.File(tmp_path / "plain.mat", "w") as file:
        file["a"] = 1
    for name in ("text", "four", "other", "plain"):
        with pytest.raises(InputError, match=rf"{name}.mat' is no"):
            read_network(tmp_path / f"{name}.mat")
    with pytest.raises(InputError, match="There is no file"):
        preimage.load_network(tmp_path / "absent.mat")
    with pytest.raises(InputError, match="There is no file"):
        preimage.load_network(tmp_path / ".mat")


def nested(depth):
    """A cell in a cell in a cell …"""

    def element(kind, content):
        return struct.pack("<II", kind, len(content)) + content + b"\0" * (-len(content) % 8)

    inner = element(
        14, element(6, struct.pack("<II", 6, 0)) + element(5, struct.pack("<ii", 1, 1)) + element(1, b"") + element(9, b"\0" * 8)
    )
    heads, size = [], len(inner)
    for k in range(depth):
        head = (
            element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<ii", 1, 1)) + element(1, b"layers" if k == depth - 1 else b"")
        )
        heads.append(struct.pack("<II", 14, len(head) + size) + head)
        size += len(head) + 8
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"".join(reversed(heads)) + inner


def test_deep_nesting_is_refused_before_it_ends_the_process(tmp_path):
    (tmp_path / "deep.mat").write_bytes(nested(100_000))
    with pytest.raises(InputError, match="nested more than 24 deep"):
        read_network(tmp_path / "deep.mat")
    (tmp_path / "shallow.mat").write_bytes(nested(5))
    assert matfile.read_mat(tmp_path / "shallow.mat")["layers"][0][0]


def test_a_claim_of_a_billion_cells_is_refused_before_room_is_made(tmp_path):
    data = bytearray(nested(2))
    at = data.index(struct.pack("<IIii", 5, 8, 1, 1))
    data[at : at + 16] = struct.pack("<IIii", 5, 8, 1 << 15, 1 << 15)
    (tmp_path / "many.mat").write_bytes(data)
    with pytest.raises(InputError, match="claims a cell array or struct of 1073741824 values"):
        read_network(tmp_path / "many.mat")


def test_a_small_file_that_unpacks_to_something_huge_is_refused(tmp_path):
    squeeze = zlib.compressobj(9)
    packed = b"".join(squeeze.compress(b"\0" * (1 << 20)) for _ in range(200)) + squeeze.flush()
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    (tmp_path / "bomb.mat").write_bytes(header + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(InputError, match=r"its \d+ bytes unpack to more than"):
        read_network(tmp_path / "bomb.mat")
    with h5py.File(tmp_path / "bomb73.mat", "w", userblock_size=512) as file:
        file.create_dataset("layers", shape=(1 << 16, 1 << 14), dtype="f8", chunks=(1024, 1024), compression="gzip")
    with pytest.raises(InputError, match="unpack to more than"):
        read_network(tmp_path / "bomb73.mat")


def test_links_out_of_a_file_and_circles_in_it_are_refused(tmp_path):
    matfiles.save_v73(tmp_path / "good.mat", matfiles.network(np.random.default_rng(0)))
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = np.arange(3.0)
    shutil.copy(tmp_path / "good.mat", tmp_path / "link.mat")
    with h5py.File(tmp_path / "link.mat", "r+") as file:
        file["meta/extra"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/x")
    with pytest.raises(InputError, match="'extra' is a link out of its place"):
        read_network(tmp_path / "link.mat")
    with h5py.File(tmp_path / "circle.mat", "w", userblock_size=512) as file:
        node = file.create_dataset("layers", shape=(2, 1), dtype=h5py.ref_dtype)
        node[:] = np.array([[node.ref], [node.ref]], dtype=h5py.ref_dtype)
    with pytest.raises(InputError, match="in a circle"):
        read_network(tmp_path / "circle.mat")


def test_cells_that_are_each_the_last_one_twice_are_refused(tmp_path, monkeypatch):
    """Twenty small cells would be a million values."""
    monkeypatch.setattr(matfile, "VALUES", 2000)  # the true bound takes a minute to reach
    with h5py.File(tmp_path / "twice.mat", "w", userblock_size=512) as file:
        node = file.create_dataset("#a", data=np.zeros((1, 1)))
        for k in range(20):
            references = np.array([[node.ref], [node.ref]], dtype=h5py.ref_dtype)
            node = file.create_dataset("layers" if k == 19 else f"#{k}", data=references, dtype=h5py.ref_dtype)
    with pytest.raises(InputError, match="more than 2000,"):
        read_network(tmp_path / "twice.mat")


# -- a known network and its file ---------------------------------------------------------------------------------------------------

STEPS = [Conv("conv1", 3, 4, (3, 3)), ReLU("relu1"), Conv("fc", 4, 2, (4, 4))]


def small_file(path, **changes):
    rng = np.random.default_rng(5)
    layers = [
        {"type": "conv", "name": "conv1", "weights": [rng.normal(size=(3, 3, 3, 4)), rng.normal(size=4)]},
        {"type": "relu", "name": "relu1"},
        {"type": "dropout", "name": "drop", "rate": 0.5},
        {"type": "conv", "name": "fc", "weights": [rng.normal(size=(4, 4, 4, 2)), rng.normal(size=2)]},
    ]
    for name, values in changes.items():
        next(entry for entry in layers if entry["name"] == name).update(values)
    meta = {
        "normalization": {"imageSize": [6.0, 6.0, 3.0], "averageImage": np.array([[[1.0, 2.0, 3.0]]])},
        "classes": {"description": ["dog", "cat"]},
    }
    matfiles.save_v5(path, {"layers": layers, "meta": meta})
    return layers


def test_a_known_network_takes_weights_mean_and_classes_from_its_file(tmp_path):
    layers = small_file(tmp_path / "small.mat")
    card = NetworkCard("small", preimage.PixelSpace(6), lambda: Chain(STEPS), paper="a paper")
    own = with_file(card, STEPS, tmp_path / "small.mat")
    assert (own.name, own.paper, own.space.mean) == ("small", "a paper", (1, 2, 3))
    assert own.classes() == ["dog", "cat"]  # not in the order that other networks have
    torch.testing.assert_close(own.weights()["conv1.weight"], torch.tensor(layers[0]["weights"][0].transpose(3, 2, 0, 1)).float())
    assert own.weights().keys() == own.build().state_dict().keys()  # a second time too


def test_every_difference_from_a_known_network_is_listed(tmp_path):
    rng = np.random.default_rng(0)
    card = NetworkCard("small", preimage.PixelSpace(6), lambda: Chain(STEPS))
    small_file(tmp_path / "a.mat", conv1={"weights": [rng.normal(size=(3, 3, 3, 8)), np.zeros(8)], "pad": 1.0}, relu1={"name": "other"})
    with pytest.raises(
        InputError, match=r"a.mat' does not hold small: missing layer 'relu1'; unexpected layer 'other'; outputs of 'conv1' is 8"
    ):
        with_file(card, STEPS, tmp_path / "a.mat")
    small_file(tmp_path / "b.mat")
    with pytest.raises(InputError, match=r"images of \(6, 6\) instead of \(7, 7\)"):
        with_file(NetworkCard("small", preimage.PixelSpace(7), lambda: Chain(STEPS)), STEPS, tmp_path / "b.mat")


def test_the_same_chain_differs_in_nothing_whatever_its_overhang_where_that_is_unused():

    a, b, c = (Pool("pool1", "max", (2, 2), (2, 2), (0, k, 0, k)) for k in (0, 1, 2))
    assert differences([a], [b], (4, 4)) == []
    assert differences([a], [b], (5, 5)) == ["pads of 'pool1' is (0, 1, 0, 1) instead of (0, 0, 0, 0)"]
    assert differences([a], [c], (4, 4)) != []
    assert differences([Norm("n", 5, 1, 2e-5, 0.75)], [Norm("n", 5, 1, np.float32(2e-5).item(), 0.75)], (4, 4)) == []
    assert differences([Norm("n", 5, 1, 2e-5, 0.75)], [Norm("n", 5, 1, 1e-4, 0.75)], (4, 4)) != []
    assert differences([a, ReLU("r")], [ReLU("r"), a], (4, 4)) == ["the layers come as r, pool1"]


def test_without_scipy_the_extra_is_named(written):
    path, _ = written
    code = (
        "import sys; sys.modules['scipy'] = sys.modules['scipy.io'] = None\n"
        f"import preimage\ntry: preimage.load_network({str(path)!r})\nexcept preimage.MissingExtra as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "preimage[matlab]: pip install '.[matlab]'" in done.stdout


def test_a_path_that_ends_otherwise_is_an_unknown_name():
    with pytest.raises(UnknownName):
        preimage.load_network("imagenet-vgg-m.matt")
