"""Every family of networks: all layers listed, and an early and a late one inverted, with random weights and no registration."""

from __future__ import annotations

import json

import pytest
import torch

import preimage
from preimage import Layer, PixelSpace, load_network

from .marks import slow

TINY = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32, "patch_size": 8}
SPACE = PixelSpace(32, "rgb", 1.0, 0.5, 0.5)
# name, size (the smallest it takes or nearly), an early and a late layer, tokens before the patches (None: no tokens)
TIMM = [
    ("resnet10t", 64, "layer1", "layer4", None),
    ("densenet121", 64, "features.pool0", "features.denseblock3", None),
    ("inception_v3", 80, "Conv2d_2b_3x3", "Mixed_6e", None),
    ("mobilenetv3_small_050", 64, "blocks.0", "blocks.5", None),
    ("efficientnet_b0", 64, "blocks.1", "blocks.6", None),
    ("convnext_atto", 64, "stages.0", "stages.3", None),
    ("vit_tiny_patch16_224", 64, "blocks.0:grid", "blocks.11:cls", 1),
    ("deit_tiny_distilled_patch16_224", 64, "blocks.0:cls", "blocks.11:grid", 2),
    ("swin_tiny_patch4_window7_224", 64, "layers.0:grid", "layers.2:grid", None),
    ("vit_xsmall_patch16_clip_224", 64, "blocks.0:grid", "blocks.8:cls", 1),
    ("vit_small_patch14_reg4_dinov2", 56, "blocks.0:grid", "blocks.9:prefix", 5),
]
LARGE = (
    "densenet121", "inception_v3", "efficientnet_b0", "deit_tiny_distilled_patch16_224", "vit_xsmall_patch16_clip_224",
    "vit_small_patch14_reg4_dinov2", "swin_tiny_patch4_window7_224",
)  # fmt: skip
TRANSFORMERS = [
    ("vit", TINY, "layers.0:grid", "layers.2:cls", 1),
    ("clip_vision_model", TINY, "encoder.layers.0:grid", "encoder.layers.2:cls", 1),
    ("siglip_vision_model", TINY, "encoder.layers.0:grid", "encoder.layers.2:grid", 0),
    ("dinov2_with_registers", TINY, "encoder.layer.0:grid", "encoder.layer.2:cls", 5),
    ("swin", {"embed_dim": 16, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2, "image_size": 32, "patch_size": 4},
     "embeddings:grid", "encoder.layers.1.blocks.0:grid", None),
    ("convnext", {"hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1]}, "encoder.stages.0", "encoder.stages.3", None),
    ("resnet", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}, "encoder.stages.0", "encoder.stages.1", None),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:torch.searchsorted", "ignore:Using a non-tuple sequence")  # timm's own, where it resizes Swin
@pytest.mark.parametrize(("name", "size", "early", "late", "prefix"), slow(TIMM, *LARGE))
def test_a_family_of_timm(name, size, early, late, prefix, cat):
    net = load_network(f"timm/{name}", weights=None, size=size)
    check(net.module, net.space, early, late, prefix, cat)


@pytest.mark.parametrize(("kind", "config", "early", "late", "prefix"), TRANSFORMERS, ids=[f[0] for f in TRANSFORMERS])
def test_a_family_of_transformers(kind, config, early, late, prefix, cat, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind, **config}))
    net = load_network(f"transformers/{tmp_path}", weights=None, space=SPACE)
    check(net.module, net.space, early, late, prefix, cat)


def check(module, space, early, late, prefix, image):
    """What every family is to show; `preimage.Layer` gets the bare module."""
    infos = {i.name: i for i in preimage.layers(module, space)}
    listed = {name.partition("[")[0].partition("#")[0] for name in infos}
    assert listed <= ran(module, space)
    unlisted = ran(module, space) - listed  # tables of positions, which have no entry for each image
    assert all("position" in name for name in unlisted), unlisted
    assert all(i.receptive_field is None or i.receptive_field >= 1 for i in infos.values())
    assert all(i.stride >= 1 and i.jitter >= 1 for i in infos.values())
    for name in (early, late):
        phi = Layer(module, name, space=space)
        result = preimage.invert(phi, image, iterations=20, progress=False, transform=preimage.Jitter(1))
        start = result.trace["total"][0, 0]
        assert result.energy["total"][0] < 0.75 * start
        assert result.energy["loss"][0] < 0.25 * result.trace["loss"][0, 0], name
        assert tuple(result.images.shape[-2:]) == space.size
    if prefix is not None:
        check_tokens(module, space, early.partition(":")[0], prefix)


def check_tokens(module, space, name, prefix):
    """The parts of a token layer are its tokens in order; the grid has the rows and columns of the patches."""
    x = torch.randn(2, 3, *space.size, generator=torch.Generator().manual_seed(0)) * 30
    tokens, grid = Layer(module, name, space=space)(x), Layer(module, f"{name}:grid", space=space)
    channels, h, w = grid.shape
    assert tokens.shape[1] == prefix + h * w
    torch.testing.assert_close(grid(x)[:, :, 1, 2 % w], tokens[:, prefix + w + 2 % w])
    if prefix:
        torch.testing.assert_close(Layer(module, f"{name}:cls", space=space)(x), tokens[:, 0])
        assert Layer(module, f"{name}:prefix", space=space).shape == (prefix, channels)


def ran(module, space):
    """The names of the modules whose forward runs and gives a tensor, by plain hooks."""
    names = set()

    def note(name):
        def hook(m, args, out):
            values = out.values() if isinstance(out, dict) else out if isinstance(out, (tuple, list)) else [out]
            if any(isinstance(v, torch.Tensor) for v in values):
                names.add(name)

        return hook

    hooks = [m.register_forward_hook(note(n)) for n, m in module.named_modules() if n]
    with torch.no_grad():
        module.eval()(torch.zeros(1, space.count, *space.size))
    for hook in hooks:
        hook.remove()
    return names
