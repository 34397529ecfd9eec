"""Weights and model folders that come from anybody: refused by their shapes and headers, in words, before anything is unpacked or built."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from preimage.errors import InputError
from preimage.networks import hub_files
from preimage.networks.checkpoints import fill, read_state
from preimage.networks.hub_files import check_config, check_index, check_processor, read_json
from preimage.networks.network import load_network
from preimage.representations.template import load_template


def small() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))


# -- files of weights ----------------------------------------------------------------------------------------------------------------


def test_an_archive_that_unpacks_to_far_more_than_it_has_is_refused_unopened(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("it was opened"))
    monkeypatch.setattr(np, "load", lambda *a, **k: pytest.fail("it was opened"))
    for name, read in (("bomb.pt", read_state), ("bomb.npz", load_template)):
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("archive/data/0", "w") as member:
            for _ in range(80):
                member.write(b"\0" * (1 << 20))
        with pytest.raises(InputError, match=rf"{name}' is no archive of numbers, or damaged: its \d+ bytes unpack to more than 83886080"):
            read(tmp_path / name)


def test_a_damaged_archive_is_refused(tmp_path):
    torch.save(small().state_dict(), tmp_path / "whole.pt")
    data = (tmp_path / "whole.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"cut.pt' is no archive of numbers, or damaged"):
        read_state(tmp_path / "cut.pt")


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: torch.zeros(1).expand(1 << 40, 3), r"0.weight is \(1099511627776, 3\) instead of \(2, 3\)"),
        (lambda: torch.eye(2, 3).to_sparse(), "0.weight is sparse_coo, and no plain tensor"),
        (lambda: torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8), "0.weight is quantized"),
        (lambda: torch.empty(2, 3, device="meta"), r"0.weight is without values \(on the device meta\)"),
        (lambda: torch.nested.nested_tensor([torch.ones(3), torch.ones(2)], layout=torch.jagged), "0.weight is nested"),
        (lambda: nn.UninitializedParameter(), "0.weight is without a shape yet"),
        (lambda: torch.ones(2, 3, dtype=torch.complex64), "0.weight holds complex64 where float32 is wanted"),
        (lambda: torch.ones(2, 3, dtype=torch.int8), "0.weight holds int8 where float32 is wanted"),
        (lambda: torch.full((2, 3), 1e300, dtype=torch.float64), "0.weight holds NaN or infinite values"),
        (lambda: torch.full((2, 3), torch.nan), "0.weight holds NaN or infinite values"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning", "ignore:.*nested tensors:UserWarning")  # torch's, of such tensors
def test_what_is_no_tensor_of_finite_numbers_of_that_kind_is_refused(make, match):
    state = small().state_dict() | {"0.weight": make()}
    with pytest.raises(InputError, match=match) as caught:
        fill(small(), state, "the weights of a test")
    assert len(str(caught.value)) < 500


def test_double_and_half_precision_are_taken(tmp_path):
    module = small()
    for dtype in (torch.float64, torch.float16, torch.bfloat16):
        state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in small().state_dict().items()}
        save_file(state, tmp_path / "w.safetensors")
        fill(module, read_state(tmp_path / "w.safetensors"), "the weights of a test")
        torch.testing.assert_close(module[0].weight.detach(), state["0.weight"].float())


def test_headers_that_are_deep_or_name_other_types_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    for header in (
        '{"a":' * 2000 + "1" + "}" * 2000,
        '{"a":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}}',
        '{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}',
    ):
        data = header.encode()
        path.write_bytes(len(data).to_bytes(8, "little") + data + b"\0" * 4)
        with pytest.raises(InputError, match=r"w.safetensors' is no safetensors file, or damaged"):
            read_state(path)


def test_names_that_cannot_be_files_are_refused():
    for name in ("x" * 300 + ".pt", "a\0b.pt"):
        with pytest.raises(InputError, match="There is no weights file"):
            read_state(name)


# -- folders of transformers ---------------------------------------------------------------------------------------------------------

VIT = {
    "model_type": "vit",
    "architectures": ["ViTForImageClassification"],
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
    "id2label": {"0": "cat", "1": "dog"},
}
PROCESSOR = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 32, "width": 32}}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(VIT))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"_attn_implementation": "somebody/kernel"}, "asks for the attention somebody/kernel"),
        ({"attn_implementation": "somebody/kernel:name"}, "asks for the attention somebody/kernel:name"),
        ({"attn_implementation": {"": "sdpa", "inner": "a/b"}}, "asks for the attention"),
        ({"vision_config": {"_attn_implementation_internal": "a/b"}}, "asks for the attention a/b"),
        ({"experts_implementation": "a/b"}, "asks for the attention a/b"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "asks for quantized weights"),
        ({"use_kernels": True}, "asks for kernels of its own"),
        ({"transformers_weights": "other.safetensors"}, "asks for weights of another name"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers is 1000000000, which is absurd; at most 1024"),
        ({"num_hidden_layers": 10**4000}, "num_hidden_layers is 10000000000000000000, which is absurd"),
        ({"depths": [2, 2, 10**6]}, "depths is 1000000, which is absurd"),
        ({"num_labels": 10**9}, "num_labels is 1000000000, which is absurd"),
        ({"hidden_size": 1 << 40}, "hidden_size is 1099511627776, which is absurd"),
        ({"hidden_size": float("inf")}, "holds inf, which is no number"),
        ({"id2label": {str(k): "x" for k in range(100_001)}}, "values nested more than|no list of at most"),
        ({"id2label": {"0": "cat", "2": "dog"}}, "the numbers of the classes in id2label are not 0 to 1"),
        ({"id2label": {"0": "c" * 5000}}, "wanted a number and a text"),
        ({"id2label": {"zero": "cat"}}, "wanted a number and a text"),
        ({"id2label": ["cat"]}, "is no list of at most"),
        ({"architectures": {"a": 1}}, "wanted a list of names"),
        ({"hidden_size": 1 << 20, "intermediate_size": 1 << 20}, r"asks for .* parameters; at most"),
        ({"hidden_size": -5}, "No ViTForImageClassification can be made of the config.json|cannot be read"),
        ({"patch_size": 0}, "No ViTForImageClassification can be made of the config.json|cannot be read"),
        ({"hidden_size": "big"}, "No ViTForImageClassification can be made of the config.json|cannot be read"),
        ({"model_type": "no-such-model"}, "cannot be read"),
        ({"model_type": 7}, "cannot be read"),
    ],
)
def test_a_config_that_asks_for_anything_absurd_or_foreign_is_refused(folder, changes, match):
    (folder / "config.json").write_text(json.dumps(VIT | changes))
    with pytest.raises(InputError, match=match) as caught:
        load_network(f"transformers/{folder}", weights=None)
    assert len(str(caught.value)) < 700


def test_the_plain_config_is_taken(folder):
    net = load_network(f"transformers/{folder}", weights=None)
    assert net.classes == ["cat", "dog"] and net.space.size == (32, 32)
    (folder / "config.json").write_text(json.dumps(VIT | {"_attn_implementation": "eager"}))
    assert load_network(f"transformers/{folder}", weights=None).classes == ["cat", "dog"]


def test_no_library_sees_a_config_that_is_refused(folder, monkeypatch):
    import transformers

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda *a, **k: pytest.fail("transformers saw it"))
    (folder / "config.json").write_text(json.dumps(VIT | {"_attn_implementation": "a/b"}))
    with pytest.raises(InputError, match="asks for the attention"):
        load_network(f"transformers/{folder}")
    (folder / "config.json").write_text(json.dumps(VIT))
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "somebody/model"}))
    with pytest.raises(InputError, match="holds an adapter of another model"):
        load_network(f"transformers/{folder}")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[]", "", "{", '{"a": NaN}', '{"a": 1' + "0" * 5000 + "}", "\udcff"])
def test_json_of_any_depth_and_kind_is_refused_in_words(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=r"config.json"):
        check_config(path)


def test_nesting_and_size_are_bounded(tmp_path, monkeypatch):
    path = tmp_path / "config.json"
    path.write_text('{"a":' * 100 + "1" + "}" * 100)
    with pytest.raises(InputError, match="nested more than 24 deep"):
        read_json(path)
    monkeypatch.setattr(hub_files, "_BYTES", 10)
    with pytest.raises(InputError, match="which is no configuration"):
        read_json(path)


def test_an_index_of_weights_names_files_beside_it(tmp_path):
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    check_index(path)
    for name in ("../other.safetensors", "/etc/x.safetensors", "pytorch_model.bin", 7, None):
        path.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(InputError, match=r"does not list .safetensors files beside it"):
            check_index(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"image_mean": "text"},
        {"image_mean": [0.5, "a", 0.5]},
        {"image_mean": []},
        {"image_std": [0.0] * 3},
        {"image_std": [0.5]},
        {"image_mean": [1e300] * 3},
        {"rescale_factor": "1/255"},
        {"rescale_factor": 0},
        {"size": {"height": "a", "width": 3}},
        {"size": 10**9},
        {"crop_size": {"height": 0, "width": 3}},
        {"size": [True, True]},
    ],
)
def test_a_processor_says_its_pixels_in_numbers(folder, changes):
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR | changes))
    with pytest.raises(InputError, match=r"preprocessor_config.json"):
        check_processor(folder / "preprocessor_config.json")
    with pytest.raises(InputError, match=r"preprocessor_config.json"):
        load_network(f"transformers/{folder}", weights=None)
