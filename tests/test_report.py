"""The page of a store: what it shows, that nothing in a store can put markup into it, its charts and its files for a paper."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
import xml.etree.ElementTree
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from types import SimpleNamespace
from urllib.parse import unquote

import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from typer.testing import CliRunner

import preimage
from preimage.cli import app
from preimage.errors import InputError
from preimage.report import save_figures, write_report
from preimage.report.archive import inside
from preimage.report.boxes import central_box, geometry, masked_box
from preimage.report.charts import Chart, Curve, _log_ticks, _ticks
from preimage.report.findings import findings
from preimage.report.grids import arrange
from preimage.report.traces import short_trace, trace_curve
from preimage.studies.store import Store

from . import letters
from .report_store import WEIGHTS, build_store, write_summary

HOSTILE = "<script>alert(1)</script>"
BREAKOUT = "\"'></script></style></title><img src=x onerror=alert(2)>${7*7}{{7*7}}"


class Page(HTMLParser):
    """Every tag with its attributes, and the text inside each kind of tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._inside = tag

    def handle_data(self, data):
        self.text.setdefault(self._inside, []).append(data)

    def all(self, tag):
        return [a for t, a in self.tags if t == tag]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build_store(tmp_path_factory.mktemp("report") / "store")


@pytest.fixture(scope="module")
def text(store):
    return write_report(store, store.path / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_the_page_shows_every_picture_and_every_original_bit_by_bit(store, page):
    shown = {hashlib.sha256(base64.b64decode(i["src"].partition("base64,")[2])).hexdigest() for i in page.all("img") if i.get("src")}
    wanted = [r.picture for r in store.records(status="done")] + list((store.path / "inputs").glob("*.png"))
    assert {hashlib.sha256(p.read_bytes()).hexdigest() for p in wanted} <= shown
    assert all(i.get("alt") for i in page.all("img") if i.get("src"))


def test_the_page_asks_for_nothing_outside_itself(text, page):
    links = [a[k] for _, a in page.tags for k in ("src", "href", "action", "data") if a.get(k)]
    assert links and all(link.startswith(("data:", "#", "runs/", "summary/")) for link in links)
    assert not re.search(r"@import|url\(", "".join(page.text["style"]))


def test_the_page_tells_settings_versions_failures_and_numbers(text):
    for word in ("OutOfMemoryError: too large", "C = 100", "Inversion of every layer", "tree frog", "squeezenet1_1", "50.0%", "19.0 dB"):
        assert word in text, word
    assert re.search(r"<dt>torch</dt><dd>2</dd>", text)


def test_the_page_begins_with_what_was_found_in_words(text):
    found = "have features that differ from the photograph's by 12.9% at pool1 (median of 6) and by 12.9% at fire9 (median of 6)"
    assert found in unescape(text).split("<dl")[0]
    assert "3 layers were tried" in text and "1 image of what 1 unit looks for." in text


def test_what_was_found_tells_nature_and_the_judges_and_leaves_out_what_is_not_known():
    def row(task, unit=None, **metrics):
        return SimpleNamespace(config={"task": task, "layer": "fire2", "unit": unit}, metrics=metrics)

    seen = [row("maximize", k, **{"natural_times": t, "rank by other": r}) for k, (t, r) in enumerate([(0.5, 3.0), (4.0, 1.0), (6.0, 1.0)])]
    assert findings(seen, ["fire2"]) == (
        "3 images of what 3 units look for: 2 of 3 excite their unit more than any photograph that was tried, 4 times as much "
        "(median of 3). other, which made none of them, puts 2 of 3 first."
    )
    exaggerated = findings([row("caricature", activation=2.0)], ["fire2"])
    assert exaggerated == "In 1 caricature a layer sees 2 times what it sees in the photograph."
    assert findings([row("invert", error=math.nan), row("of one's own", error=1.0)], ["fire2"]) == ""


def test_layers_stand_in_the_order_in_which_the_network_runs_them(page, text):
    heads = re.findall(r'<table class="grid">\s*<thead><tr><td></td>(.*?)</tr>', text)
    assert len(heads) == 2
    assert all(re.findall(r"<th[^>]*>([^<]*)</th>", h) == ["pool1", "fire2", "fire9"] for h in heads)
    rows = re.findall(r'<tr><th scope="row">(C = [^<]*)</th>', text)
    assert rows == [f"C = {C:g}" for C in WEIGHTS] * 2


def test_nothing_in_a_store_can_put_markup_into_the_page(tmp_path):
    store = build_store(tmp_path / "store", names=(HOSTILE, BREAKOUT), failure=BREAKOUT)
    write_summary(store, "inversion", title=BREAKOUT, caption=HOSTILE, columns=[BREAKOUT], rows=[[HOSTILE]])
    text = write_report(store, tmp_path / "page.html", title=BREAKOUT).read_text(encoding="utf-8")
    page = Page(text)
    assert len(page.all("script")) == 2 and len(page.all("style")) == 1
    assert not [name for _, a in page.tags for name in a if name.startswith("on")]
    assert not [i for i in page.all("img") if i.get("src") == "x"]
    assert HOSTILE not in text and BREAKOUT not in text
    details = json.loads(re.search(r'<script type="application/json" id="details">(.*?)</script>', text, re.S)[1])
    assert any(HOSTILE in r["title"] for r in details["records"]) and any(BREAKOUT in r["title"] for r in details["records"])
    assert f'alt="{HOSTILE.replace("<", "&lt;").replace(">", "&gt;")}' in text


def test_the_policy_lets_only_the_one_script_and_the_one_style_sheet_run(text):
    policy = next(a["content"] for a in Page(text).all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        body = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.S)[-1]
        assert f"{rule} 'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_many_pictures_become_thumbnails_that_link_the_exact_files(store, tmp_path, text):
    path = tmp_path / "elsewhere" / "page.html"
    path.parent.mkdir()
    page = Page(write_report(store, path, inline_limit=0).read_text(encoding="utf-8"))
    links = [b["data-full"] for b in page.all("button") if b.get("data-full")]
    assert len(links) == len(store.records(status="done")) + 3  # two originals of the grids, one under the receptive fields
    assert all((path.parent / unquote(link)).is_file() for link in links)
    small = [i["src"] for i in page.all("img") if i.get("src")]
    assert all(s.startswith("data:image/webp") for s in small)
    sizes = [PIL.Image.open(io.BytesIO(base64.b64decode(s.partition("base64,")[2]))).size for s in small]
    assert max(max(s) for s in sizes) == 160


def test_a_damaged_picture_is_said_in_its_place_and_the_rest_is_shown(tmp_path):
    store = build_store(tmp_path / "store", names=("cat",))
    store.records(status="done")[0].picture.write_bytes(b"\x89PNG broken")
    text = write_report(store, tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count('<span class="missing">') == 1 and "cannot be read" in text
    assert len([i for i in Page(text).all("img") if i.get("src")]) == 9 + 2


def test_an_original_is_only_looked_for_inside_the_store(tmp_path):
    root = tmp_path / "store"
    root.mkdir()
    (tmp_path / "secret.png").write_bytes(b"x")
    (root / "mine.png").write_bytes(b"x")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    assert inside(root, "mine.png") == root.resolve() / "mine.png"
    for name in ("../secret.png", str(tmp_path / "secret.png"), "link.png", "", None, 3, "a\0b", "absent.png"):
        assert inside(root, name) is None


@pytest.mark.parametrize("change", [{"curves": [{"x": [0, 1], "y": [1.0]}]}, {"curves": [{"y": [1.0]}]}, {"rows": [3]}, {"curves": 3}])
def test_a_summary_that_cannot_be_read_names_its_file(tmp_path, change):
    store = build_store(tmp_path / "store", names=("cat",))
    write_summary(store, "inversion", **change)
    with pytest.raises(InputError, match=r"summary\.json"):
        write_report(store, tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_an_empty_store_has_a_page_that_says_so(tmp_path):
    assert "holds no results yet" in write_report(Store.open(tmp_path / "store"), tmp_path / "page.html").read_text(encoding="utf-8")


VALUES = {
    "layer": st.sampled_from(["fire2", "fire9", "conv1"]),
    "C": st.sampled_from([1.0, 20.0]),
    "mask": st.sampled_from([None, "central:5"]),
    "image": st.sampled_from(["a", "b", None]),
    "unit": st.sampled_from([None, 3, [1, 2, 3], "tree frog"]),
    "restart": st.integers(0, 3),
}


@given(st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=25))
def test_every_record_stands_in_exactly_one_place(configs):
    grids = arrange(configs, ["conv1", "fire2", "fire9"])
    places = [i for g in grids for row in g.cells for cell in row for i in cell] + [i for g in grids for _, i in g.gallery]
    assert sorted(places) == list(range(len(configs)))
    for g in grids:
        assert len({repr(configs[i]["image"]) for i in g.records}) == 1
        assert all(len(row) == len(g.columns) for row in g.cells) and len(g.cells) == len(g.rows)


def test_code_in_a_caption_and_a_note_is_shown_as_code(tmp_path):
    store = build_store(tmp_path)
    write_summary(store, "inversion", caption="As `preimage statistics <x>` makes it.", notes=["See `a` & b."])
    text = write_report(store, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "As <code>preimage statistics &lt;x&gt;</code> makes it." in text and "See <code>a</code> &amp; b." in text


def test_a_table_that_would_be_half_empty_is_a_gallery_with_whole_captions():
    (grid,) = arrange([{"layer": f"fire{k}", "unit": u} for k, u in ((2, 1), (2, 5), (3, 7), (4, 9))])
    assert grid.rows == [] and [text for text, _ in grid.gallery] == [
        "fire2 · unit 1",
        "fire2 · unit 5",
        "fire3 · unit 7",
        "fire4 · unit 9",
    ]


@pytest.mark.parametrize("units", [1, 2, 5])
def test_a_box_is_where_the_gradient_of_the_central_units_reaches(units):
    net = nn.Sequential(nn.Conv2d(1, 2, 5, stride=2), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(2, 2, 3, padding=1), nn.AvgPool2d(3, 1))
    for p in net.parameters():
        nn.init.ones_(p)
    space = preimage.PixelSpace((45, 61), "grey")
    info = preimage.layers(net, space)[-1]
    net[1] = nn.AvgPool2d(3, 2, ceil_mode=True)  # a maximum would pass the gradient to one pixel only
    x = torch.ones(1, 1, 45, 61, requires_grad=True)
    out = net(x)
    kept = preimage.masks.central(units)(info.shape)
    (out * kept).sum().backward()
    rows, cols = (torch.nonzero(x.grad[0, 0].abs().sum(dim=d)).flatten() for d in (1, 0))
    box = central_box(info, (45, 61), units)
    assert (box.top, box.top + box.height) == (rows[0], rows[-1] + 1)
    assert (box.left, box.left + box.width) == (cols[0], cols[-1] + 1)
    assert masked_box(info, (45, 61), f"central:{units}") == box


def test_the_geometry_of_a_network_is_that_of_its_layers(net):
    known = geometry("squeezenet1_1")
    assert known.size == (227, 227)
    for info in net.layers():
        assert known.layers[info.name] == info


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(3, 8))
def test_ticks_reach_over_the_values_and_are_few(low, span, count):
    ticks = _ticks(low, low + span, count)
    slack = 1e-6 * (abs(low) + span)
    assert ticks[0] <= low + slack and ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= 2 * count + 2


@given(st.floats(1e-9, 1e9), st.floats(1.0, 1e6))
def test_logarithmic_ticks_hold_the_values(low, ratio):
    ticks = _log_ticks(low, low * ratio)
    assert ticks[0] <= low * 1.0001 and len(ticks) >= 2
    assert all(b > a for a, b in pairwise(ticks))


def test_a_curve_is_drawn_where_its_values_are():
    chart = Chart("t", [Curve("a", [0, 1, 2, 3], [0.0, 0.5, None, 1.0], [0, 0.4, None, 0.9], [0.1, 0.6, None, 1.1])])
    drawn = chart.drawn()
    moves = re.findall(r"([ML])([\d.]+) ([\d.]+)", drawn["curves"][0]["path"])
    assert [m[0] for m in moves] == ["M", "L", "M"]  # a gap where there is no value
    ticks = {text: y for y, text in drawn["y_ticks"]}
    assert [float(m[2]) for m in moves] == pytest.approx([ticks["0"], (ticks["0.4"] + ticks["0.6"]) / 2, ticks["1"]], abs=0.06)
    assert len(drawn["curves"][0]["dots"]) == 3 and drawn["curves"][0]["dots"][1]["text"] == "a, 1: 0.5 (0.4 to 0.6)"
    assert drawn["curves"][0]["band"].count("L") == 5


def test_a_logarithmic_chart_falls_back_to_a_linear_one_at_zero():
    assert Chart("t", [Curve("a", [0, 1], [1.0, 1000.0])], log=True).drawn()["y_ticks"][0][1] == "1"
    assert Chart("t", [Curve("a", [0, 1], [-5.0, 10.0])], log=True).drawn()["y_ticks"][0][1].startswith("−")


def test_a_trace_keeps_its_ends_and_its_quartiles():
    trace = torch.stack([torch.linspace(9, k, 500) for k in range(5)], dim=1)
    curve = trace_curve("total", [trace])
    assert (curve.x[0], curve.x[-1]) == (1, 500) and len(curve.x) <= 120
    assert (curve.low[-1], curve.y[-1], curve.high[-1]) == (1, 2, 3)
    short = short_trace({"tv-beta": trace, "total": trace * 2})
    assert [name for name, _ in short["lines"]] == ["total", "variation (TVβ)"]
    assert short["lines"][0][1][-1] == 4.0 and short["steps"][-1] == 500


@pytest.mark.slow
def test_figures_are_written_in_every_format_and_open(store, tmp_path, monkeypatch):
    letters.leave_out(monkeypatch)
    written = save_figures(store, tmp_path / "figures")
    names = {p.stem for p in written}
    assert {"inversion-curve-1", "inversion-astronaut", "inversion-cat", "inversion-energy-fire2", "classes-energy-pool10"} <= names
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {f"{n}.{kind}" for n in names for kind in ("png", "svg", "pdf")}
    for path in written:
        with PIL.Image.open(path) as image:
            assert min(image.size) > 100 and len(set(image.convert("L").tobytes())) > 10
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        xml.etree.ElementTree.parse(path.with_suffix(".svg"))


@pytest.mark.slow
def test_names_with_mathematics_and_paths_in_them_make_figures_too(tmp_path):
    store = build_store(tmp_path / "store", names=("../$x_{$", "a$b"))
    write_summary(store, "inversion", title="$x_{$", y_label="$x_{$")
    written = save_figures(store, tmp_path / "figures")
    assert all(p.parent == tmp_path / "figures" for p in written)
    assert {p.name for p in tmp_path.iterdir()} == {"store", "figures"}


def test_a_summary_made_of_another_experiments_results_stands_after_it_with_its_figures_and_notes(tmp_path):
    store = build_store(tmp_path / "store", names=("cat",))
    key = store.records(experiment="inversion", status="done")[0].key
    PIL.Image.new("RGB", (30, 20), "red").save(tmp_path / "red.png")
    more = {"keys": [key], "notes": ["As published."], "columns": {"layer": "of the network"}, "rows": [{"layer": "fire2"}]}
    write_summary(store, "errors", title="Error by layer", curves=[], figures=["a.png", "../../../red.png"], **more)
    PIL.Image.new("RGB", (30, 20), "blue").save(store.path / "summary" / "errors" / "a.png")
    text = write_report(store, store.path / "page.html").read_text(encoding="utf-8")
    titles = re.findall(r"<h2>([^<]*)</h2>", text)
    assert titles[:3] == ["Inversion of every layer", "Error by layer", "classes"]
    assert "As published." in text and "<b>layer</b> of the network" in text
    links = [a.get("href", "") for a in Page(text).all("a")]
    assert "summary/errors/a.png" in links and not [link for link in links if "red" in link]
    assert len([i for i in Page(text).all("img") if i.get("alt") == "a"]) == 1


def test_the_command_writes_the_page_and_says_where(store, tmp_path, monkeypatch):
    letters.leave_out(monkeypatch)
    done = CliRunner().invoke(app, ["report", str(store.path), "-o", str(tmp_path / "p.html"), "--figures", str(tmp_path / "f")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "p.html").is_file() and (tmp_path / "p.html").as_uri() in done.output
    assert {p.suffix for p in (tmp_path / "f").iterdir()} == {".png", ".svg", ".pdf"}
    absent = CliRunner().invoke(app, ["report", str(tmp_path / "f")])
    assert absent.exit_code == 1 and "is no store of results. `preimage paper` and `preimage atlas` make them." in absent.output


def test_only_what_is_finite_is_drawn():
    drawn = Chart("t", [Curve("a", [0, 1, 2], [1.0, math.nan, 2.0], [math.nan] * 3, [math.inf] * 3)]).drawn()
    assert "nan" not in drawn["curves"][0]["path"] and drawn["curves"][0]["band"] == ""
