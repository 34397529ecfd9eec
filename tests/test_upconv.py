"""Up-convolutional inverses: what they learn, that a fit is the same again and goes on, and what is refused."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.errors import InputError
from preimage.inverses import Upconv, UpconvInverse, fit_inverse, load_inverse, train
from preimage.inverses.grid import Grid
from preimage.inverses.upconv import LEVELS, Architecture, normalised
from preimage.representations.pairs import Pairs

from .inverses import blurred, same

SPACE = preimage.PixelSpace(16, "grey", scale=255.0, mean=120.0)
TINY = Upconv(width=8, hidden=16, batch=2)
FEW = {"kind": TINY, "crops": 8, "progress": False}


photograph = partial(blurred, cells=4, side=24)


@pytest.fixture(scope="module")
def photographs():
    return [photograph(k) for k in range(6)]


@pytest.fixture
def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3, stride=2, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(384, 10))


@pytest.fixture
def phi(net):
    return preimage.Layer(net, "1", space=SPACE)


def test_a_training_brings_the_images_nearer_than_their_mean(phi, photographs):
    few, many = (fit_inverse(phi, photographs, kind=TINY, crops=n, progress=False) for n in (2, 300))
    x = phi.space.encode(photograph(99))
    spread = x.sub(x.mean()).square().mean()
    assert (many(phi(x)) - x).square().mean() < 0.5 * spread
    assert many.about["held_out"]["psnr"] > few.about["held_out"]["psnr"] + 3
    assert many.about["held_out"]["feature_error"] < few.about["held_out"]["feature_error"]


def test_features_without_places_are_inverted_to_what_they_tell(photographs):
    phi = preimage.from_callable(lambda x: F.adaptive_avg_pool2d(x, 2).flatten(1), SPACE)
    inverse = fit_inverse(phi, photographs, kind=TINY, crops=300, progress=False)
    x = phi.space.encode(photograph(98))
    found = inverse(phi(x))
    assert inverse.grid is None
    assert found.shape == x.shape
    assert (F.adaptive_avg_pool2d(found, 2) - F.adaptive_avg_pool2d(x, 2)).abs().mean() < 15


def test_the_same_seed_gives_the_same_bits_and_another_another(phi, photographs):
    one, again, other = (fit_inverse(phi, photographs, seed=s, **FEW) for s in (0, 0, 1))
    assert same(one, again)
    assert one.about == again.about
    assert not same(one, other)


def test_a_fit_that_was_stopped_goes_on_to_the_same_bits(phi, photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "EVERY", 2)
    undisturbed = fit_inverse(phi, photographs, **FEW)
    taken = []
    step = train._Training._step

    def stops(self, crops, number, steps, averages):
        if number == 3 and taken == [0, 1, 2]:
            raise KeyboardInterrupt
        taken.append(number)
        step(self, crops, number, steps, averages)

    monkeypatch.setattr(train._Training, "_step", stops)
    part = tmp_path / "fit.part"
    with pytest.raises(KeyboardInterrupt):
        fit_inverse(phi, photographs, checkpoint=part, **FEW)
    taken[:] = [-1]
    assert same(fit_inverse(phi, photographs, checkpoint=part, **FEW), undisturbed)
    assert taken == [-1, 2, 3]
    assert not part.exists()


def test_a_file_gives_the_inverse_back(phi, photographs, tmp_path):
    inverse = fit_inverse(phi, photographs, **FEW)
    inverse.save(tmp_path / "i.safetensors")
    found = load_inverse(tmp_path / "i.safetensors", phi)
    x = phi.space.encode(photograph(1))
    assert isinstance(found, UpconvInverse)
    assert torch.equal(found(phi(x)), inverse(phi(x)))
    assert (found.about, found.digest) == (inverse.about, inverse.digest)


@pytest.mark.parametrize(
    ("mend", "message"),
    [
        (lambda tensors, about: tensors["up0.weight"].fill_(float("nan")), "holds NaN"),
        (lambda tensors, about: tensors.pop("up0.bias"), "has the tensors"),
        (lambda tensors, about: tensors["deviation"].zero_(), "not above 0"),
        (lambda tensors, about: about["architecture"].update(width=4), "shape"),
        (lambda tensors, about: about["architecture"].update(stages=10**6), "from 0 to 10"),
        (lambda tensors, about: about.pop("architecture"), "holds no inverse"),
    ],
)
def test_a_damaged_file_is_refused_with_its_reason(phi, photographs, tmp_path, mend, message):
    path = tmp_path / "i.safetensors"
    fit_inverse(phi, photographs, **FEW).save(path)

    with safe_open(path, framework="pt") as file:
        record = json.loads(file.metadata()["preimage-inverse"])
    tensors = load_file(path)
    mend(tensors, record["about"])
    save_file(tensors, path, metadata={"preimage-inverse": json.dumps(record)})
    with pytest.raises(InputError, match=message):
        load_inverse(path, phi)


def test_of_pairs_alone_no_gradient_is_asked_and_the_record_says_so(phi, photographs):
    inverse = fit_inverse(Pairs(phi, SPACE, "a box"), photographs, **FEW)
    assert inverse.about["settings"]["feature_loss"] == 0.0


def test_a_rate_at_which_the_training_diverges_is_named(phi, photographs):
    with pytest.raises(InputError, match=r"at step \d+: give a smaller rate"):
        fit_inverse(phi, photographs, kind=Upconv(width=8, batch=2, rate=1e30), crops=20, progress=False)


def test_what_does_not_fit_into_the_memory_is_refused_before_anything_is_read(phi, photographs):
    with pytest.raises(InputError, match="do not fit into max_memory: take a smaller width"):
        fit_inverse(phi, photographs, kind="upconv:width=4096", max_memory="10MB", progress=False)


def test_other_features_are_refused(phi, photographs):
    inverse = fit_inverse(phi, photographs, **FEW)
    with pytest.raises(InputError, match=r"takes features \(B, 6, h, w\)"):
        inverse(torch.zeros(1, 5, 8, 8))
    with pytest.raises(InputError, match="needs the size of its image"):
        inverse(torch.zeros(1, 6, 9, 9))


def test_a_model_is_as_it_was_after_a_fit(net, phi, photographs):
    net.train()
    before = {n: t.clone() for n, t in net.state_dict().items()}
    fit_inverse(phi, photographs, **FEW)
    assert net.training
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert all(torch.equal(before[n], t) for n, t in net.state_dict().items())


def test_the_pixels_of_a_cell_lie_where_the_grid_says():
    grid = Grid(stride=(4, 4), origin=(3, 1), side=(4, 4))
    canvas = torch.arange(4.0).view(1, 1, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)
    image = grid.place(canvas, (12, 10))[0, 0]
    assert image[3:7, 1:5].eq(0).all()
    assert image[7:11, 5:9].eq(3).all()
    assert image[0, 0] == 0  # beyond the border its edge is repeated
    assert image[11, 9] == 3


def test_the_network_is_its_formula_in_numpy():
    plan = Architecture(inputs=2, channels=1, width=3, stages=1)
    weights = plan.begin(0)
    z = torch.randn(1, 2, 2, 2, generator=torch.Generator().manual_seed(1))

    def convolved(name, x):
        w, b = weights[f"{name}.weight"].numpy(), weights[f"{name}.bias"].numpy()
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="edge")
        h, wide = x.shape[1:]
        return np.stack(
            [
                sum(w[o, i, r, c] * padded[i, r : r + h, c : c + wide] for i in range(w.shape[1]) for r in range(3) for c in range(3))
                + b[o]
                for o in range(len(w))
            ]
        )

    def bent(x):
        return np.where(x > 0, x, 0.2 * x)

    x = bent(convolved("enter1", bent(convolved("enter0", z[0].numpy()))))
    x = convolved("out", bent(convolved("up0", x.repeat(2, axis=1).repeat(2, axis=2))))
    assert torch.allclose(plan(weights, z)[0], torch.from_numpy(x), atol=1e-5)


def test_features_are_normalised_as_a_map_or_as_one_vector():
    mean, deviation = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0])
    assert torch.equal(normalised(torch.full((1, 2, 3, 3), 3.0), mean, deviation)[0, :, 0, 0], torch.tensor([1.0, 0.25]))
    assert torch.equal(normalised(torch.tensor([[[3.0], [2.0]]]), mean, deviation), torch.tensor([[1.0, 0.0]]))


def test_a_search_begins_with_its_answer(phi, photographs, tmp_path):
    path = tmp_path / "i.safetensors"
    inverse = fit_inverse(phi, photographs, **FEW)
    inverse.save(path)
    x = phi.space.encode(photographs[0])
    found = preimage.invert(phi, x, start=path, iterations=0, progress=False)
    assert found.config["inverse"]["sha256"] == inverse.digest
    assert torch.allclose(found.images, (inverse(phi(x)) + phi.space.mean_colour).clamp(0, 255), atol=2.01)
    assert LEVELS == 60


def test_the_command_line_fits_one(tmp_path):
    out = tmp_path / "fire9.safetensors"
    said = CliRunner().invoke(
        app, f"inverse fit squeezenet1_1 --layers fire9 --size 64 --kind upconv:width=8,batch=1 --crops 2 -o {out} --json".split()
    )
    assert said.exit_code == 0, said.output
    assert json.loads(said.output)["inverses"][0]["made_of"] == "width 8, 4 doublings"
    assert isinstance(load_inverse(out, preimage.load_network("squeezenet1_1", size=64).layer("fire9")), UpconvInverse)
