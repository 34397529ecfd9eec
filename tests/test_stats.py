"""Neuron statistics: merging, against plain numpy, going on after a kill, and what maximize makes of them."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.errors import InputError, ResultFolderError, UnknownName
from preimage.statistics import collect_statistics, load_statistics
from preimage.statistics.accumulators import Histogram, Moments, Strongest
from preimage.tasks.units import recorded_largest

numbers = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)  # below 1.2e-38 a float32 has not the bits of a bin
rows = st.lists(numbers, min_size=1, max_size=30)
FIELDS = ("min", "max", "mean", "std", "firing")


def two_channels(values):
    """(2, N): the values, and minus them shifted far away, where a sum of squares would cancel."""
    x = torch.tensor(values, dtype=torch.float32)
    return torch.stack([x, 1e6 - x])


@settings(deadline=None)
@given(rows, rows, rows)
def test_merged_moments_are_those_of_all_values_in_any_order(a, b, c):
    parts = [Moments.of(two_channels(v)) for v in (a, b, c)]
    everything = two_channels(a + b + c).double().numpy()
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        merged = Moments.none(2)
        for k in order:
            merged = merged.merge(parts[k])
        assert merged.count == everything.shape[1]
        np.testing.assert_allclose(merged.mean, everything.mean(axis=1), rtol=1e-12, atol=1e-9)
        # float64 keeps 16 digits of 1e6: a deviation is right to about 1e-9
        np.testing.assert_allclose(merged.std, everything.std(axis=1), rtol=1e-9, atol=1e-8)
        assert merged.low.tolist() == everything.min(axis=1).tolist()
        assert merged.high.tolist() == everything.max(axis=1).tolist()
        assert merged.above.tolist() == (everything > 0).sum(axis=1).tolist()


def counted(*parts):
    histogram = Histogram.none(2)
    for values in parts:
        histogram.add(two_channels(values))
    return histogram


@settings(deadline=None)
@given(rows, rows)
def test_merged_histograms_are_to_the_last_count_those_of_all_values(a, b):
    at_once = counted(a + b)
    for other in (counted(a, b), counted(b, a), counted(a).merge(counted(b)), counted(b).merge(counted(a))):
        assert torch.equal(other.top, at_once.top)
        assert torch.equal(other.counts, at_once.counts)
    assert at_once.counts.sum(dim=1).tolist() == [len(a + b)] * 2


@settings(deadline=None)
@given(rows, st.floats(0.001, 0.999))
def test_quantiles_are_within_their_stated_error(values, q):
    found = counted(values).quantile(q).numpy()
    x = two_channels(values).numpy()
    exact = np.quantile(x, q, axis=1, method="inverted_cdf")
    smallest = np.abs(x).max(axis=1) / 3800
    assert (np.abs(found - exact) <= np.maximum(0.032 * np.abs(exact), smallest)).all()


def test_a_histogram_takes_every_magnitude_of_float32():
    values = torch.tensor([[3.4e38, -3.4e38, 1.0, 0.0, 1e-45, -0.0], [1e-45, 2e-31, -1e-32, 0.0, -0.0, 1e-30]])
    histogram = Histogram.none(2)
    histogram.add(values)
    assert histogram.counts.sum(dim=1).tolist() == [6, 6]
    assert histogram.quantile(0.99)[0].item() == pytest.approx(3.4e38, rel=0.032)
    assert histogram.quantile(0.5)[0].item() == 0.0
    assert histogram.quantile(0.01)[1].item() == pytest.approx(-1e-32, rel=0.032, abs=0)


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 5.0]), min_size=1, max_size=12), st.integers(0, 12), st.integers(1, 5))
def test_the_strongest_images_are_the_first_of_a_sort_and_ties_go_to_the_first_image(values, cut, k):
    features = torch.tensor(values).view(-1, 1, 1)
    index = torch.arange(len(values))
    parts = [Strongest.of(features[s], index[s]) for s in (slice(cut), slice(cut, None)) if len(features[s])]
    wanted = sorted(range(len(values)), key=lambda i: (-values[i], i))[:k]
    for order in (parts, parts[::-1]):
        best = Strongest.none(1, k)
        for part in order:
            best = best.merge(part)
        assert best.images[0, : len(wanted)].tolist() == wanted
        assert (best.images[0, len(wanted) :] == -1).all()


class Twice(nn.Module):
    """A small network with what makes hooks hard: a ReLU in place, one module that runs twice, and tokens."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.relu = nn.ReLU(inplace=True)
        self.mid = nn.Conv2d(4, 5, 3, stride=2)
        self.norm = nn.LayerNorm(5)
        self.out = nn.Linear(5, 3)

    def forward(self, x):
        x = self.relu(self.mid(self.relu(self.conv(x))))
        return self.out(self.norm(x.flatten(2).transpose(1, 2)).mean(dim=1))


SPACE = preimage.PixelSpace(12, "grey", scale=1.0, mean=0.4, std=0.2)


@pytest.fixture
def module():
    torch.manual_seed(3)
    return Twice()


@pytest.fixture
def folder(tmp_path):
    """Seven noisy grey pictures, two of them a folder deeper."""
    rng = np.random.default_rng(0)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    for k in range(7):
        place = tmp_path / "in" / ("deep" if k > 4 else "")
        PIL.Image.fromarray(rng.integers(0, 60 + 30 * k, (12, 12), dtype=np.uint8)).save(place / f"{k}.png")
    return tmp_path / "in"


def activations(module, files):
    """Each layer's features of each image, by plain calls, one image after the other."""
    named = {}
    with torch.no_grad():
        for file in files:
            x = SPACE.to_network(SPACE.encode(file))
            conv = module.conv(x)
            relu0 = conv.clamp(min=0)
            mid = module.mid(relu0)
            relu1 = mid.clamp(min=0)
            norm = module.norm(relu1.flatten(2).transpose(1, 2))
            out = module.out(norm.mean(dim=1))
            for name, value in {"conv": conv, "relu#0": relu0, "mid": mid, "relu#1": relu1, "norm": norm, "out": out}.items():
                named.setdefault(name, []).append(value[0].double().numpy())
    return {name: np.stack(values) for name, values in named.items()}


def test_every_number_is_that_of_plain_numpy_over_all_activations(module, folder):
    stats = collect_statistics(module, folder, space=SPACE, batch=3, top=4, progress=False)
    assert list(stats) == ["conv", "relu#0", "mid", "relu#1", "norm", "out"]
    assert [p.rpartition("/")[2] for p in stats.images] == ["0.png", "1.png", "2.png", "3.png", "4.png", "5.png", "6.png"]
    for name, values in activations(module, stats.images).items():
        of = stats[name]
        axis = 2 if values.ndim == 3 else 1  # tokens: a channel is a feature
        flat = np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
        expected = {"min": flat.min(1), "max": flat.max(1), "mean": flat.mean(1), "std": flat.std(1), "firing": (flat > 0).mean(1)}
        assert of.count == flat.shape[1]
        for field in FIELDS:  # float32 features, whose last bits depend on the batch
            np.testing.assert_allclose(getattr(of, field), expected[field], rtol=1e-4, atol=1e-5)
        for q in (0.0, 0.1, 0.5, 0.9, 1.0):
            exact = np.quantile(flat, q, axis=1, method="inverted_cdf")
            assert (np.abs(of.quantile(q).numpy() - exact) <= np.maximum(0.033 * np.abs(exact), np.abs(flat).max(1) / 3700)).all()
        per_image = np.moveaxis(values, axis, 1).reshape(len(values), len(flat), -1)
        for c in range(of.channels):
            top = stats.top(name, c)
            order = sorted(range(len(values)), key=lambda i: (-per_image[i, c].max(), i))[:4]
            if per_image[order, c].max() > 0 and len(np.unique(per_image[:, c].max(axis=1))) == len(values):
                assert [t.image for t in top] == [stats.images[i] for i in order]
            for t in top:
                here = values[stats.images.index(t.image)]
                spot = (*t.place, c) if axis == 2 else (c, *t.place)
                assert here[spot] == pytest.approx(t.value, rel=1e-4, abs=1e-5)


def same(a, b, exact=False):
    assert list(a) == list(b)
    for name in a:
        for field in FIELDS:
            x, y = getattr(a[name], field), getattr(b[name], field)
            assert torch.equal(x, y) if exact else torch.allclose(x, y, rtol=1e-5, atol=1e-6), (name, field)
        if exact:
            assert all(torch.equal(t, b[name].tensors()[k]) for k, t in a[name].tensors().items())


@pytest.mark.parametrize("other", [{"batch": 1}, {"batch": 7}, {"batch": 4, "workers": 1}])
def test_the_batch_size_changes_nothing_but_rounding(module, folder, other):
    whole = collect_statistics(module, folder, space=SPACE, batch=3, progress=False)
    again = collect_statistics(module, folder, space=SPACE, progress=False, **other)
    same(whole, again)
    assert whole.top("mid", 1)[0].image == again.top("mid", 1)[0].image


def test_a_module_in_double_precision_is_run_in_it(module, folder):
    single = collect_statistics(module, folder, space=SPACE, progress=False)
    same(single, collect_statistics(module.double(), folder, space=SPACE, progress=False))
    assert module.conv.weight.dtype == torch.float64


def test_top_images_need_not_be_kept(module, folder, tmp_path):
    stats = collect_statistics(module, folder, tmp_path / "s.safetensors", space=SPACE, top=0, progress=False)
    assert stats.top("conv", 0) == load_statistics(tmp_path / "s.safetensors").top("conv", 0) == []


def test_parts_merged_in_either_order_are_the_whole(module, folder):
    files = sorted(folder.rglob("*.png"))
    whole = collect_statistics(module, files, space=SPACE, batch=1, progress=False)
    a, b = (collect_statistics(module, part, space=SPACE, batch=1, progress=False) for part in (files[:3], files[3:]))
    for merged in (a.merge(b), b.merge(a)):
        same(whole, merged)
        assert torch.equal(merged["conv"].quantile(0.7), whole["conv"].quantile(0.7))
        assert merged.top("mid", 2) == whole.top("mid", 2)
    few = collect_statistics(module, files, layers=["mid"], space=SPACE, progress=False)
    with pytest.raises(InputError, match="different layers"):
        whole.merge(few)
    with pytest.raises(InputError, match="different top"):
        whole.merge(collect_statistics(module, files, space=SPACE, top=2, progress=False))


def test_the_module_and_the_random_numbers_are_left_as_they_were(module, folder):
    module.train()
    module.out.weight.requires_grad_(False)
    before = torch.get_rng_state()
    collect_statistics(module, folder, space=SPACE, progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(m.training for m in module.modules())
    assert [p.requires_grad for p in module.out.parameters()] == [False, True]
    assert not any(m._forward_hooks for m in module.modules())


def test_hooks_go_when_the_pass_fails(module, folder):
    with torch.no_grad():
        module.mid.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match="features of mid hold NaN"):
        collect_statistics(module, folder, space=SPACE, progress=False)
    assert not any(m._forward_hooks for m in module.modules())


def test_some_layers_by_name_and_the_rest_of_the_network_is_not_run(module, folder):
    runs = 0

    def count(*_):
        nonlocal runs
        runs += 1

    module.norm.register_forward_pre_hook(count)
    stats = collect_statistics(module, folder, layers=["relu"], space=SPACE, progress=False)
    assert runs == 1  # to list the layers
    assert list(stats) == ["relu#1"]  # the last run, as for a Layer
    assert stats["relu"] is stats["relu#1"]
    with pytest.raises(UnknownName, match="Did you mean 'conv'"):
        collect_statistics(module, folder, layers=["convv"], space=SPACE, progress=False)
    with pytest.raises(UnknownName, match="No layer in these statistics named 'conv'"):
        stats["conv"]


def test_a_layer_is_found_by_either_of_its_names(net, cat):
    stats = collect_statistics(net, cat, layers=["fire2", "features.4"], progress=False)
    assert list(stats) == ["fire2", "fire3"]
    assert stats["features.3"] is stats["fire2"]
    assert stats["fire2"].shape == (128, 56, 56)


def test_statistics_survive_their_file(module, folder, tmp_path):
    stats = collect_statistics(module, folder, tmp_path / "s.safetensors", space=SPACE, progress=False)
    read = load_statistics(tmp_path / "s.safetensors")
    same(stats, read, exact=True)
    assert read.images == stats.images
    assert read.top("conv", 0) == stats.top("conv", 0)
    assert not (tmp_path / "s.safetensors.part").exists()


def rewritten(path, change, tensors=None):
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(path, framework="pt") as file:
        record = json.loads(file.metadata()["preimage-statistics"])
        found = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    change(record)
    save_file(found | (tensors or {}), path, metadata={"preimage-statistics": json.dumps(record)})


@pytest.mark.parametrize(
    ("change", "tensors", "reason"),
    [
        (lambda r: r["layers"][0].update(shape=[10**15]), {}, "conv has 1000000000000000 channels"),
        (lambda r: r["layers"][0].update(shape=[-4, 10, 10]), {}, "holds no statistics"),
        (lambda r: r["layers"][0].update(count=3), {}, "do not add up to 3"),
        (lambda r: r.update(version=9), {}, "version 9"),
        (lambda r: r.pop("about"), {}, "holds no statistics"),
        (lambda r: r["layers"][0].update(name="other"), {}, "holds no statistics"),
        (lambda r: None, {"mean:conv": torch.zeros(3, dtype=torch.float64)}, r"mean:conv is \(3,\)"),
        (lambda r: None, {"images:conv": torch.full((4, 9), 99)}, "not in its list"),
        (lambda r: None, {"places:conv": torch.full((4, 9), 100)}, "not in its map of 100 places"),
        (lambda r: None, {"top:conv": torch.full((4,), 2**30, dtype=torch.int32)}, "values that no features have"),
        (lambda r: None, {"high:conv": torch.full((4,), torch.nan, dtype=torch.float64)}, "values that no features have"),
        (lambda r: r["about"].pop("space"), {}, "not complete"),
    ],
)
def test_a_file_that_was_tampered_with_is_refused(module, folder, tmp_path, change, tensors, reason):
    path = tmp_path / "s.safetensors"
    collect_statistics(module, folder, path, space=SPACE, layers=["conv"], progress=False)
    rewritten(path, change, tensors)
    with pytest.raises(InputError, match=reason):
        load_statistics(path)


def test_a_file_that_is_cut_or_something_else_is_refused(module, folder, tmp_path):
    path = tmp_path / "s.safetensors"
    collect_statistics(module, folder, path, space=SPACE, layers=["conv"], progress=False)
    whole = path.read_bytes()
    for data in (whole[: len(whole) // 2], b"", b"hello"):
        path.write_bytes(data)
        with pytest.raises(InputError, match="holds no statistics"):
            load_statistics(path)


KILLED = """
import sys, time, torch, preimage
sys.path.insert(0, {tests!r})
from tests.test_stats import SPACE, Twice
torch.manual_seed(3)
module = Twice()
module.register_forward_pre_hook(lambda *_: time.sleep(0.2))
preimage.collect_statistics(module, {folder!r}, {path!r}, space=SPACE, batch=1, checkpoint=0.0, progress=False)
"""


def test_a_killed_pass_goes_on_where_it_stopped_and_ends_the_same(module, folder, tmp_path, pytestconfig):
    path, part = tmp_path / "s.safetensors", tmp_path / "s.safetensors.part"
    code = KILLED.format(tests=str(pytestconfig.rootpath), folder=str(folder), path=str(path))
    process = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 600
    while not part.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert part.exists() and not path.exists()
    with pytest.raises(InputError, match="unfinished collection"):
        load_statistics(part)
    passes = 0

    def count(*_):
        nonlocal passes
        passes += 1

    module.register_forward_pre_hook(count)
    resumed = collect_statistics(module, folder, path, space=SPACE, batch=1, progress=False)
    assert passes < 2 + 7  # two more look at the layers before the pass
    undisturbed = collect_statistics(module, folder, tmp_path / "whole.safetensors", space=SPACE, batch=1, progress=False)
    assert path.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    same(resumed, undisturbed, exact=True)
    assert resumed.images == undisturbed.images
    assert not part.exists()
    passes = 0
    same(collect_statistics(module, folder, path, space=SPACE, progress=False), resumed, exact=True)
    assert passes == 2  # the finished file is the answer


def test_other_weights_images_or_settings_are_not_mixed_in(module, folder, tmp_path):
    path = tmp_path / "s.safetensors"
    again = {"space": SPACE, "progress": False}
    collect_statistics(module, folder, path, **again)
    part = tmp_path / "s.safetensors.part"
    for file in (path, part):
        if file == part:
            rewritten(path, lambda r: r.update(progress={"done": 7}))
            path.rename(part)
        for options, what in [
            ({"layers": ["mid"]}, "other layers"),
            ({"fit": "squash"}, "another fit"),
            ({"top": 3}, "another number of top images"),
            ({"space": preimage.PixelSpace(12, "grey")}, "other pixels"),
        ]:
            with pytest.raises(InputError, match=f"{what}.*overwrite"):
                collect_statistics(module, folder, path, **(again | options))
        with pytest.raises(InputError, match="other images"):
            collect_statistics(module, folder / "deep", path, **again)
        with torch.no_grad():
            module.conv.bias += 1.0
        with pytest.raises(InputError, match="other weights"):
            collect_statistics(module, folder, path, **again)
        with torch.no_grad():
            module.conv.bias -= 1.0
    anew = collect_statistics(module, folder / "deep", path, overwrite=True, **again)
    assert len(anew.images) == 2
    assert not part.exists()


def test_a_broken_image_is_left_out_and_counted(module, folder):
    whole = collect_statistics(module, folder, space=SPACE, batch=2, progress=False)
    data = (folder / "0.png").read_bytes()
    (folder / "1-cut.png").write_bytes(data[: len(data) // 2])
    (folder / "3-text.jpg").write_text("no picture")
    (folder / ".hidden.png").write_text("no picture, and not listed")
    stats = collect_statistics(module, folder, space=SPACE, batch=2, progress=False)
    assert [p.rpartition("/")[2] for p, _ in stats.skipped] == ["1-cut.png", "3-text.jpg"]
    assert "damaged or truncated" in stats.skipped[0][1]
    assert len(stats.images) == 7
    same(whole, stats)
    assert stats.top("mid", 0)[0].image == whole.top("mid", 0)[0].image
    with pytest.raises(InputError, match=r"None of the 1 images could be read; the first: .*3-text\.jpg"):
        collect_statistics(module, folder / "3-text.jpg", space=SPACE, progress=False)


def test_wrong_input_is_refused_with_what_to_do(module, net, folder, tmp_path):
    quiet = {"space": SPACE, "progress": False}
    (tmp_path / "empty").mkdir()
    cases = [
        (InputError, "needs? its pixels|need its pixels", lambda: collect_statistics(module, folder, progress=False)),
        (InputError, "network .*or a module", lambda: collect_statistics("squeezenet1_1", folder, **quiet)),
        (InputError, "no file or folder", lambda: collect_statistics(module, tmp_path / "absent", **quiet)),
        (InputError, "holds no picture", lambda: collect_statistics(module, tmp_path / "empty", **quiet)),
        (InputError, "There is no image", lambda: collect_statistics(module, [], **quiet)),
        (InputError, "batch is a whole number", lambda: collect_statistics(module, folder, batch=0, **quiet)),
        (InputError, "top is a whole number", lambda: collect_statistics(module, folder, top=-1, **quiet)),
        (InputError, "no folder", lambda: collect_statistics(module, folder, tmp_path / "no" / "s", **quiet)),
        (InputError, "from 0 to 1", lambda: collect_statistics(module, folder, **quiet)["mid"].quantile(1.5)),
        (InputError, "no channel 9 in mid", lambda: collect_statistics(module, folder, **quiet).top("mid", 9)),
    ]
    for kind, match, call in cases:
        with pytest.raises(kind, match=match):
            call()


def test_a_full_disk_says_so(module, folder, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("preimage.statistics.checkpoint.save_record", full)
    with pytest.raises(ResultFolderError, match="cannot be written: No space left on device"):
        collect_statistics(module, folder, tmp_path / "s.safetensors", space=SPACE, progress=False)


@pytest.fixture(scope="module")
def some(net, photographs):
    """Of four photographs and three layers of SqueezeNet."""
    return collect_statistics(net, photographs[:4], layers=["fire2", "fire9", "pool10"], progress=False)


QUICK = {"iterations": 4, "progress": False}


def test_maximize_divides_by_each_units_own_largest_value(net, some, tmp_path):
    phi = net.layer("fire2")
    r = preimage.maximize(phi, [3, (70, 2, 2)], restarts=2, stats=some, canvas=40, **QUICK)
    wanted = [some["fire2"].max[3].item(), some["fire2"].max[70].item()]
    assert r.config["M"] == wanted
    rf = min(40, phi.receptive_field)
    assert r.config["Z"] == [m * rf**2 for m in wanted]
    assert r.config["M_source"] == "statistics of 4 images"
    # the energy that was minimised has this divisor, and the activation is the unit's own again
    loss = -10_000.0 * r.activation / torch.tensor(r.config["Z"]).repeat_interleave(2)
    torch.testing.assert_close(r.energy["loss"], loss.float(), rtol=1e-5, atol=1e-7)
    x = r.images - net.space.mean_colour
    with torch.no_grad():
        answers = phi(x)
    torch.testing.assert_close(r.activation[2:], answers[2:, 70, 2, 2], rtol=1e-4, atol=1e-3)
    some.save(tmp_path / "s.safetensors")
    again = preimage.maximize(phi, (70, 2, 2), restarts=2, stats=tmp_path / "s.safetensors", canvas=40, **QUICK)
    assert bool((again.images == r.images[2:]).all())


def test_a_unit_that_no_image_excited_gets_the_median_of_its_layer(net, cat):
    one = collect_statistics(net, cat, layers=["fire9"], progress=False)
    dead = (one["fire9"].max <= 0).nonzero().flatten().tolist()
    assert dead
    alive = int(one["fire9"].max.argmax())
    found, _ = recorded_largest(net.layer("fire9"), [(dead[0],), (alive, 0, 0)], one)
    largest = one["fire9"].max.numpy()
    assert found == [pytest.approx(np.quantile(largest[largest > 0], 0.5)), largest.max()]


def test_where_nothing_takes_a_divisor_none_is_estimated_recorded_or_accepted(tmp_path, monkeypatch):
    net = preimage.load_network("squeezenet1_1", size=64)
    phi, little = net.layer("pool10"), {"iterations": 1, "progress": False}

    def estimated(*_):
        raise AssertionError("nobody asked for it")

    monkeypatch.setattr(sys.modules["preimage.tasks.maximize"], "estimated_largest", estimated)
    found = preimage.maximize(phi, "goose", **little)
    assert [found.config[name] for name in ("Z", "M", "M_source")] == [None] * 3
    with torch.no_grad():
        answer = phi(found.images - net.space.mean_colour)[0, 99].item()
    assert found.activation.item() == pytest.approx(answer, rel=1e-4)
    again = preimage.again(found.save(tmp_path / "out"), progress=False)
    assert again.images.equal(found.images) and again.activation.equal(found.activation)
    with pytest.raises(InputError, match="leave Z out"):
        preimage.maximize(phi, "goose", recipe="preimage2026", Z=2.0, **little)
    with pytest.raises(AssertionError, match="nobody"):
        preimage.maximize(phi, "goose", solver="adam", **little)


def test_without_statistics_the_estimate_is_per_unit_and_says_so(net):
    phi = net.layer("relu_conv1")
    seen = collect_statistics(net, preimage.images.reference_images(), layers=["relu_conv1"], progress=False)["relu_conv1"].max
    strong, second, weak = (int(seen.argsort()[k]) for k in (-1, -2, 0))
    r = preimage.maximize(phi, [strong, second, weak], canvas=20, **QUICK)
    assert r.config["M_source"] == "estimated from 3 photographs and noise"
    alone = preimage.maximize(phi, second, canvas=20, **QUICK)
    assert alone.config["M"] == [r.config["M"][1]]
    assert bool((alone.images[0] == r.images[1]).all())
    assert r.config["M"][0] > r.config["M"][1] > r.config["M"][2] > seen[weak]
    # the last one is the 95 % quantile of 64 units, of photographs and noise
    assert (seen > r.config["M"][2]).sum() <= 4
    assert preimage.maximize(phi, 5, canvas=20, Z=2.0, **QUICK).config["M_source"] is None


def test_statistics_of_another_network_are_refused(net, some):
    other = preimage.load_network("squeezenet1_1", weights=None)
    plain = preimage.from_callable(torch.relu, net.space)
    cases = [
        (InputError, "weights 2f76.*collect them again", lambda: preimage.maximize(other.layer("fire2"), 3, stats=some, **QUICK)),
        (UnknownName, "No layer in these statistics", lambda: preimage.maximize(net.layer("fire4"), 3, stats=some, **QUICK)),
        (InputError, "Z and stats", lambda: preimage.maximize(net.layer("fire2"), 3, stats=some, Z=1.0, **QUICK)),
        (InputError, "2 divisors Z for 1 units", lambda: preimage.maximize(net.layer("fire2"), 3, Z=[1.0, 2.0], **QUICK)),
        (InputError, "not one", lambda: preimage.maximize(plain, 2, stats=some, canvas=32, **QUICK)),
    ]
    for kind, match, call in cases:
        with pytest.raises(kind, match=match):
            call()
    moved = preimage.Layer(net.module, "features.3", space=preimage.PixelSpace.caffe(227).__class__(227, "bgr", mean=(1, 2, 3)))
    with pytest.raises(InputError, match="other pixels"):
        preimage.maximize(moved, 3, stats=some, **QUICK)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_the_command_counts_refuses_and_tells(photographs, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for path in photographs[:2]:
        (folder / path.name).write_bytes(path.read_bytes())
    out = tmp_path / "s.safetensors"
    done = run("stats", "squeezenet1_1", folder, "-o", out, "--layers", "fire2,conv10", "--layers", "pool10", "-q")
    assert done.exit_code == 0, done.output
    assert "2 image(s) counted, 0 skipped" in done.stdout
    rows = json.loads(run("stats", "squeezenet1_1", folder, "-o", out, "--layers", "fire2,conv10,pool10", "--json").stdout)["layers"]
    assert [(r["name"], r["channels"]) for r in rows] == [("fire2", 128), ("conv10", 1000), ("pool10", 1000)]
    given = run("maximize", "-u", "goose", "--stats", out, "--iterations", 2, "-q", "-o", tmp_path / "a")
    assert given.exit_code == 0, given.output
    assert "Z is from statistics of 2 images; reached" in given.stdout
    without = run("maximize", "-u", 3, "--layer", "fire2", "--canvas", 40, "--iterations", 2, "-q", "-o", tmp_path / "b")
    assert "Z is estimated from 3 photographs and noise. For each unit's own: preimage statistics" in without.stdout
    none = run(
        "maximize", "-u", "goose", "--size", 64, "--iterations", 8, "-q", "-o", tmp_path / "e"
    )  # by the recipe for classes, which has no Z
    assert none.exit_code == 0 and not re.search(r"\bZ\b|\bM\b|stats", none.stdout), none.output
    record = json.loads((tmp_path / "e" / "result.json").read_text())["config"]
    assert [record[name] for name in ("Z", "M", "M_source")] == [None] * 3
    only = run("maximize", "-u", "goose", "--recipe", "preimage2026", "--stats", out, "--iterations", 2, "-q", "-o", tmp_path / "f")
    assert re.search(r"^Reached [\d.e+-]+ times the largest answer in statistics of 2 images\.$", only.stdout, flags=re.M), only.output
    flags = ["--layer", "fire2", "-u", 3, "--everywhere", "--iterations", 20, "-q"]
    assert "--stats" not in run("maximize", *flags, "-o", tmp_path / "c").stdout
    assert run("maximize", *flags, "--stats", out, "-o", tmp_path / "d").exit_code == 2
    refused = run("stats", "squeezenet1_1", folder, "-o", out, "--layers", "fire2", "-q")
    assert refused.exit_code == 2
    assert "other layers" in refused.stderr
    (folder / "broken.png").write_text("hello")
    broken = run("stats", "squeezenet1_1", folder, "-o", out, "--layers", "fire2", "--overwrite", "-q")
    assert broken.exit_code == 1
    assert "2 image(s) counted, 1 skipped" in broken.stdout
    assert "broken.png' is not an image" in broken.stderr


def test_the_interrupted_command_says_how_to_go_on(folder, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("preimage.statistics.collect_statistics", interrupted)
    done = run("stats", "squeezenet1_1", folder, "-o", tmp_path / "s.safetensors", "--weights", "none")
    assert done.exit_code == 130
    assert "The same command goes on from what" in done.stderr
