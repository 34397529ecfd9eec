"""The three tasks: right on real input, the same twice, independent of the batch, and clear about what they cannot use."""

from __future__ import annotations

import itertools
import math

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn

import preimage
from preimage import masks, tasks
from preimage.errors import ImageError, InputError, Interrupted, OptimizationError, UnknownName
from preimage.methods.recipe import DEFAULTS, recipes
from preimage.solvers.run import Run
from preimage.tasks.units import estimated_largest

from .marks import slow

FEW = {"progress": False, "iterations": 12}


@pytest.fixture(scope="module")
def small():
    """For what does not depend on the size of the images."""
    return preimage.load_network("squeezenet1_1", size=64)


def drawn(phi, **kw):
    """A run's start and jitter, without the run."""
    seen = {}

    def solver(run, x, stages):
        seen["start"] = x
        seen["offsets"] = [view for s in stages for (view,) in run.draws(s)]
        run.gradient(x, [seen["offsets"][0]])
        return 0.5 * x

    return seen, solver


def test_inversion_of_a_real_photograph_gives_the_photograph_back(net, cat):
    r = preimage.invert(net.layer("fire2"), cat, iterations=60, progress=False)
    assert r.images.shape == (1, 3, 227, 227)
    assert r.images.dtype == torch.float32
    assert r.error.item() < 0.15
    assert preimage.metrics.psnr(r.images, r.originals).item() > 20
    phi = net.layer("fire2")
    x = r.images - net.space.mean_colour
    torch.testing.assert_close(preimage.metrics.normalised_error(phi(x), phi(net.space.encode(cat))), r.error, rtol=1e-3, atol=0)
    torch.testing.assert_close(r.energy["total"], r.energy["loss"] + r.energy["alpha-norm"] + r.energy["tv-beta"])
    assert r.trace["loss"].shape == (60, 1)
    assert r.evaluations == 60
    assert r.labels == ["chelsea"]
    assert [p.size for p in r.pil()] == [(227, 227)]
    assert "error" in r.captions()[0]
    assert r._repr_html_().count("<img") == 1


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_image(small, cat):
    phi = small.layer("fire4")
    a, b, c = (preimage.invert(phi, cat, seed=s, **FEW) for s in (0, 0, 1))
    assert bool((a.images == b.images).all())
    assert not bool((a.images == c.images).all())
    again = preimage.invert(phi, cat, seed=c.seeds, **FEW)
    assert bool((again.images == c.images).all())


@pytest.mark.parametrize("solver", ["fast", "paper"])
def test_an_item_has_its_own_start_jitter_and_energy_alone_and_in_a_batch(small, photographs, solver):
    phi = small.layer("fire5")
    paths = photographs[:3]
    seen, watch = drawn(phi)
    preimage.invert(phi, paths, solver=watch, **FEW)
    alone_seen, watch = drawn(phi)
    preimage.invert(phi, paths[2], solver=watch, **FEW)
    assert bool((seen["start"][2] == alone_seen["start"][0]).all())
    assert [o[2] for o in seen["offsets"]] == [o[0] for o in alone_seen["offsets"]]
    assert len({o[0] for o in seen["offsets"]}) > 1
    assert [o[0] for o in seen["offsets"]] != [o[1] for o in seen["offsets"]]
    together = preimage.invert(phi, paths, solver=solver, progress=False, iterations=40)
    alone = preimage.invert(phi, paths[2], solver=solver, progress=False, iterations=40)
    assert together.energy["total"][2].item() == pytest.approx(alone.energy["total"][0].item(), rel=0.01)
    assert together.seeds[2] == alone.seeds[0]


def test_restarts_are_different_starts_in_one_batch_and_the_first_is_the_single_one(small, cat):
    phi = small.layer("fire4")
    four = preimage.invert(phi, [cat, cat], restarts=2, **FEW)
    assert len(four.images) == 4
    assert four.labels == ["chelsea restart 0", "chelsea restart 1"] * 2
    one = preimage.invert(phi, cat, **FEW)
    assert four.seeds[0] == four.seeds[2] == one.seeds[0] != four.seeds[1]
    assert four.energy["total"][0].item() == pytest.approx(one.energy["total"][0].item(), rel=0.01)
    assert not torch.allclose(four.images[0], four.images[1], atol=1.0)


def test_the_start_is_the_original_s():
    """Uniform, its 95 % quantile at B/sqrt(3), on the whole jittered canvas (section 1.3)."""
    phi = preimage.from_callable(lambda x: x, preimage.PixelSpace(64, "rgb"), stride=16)
    seen, watch = drawn(phi)
    preimage.invert(phi, np.full((64, 64, 3), 99, np.uint8), solver=watch, **FEW)
    start = seen["start"][0]
    assert start.shape == (3, 67, 67)
    assert float(np.quantile(start.numpy(), 0.95)) == pytest.approx(80 / math.sqrt(3), rel=1e-5)
    assert start.abs().max() < 55
    assert start.mean().abs() < 2


def test_the_paper_s_stages_are_the_paper_s():
    phi = preimage.from_callable(lambda x: x, preimage.PixelSpace(4, "grey"))
    r = preimage.invert(phi, np.full((4, 4), 99, np.uint8), solver="paper", progress=False)
    assert r.evaluations == 350
    assert preimage.maximize(phi, (0, 1, 1), solver="paper", progress=False).evaluations == 300  # a function has no closed units
    assert preimage.caricature(phi, np.full((4, 4), 99, np.uint8), solver="paper", progress=False).evaluations == 300


@pytest.mark.parametrize("layer", ["0", "1", "3", "6"])
def test_a_user_s_own_grey_network_inverts_with_the_same_call(grey_cnn, grey_space, digit, layer):
    phi = preimage.Layer(grey_cnn, layer, space=grey_space)
    r = preimage.invert(phi, digit, progress=False)
    assert r.images.shape == (1, 1, 28, 28)
    assert r.energy["total"] < 0.4 * r.trace["total"][0]
    assert r.error.item() < 0.45  # a black and white drawing costs much variation
    assert r.pil()[0].mode == "L"


@pytest.mark.slow
def test_resnet_and_vision_transformer_invert_with_the_same_call(cat):
    from torchvision.models import resnet18, vit_b_16

    torch.manual_seed(0)
    r = preimage.invert(preimage.Layer(resnet18(), "layer1.1", space=preimage.PixelSpace.imagenet(96)), cat, progress=False, iterations=60)
    assert r.images.shape == (1, 3, 96, 96)
    assert r.error.item() < 0.5
    module = vit_b_16(image_size=64)
    phi = preimage.Layer(module, "encoder.layers.encoder_layer_1", space=preimage.PixelSpace.imagenet(64))
    assert phi.shape == (17, 768)
    r = preimage.invert(phi, cat, progress=False, iterations=60)
    assert r.error.item() < 0.6
    assert r.energy["total"] < 0.4 * r.trace["total"][0]


def test_masks_leave_out_what_they_say(net, cat):
    phi = net.layer("fire4")
    x = torch.zeros(1, *phi.shape)
    for mask, kept in [
        (masks.channel_group(1, 2), (slice(None, 128), slice(None), slice(None))),
        (masks.channels(3, slice(10, 12)), ([3, 10, 11], slice(None), slice(None))),
        (masks.central(5), (slice(None), slice(11, 16), slice(11, 16))),
    ]:
        expected = torch.zeros_like(x)
        expected[(0, *kept)] = 1
        assert bool((masks.resolve(mask, phi.shape).expand_as(x) == expected).all())
    r = preimage.invert(phi, cat, mask=masks.central(5), progress=False, iterations=30)
    features, target = phi(r.images - net.space.mean_colour), phi(net.space.encode(cat))
    torch.testing.assert_close(
        preimage.metrics.normalised_error(features, target, masks.resolve(masks.central(5), phi.shape)), r.error, rtol=1e-3, atol=0
    )
    assert r.error < 0.5 * preimage.metrics.normalised_error(features, target)  # only the centre was asked for


@pytest.mark.parametrize(("size", "start", "stop"), [(55, 26, 30), (27, 12, 16), (13, 5, 9), (6, 1, 5), (3, 1, 3)])
def test_the_central_neighbourhood_is_where_the_original_has_it(size, start, stop):
    row = masks.central(5)((1, size, size))[0, size // 2]
    assert [int(row.nonzero().min()) + 1, int(row.nonzero().max()) + 1] == [start, stop]


@pytest.mark.parametrize("name", ["tree frog", pytest.param("goose", marks=pytest.mark.slow)])
def test_a_class_is_seen_as_itself_after_a_trip_through_png(net, tmp_path, name):
    r = preimage.maximize(net.layer("pool10"), name, quality="draft", progress=False)
    r.save(tmp_path / "out")
    ((best, probability),) = net.top(tmp_path / "out" / f"{name.replace(' ', '-')}.png", 1)[0]
    assert best == name
    assert probability > 0.5  # the recipe for classes is made for other networks' eyes, and is less sure in its own's
    assert r.activation.min() > 20


def test_units_by_channel_position_and_average_get_what_they_ask_for(net):
    phi = net.layer("fire3")
    centre = preimage.maximize(phi, [5, 77], progress=False, iterations=40)
    side = centre.images.shape[-1]
    assert centre.config["canvas"] == [side, side]
    features = phi(centre.images - net.space.mean_colour)
    assert features.shape[-1] % 2 == 1
    middle = features.shape[-1] // 2
    torch.testing.assert_close(features[[0, 1], [5, 77], middle, middle], centre.activation, rtol=1e-3, atol=1e-2)
    assert bool((centre.activation > 3 * features.mean(dim=(1, 2, 3))).all())
    corner = preimage.maximize(phi, (5, 0, 1), canvas=40, progress=False, iterations=20)
    assert corner.images.shape[-2:] == (40, 40)
    torch.testing.assert_close(phi(corner.images - net.space.mean_colour)[0, 5, 0, 1], corner.activation[0], rtol=1e-3, atol=1e-2)
    everywhere = preimage.maximize(phi, 5, canvas=(40, 50), everywhere=True, progress=False, iterations=20)
    torch.testing.assert_close(phi(everywhere.images - net.space.mean_colour)[0, 5].mean(), everywhere.activation[0], rtol=1e-3, atol=1e-2)


def test_a_channel_everywhere_is_measured_by_its_largest_mean(net, monkeypatch):
    phi, like = net.layer("fire3"), torch.empty(0)
    result = preimage.maximize(phi, [5, 6], canvas=60, everywhere=True, progress=False, iterations=20)
    assert result.config["M"] == pytest.approx(estimated_largest(phi, [(5,), (6,)], (60, 60), like, everywhere=True)[0])
    monkeypatch.setattr("preimage.tasks.units.TYPICAL", 0.0)
    means, largest = (estimated_largest(phi, [(5,), (6,)], (60, 60), like, everywhere=e)[0] for e in (True, False))
    photos = torch.cat([net.space.encode(p) for p in preimage.images.reference_images()])
    expected = phi(photos)[:, [5, 6]].mean(dim=(2, 3)).amax(dim=0).tolist()
    assert all(m >= e * 0.999 for m, e in zip(means, expected, strict=True))  # noise may excite them more
    assert all(m < a / 2 for m, a in zip(means, largest, strict=True))
    with pytest.raises(InputError, match="leave stats out"):
        preimage.maximize(phi, 5, everywhere=True, stats="any.safetensors", progress=False)


def test_a_unit_is_the_same_alone_and_among_others(net):
    phi = net.layer("fire3")
    together = preimage.maximize(phi, [5, 77, 9], progress=False, iterations=20)
    alone = preimage.maximize(phi, 77, progress=False, iterations=20)
    assert together.seeds[1] == alone.seeds[0]
    assert together.energy["total"][1].item() == pytest.approx(alone.energy["total"][0].item(), rel=0.01)


@pytest.mark.parametrize(("layer", "rf", "stride", "expected"), [("0", 11, 4, None), ("2", 19, 8, None)])
def test_the_canvas_is_the_largest_that_gives_the_tile(layer, rf, stride, expected):
    torch.manual_seed(0)  # two steps with other weights may end above the start, which is said
    module = nn.Sequential(nn.Conv2d(3, 8, 11, 4), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True))
    phi = preimage.Layer(module, layer, space=preimage.PixelSpace(227, "rgb"))
    r = preimage.maximize(phi, 0, progress=False, iterations=2)
    side = r.images.shape[-1]
    reps = max(round(1.1 * rf / stride), 4)
    reps += 1 - reps % 2
    assert phi(torch.zeros(1, 3, side, side)).shape[-1] == reps
    assert phi(torch.zeros(1, 3, side + 1, side + 1)).shape[-1] > reps


def test_networks_of_one_size_only_get_that_size():
    from torchvision.models import vit_b_16

    torch.manual_seed(0)
    phi = preimage.Layer(vit_b_16(image_size=32), "conv_proj", space=preimage.PixelSpace.imagenet(32))
    assert preimage.maximize(phi, 3, progress=False, iterations=2).images.shape[-2:] == (32, 32)
    block = preimage.Layer(vit_b_16(image_size=32), "encoder.layers.encoder_layer_0", space=preimage.PixelSpace.imagenet(32))
    assert preimage.maximize(block, (0, 7), progress=False, iterations=2).labels == ["unit 0-7"]
    with pytest.raises(InputError, match="a unit is 2 numbers"):
        preimage.maximize(block, 7, progress=False)


def test_a_caricature_starts_from_the_image_and_exaggerates(net, cat):
    phi = net.layer("fire4")
    seen, watch = drawn(phi)
    preimage.caricature(phi, cat, solver=watch, **FEW)
    x0 = net.space.encode(cat)
    torch.testing.assert_close(seen["start"][..., :227, :227], x0)
    assert seen["start"].shape[-1] == 228
    assert bool((seen["start"][..., 227, :] == 0).all())  # the border is the mean colour
    r = preimage.caricature(phi, cat, C=10, progress=False, iterations=40)
    assert r.activation.item() > 1.5
    assert r.trace["loss"][0].item() == pytest.approx(-10.0, rel=0.1)
    assert r.error is None
    assert torch.linalg.vector_norm(r.images - r.originals) < torch.linalg.vector_norm(r.originals - 128)


def test_float64_and_float32_agree(grey_cnn, grey_space, digit):
    phi = preimage.Layer(grey_cnn, "3", space=grey_space)
    a = preimage.invert(phi, digit, solver="paper", iterations=20, progress=False)
    b = preimage.invert(phi, digit, solver="paper", iterations=20, progress=False, dtype=torch.float64)
    torch.testing.assert_close(a.energy["total"], b.energy["total"], rtol=1e-3, atol=0)
    assert all(p.dtype == torch.float32 for p in grey_cnn.parameters())
    assert b.images.dtype == torch.float32


def test_images_come_in_every_form(net, cat):
    phi = net.layer("pool1")
    x = net.space.encode(cat)
    with PIL.Image.open(cat) as picture:
        forms = [cat, picture, np.asarray(picture), x, x[0]]
        results = [preimage.invert(phi, f, progress=False, iterations=3) for f in forms]
    for r in results[1:]:
        assert bool((r.images == results[0].images).all())
    with pytest.raises(InputError, match="different sizes"):
        preimage.invert(phi, [x, x[..., :100]], **FEW)


def test_wrong_input_is_refused_with_what_to_do(net, cat, tmp_path):
    phi = net.layer("fire4")
    (tmp_path / "text.png").write_text("hello")
    cases = [
        (ImageError, "no file", lambda: preimage.invert(phi, tmp_path / "absent.png", **FEW)),
        (ImageError, "not an image", lambda: preimage.invert(phi, tmp_path / "text.png", **FEW)),
        (InputError, "list is empty", lambda: preimage.invert(phi, [], **FEW)),
        (InputError, "C is the weight", lambda: preimage.invert(phi, cat, C=0, **FEW)),
        (InputError, "restarts is a whole number", lambda: preimage.invert(phi, cat, restarts=0, **FEW)),
        (InputError, "must broadcast to one sample's features", lambda: preimage.invert(phi, cat, mask=torch.ones(3, 3), **FEW)),
        (InputError, "selects nothing", lambda: preimage.invert(phi, cat, mask=torch.zeros(256, 1, 1), **FEW)),
        (InputError, "no unit 256|There is no unit 256", lambda: preimage.maximize(phi, 256, **FEW)),
        (InputError, "There is no unit -1", lambda: preimage.maximize(phi, -1, **FEW)),
        (InputError, "There is no unit", lambda: preimage.maximize(phi, (3, 99, 0), **FEW)),
        (InputError, "256 channels and no class names", lambda: preimage.maximize(phi, "goose", **FEW)),
        (UnknownName, "Did you mean", lambda: preimage.maximize(net.layer("pool10"), "gooose", **FEW)),
        (InputError, "cannot take a canvas of 3x3 pixels", lambda: preimage.maximize(phi, 3, canvas=3, **FEW)),
        (InputError, "canvas is", lambda: preimage.maximize(phi, 3, canvas="huge", **FEW)),
        (InputError, "see the whole image", lambda: preimage.maximize(net.layer("pool10"), 3, canvas="receptive-field", **FEW)),
        (InputError, "Z is a number above 0", lambda: preimage.maximize(phi, 3, Z=-1.0, **FEW)),
        (InputError, "seed is a whole number", lambda: preimage.invert(phi, cat, seed=-1, **FEW)),
        (InputError, "3 seeds for 1 samples", lambda: preimage.invert(phi, cat, seed=[1, 2, 3], **FEW)),
        (UnknownName, "No solver named", lambda: preimage.invert(phi, cat, solver="sgd", progress=False)),
        (InputError, "phi is a representation", lambda: preimage.invert(net, cat, **FEW)),
        (InputError, "dtype is torch.float32", lambda: preimage.invert(phi, cat, dtype=torch.int8, **FEW)),
        (InputError, "cannot be used here", lambda: preimage.invert(phi, cat, device="nowhere", **FEW)),
        (InputError, "jitter amount", lambda: preimage.invert(phi, cat, transform=preimage.Jitter(0), **FEW)),
    ]
    for kind, match, call in cases:
        with pytest.raises(kind, match=match):
            call()


def test_nan_weights_are_named(grey_cnn, grey_space, digit):
    with torch.no_grad():
        grey_cnn[3].weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match=r"hold NaN or infinite values; the weights 3.weight do"):
        preimage.invert(preimage.Layer(grey_cnn, "3", space=grey_space), digit, progress=False)


def test_a_dead_unit_is_explained_and_a_leak_revives_it(grey_cnn, grey_space):
    with torch.no_grad():
        grey_cnn[0].bias[2] = -1e3
    phi = preimage.Layer(grey_cnn, "1", space=grey_space)
    with pytest.raises(OptimizationError, match=r"dead unit.*leak"):
        preimage.maximize(phi, 2, progress=False)
    alive = preimage.maximize(preimage.Layer(grey_cnn, "1", space=grey_space, leak=0.05), 2, progress=False, iterations=20)
    assert alive.status == ["ok"]


def test_units_that_are_closed_at_the_start_are_opened(net):
    phi = net.layer("fire5")
    units = list(range(0, 32, 2))
    r = preimage.maximize(phi, units, progress=False, iterations=30)
    assert len(r.config["opened"]) > 5
    assert r.status == ["ok"] * len(units)
    assert bool((r.activation > 1).all())
    assert 30 + 1 + 11 <= r.evaluations <= 30 + 1 + 6 * 11
    b = r.config["opened"][1]
    alone = preimage.maximize(phi, units[b], progress=False, iterations=30)
    assert bool((alone.images[0] == r.images[b]).all())


def test_ctrl_c_while_units_are_opened_is_heard(net, monkeypatch):
    evaluations = itertools.count()
    evaluate = Run.evaluate

    def third_is_interrupted(self, *arguments):
        if next(evaluations) == 2:
            raise KeyboardInterrupt
        return evaluate(self, *arguments)

    monkeypatch.setattr(Run, "evaluate", third_is_interrupted)
    with pytest.raises(KeyboardInterrupt):
        preimage.maximize(net.layer("fire5"), list(range(0, 8, 2)), progress=False, iterations=20)
    assert next(evaluations) == 3


@pytest.mark.filterwarnings("ignore::preimage.errors.PreimageWarning")  # a few iterations on small images do not come far
@pytest.mark.parametrize("solver", slow(["fast", "paper", "adam"], "adam"))
def test_on_a_cpu_no_bit_of_a_sample_depends_on_the_others(small, solver):
    paths = preimage.images.reference_images()
    few = {"progress": False, "iterations": 8, "solver": solver}
    for call, items in (
        (lambda i: preimage.invert(small.layer("fire9"), i, restarts=2, **few), paths),
        (lambda i: preimage.maximize(small.layer("pool10"), i, **few), ["goose", "tree frog", 3]),
        (lambda i: preimage.caricature(small.layer("fire6"), i, **few), paths),
    ):
        together, alone = call(items), call(items[1])
        count = len(alone.images)
        assert bool((together.images[count : 2 * count] == alone.images).all())
        for name in alone.energy:
            assert bool((together.energy[name][count : 2 * count] == alone.energy[name]).all())


@pytest.mark.slow
def test_samples_evaluated_together_end_at_the_same_energy(net):
    paths = preimage.images.reference_images()
    apart = preimage.invert(net.layer("fire3"), paths, progress=False, iterations=30)
    for batch in (2, 3):
        together = preimage.invert(net.layer("fire3"), paths, progress=False, iterations=30, compute=preimage.Compute(batch=batch))
        torch.testing.assert_close(together.energy["total"], apart.energy["total"], rtol=0.01, atol=0)
    with pytest.raises(InputError, match="batch is a whole number"):
        preimage.invert(net.layer("fire3"), paths, compute=preimage.Compute(batch=0), **FEW)


def test_ctrl_c_raises_with_what_was_found(grey_cnn, grey_space, digit):
    calls = []

    def f(x):
        calls.append(1)
        if len(calls) == 9:  # the first is for the target, two look whether it gives the same twice
            raise KeyboardInterrupt
        return grey_cnn[:4](x)

    with pytest.raises(Interrupted) as stop:
        preimage.invert(preimage.from_callable(f, grey_space), digit, progress=False)
    assert stop.value.result.interrupted
    assert stop.value.result.evaluations == 5


def test_the_record_has_all_that_is_needed_to_make_it_again(net, cat):
    r = preimage.invert(net.layer("fire4"), cat, C=20, mask=masks.central(3), **FEW)
    c = r.config
    assert (c["network"], c["representation"], c["C"], c["solver"], c["iterations"]) == ("squeezenet1_1", "fire4", 20, "fast", 12)
    assert len(c["weights_sha256"]) == 64
    assert c["mask"] == "central(5)" or "central" in c["mask"]
    assert preimage.PixelSpace.from_dict(c["space"]) == net.space
    assert {"preimage", "torch", "numpy", "python", "code"} <= set(c["versions"])


def test_the_defaults_are_the_paper_s():
    assert [DEFAULTS[t].C for t in ("invert", "maximize", "caricature")] + [tasks.BOUND] == [100, 1e4, 10, 160]
    paper = recipes()["mahendran2016"]
    assert [paper.parts(t).C for t in ("invert", "maximize", "caricature")] == [100, 1e4, 1]
    assert (preimage.AlphaNorm().alpha, preimage.AlphaNorm().B, preimage.TVBeta().beta) == (6, 80, 2)
    assert pytest.approx(80 / 6.5) == preimage.TVBeta().V
    assert preimage.solvers.Paper().rate == pytest.approx(53.3333, rel=1e-5)
