"""Networks by name from other libraries, from files and from functions: the same numbers as their own library gives, or a clear refusal."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import preimage
from preimage import PixelSpace, load_network
from preimage.errors import FetchError, InputError, MissingExtra, PreimageWarning, UnknownName
from preimage.networks import checkpoints, efficientnet_lite0, from_programs, from_transformers
from preimage.networks.checkpoints import fill, no_pickled_code, read_state
from preimage.networks.network import find_card, known_sources, weights_hash
from preimage.tasks import task as tasks_task

SPACE = PixelSpace(32, "rgb", 1.0, (0.4, 0.5, 0.6), 0.25)


class Small(nn.Module):
    """A residual block, a ReLU that is used twice, a pool and a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.block = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(6, 4)

    def forward(self, x):
        x = self.relu(self.stem(x))
        x = self.relu(x + self.block(x))
        return self.linear(self.pool(x).flatten(1))


@pytest.fixture
def small():
    torch.manual_seed(0)
    module = Small()
    with torch.no_grad():
        module.block[1].running_mean.normal_()
    return module.eval()


def canonical(batch=1, size=32):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1)) * 40


def by_hand(small, x):
    """stem, second ReLU and scores in plain code on the pixels of SPACE."""
    with torch.no_grad():
        stem = small.stem(SPACE.to_network(x))
        first = stem.clamp(min=0)
        second = (first + small.block(first)).clamp(min=0)
        return {"stem": stem, "second": second, "scores": small.linear(second.mean(dim=(2, 3)))}


# torchvision


def test_torchvision_s_pixels_and_classes_are_those_of_its_own_preset_and_its_weights_are_read_from_its_cache(tmp_path, monkeypatch):
    from torchvision import models

    assert load_network("torchvision/resnet18", weights=None).space == PixelSpace.imagenet(224)
    assert find_card("torchvision/inception_v3").space.size == (299, 299)
    assert find_card("torchvision/vit_b_16:IMAGENET1K_SWAG_E2E_V1").space.size == (384, 384)
    torch.manual_seed(5)
    state = models.squeezenet1_1(weights=None).state_dict()
    torch.save(state, tmp_path / "file")
    digest = hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "file").rename(tmp_path / "checkpoints" / f"squeezenet-{digest[:8]}.pth")
    member = models.SqueezeNet1_1_Weights.IMAGENET1K_V1
    monkeypatch.setattr(member, "_value_", replace(member.value, url=f"https://example.invalid/squeezenet-{digest[:8]}.pth"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    net = load_network("torchvision/squeezenet1_1")
    assert all(bool((net.module.state_dict()[k] == v).all()) for k, v in state.items())
    assert net.class_index("tree frog") == 31
    with (tmp_path / "checkpoints" / f"squeezenet-{digest[:8]}.pth").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match=rf"wanted {digest[:8]}…: delete it"):
        load_network("torchvision/squeezenet1_1")


def test_offline_the_error_names_the_file_where_to_get_it_and_where_to_put_it(tmp_path, monkeypatch):
    def offline(*arguments, **options):
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    with pytest.raises(FetchError, match=r"vgg16-\w*\.pth .*no route.*https://download.pytorch.org/.*checkpoints.*--weights PATH"):
        load_network("torchvision/vgg16")


def test_torchvision_s_unknown_names_list_the_near_ones():
    with pytest.raises(UnknownName, match="Did you mean 'resnet18'"):
        load_network("torchvision/resnet19")
    with pytest.raises(UnknownName, match=r"weights of torchvision/resnet50 named 'V2'.*IMAGENET1K_V2"):
        load_network("torchvision/resnet50:V2")


# timm


def test_timm_s_pixels_are_those_of_the_tag_and_its_weights_files_fit():
    assert find_card("timm/resnet50.a1_in1k").space == PixelSpace.imagenet(224)
    assert find_card("timm/vit_base_patch16_clip_224.openai").space.mean[0] == pytest.approx(0.48145466)
    assert find_card("timm/vit_base_patch16_clip_224.openai").classes is None
    assert len(find_card("timm/resnet10t").classes()) == 1000
    with pytest.raises(UnknownName, match="Did you mean 'resnet10t'"):
        find_card("timm/resnet10")
    with pytest.raises(UnknownName, match=r"resnet50\.a1_in1k"):
        find_card("timm/resnet50.a1_in2k")


def test_timm_s_weights_are_those_that_it_reads(monkeypatch):
    import timm

    torch.manual_seed(11)
    state = timm.create_model("resnet10t").state_dict()
    asked = []

    def hub(model_id, **options):
        asked.append(model_id)
        return state

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", hub)
    net = load_network("timm/resnet10t")
    assert asked == ["timm/resnet10t.c3_in1k"]
    assert all(bool((net.module.state_dict()[k] == v).all()) for k, v in state.items())


def test_timm_offline_says_where_the_weights_are(monkeypatch):
    import timm

    real = timm.create_model

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise OSError("no route")
        return real(name, pretrained=pretrained, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(FetchError, match=r"timm/resnet10t.*no route.*Get model\.safetensors from huggingface.co/timm/resnet10t.*cache"):
        load_network("timm/resnet10t")


def test_another_size_is_taken_where_the_network_can_and_refused_with_its_reason_where_not():
    x = torch.zeros(1, 3, 64, 96)
    assert load_network("timm/vit_tiny_patch16_224", None, size=(64, 96)).layer("blocks.0:grid")(x).shape == (1, 192, 4, 6)
    assert load_network("torchvision/squeezenet1_1", None, size=(64, 96)).layer("features.0")(x).shape[-2:] == (31, 47)
    with pytest.raises(InputError, match=r"vit_b_32 cannot take 3 channels of 64x64 pixels; its own size is 224x224 \(Wrong image height"):
        load_network("torchvision/vit_b_32", None, size=64)
    with pytest.raises(InputError, match="cannot take 1 channels of 32x32"):
        load_network("torchvision/squeezenet1_1", None, space=PixelSpace(32, "grey"))


# transformers

TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 32, "patch_size": 8}


@pytest.fixture
def vit_folder(tmp_path):
    import transformers

    torch.manual_seed(3)
    names = {0: "cat", 1: "dog", 2: "tree frog"}
    module = transformers.ViTForImageClassification(
        transformers.ViTConfig(**TINY, id2label=names, label2id={v: k for k, v in names.items()})
    )
    nn.init.normal_(module.classifier.weight)
    module.save_pretrained(tmp_path / "vit")
    processor = {"do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.25] * 3, "size": {"height": 32, "width": 32}}
    (tmp_path / "vit" / "preprocessor_config.json").write_text(json.dumps(processor))
    return tmp_path / "vit", module.eval()


def test_a_folder_of_transformers_gives_its_module_pixels_and_classes(vit_folder):
    folder, module = vit_folder
    net = load_network(f"transformers/{folder}")
    assert net.space == SPACE
    assert net.class_index("tree frog") == 2
    with torch.no_grad():
        wanted = module(pixel_values=SPACE.to_network(canonical())).logits
    torch.testing.assert_close(net.layer("classifier")(canonical()), wanted)
    torch.testing.assert_close(net.predict(canonical()), wanted.softmax(dim=1))
    bigger = load_network(f"transformers/{folder}", size=48)
    assert bigger.layer("vit.layers.0:grid").shape == (16, 6, 6)
    assert weights_hash(load_network(f"transformers/{folder}", weights=None).module) != weights_hash(net.module)


def test_the_image_tower_of_a_model_of_pictures_and_text(tmp_path):
    import transformers

    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 50}
    module = transformers.CLIPModel(transformers.CLIPConfig(vision_config=TINY, text_config={**text, "eos_token_id": 2}))
    module.save_pretrained(tmp_path / "clip")
    with pytest.raises(InputError, match="does not say which pixels"):
        load_network(f"transformers/{tmp_path / 'clip'}")
    net = load_network(f"transformers/{tmp_path / 'clip'}", space=SPACE)
    with torch.no_grad():
        wanted = module.eval().get_image_features(SPACE.to_network(canonical()), return_dict=True)
    pooled = getattr(wanted, "pooler_output", wanted)
    torch.testing.assert_close(module.visual_projection(net.layer("post_layernorm")(canonical())), pooled)


def test_transformers_weights_that_are_missing_or_pickled_are_refused(vit_folder):
    folder, module = vit_folder
    state = module.state_dict()
    state.pop("classifier.bias")
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"do not fit ViTForImageClassification: missing classifier.bias"):
        load_network(f"transformers/{folder}")
    (folder / "model.safetensors").unlink()
    torch.save(module.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"cannot be read.*safetensors"):
        load_network(f"transformers/{folder}")
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"has no config\.json"):
        load_network(f"transformers/{folder}")


def test_a_model_that_takes_no_images_and_code_in_a_folder_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    with pytest.raises(InputError, match=r"Bert model .BertModel., which takes no images"):
        load_network(f"transformers/{tmp_path}")
    (tmp_path / "evil.py").write_text("raise SystemExit('code ran')")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mine", "auto_map": {"AutoConfig": "evil.Config"}}))
    with pytest.raises(InputError, match="cannot be read"):
        load_network(f"transformers/{tmp_path}")


def test_a_model_of_the_hub_is_fetched_by_its_library_or_the_error_says_what_to_put_where(monkeypatch):
    from huggingface_hub import constants, errors

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        FetchError, match=r"could not be fetched .*huggingface.co/somebody/some-vit .*model\.safetensors.*transformers/FOLDER"
    ):
        load_network("transformers/somebody/some-vit")
    for error, kind in [(errors.EntryNotFoundError("no such file"), None), (errors.LocalEntryNotFoundError("offline"), FetchError)]:

        def download(*arguments, error=error, **options):
            raise error

        monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
        if kind is None:
            assert from_transformers._fetched_processor("n", "somebody/some-vit") is None
        else:
            with pytest.raises(kind):
                from_transformers._fetched_processor("n", "somebody/some-vit")


@pytest.mark.parametrize(
    ("processor", "space"),
    [
        ({"crop_size": 24, "do_center_crop": True, "size": {"shortest_edge": 32}}, PixelSpace(24, "rgb", 1.0, (0.4, 0.5, 0.6), 0.25)),
        ({"size": {"shortest_edge": 40}}, PixelSpace(40, "rgb", 1.0, (0.4, 0.5, 0.6), 0.25)),
        ({"size": 32, "do_normalize": False}, PixelSpace(32, "rgb", 1.0)),
        ({}, SPACE),  # the size of the model's own config
    ],
)
def test_the_forms_in_which_processors_write_their_pixels(vit_folder, processor, space):
    folder, _ = vit_folder
    given = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.25] * 3, "do_rescale": True, "rescale_factor": 1 / 255} | processor
    (folder / "preprocessor_config.json").write_text(json.dumps(given))
    assert find_card(f"transformers/{folder}").space == space
    (folder / "preprocessor_config.json").write_text(json.dumps(given | {"rescale_factor": 1 / 127.5}))
    with pytest.raises(InputError, match="neither 0–1 nor 0–255"):
        find_card(f"transformers/{folder}")
    (folder / "preprocessor_config.json").write_text("{")
    with pytest.raises(InputError, match="is no JSON"):
        find_card(f"transformers/{folder}")


# ONNX


@pytest.fixture
def onnx_file(small, tmp_path):
    """Written by onnx's own helpers, with the bias of two layers shared through an Identity node, as torch's exporter writes it."""
    from onnx import TensorProto, helper, numpy_helper, save

    weights = {"w": small.stem.weight, "v": small.block[0].weight, "zero": torch.zeros(6)}
    tensors = [numpy_helper.from_array(v.detach().numpy(), k) for k, v in weights.items()]
    nodes = [
        helper.make_node("Identity", ["zero"], ["zero2"], name="/share"),
        helper.make_node("Conv", ["image", "w", "zero"], ["a"], name="/stem/Conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="/relu/Relu"),
        helper.make_node("Conv", ["b", "v", "zero2"], ["c"], name="/block/Conv", pads=[1, 1, 1, 1]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 32, 32])
    graph = helper.make_graph(nodes, "g", [image], [helper.make_tensor_value_info("c", TensorProto.FLOAT, ["batch", 6, 32, 32])], tensors)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(tmp_path / "net.onnx"))
    return tmp_path / "net.onnx"


def test_an_onnx_file_gives_the_activations_of_its_formula_and_layers_by_its_own_names(small, onnx_file):
    with pytest.raises(InputError, match=r"does not say which pixels of 32x32.*--space imagenet:32"):
        load_network(str(onnx_file))
    net = load_network(str(onnx_file), space=SPACE)
    assert [i.name for i in net.layers()] == ["stem.Conv", "relu.Relu", "block.Conv"]
    x = SPACE.to_network(canonical(2))
    with torch.no_grad():
        a = nn.functional.conv2d(x, small.stem.weight, padding=1)
        c = nn.functional.conv2d(a.clamp(min=0), small.block[0].weight, padding=1)
    torch.testing.assert_close(net.layer("stem.Conv")(canonical(2)), a)
    torch.testing.assert_close(net.layer("block.Conv")(canonical(2)), c)
    assert net.layer("block.Conv").receptive_field == 5
    with pytest.raises(InputError, match="has no random initialisation"):
        load_network(str(onnx_file), weights=None, space=SPACE)


def test_onnx_files_that_are_damaged_or_absent_are_refused(onnx_file, tmp_path):
    (tmp_path / "cut.onnx").write_bytes(onnx_file.read_bytes()[:100])
    (tmp_path / "text.onnx").write_text("hello")
    for name, match in [("cut.onnx", "no ONNX file, or damaged"), ("text.onnx", "no ONNX file, or damaged"), ("absent.onnx", "no file")]:
        with pytest.raises(InputError, match=match):
            load_network(str(tmp_path / name), space=SPACE)


# programs


@pytest.fixture
def exported(small, tmp_path):
    program = torch.export.export(small, (torch.zeros(2, 3, 32, 32),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, tmp_path / "net.pt2")
    return tmp_path / "net.pt2"


def test_an_exported_program_has_the_layers_of_its_module_and_the_nodes_of_its_graph(small, exported):
    net = load_network(str(exported), space=SPACE, trust=True)
    x, hand = canonical(3), by_hand(small, canonical(3))
    for name, wanted in [("stem", "stem"), ("conv2d", "stem"), ("relu", "second"), ("linear", "scores"), ("linear_node", "scores")]:
        torch.testing.assert_close(net.layer(name)(x), hand[wanted])
    names = [i.name for i in net.layers()]
    assert {"block", "block.0", "block.1", "pool", "conv2d_1"} <= set(names)
    assert net.layer("stem").receptive_field == 3
    assert net.layer("block").skipped  # the pass stops there
    torch.testing.assert_close(net.predict(x), hand["scores"].softmax(dim=1))


def test_an_exported_program_is_inverted_at_an_early_and_a_late_node(exported, cat):
    net = load_network(str(exported), space=SPACE, trust=True)
    for name in ("stem", "relu"):
        result = preimage.invert(net.layer(name), cat, iterations=30, progress=False)
        assert result.trace["total"][0, 0] > 2 * result.energy["total"][0]


def test_a_program_of_a_fixed_size_says_so(small, tmp_path):
    torch.export.save(torch.export.export(small, (torch.zeros(1, 3, 32, 32),)), tmp_path / "fixed.pt2")
    with pytest.raises(InputError, match=r"exported for images .* of 1 x 3 x 32 x 32; got 1 x 3 x 48 x 48.*dynamic_shapes"):
        load_network(str(tmp_path / "fixed.pt2"), space=replace(SPACE, size=(48, 48)), trust=True)
    net = load_network(str(tmp_path / "fixed.pt2"), space=SPACE, trust=True)
    with pytest.raises(InputError, match="got 2 x 3 x 32 x 32"):
        net.layer("stem")(canonical(2))


def test_a_program_in_training_mode_is_refused(small, tmp_path):
    torch.export.save(torch.export.export(small.train(), (torch.zeros(2, 3, 32, 32),)), tmp_path / "train.pt2")
    with pytest.raises(InputError, match="training mode"):
        load_network(str(tmp_path / "train.pt2"), space=SPACE, trust=True)


@pytest.mark.parametrize("way", ["trace", "script"])
def test_a_torchscript_program_has_the_nodes_of_its_graph(small, tmp_path, way):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that TorchScript is deprecated
        script = torch.jit.trace(small, torch.zeros(1, 3, 32, 32)) if way == "trace" else torch.jit.script(small)
        script.save(str(tmp_path / "net.ts"))
    net = load_network(str(tmp_path / "net.ts"), space=SPACE, trust=True)
    names = [i.name for i in net.layers()]
    hand = by_hand(small, canonical())
    torch.testing.assert_close(net.layer(next(n for n in names if "conv" in n))(canonical()), hand["stem"])
    torch.testing.assert_close(net.layer([n for n in names if n.startswith("relu")][-1])(canonical()), hand["second"])
    torch.testing.assert_close(net.predict(canonical()), hand["scores"].softmax(dim=1))


def test_programs_are_opened_on_trust_only(small, exported, tmp_path, monkeypatch):
    def opened(*arguments, **options):
        raise AssertionError("opened")

    monkeypatch.setattr(torch.export, "load", opened)
    monkeypatch.setattr(torch.jit, "load", opened)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(small, torch.zeros(1, 3, 32, 32)).save(str(tmp_path / "net.pt"))
    for name in ("net.pt2", "net.pt"):
        with pytest.raises(InputError, match=r"is a program.*trust=True.*--trust"):
            load_network(str(tmp_path / name), space=SPACE)


def test_a_checkpoint_is_no_network_and_damaged_programs_are_refused(small, tmp_path):
    torch.save(small.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "text.pt2").write_text("hello")
    with pytest.raises(InputError, match=r"is no TorchScript program.*--net NAME --weights FILE"):
        load_network(str(tmp_path / "weights.pt"))
    with pytest.raises(InputError, match=r"no program of torch\.export, or damaged"):
        load_network(str(tmp_path / "text.pt2"), trust=True)
    with pytest.raises(InputError, match="no file"):
        load_network(str(tmp_path / "absent.ts"))
    two = torch.export.export(nn.Bilinear(2, 2, 2), (torch.zeros(2, 2), torch.zeros(2, 2)))
    with pytest.raises(InputError, match=r"takes inputs of shapes \[\(2, 2\), \(2, 2\)\]"):
        from_programs.with_identities(two, "two.pt2")


# functions

MODULE = """
from torch import nn
import torch, preimage
class Holder:
    @staticmethod
    def build(): return nn.Conv2d(3, 2, 3)
def bare(): return nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())
def with_space(): return bare(), preimage.PixelSpace(16)
def card(): return preimage.networks.NetworkCard("mine", preimage.PixelSpace(8), bare)
def network(): return preimage.load_network("squeezenet1_1", weights=None)
def number(): return 3
def needs(width): return nn.Conv2d(3, width, 3)
ready = nn.Conv2d(3, 5, 1)
"""


@pytest.fixture
def my_models(tmp_path, monkeypatch):
    (tmp_path / "my_models_of_test.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield "my_models_of_test"
    sys.modules.pop("my_models_of_test", None)


def test_a_function_in_this_folder_gives_a_network_in_every_form(my_models):
    before = list(sys.path)
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    bare = load_network(f"{my_models}:bare", space=SPACE)
    assert torch.rand(1) == expected
    assert sys.path == before
    assert bare.layer("0").shape == (2, 30, 30)
    assert weights_hash(bare.module) == weights_hash(load_network(f"{my_models}:bare", space=SPACE).module)
    assert load_network(f"{my_models}:with_space").space == PixelSpace(16)
    assert load_network(f"{my_models}:card", weights=None).card.name == "mine"
    assert load_network(f"{my_models}:network").layer("fire4").shape == (256, 28, 28)
    assert load_network(f"{my_models}:ready", space=SPACE).layer("").shape == (5, 32, 32)
    assert load_network(f"{my_models}:Holder.build", space=SPACE).layer("").shape == (2, 30, 30)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("my_models_of_test:bare", "does not say which pixels"),
        ("my_models_of_test:nothing", "has no 'nothing'"),
        ("my_models_of_test:number", "gave int; wanted an nn.Module"),
        ("my_models_of_test:needs", "callable without arguments"),
        ("no_such_module_here:build", "no Python module 'no_such_module_here'"),
    ],
)
def test_functions_that_give_no_network_are_refused(my_models, name, match):
    with pytest.raises(InputError, match=match):
        load_network(name)


def test_an_import_error_inside_one_s_own_module_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken_models_of_test.py").write_text("import no_such_library_at_all")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_library_at_all"):
        load_network("broken_models_of_test:build", space=SPACE)


def test_one_s_own_weights_fill_a_function_s_module(my_models, tmp_path):
    state = {"0.weight": torch.ones(2, 3, 3, 3), "0.bias": torch.zeros(2)}
    save_file(state, tmp_path / "w.safetensors")
    net = load_network(f"{my_models}:bare", tmp_path / "w.safetensors", space=SPACE)
    assert bool((net.module[0].weight == 1).all())


# checkpoints


def test_a_wrapper_s_prefix_is_taken_off_only_where_all_fits_and_never_silently(small, tmp_path):
    state = small.state_dict()
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, tmp_path / "w.pth")
    other = Small()
    with pytest.warns(PreimageWarning, match=r"fit without the prefix 'module\.' of all their names"):
        fill(other, read_state(tmp_path / "w.pth"), "the weights")
    assert weights_hash(other) == weights_hash(small)
    partly = {f"module.{k}": v for k, v in state.items() if k != "stem.bias"}
    with pytest.raises(InputError, match=r"missing stem\.weight.*and \d+ more"):
        fill(other, partly, "the weights")


def test_a_library_that_reads_pickles_reads_tensors_only(tmp_path):
    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit('code ran')",))

    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    with no_pickled_code(), pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "evil.pth", weights_only=False)


# the list of forms


def test_every_source_says_its_form_and_an_unknown_name_lists_them():
    with pytest.raises(UnknownName) as error:
        load_network("vgg")
    for source in known_sources():
        assert source.form in str(error.value)
        assert source.about


@pytest.mark.parametrize(
    ("name", "library", "extra"),
    [
        ("timm/resnet18", "timm", "timm"),
        ("transformers/folder", "transformers", "transformers"),
        ("net.onnx", "onnx2torch", "onnx"),
        ("efficientnet-lite0", "timm", "efficientnet-lite0"),
    ],
)
def test_an_absent_library_names_its_extra(name, library, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=rf"preimage\[{extra}\]"):
        load_network(name, weights=None)


# EfficientNet-Lite0


def test_efficientnet_lite0_classifies_the_twenty_photographs(photographs):
    """Measured: 17 right at top-1 and all 20 at top-5."""
    labels = torch.tensor([int(p.stem.split("_")[-1]) for p in photographs])
    net = load_network("efficientnet-lite0")
    probabilities = net.predict(torch.cat([net.space.encode(p) for p in photographs]))
    assert (probabilities.argmax(dim=1) == labels).sum() >= 16
    assert (probabilities.topk(5).indices == labels[:, None]).any(dim=1).sum() >= 19
    assert net.class_index("tree frog") == 31
    assert [i.name for i in net.layers()][:2] == ["stem", "block1"]
    assert net.layer("block5").shape == (40, 28, 28)


def test_efficientnet_lite0_pads_and_normalises_as_tensorflow_does():
    """In plain code: "same" padding of an even image at stride 2 goes below and to the right, epsilon is 1e-3, ReLU ends at 6."""
    net = load_network("efficientnet-lite0")
    state = net.module.state_dict()
    x = canonical(size=224)
    v = (x + net.space.mean_colour - 127) / 128
    conv = nn.functional.conv2d(nn.functional.pad(v, (0, 1, 0, 1)), state["conv_stem.weight"], stride=2)
    weight, bias, mean, var = (state[f"bn1.{k}"].view(1, -1, 1, 1) for k in ("weight", "bias", "running_mean", "running_var"))
    wanted = ((conv - mean) / (var + 1e-3).sqrt() * weight + bias).clamp(0, 6)
    torch.testing.assert_close(net.layer("stem")(x), wanted, rtol=1e-4, atol=1e-4)  # float32, another order of operations


def test_changed_or_absent_efficientnet_weights_are_refused(monkeypatch):
    class Changed(str):
        def read_binary(self):
            return b"changed"

    monkeypatch.setattr(checkpoints, "files", lambda name: [Changed(efficientnet_lite0._FILE)])
    with pytest.raises(InputError, match=r"have sha256 .* wanted 579344"):
        load_network("efficientnet-lite0")
    monkeypatch.setattr(checkpoints, "files", lambda name: [])
    with pytest.raises(MissingExtra, match=r"preimage\[efficientnet-lite0\]"):
        load_network("efficientnet-lite0")


def test_a_source_s_network_says_where_its_pixels_came_from_in_its_result(my_models, tmp_path):
    net = load_network(f"{my_models}:with_space")
    photo = np.random.default_rng(0).integers(0, 255, (20, 20, 3), np.uint8)
    result = preimage.invert(net.layer("0"), photo, iterations=2, progress=False)
    assert result.config["network"] == "my_models_of_test:with_space"


def test_the_page_about_networks_runs(tmp_path, monkeypatch, cat):
    """docs/networks.md as it stands, at fewer iterations."""
    page = (Path(__file__).parent.parent / "docs" / "networks.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    assert len(blocks) == 4
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(Path(cat).read_bytes())
    plan, real = tasks_task.plan_for, tasks_task.minimize
    monkeypatch.setattr(tasks_task, "plan_for", lambda asked, solver, iterations, stages: plan(asked, solver, 2, stages))
    monkeypatch.setattr(tasks_task, "minimize", lambda *a, **k: real(*a, **{**k, "progress": False}))
    for block in blocks:
        if block.startswith("# my_models.py"):
            Path("my_models.py").write_text(block)
        exec(compile(block, "docs/networks.md", "exec"), {})
    net = load_network("my_models:build")
    assert (net.space.channels, net.layer("2").shape) == ("grey", (16, 12, 12))
    sys.modules.pop("my_models")


# formats as other tools write them


def write_onnx(path, nodes, shape, tensors=(), out=("c", [1, 6, 8, 8])):
    from onnx import TensorProto, helper, numpy_helper, save

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)
    weights = [numpy_helper.from_array(v, k) for k, v in tensors]
    graph = helper.make_graph(nodes, "g", [image], [helper.make_tensor_value_info(out[0], TensorProto.FLOAT, out[1])], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return str(path)


KERNEL = np.random.default_rng(0).normal(size=(6, 3, 3, 3)).astype(np.float32)
EIGHT = preimage.PixelSpace(8, "rgb", 1.0, 0.5, 0.25)


def test_onnx_weights_that_are_constant_nodes_are_weights(tmp_path):
    from onnx import helper, numpy_helper

    nodes = [
        helper.make_node("Constant", [], ["w"], name="/w", value=numpy_helper.from_array(KERNEL)),
        helper.make_node("Identity", ["w"], ["w2"], name="/copy"),
        helper.make_node("Conv", ["image", "w2"], ["c"], name="/conv", pads=[1, 1, 1, 1]),
    ]
    net = load_network(write_onnx(tmp_path / "net.onnx", nodes, ["batch", 3, 8, 8]), space=EIGHT)
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(net.layer("conv")(x), nn.functional.conv2d(EIGHT.to_network(x), torch.from_numpy(KERNEL), padding=1))


def test_onnx_images_with_channels_last_and_names_without_a_slash(tmp_path):
    from onnx import helper

    nodes = [
        helper.make_node("Transpose", ["image"], ["t"], name="first", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["c"], name="/conv", pads=[1, 1, 1, 1]),
    ]
    path = write_onnx(tmp_path / "net.onnx", nodes, ["batch", 8, 8, 3], [("w", KERNEL)])
    with pytest.raises(InputError, match="of 8x8"):
        load_network(path)
    net = load_network(path, space=EIGHT)
    assert [(i.name, i.shape, i.receptive_field) for i in net.layers()] == [("first", (3, 8, 8), 1), ("conv", (6, 8, 8), 3)]
    x = torch.randn(1, 3, 8, 8)
    torch.testing.assert_close(net.layer("conv")(x), nn.functional.conv2d(EIGHT.to_network(x), torch.from_numpy(KERNEL), padding=1))


def test_onnx_nodes_that_compute_sizes_are_no_layers(tmp_path):
    from onnx import helper

    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], name="/conv", pads=[1, 1, 1, 1]),
        helper.make_node("Shape", ["a"], ["s"], name="/shape"),
        helper.make_node("Reshape", ["a", "s"], ["c"], name="/reshape"),
    ]
    net = load_network(write_onnx(tmp_path / "net.onnx", nodes, ["batch", 3, 8, 8], [("w", KERNEL)]), space=EIGHT)
    assert [i.name for i in net.layers()] == ["conv", "reshape"]


def test_a_torchscript_program_of_one_channel_is_taken(tmp_path):
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    torch.jit.trace(module, torch.zeros(1, 1, 12, 12)).save(str(tmp_path / "net.ts"))
    net = load_network(str(tmp_path / "net.ts"), space=preimage.PixelSpace(12, "grey", 1.0), trust=True)
    x = torch.rand(1, 1, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(net.layer(net.layers()[-1].name)(x), module(x / 255))


def test_the_hash_of_weights_takes_what_was_expanded():
    plain, expanded = nn.Module(), nn.Module()
    plain.register_buffer("s", torch.tensor([2.0]))
    expanded.register_buffer("s", torch.tensor(2.0).expand(1))
    assert weights_hash(expanded) == weights_hash(plain)


@pytest.mark.parametrize(
    ("name", "says"), [("net.tflite", "tf2onnx"), ("net.h5", "tf2onnx"), ("net.param", "torch.onnx.export"), ("net.pdmodel", "paddle2onnx")]
)
def test_files_of_other_frameworks_are_refused_with_the_way_to_convert_them(name, says, tmp_path):
    with pytest.raises(InputError, match=rf"not supported: .*{says}"):
        load_network(name)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=rf"not supported: .*{says}"):
        load_network("squeezenet1_1", weights=tmp_path / name)
