"""Directions: concepts from two folders, sparse autoencoders, factors, texts, files of vectors, sums of units."""

from __future__ import annotations

import json

import jsonschema
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.errors import InputError
from preimage.representations.vectors import parse_direction
from preimage.schemas import schema

from . import planted

QUICK = {"iterations": 30, "progress": False, "canvas": 24, "solver": "fourier-adam"}


@pytest.fixture(scope="module")
def layer():
    return preimage.Layer(planted.build()[0], "3", space=planted.SPACE)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("concept")
    return planted.write(root / "with", 8, ("red-vertical",)), planted.write(root / "without", 2, planted.KINDS[1:])


def test_a_concept_from_two_small_folders_is_the_channel_that_was_built_for_it(layer, folders):
    concept = preimage.learn_concept(layer, *folders)
    result = preimage.maximize(layer, concept.direction, **QUICK)
    assert concept.direction.argmax() == 0 and concept.accuracy == {"logistic": 1.0, "mean": 1.0} and concept.held_out == 4
    answers = layer(result.images - planted.SPACE.mean_colour)[0].mean(dim=(1, 2))
    assert answers.argmax() == 0
    assert concept.direction.norm() == pytest.approx(1.0)


def test_a_concept_of_nothing_is_at_chance_on_pictures_that_were_held_out(layer, tmp_path):
    rng = np.random.default_rng(0)
    sides = [[rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(60)] for _ in range(2)]
    concept = preimage.learn_concept(layer, *sides, held_out=0.5)
    assert 0.25 < concept.accuracy["logistic"] < 0.75  # 60 pictures: two standard deviations are 0.13


def test_concepts_that_cannot_be_learned_are_refused(layer, folders):
    one = [planted.picture("plain", 0)] * 4
    for positives, negatives, options, reason in [
        (one[:3], one, {}, "at least 4 pictures"),
        (one, one, {}, "the same for both sides"),
        (*folders, {"use": "svm"}, "logistic or mean"),
        (*folders, {"held_out": 0.9}, "held_out"),
    ]:
        with pytest.raises(InputError, match=reason):
            preimage.learn_concept(layer, positives, negatives, **options)


def test_the_command_learns_a_direction_that_maximize_takes(folders, tmp_path):
    out = tmp_path / "striped.safetensors"
    arguments = ["direction", "tests.planted:build", *folders, "--layer", "3", "-o", out, "--json"]
    found = CliRunner().invoke(app, [str(a) for a in arguments])
    jsonschema.validate(json.loads(found.stdout), schema("direction"))
    assert found.exit_code == 0 and [r["accuracy"] for r in json.loads(found.stdout)["vectors"]] == [1.0, 1.0], found.output
    assert preimage.load_direction(out).argmax() == 0 and not torch.equal(
        preimage.load_direction(out, "mean"), preimage.load_direction(out)
    )
    kept = out.read_bytes()
    again = CliRunner().invoke(app, [str(a) for a in [*arguments, "--use", "mean"]])
    assert again.exit_code == 2 and "--overwrite" in again.stderr and out.read_bytes() == kept
    again = CliRunner().invoke(app, [str(a) for a in [*arguments, "--use", "mean", "--overwrite"]])
    assert again.exit_code == 0 and out.read_bytes() != kept
    arguments = ["maximize", "--net", "tests.planted:build", "--layer", "3", "--direction", f"{out}:mean", "--unit", "0:0.5,1:-1"]
    found = CliRunner().invoke(app, [str(a) for a in [*arguments, "--iterations", 3, "--json", "-o", tmp_path / "out"]])
    assert found.exit_code == 0 and json.loads(found.stdout)["labels"][0] == "units 0x0.5 1x-1", found.output
    refused = CliRunner().invoke(app, ["maximize", "-o", str(tmp_path / "no")])
    assert refused.exit_code == 2 and "--unit UNIT, or --direction FILE" in refused.output


def test_a_negative_unit_makes_an_image_that_the_unit_does_not_like(layer):
    linear = preimage.Layer(layer.module, "0", space=planted.SPACE)  # channel 0 is red less green and blue
    liked, disliked = (preimage.maximize(linear, {0: w}, everywhere=True, **QUICK) for w in (1.0, -1.0))
    answers = [linear(r.images - planted.SPACE.mean_colour)[0, 0].mean().item() for r in (liked, disliked)]
    assert answers[0] > 0.3 and answers[1] < -0.3
    assert disliked.activation.item() == pytest.approx(-answers[1], rel=1e-3)


def test_the_objective_takes_a_file_of_a_vector(layer, tmp_path):
    np.save(tmp_path / "v.npy", np.array([0, 0, 1, 0], np.float32))
    asked = preimage.Activate(direction=str(tmp_path / "v.npy"))
    r = preimage.maximize(layer, 0, objective=asked, **QUICK)
    assert layer(r.images - planted.SPACE.mean_colour)[0].mean(dim=(1, 2)).argmax() == 2


def test_a_latent_of_a_sparse_autoencoder_is_a_unit_and_a_direction(layer):
    sae = preimage.load_autoencoder(
        {"W_enc": torch.eye(4)[:, [1, 0]], "b_enc": torch.zeros(2), "W_dec": torch.eye(4)[[1, 0]], "b_dec": torch.zeros(4)}
    )
    r = preimage.maximize(preimage.Latents(layer, sae), 1, **QUICK)
    other = preimage.maximize(layer, sae.direction(1), **QUICK)
    for found in (r, other):
        assert layer(found.images - planted.SPACE.mean_colour)[0].mean(dim=(1, 2)).argmax() == 0
    assert preimage.Latents(layer, sae)(torch.zeros(2, 3, 32, 32)).shape == (2, 2, 20, 20)


NAMES = [  # of SAELens and its relatives, of dictionary_learning, and of the autoencoders that OpenAI published
    ("W_enc", "b_enc", "W_dec", "b_dec"),
    ("encoder.weight", "encoder.bias", "decoder.weight", "bias"),
    ("encoder.weight", "latent_bias", "decoder.weight", "pre_bias"),
]


@pytest.mark.parametrize("names", NAMES)
def test_the_tensors_of_common_checkpoints_are_found_whatever_their_names_and_sides(names, tmp_path):
    generator = torch.Generator().manual_seed(0)
    W, D = torch.randn(6, 4, generator=generator), torch.randn(6, 4, generator=generator)
    b, c = torch.randn(6, generator=generator), torch.randn(4, generator=generator)
    turned = names[0] == "W_enc"
    state = dict(zip(names, (W.T if turned else W, b, D if turned else D.T, c), strict=True))
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "sae.safetensors")
    sae = preimage.load_autoencoder(tmp_path / "sae.safetensors")
    h = torch.randn(3, 4, generator=generator)
    torch.testing.assert_close(sae.encode(h), torch.relu((h - c) @ W.T + b))
    assert torch.equal(sae.direction(5), D[5])
    assert torch.equal(parse_direction(f"{tmp_path / 'sae.safetensors'}:2"), W[2])


def test_an_autoencoder_of_tokens_and_one_with_thresholds(layer):
    tokens = preimage.from_callable(lambda x: x.flatten(2).transpose(1, 2), planted.SPACE)
    sae = preimage.load_autoencoder({"encoder.weight": torch.eye(3), "threshold": torch.tensor([0.5, 0.5, 0.5])})
    assert preimage.Latents(tokens, sae)(torch.zeros(1, 3, 4, 4)).shape == (1, 16, 3)
    assert sae.encode(torch.tensor([[0.4, 0.6, -1.0]])).tolist() == [[0.0, pytest.approx(0.6), 0.0]]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({"weight": torch.eye(2)}, "has encoder.weight"),
        ({"W_enc": torch.eye(2), "b_enc": torch.zeros(3)}, "bias of the autoencoder has shape"),
        ({"W_enc": torch.eye(2) * torch.inf}, "not finite"),
    ],
)
def test_a_state_that_is_no_autoencoder_is_refused(state, reason, layer):
    with pytest.raises(InputError, match=reason):
        preimage.load_autoencoder(state)


def test_an_autoencoder_of_another_layer_is_refused(layer):
    with pytest.raises(InputError, match="takes 2 channels"):
        preimage.Latents(layer, preimage.load_autoencoder({"W_enc": torch.eye(2)}))(torch.zeros(1, 3, 32, 32))
    with pytest.raises(InputError, match="no latent 2"):
        preimage.load_autoencoder({"W_enc": torch.eye(2)}).direction(2)


def test_factors_of_a_layer_are_its_channels_where_each_answers_alone(layer, tmp_path):
    folder = planted.write(tmp_path / "in", 3, planted.KINDS[:3])
    factors = preimage.factor_channels(layer, folder, 4)
    assert factors.shape == (4, 4) and bool((factors >= 0).all())
    torch.testing.assert_close(factors.norm(dim=1), torch.ones(4))
    assert {int(f.argmax()) for f in factors} >= {0, 1, 2}
    with pytest.raises(InputError, match="not negative"):
        preimage.factor_channels(preimage.from_callable(lambda x: x, planted.SPACE), folder, 2)
    with pytest.raises(InputError, match="5 factors are more"):
        preimage.factor_channels(layer, folder, 5)


def clip():
    from transformers import CLIPConfig, CLIPModel

    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    return CLIPModel(
        CLIPConfig(
            text_config=tower | {"vocab_size": 300, "max_position_embeddings": 12, "eos_token_id": 2},
            vision_config=tower | {"image_size": 16, "patch_size": 8},
            projection_dim=8,
        )
    )


def tokenizer(texts, return_tensors, truncation):
    return {"input_ids": torch.tensor([[1, *(ord(c) % 290 + 3 for c in t[:10]), 2] for t in texts])}


def test_a_text_is_a_direction_of_a_pair_with_random_weights():
    phi = preimage.image_text(clip(), tokenizer)
    text = phi.direction("red stripes")
    r = preimage.maximize(phi, text, iterations=15, progress=False, solver="fourier-adam", canvas="input")
    assert text.norm() == pytest.approx(1.0) and text.shape == (8,)
    x = r.images - phi.space.mean_colour
    grey = torch.zeros_like(x)
    assert phi.space.size == (16, 16) and (phi(x) @ text).item() > (phi(grey) @ text).item() + 0.05
    assert not torch.allclose(phi.direction("a dog"), text)


class OpenClip(torch.nn.Module):
    """What open_clip's models offer: two functions, and an image tower that says its pixels."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.visual = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 8, stride=8), torch.nn.Flatten(), torch.nn.Linear(32, 6))
        self.visual.image_size, self.visual.image_mean, self.visual.image_std = (16, 16), (0.5, 0.4, 0.3), None
        self.words = torch.nn.Embedding(300, 6)

    def encode_image(self, x):
        return self.visual(x)

    def encode_text(self, tokens):
        return self.words(tokens).mean(dim=1)


def test_a_pair_of_open_clip_is_taken_with_the_pixels_that_it_says():
    phi = preimage.image_text(OpenClip(), lambda texts: torch.tensor([[ord(c) for c in t[:10]] for t in texts]))
    text = phi.direction("red stripes")
    r = preimage.maximize(phi, text, iterations=10, progress=False, solver="fourier-adam", canvas="input")
    x = r.images - phi.space.mean_colour
    assert phi.space.size == (16, 16) and phi.space.mean_colour.flatten().tolist() == pytest.approx([127.5, 102.0, 76.5])
    assert (phi(x) @ text).item() > (phi(torch.zeros_like(x)) @ text).item() + 0.05


def test_factors_of_a_layer_are_directions(layer, tmp_path):
    folder = planted.write(tmp_path / "in", 2, planted.KINDS[:3])
    factors = preimage.factor_channels(layer, folder, 3)
    found = preimage.maximize(layer, list(factors), **QUICK)
    answers = layer(found.images - planted.SPACE.mean_colour).mean(dim=(2, 3))
    assert answers.argmax(dim=1).tolist() == factors.argmax(dim=1).tolist()


def test_pairs_and_texts_that_cannot_be_used_are_refused():
    phi = preimage.image_text(clip(), tokenizer)
    for call, reason in [
        (lambda: preimage.image_text(torch.nn.Linear(2, 2), tokenizer), "no pair"),
        (lambda: preimage.image_text(clip()), "needs its tokenizer"),
        (lambda: preimage.image_text("/nowhere/pair"), "cannot be opened"),
        (lambda: phi.direction("  "), "at least a word"),
    ]:
        with pytest.raises(InputError, match=reason):
            call()


@pytest.mark.parametrize(
    ("name", "which", "reason"),
    [
        ("two.safetensors", None, "Name one of: a, b"),
        ("two.safetensors", "c", "has no vector 'c'"),
        ("two.safetensors", "b", "a direction is a vector, or a row"),
        ("zero.npy", None, "all of its values are 0"),
        ("matrix.npy", 3, "no row 3"),
        ("objects.npy", None, "holds no vectors"),
        ("text.txt", None, "read from .npy or .safetensors"),
        ("absent.npy", None, "holds no vectors"),
    ],
)
def test_files_without_a_direction_are_refused_with_what_they_hold(name, which, reason, tmp_path):
    save_file({"a": torch.ones(2), "b": torch.ones(2, 2)}, tmp_path / "two.safetensors")
    np.save(tmp_path / "zero.npy", np.zeros(3))
    np.save(tmp_path / "matrix.npy", np.ones((2, 3)))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "text.txt").write_text("1 2 3")
    with pytest.raises(InputError, match=reason):
        preimage.load_direction(tmp_path / name, which)
