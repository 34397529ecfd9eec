"""An audit's attacks, protections, controls and page, on a small model that is the first half of another, as ONNX."""

from __future__ import annotations

import copy
import csv
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import preimage
from preimage import metrics
from preimage.cli import app
from preimage.errors import InputError
from preimage.experiments.attackers import Attacker
from preimage.experiments.attacks import ATTACKS
from preimage.experiments.audit_findings import GIVEN_AWAY, NOTHING, TOLD_APART, Rung, controls_note, finding, not_monotone, strongest
from preimage.experiments.audit_numbers import AMONG, FOUND, SMALLER, Comparison
from preimage.experiments.audit_utility import utility
from preimage.experiments.base import Found, Study
from preimage.experiments.leakage import SCHEMA, Leakage
from preimage.inverses.grid import find_grid
from preimage.inverses.known import keep_inverse, kept_inverse
from preimage.report.pdf import VARIABLE, print_pdf
from preimage.representations.base import features_of, from_callable
from preimage.representations.pairs import Pairs
from preimage.representations.release import PROTECTIONS, Pooled, Protected, known_part, parse_release, release_text
from preimage.studies.jobs import Job, execute
from preimage.studies.store import Store

from .accessible import everywhere, walk

SPACE = "size=32,channels=rgb,scale=1,mean=0.5,std=0.25"
RELEASES = ("bits:1", "project:2")
KERNEL = np.random.default_rng(0).normal(size=(8, 3, 4, 4)).astype(np.float32) / 4


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """Inverses that are fitted here are kept here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREIMAGE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def half(tmp_path_factory) -> str:
    """A model that gives features and no classes, as a phone would that sends them."""
    from onnx import TensorProto, helper, numpy_helper, save

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 32, 32])
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 8, 15, 15])
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["c"], name="/conv", strides=[2, 2], kernel_shape=[4, 4]),
        helper.make_node("LeakyRelu", ["c"], ["features"], name="/act", alpha=0.2),
    ]
    graph = helper.make_graph(nodes, "half", [image], [features], [numpy_helper.from_array(KERNEL, "w")])
    path = tmp_path_factory.mktemp("model") / "half.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return str(path)


@pytest.fixture(scope="module")
def public(tmp_path_factory, photographs):
    """What the attacker learns from."""
    folder = tmp_path_factory.mktemp("public")
    for path in photographs[10:16]:
        shutil.copy(path, folder)
    return folder


def command(*words):
    return CliRunner().invoke(app, ["audit", *map(str, words)])


@pytest.fixture(scope="module")
def audited(tmp_path_factory, half, public, photographs):
    """One command on the half: all attacks, two protections."""
    out = tmp_path_factory.mktemp("audited") / "audit"
    words = [*photographs[:4], "--net", half, "--space", SPACE, "--layers", "output", "--attacker-images", public]
    words += [w for name in ATTACKS if name != "upconv" for w in ("--attack", name)]  # which takes seconds to train: it has its own test
    words += [
        "--crops",
        "8",
        "--iterations",
        "4",
        "--C",
        "100",
        "--lpips",
        "none",
        "--judge",
        "squeezenet1_1",
        "--workers",
        "1",
        "-q",
        "-o",
        out,
    ]
    done = command(*words, *(w for text in RELEASES for w in ("--release", text)))
    assert done.exit_code == 0, done.output
    return out, done.stdout, json.loads((out / "summary" / "audit" / "summary.json").read_text())


def test_a_model_that_is_the_first_half_is_audited_at_its_output_by_one_command(audited, half):
    out, said, summary = audited
    assert {row["layer"] for row in summary["rows"] if row.get("attack")} == {"act"}
    assert "found again among 4" in said and said.index("act: ") < said.index("release")  # what was found stands before the table
    page = (out / "audit.html").read_text(encoding="utf-8")
    for words in ("Findings", "The worst cases", "knows it", "Controls", "How to repeat it", f"--net {half}", "--release bits:1"):
        assert words in page, words
    assert page.index("the images are") < page.index("<table")


def test_the_tables_have_the_schema_that_is_documented(audited):
    out, _, summary = audited
    assert summary["schema"] == SCHEMA
    assert {"findings", "strip", "controls", "attacks", "ladder", "rows", "columns", "notes", "repeat"} <= set(summary)
    with (out / "summary" / "audit" / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == set(summary["columns"])
    for row in summary["rows"]:
        for name in {"psnr", "ssim"} & set(row):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
    (exact,) = [f for f in summary["findings"] if f["release"] == "exact"]
    assert exact["images"] == exact["among"] == 4 and exact["chance"] == 0.25
    assert {"value", "low", "high", "attack"} == set(exact["numbers"]["psnr"])


def test_every_attack_is_tried_on_each_release_with_and_without_knowledge_of_it(audited):
    forms = {(row["release"], row["attack"], row["protection known"]) for row in audited[2]["rows"] if row.get("attack")}
    # of the others one is for layers whose units see half of the image, and one for those that have a finer layer before them
    shallow = set(ATTACKS) - {"natural", "layer-by-layer", "upconv"}
    assert any(note.startswith("No layerwise inverse of act could be fitted") for note in audited[2]["notes"])
    assert {(r, a) for r, a, _ in forms} == {(r, a) for r in ("exact", *RELEASES) for a in shallow}
    assert ("bits:1", "inverse", True) in forms and ("bits:1", "inverse", False) in forms and ("exact", "inverse", None) in forms
    assert ("bits:1", "smoothness", True) not in forms  # a search cannot go through rounding
    assert ("project:2", "smoothness", True) in forms


@pytest.mark.slow
def test_the_attacker_who_knows_a_projection_recovers_more_than_the_one_who_does_not(audited):
    rows = {(r["release"], r["attack"], r["protection known"]): r for r in audited[2]["rows"] if r.get("attack")}
    assert rows["project:2", "inverse", True]["psnr"] > rows["project:2", "inverse", False]["psnr"]
    assert rows["exact", "inverse", None]["psnr"] > rows["project:2", "inverse", True]["psnr"] + 0.5


def test_no_protection_looks_safer_than_the_naive_attack_says_it_is(audited):
    checked = 0
    for one in audited[2]["findings"]:
        rows = [r for r in audited[2]["rows"] if (r["layer"], r["release"]) == (one["layer"], one["release"])]
        for name, best in one["numbers"].items():
            sign = -1 if name in SMALLER else 1
            for row in rows:
                if name in row:
                    assert sign * best["value"] >= sign * row[name] - 1e-6, (one["release"], name)
                    checked += 1
    assert checked > 50


def test_controls_are_at_chance_within_their_interval(audited):
    controls = audited[2]["controls"]
    said = [c["control"] for c in controls]
    assert said[0].startswith("act: the features of another image (") and said[-1] == "the mean of all images"
    assert said[1:-1] == ["act: shuffled features (inverse)", "act: shuffled features (collages)"]  # of each inverse that was tried
    for row in controls:
        for name in FOUND:
            assert row[f"{name}_low"] <= row["chance"] <= row[f"{name}_high"]
    assert any("controls are at chance" in note for note in audited[2]["notes"])


def test_a_control_that_finds_its_image_is_named():
    at_chance = {"control": "a", "chance": 0.05, "found by pixels": 0.05, "found by pixels_low": 0.01, "found by pixels_high": 0.2}
    off = at_chance | {"control": "b", "found by pixels": 0.9, "found by pixels_low": 0.7}
    assert "b, found by pixels 90%" in controls_note([at_chance, off])[0] and "a," not in controls_note([at_chance, off])[0]


def test_the_page_of_an_audit_opens_in_a_browser_and_prints(audited, visit, tmp_path):
    page = visit(audited[0] / "audit.html")
    widths = page.evaluate("Promise.all([...document.querySelectorAll('main img')].map(i => i.decode().then(() => i.naturalWidth)))")
    assert len(widths) >= 4 * 2 + 4 * 2 and min(widths) == 32
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("#findings li").count() == 3
    page.emulate_media(media="print")
    long = "(th) => { th.textContent = 'a_long_name_of_a_photograph_00042'; return th.scrollWidth <= th.clientWidth; }"
    assert page.locator(".grid tbody th").first.evaluate(long)  # nobody can point at paper to see the rest of a name


def test_axe_finds_nothing_grave_in_an_audit_and_tab_alone_reaches_everything(audited, visit):
    page = visit(audited[0] / "audit.html")
    page.evaluate("for (const part of document.querySelectorAll('main details')) part.open = true")
    assert everywhere(page) == {}
    stops, missed, unmarked = walk(page)
    assert stops > 15 and missed == [] and unmarked == []


def test_pdf_is_printed_by_the_browser(audited, browser, tmp_path, monkeypatch):
    from .browsers import find

    monkeypatch.setenv(VARIABLE, find() or "")
    assert print_pdf(audited[0] / "audit.html", tmp_path / "audit.pdf").read_bytes()[:5] == b"%PDF-"


def test_without_a_browser_pdf_is_refused_before_anything_is_computed_and_the_error_says_what_to_do(tmp_path, photographs, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    done = command(*photographs[:2], "--pdf", tmp_path / "x.pdf", "-o", tmp_path / "out")
    assert done.exit_code == 2 and "apt-get install chromium" in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv(VARIABLE, "no-such-browser")
    with pytest.raises(InputError, match="no-such-browser"):
        print_pdf(tmp_path / "page.html", tmp_path / "x.pdf")


@pytest.mark.parametrize("change", ["copied", "saved again", "mirrored", "scaled"])
def test_a_photograph_that_is_audited_cannot_be_learned_from(change, tmp_path, half, public, photographs):
    folder = tmp_path / "public"
    shutil.copytree(public, folder)
    with PIL.Image.open(photographs[1]) as image:
        mirrored = image.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
        smaller = image.resize((image.width * 2 // 3, image.height * 2 // 3))
        if change == "copied":
            shutil.copy(photographs[1], folder / "same.jpg")
        elif change == "saved again":
            image.save(folder / "same.jpg", quality=60)
        else:
            (mirrored if change == "mirrored" else smaller).save(folder / "same.png")
    words = ["--net", half, "--space", SPACE, "--layers", "output", "--attack", "inverse", "--attacker-images", folder, "-q"]
    done = command(*photographs[:3], *words, "-o", tmp_path / "out")
    assert done.exit_code == 2 and "same." in done.stderr and photographs[1].stem in done.stderr and done.stderr.count("\n") == 1
    assert not list((tmp_path / "out" / "runs").glob("*"))


def test_a_judge_that_is_audited_itself_is_refused_and_another_one_is_taken(photographs, tmp_path):
    study = Study(Store.open(tmp_path / "store"), photographs[:2], layers=("fire9",))
    with pytest.raises(InputError, match="recognises what was made on itself"):
        Comparison(study, Found(study.store, []), None, "squeezenet1_1")


def test_of_what_the_judge_sees_in_an_image_the_share_that_comes_back_is_counted_in_its_five_most_likely_answers(photographs, tmp_path):
    study = Study(Store.open(tmp_path / "store"), [photographs[0], photographs[3]], layers=("fire9",))
    comparison = Comparison(study, Found(study.store, []), None, "efficientnet-lite0")
    again, other = (comparison._whose(levels[None], 0) for levels in comparison.levels)
    assert again["attributes by judge"] == again["class by judge"] == 1.0
    assert comparison.judge is not None
    pictures = [levels.round().clamp(0, 255).byte().permute(1, 2, 0).numpy() for levels in comparison.levels]
    first, second = ({name for name, _ in comparison.judge.top(picture, 5)[0]} for picture in pictures)
    assert other["attributes by judge"] == pytest.approx(len(first & second) / 5) and other["attributes by judge"] < 1


def test_one_is_looked_for_among_itself_and_others_without_doubles():
    comparison = Comparison.__new__(Comparison)
    for count in (2, AMONG, AMONG + 1, 10 * AMONG + 3):
        comparison.levels = torch.zeros(count, 1, 1, 1)
        for source in (0, count // 2, count - 1):
            among = comparison._among(source)
            assert source in among and len(set(among)) == len(among) == min(count, AMONG) and 0 <= min(among) <= max(among) < count


def quantised(path):
    """The same half with its weights and features in 8 bits."""
    from onnx import TensorProto, helper, numpy_helper, save

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 8, 15, 15])
    scale = np.abs(KERNEL).max() / 127
    values = {"a": np.float32(4 / 255), "a0": np.uint8(128), "w": np.round(KERNEL / scale).astype(np.int8), "s": np.float32(scale)}
    values |= {"s0": np.int8(0), "b": np.float32(0.05), "b0": np.uint8(64)}
    nodes = [
        helper.make_node("QuantizeLinear", ["image", "a", "a0"], ["q"]),
        helper.make_node("QLinearConv", ["q", "a", "a0", "w", "s", "s0", "b", "b0"], ["c"], strides=[2, 2], kernel_shape=[4, 4]),
        helper.make_node("DequantizeLinear", ["c", "b", "b0"], ["features"]),
    ]
    constants = [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()]
    graph = helper.make_graph(nodes, "half8", [image], [features], constants)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return str(path)


def test_a_quantised_half_is_audited_by_pairs_alone_and_this_is_said(tmp_path, public, photographs):
    model = quantised(tmp_path / "half8.onnx")
    words = ["--net", model, "--space", SPACE, "--layers", "output", "--attacker-images", public, "--crops", "8", "--lpips", "none"]
    words += ["--judge", "none", "--workers", "1", "-q", "-o", tmp_path / "out"]
    done = command(*photographs[:3], *words)
    assert done.exit_code == 0, done.output
    summary = json.loads((tmp_path / "out" / "summary" / "audit" / "summary.json").read_text())
    assert {row["attack"] for row in summary["rows"] if row.get("attack")} == {"pairs"}
    assert any("gives no gradients" in note for note in summary["notes"]) and "gives no gradients" in done.stdout
    (row,) = [row for row in summary["rows"] if row.get("attack")]
    (guess,) = [row for row in summary["rows"] if row["layer"] == "mean of the other images"]
    assert row["psnr"] > guess["psnr"] + 2
    refused = command(*photographs[:3], *words[:-1], tmp_path / "other", "--attack", "smoothness")
    assert refused.exit_code == 2 and "name the attack pairs" in refused.stderr


def test_a_quantised_model_gives_what_its_numbers_say_and_no_image_is_searched_through_it(tmp_path, photographs):
    space = preimage.PixelSpace(32, "rgb", 1.0, 0.5, 0.25)
    net = preimage.load_network(quantised(tmp_path / "half8.onnx"), space=space)
    x = torch.cat([space.encode(p) for p in photographs[:2]])
    plain = nn.functional.conv2d(space.to_network(x), torch.from_numpy(KERNEL), stride=2)
    inside = (plain > -64 * 0.05) & (plain < (255 - 64) * 0.05)  # what 8 bits can hold
    found = features_of(net.layer("output"), x)
    assert inside.float().mean() > 0.9 and (found - plain)[inside].abs().max() < 0.15
    assert torch.equal(copy.deepcopy(net.module)(space.to_network(x)), found)
    with pytest.raises(InputError, match="no derivative"):
        preimage.invert(net.layer("output"), photographs[0], iterations=1, progress=False)


# protections


def map_of(shape=(2, 6, 5, 7)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


CASES = [(name, PROTECTIONS[name](**example)) for name in PROTECTIONS for example in PROTECTIONS.examples(name)]


@pytest.mark.parametrize(("name", "protection"), CASES)
def test_a_protection_keeps_the_shape_and_a_sample_does_not_depend_on_others_and_is_written_as_it_is_read(name, protection):
    features = map_of()
    out = protection(features)
    assert out.shape == features.shape and not torch.equal(out, features)
    torch.testing.assert_close(torch.cat([protection(f[None]) for f in features]), out)
    assert parse_release(release_text(protection)) == protection and release_text(protection).startswith(f"{name}:")


@pytest.mark.parametrize(("name", "protection"), CASES)
def test_a_gradient_passes_through_a_protection_that_says_so_and_is_what_a_difference_says(name, protection):
    if not protection.smooth:
        assert known_part(protection)[0] is None
        return
    x, step = map_of().double().requires_grad_(), 1e-6 * map_of().flip(0).double()
    weights = map_of().flip(1).double()
    (gradient,) = torch.autograd.grad((protection(x) * weights).sum(), x)
    difference = ((protection(x + step) - protection(x - step)) * weights).sum() / 2
    torch.testing.assert_close((gradient * step).sum(), difference, rtol=1e-4, atol=1e-12)


def test_what_is_released_has_what_its_name_says():
    features = map_of((1, 6, 4, 4))
    assert (parse_release("topk:0.25")(features) != 0).sum() == 24
    assert (parse_release("prune:0.5")(features).abs().sum(dim=(0, 2, 3)) == 0).sum() == 3
    assert torch.linalg.matrix_rank(parse_release("project:2")(features)[0].flatten(1)) == 2
    torch.testing.assert_close(parse_release("project:6")(features), features)
    pooled = parse_release("pool:2")(features)
    torch.testing.assert_close(pooled[..., 1::2, 1::2], nn.functional.avg_pool2d(features, 2))
    edge = Pooled(2)(map_of((1, 1, 3, 3)))
    assert edge[0, 0, 2, 2] == map_of((1, 1, 3, 3))[0, 0, 2, 2]  # a block of one cell
    with pytest.raises(InputError, match="needs a map"):
        Pooled(2)(torch.ones(2, 6))


@pytest.mark.parametrize("text", ["topk:0", "topk:1.5", "prune:1", "project:0", "pool:1", "pool:2.5", "blur:2"])
def test_a_protection_that_is_none_is_refused(text):
    with pytest.raises(InputError):
        parse_release(text)


def test_a_search_goes_through_a_protection_only_where_it_is_known(photographs, tmp_path):
    store = Store.open(tmp_path / "store")
    phi_net = preimage.load_network("squeezenet1_1")
    x = phi_net.space.encode(photographs[0])
    common = {"experiment": "audit", "task": "invert", "C": 100.0, "network": "squeezenet1_1", "layer": "conv1", "iterations": 2}
    job = Job(**common, release="pool:16", original=store.add_input(x, phi_net.space.decode(x)))
    errors = []
    for known in (False, True):
        (outcome,) = execute([replace(job, protection_known=known)], [x])
        assert outcome.metrics is not None, outcome.reason
        errors.append(outcome.metrics["error"])
    assert errors[1] < errors[0] - 0.05  # in the means alone a rough picture is nearer than in all features
    with pytest.raises(InputError, match="has a release"):
        replace(job, release=None, protection_known=True)


def test_the_rest_of_the_network_says_what_a_protection_costs(net, photographs):
    x = torch.cat([net.space.encode(p) for p in photographs[:2]])
    shape = tuple(net.layer("fire9").shape)
    assert utility(net, "fire9", shape, parse_release("project:4096"), x).tolist() == [1.0, 1.0]
    assert utility(net, "fire9", shape, lambda f: f * 0, x).sum() < 2  # one answer to everything
    before = net.predict(photographs[0])
    assert torch.equal(before, net.predict(photographs[0]))  # nothing stays on the network
    with pytest.raises(InputError, match="part of an output"):
        utility(net, "fire9:grid", shape, parse_release("bits:8"), x)


# what inverses are fitted with


def test_an_inverse_from_pairs_alone_is_nearly_as_good_as_one_that_knows_the_layer_and_asks_for_no_gradient(photographs):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 12, 4, stride=4, bias=False).requires_grad_(False)
    space = preimage.PixelSpace(32, "rgb")
    phi = from_callable(conv, space, receptive_field=4, stride=4)
    asked = []

    def box(x):
        asked.append(torch.is_grad_enabled())
        return conv(x)

    found = {}
    for name, one in (("known", phi), ("pairs", Pairs(box, space, "box"))):
        inverse = preimage.fit_inverse(one, photographs[:6], crops=10, progress=False)
        assert inverse.about["cells"] == [8, 8]
        x = space.encode(photographs[7])
        found[name] = metrics.psnr(space.decode(inverse(features_of(phi, x))), space.decode(x)).item()
    assert not any(asked) and found["pairs"] == pytest.approx(found["known"], abs=0.3)


def test_an_inverse_of_protected_features_lies_where_the_layer_s_does(photographs, net):
    phi = net.layer("fire2")
    inverse = preimage.fit_inverse(
        Protected(phi, parse_release("bits:2")), photographs[:4], crops=2, kind="linear:rank=4", size=64, progress=False
    )
    assert inverse.grid == find_grid(phi, (64, 64), 2)[0] and inverse.grid.stride == (4, 4)


def test_an_inverse_is_kept_by_what_it_is_fitted_with_and_a_job_begins_with_it(photographs):
    calls = []
    phi = from_callable(lambda x: nn.functional.pixel_unshuffle(x, 4), preimage.PixelSpace(32, "rgb"))

    def fit():
        calls.append(1)
        return preimage.fit_inverse(phi, photographs[:4], crops=2, kind="linear:kernel=1", progress=False)

    name = keep_inverse({"layer": "a"}, fit)
    assert keep_inverse({"layer": "a"}, fit) == name != keep_inverse({"layer": "b"}, fit) and len(calls) == 2
    assert kept_inverse(name).about["layer"] == phi.name
    with pytest.raises(InputError, match="Start the run again"):
        kept_inverse("0" * 32)
    with pytest.raises(InputError, match="32 digits"):
        kept_inverse("../../x")
    job = Job(experiment="audit", task="invert", C=1.0, network="squeezenet1_1", layer="fire2", original="0" * 64, start="inverse")
    assert len({job.key, replace(job, inverse=name).key, replace(job, inverse="1" * 32).key}) == 3
    with pytest.raises(InputError, match="starts from it"):
        replace(job, start="noise", inverse=name)


def test_a_job_of_the_recipe_that_begins_with_an_inverse_has_a_key():
    job = Job(experiment="audit", task="invert", C=100.0, network="squeezenet1_1", layer="fire2", original="0" * 64, recipe="inverse2026")
    assert job.key != replace(job, recipe="mahendran2016").key


def test_a_layer_without_an_inverse_is_attacked_by_the_others_and_this_is_said(photographs, tmp_path):
    study = Study(Store.open(tmp_path / "store"), photographs[:2], "tests.tiny:build", layers=("0",))
    attacker = Attacker([str(p) for p in photographs[4:8]], crops=2, progress=False)
    study._phis["0"] = from_callable(lambda x: x.mean(dim=(2, 3)), study.net.space)
    assert attacker.settings(study, "0", "photographs", None) is None
    assert attacker.settings(study, "0", "photographs", "bits:2") is None and len(attacker.notes) == 1
    assert attacker.notes[0].startswith("No inverse of 0 could be fitted")


def test_attacks_by_other_kinds_of_inverses_begin_with_their_own_and_know_the_protection(photographs, tmp_path):
    study = Study(Store.open(tmp_path / "store"), photographs[:2], "tests.tiny:deeper", layers=("3",))
    experiment = Leakage(
        releases=("exact", "bits:2"),
        attacks=("inverse", "upconv", "layer-by-layer", "collages"),
        attacker=Attacker([str(p) for p in photographs[4:8]], crops=2, progress=False),
    )
    jobs = experiment.jobs(study)
    kept = {job.inverse: kept_inverse(job.inverse) for job in jobs}
    kinds = {name: f"collages {i.kind}" if i.about["settings"].get("collages") else i.kind for name, i in kept.items()}
    assert sorted(kinds.values()) == sorted(2 * ["layerwise", "linear", "upconv", "collages linear"])  # each of exact and of protected
    assert len(jobs) == 2 * 4 * 3 and all(job.iterations == 0 for job in jobs)  # images, attacks; exact, not knowing and knowing
    images = {kinds[job.inverse]: execute([job], [study.store.input(job.original)])[0] for job in jobs[:8]}
    assert set(images) == {"linear", "upconv", "layerwise", "collages linear"} and all(o.result is not None for o in images.values())


def test_the_work_is_said_before_it_begins(photographs, tmp_path):
    study = Study(Store.open(tmp_path / "store"), photographs[:3], layers=("fire2", "fire9"))
    said = []
    names = ("smoothness", "natural", "inverse", "inverse-descent")
    jobs = Leakage(releases=("exact",), attacks=names, attacker=Attacker(progress=False), say=said.append)
    text = jobs.work(study)
    assert "The audit of 3 images: 21 searches" in text and "1 inverses to fit" in text  # 2 + 2 C's, a descent each, natural at fire9
    assert text.endswith("For a first look: --attack inverse.")
    quick = Leakage(releases=("exact",), attacks=("inverse",), attacker=Attacker(progress=False))
    assert "0 searches" in quick.work(study) and "first look" not in quick.work(study)


# what is said of it


def rung(attack, known=None, layer="fire2", release="exact"):
    return Rung(layer, release, attack, known, ())


def values(psnr, share, count=10):
    hits = torch.tensor([1.0] * round(share * count) + [0.0] * (count - round(share * count)))
    return {"psnr": torch.full((count,), float(psnr)), "found by pixels": hits, "ssim": torch.linspace(0, 1, count)}


def records(count=10):
    from preimage.studies.store import Record

    return [Record(f"{k:064d}", "audit", "done", {"image": f"i{k}", "original": f"inputs/{k:064d}.png"}) for k in range(count)]


@pytest.mark.parametrize(
    ("share", "level", "words"),
    [(1.0, GIVEN_AWAY, "given away"), (0.5, TOLD_APART, "told apart better than by chance"), (0.1, NOTHING, "no proof that nothing leaks")],
)
def test_a_finding_says_in_words_what_its_interval_allows(share, level, words):
    measured = {rung("a"): values(12, 0.1), rung("b"): values(20, share)}
    found = finding(measured, {r: records() for r in measured}, 10, 11.3)
    assert found["level"] == level and words in found["sentence"] and "10 are found again among 10" in found["sentence"]
    assert found["attack"] == "b" and found["numbers"]["psnr"]["value"] == 20
    likeness = [p["likeness"] for p in found["pictures"]]
    assert likeness == sorted(likeness, reverse=True) and found["pictures"][0]["image"] == "i9"  # the worst case first


def test_the_strongest_attack_is_that_of_each_number():
    measured = {rung("a"): {"psnr": torch.tensor([20.0]), "lpips": torch.tensor([0.9])}}
    measured[rung("b")] = {"psnr": torch.tensor([10.0]), "lpips": torch.tensor([0.1])}
    assert {n: r.attack for n, r in strongest(measured).items()} == {"psnr": "a", "lpips": "b"}


def test_where_somebody_who_knows_more_recovers_less_this_is_said():
    above = {name: ATTACKS[name].above for name in ATTACKS}
    measured = {rung("inverse"): values(23, 1), rung("inverse-descent"): values(21, 1), rung("smoothness"): values(20, 1)}
    (said,) = not_monotone(measured, above)
    assert "inverse-descent recovers less (21.0 dB) than inverse (23.0 dB)" in said
    naive, knowing = rung("inverse", False, release="bits:1"), rung("inverse", True, release="bits:1")
    assert not not_monotone({naive: values(10, 1), knowing: values(12, 1)}, above)
    assert len(not_monotone({naive: values(12, 1), knowing: values(10, 1)}, above)) == 1


def test_the_bootstrap_s_interval_is_that_of_a_plain_one_and_the_same_every_time():
    x = torch.randn(30, generator=torch.Generator().manual_seed(1)).double() * 3 + 5
    low, high = metrics.bootstrap(x, resamples=4000)
    rng = np.random.default_rng(0)
    plain = np.quantile([rng.choice(x.numpy(), 30).mean() for _ in range(4000)], [0.025, 0.975])
    assert (low, high) == pytest.approx(plain, abs=0.08)  # of an interval 2.1 wide; two runs of numpy differ by 0.05
    assert metrics.bootstrap(x, resamples=4000) == (low, high)
    assert all(math.isnan(v) for v in metrics.bootstrap(x[:1]))
    assert metrics.bootstrap(torch.full((9,), 2.0)) == (2.0, 2.0)


def test_a_result_of_released_features_is_made_again_from_its_folder(net, photographs, tmp_path):
    found = preimage.invert(net.layer("conv1"), photographs[0], iterations=1, release=parse_release("bits:2,topk:0.5"), progress=False)
    assert found.config["release"] == "bits:2,topk:0.5"
    assert torch.equal(preimage.again(found.save(tmp_path / "out"), progress=False).images, found.images)
