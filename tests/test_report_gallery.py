"""The page of thousands of results: its sheets of thumbnails, its columns, how two stores are paired; and the page in a real Chromium."""

from __future__ import annotations

import base64
import functools
import http.server
import io
import json
import re
import shutil
import threading
from urllib.parse import unquote

import PIL.Image
import pytest
import torch
from benchmarks.gallery import build, measure
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from preimage.cli import app
from preimage.errors import InputError
from preimage.report import write_comparison, write_report
from preimage.report.catalogue import SETTINGS, Column, captions, encode, identities
from preimage.report.compare import pair
from preimage.report.page import script_json
from preimage.report.sheets import GUTTER, SIDE, THUMBNAIL, Folder, Shot
from preimage.report.traces import pack_trace, short_trace
from preimage.studies.jobs import Job
from preimage.studies.store import Store

from .accessible import everywhere, walk
from .marks import slow
from .report_store import _result
from .test_report import BREAKOUT, HOSTILE, Page

COUNT = 300
NAMES = [HOSTILE + BREAKOUT, "tree frog", *(f"thing {k}" for k in range(998))]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build(tmp_path_factory.mktemp("gallery") / "store", COUNT, NAMES, size=24)


@pytest.fixture(scope="module")
def page(store):
    return write_report(store, store.path / "report.html", gallery_from=COUNT)


def catalogue(page, name="catalogue"):
    return json.loads(re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)[1])


def test_from_so_many_pictures_on_a_page_has_a_gallery(store, page, tmp_path):
    few = write_report(store, tmp_path / "few.html", gallery_from=COUNT + 1)
    assert 'id="gallery-grid"' not in few.read_text(encoding="utf-8") and not (tmp_path / "few_files").exists()
    text = page.read_text(encoding="utf-8")
    assert 'id="gallery-grid"' in text and 'id="table"' not in text
    assert text.count('class="picture"') <= 240


def test_a_sheet_has_every_thumbnail_in_its_place_with_its_border_around_it(tmp_path):
    colours = [(7 * k % 256, 91 * k % 256, 37 * k % 256) for k in range(SIDE**2 + 3)]
    for k, colour in enumerate(colours):
        PIL.Image.new("RGB", (20 + k % 3, 30 - k % 5), colour).save(tmp_path / f"{k}.png")
    folder = Folder(tmp_path / "page.html")
    sheets = folder.sheets([Shot(tmp_path / f"{k}.png", str(k), tmp_path) for k in range(len(colours))])
    assert len(sheets.names) == 2 and sheets.missing == {}
    slot = THUMBNAIL + 2 * GUTTER
    for k, colour in enumerate(colours):
        with PIL.Image.open(folder.path / sheets.names[k // SIDE**2]) as sheet:
            width, height = sheets.sizes[k]
            assert (width, height) == (20 + k % 3, 30 - k % 5)
            x, y = k % SIDE * slot, k % SIDE**2 // SIDE * slot
            shown = (round(width * THUMBNAIL / max(width, height)), round(height * THUMBNAIL / max(width, height)))
            middle = (x + GUTTER + shown[0] // 2, y + GUTTER + shown[1] // 2)
            for at in (middle, (x + GUTTER, y + GUTTER), (x + 1, middle[1]), (x + shown[0] + GUTTER, middle[1]), (middle[0], y + 1)):
                near = sheet.convert("RGB").getpixel(at)
                assert max(abs(a - b) for a, b in zip(near, colour, strict=True)) < 40, (k, at)  # lossy, with colours at half resolution


def test_a_page_written_again_keeps_the_sheets_that_hold_and_removes_the_others(tmp_path):
    store = build(tmp_path / "store", SIDE**2 + 1, NAMES, size=24)
    files = tmp_path / "page_files"

    def sheets():
        write_report(store, tmp_path / "page.html", gallery_from=1)
        assert {p.name for p in files.glob("*.webp")} == set(catalogue(tmp_path / "page.html")["records"]["sheets"])
        return {p.name: p.stat().st_mtime_ns for p in files.glob("*.webp")}

    first = sheets()
    (files / "mine.txt").write_text("not of the page")
    assert sheets() == first
    job = Job(experiment="atlas", task="maximize", network="squeezenet1_1", layer="pool10", unit=500, C=1e4)
    store.save(job, _result("maximize", 24), {"activation": 1.0}, 1.0)
    second = sheets()
    assert len(second) == 2 and len(first.items() & second.items()) == 1  # the full one is kept, the other has one more on it
    assert (files / "mine.txt").is_file()


def test_a_missing_picture_is_said_in_its_place_and_looked_for_again(tmp_path):
    store = build(tmp_path / "store", 5, NAMES, size=24)
    lost = store.records(status="done")[2].picture
    whole = lost.read_bytes()
    lost.write_bytes(b"\x89PNG broken")
    page = write_report(store, tmp_path / "page.html", gallery_from=1)
    missing, sheets = (catalogue(page)["records"][k] for k in ("missing", "sheets"))
    assert list(missing) == ["2"] and "cannot be read" in missing["2"]
    assert catalogue(page)["records"]["links"][2] == ""
    lost.write_bytes(whole)
    records = catalogue(write_report(store, page, gallery_from=1))["records"]
    assert records["missing"] == {} and records["sheets"] != sheets  # drawn again, with the picture


def test_the_links_of_the_gallery_lead_to_the_exact_pictures_wherever_the_page_is(store, tmp_path):
    (tmp_path / "else where").mkdir()
    page = write_report(store, tmp_path / "else where" / "page.html", gallery_from=1)
    links = catalogue(page)["records"]["links"]
    rows = store.records(status="done")
    assert len(links) == COUNT and all((page.parent / unquote(link)).samefile(r.picture) for link, r in zip(links, rows, strict=True))


def test_copied_pictures_let_the_page_leave_the_store(tmp_path):
    store = build(tmp_path / "store", 12, NAMES, size=24)
    (tmp_path / "site").mkdir()
    page = write_report(store, tmp_path / "site" / "index.html", gallery_from=1, copy=True)
    wanted = [r.picture.read_bytes() for r in store.records(status="done")]
    shutil.rmtree(store.path)
    moved = (tmp_path / "site").rename(tmp_path / "moved")
    links = catalogue(moved / page.name)["records"]["links"]
    assert [(moved / link).read_bytes() for link in links] == wanted
    full = [b["data-full"] for b in Page((moved / page.name).read_text(encoding="utf-8")).all("button") if b.get("data-full")]
    assert full and all((moved / unquote(link)).is_file() for link in full)


def test_a_picture_that_leads_out_of_the_store_is_neither_shown_nor_copied(tmp_path):
    store = build(tmp_path / "store", 3, NAMES, size=24)
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    picture = store.records(status="done")[1].picture
    picture.unlink()
    picture.symlink_to(tmp_path / "secret.png")
    records = catalogue(write_report(store, tmp_path / "page.html", gallery_from=1, copy=True))["records"]
    assert records["links"][1] == "" and records["links"][0] and records["links"][2]
    assert "leads out of the store" in records["missing"]["1"]


def test_a_report_can_be_written_while_the_store_is_being_written(tmp_path):
    store = build(tmp_path / "store", 20, NAMES, size=24)
    stop = threading.Event()

    def more():
        other = Store.open(store.path)
        for unit in range(1000, 3000):
            if stop.is_set():
                return
            job = Job(experiment="atlas", task="maximize", network="squeezenet1_1", layer="pool10", unit=unit, C=1e4)
            other.save(job, _result("maximize", 24), {"activation": 1.0}, 1.0)

    writer = threading.Thread(target=more)
    writer.start()
    try:
        counts = []
        for _ in range(3):
            page = write_report(Store.open(store.path, create=False), tmp_path / "page.html", gallery_from=1)
            counts.append(len(catalogue(page)["ids"]))
    finally:
        stop.set()
        writer.join()
    assert 20 <= counts[0] <= counts[1] <= counts[2] > 20


@given(st.lists(st.one_of(st.none(), st.integers(-5, 5), st.floats(width=16), st.sampled_from(["a", "<b>"])), min_size=1, max_size=30))
def test_a_column_gives_every_value_back(values):
    packed = Column("x", values).packed()
    json.dumps(packed, allow_nan=False)
    if "constant" in packed:
        back = [packed["constant"]] * len(values)
    elif packed["kind"] == "text":
        back = [packed["values"][c] for c in packed["codes"]]
    else:
        back = packed["numbers"]
    for value, got in zip(values, back, strict=True):
        if packed["kind"] == "text" or value is None:
            assert (got is None) == (value is None)
        elif value != value or abs(value) == float("inf"):
            assert got is None
        else:
            assert got == pytest.approx(value, rel=5e-5)


def test_numbers_have_five_digits():
    assert Column("x", [0.1234567, None, 1e-7, 12]).packed()["numbers"] == [0.12346, None, 1e-7, 12]


@given(st.lists(st.text("abc", min_size=64, max_size=64), min_size=1, max_size=40, unique=True))
def test_identities_are_short_and_no_two_are_alike(keys):
    found = identities(keys)
    assert len(set(found)) == len(keys) and all(k.startswith(i) and len(i) >= 8 for k, i in zip(keys, found, strict=True))


def test_words_that_come_in_an_order_keep_it_and_come_once():
    assert encode(["b", "c", "b"], ["a", "b", "a", "b", "c"]) == {"values": ["b", "c"], "codes": [0, 1, 0]}


def test_captions_say_what_differs_and_nothing_twice(store):
    rows = store.records(status="done")
    first, second = captions(rows)
    classes = [(a, b) for a, b, r in zip(first, second, rows, strict=True) if r.config["layer"] == "pool10"]
    assert classes[1] == ("tree frog (1)", "pool10")  # not its unit, which is in its name
    assert ("fire2", "unit 0") in zip(first, second, strict=True)


def test_a_packed_trace_is_the_short_one_to_half_a_pixel():
    trace = {"total": torch.logspace(3, -2, 200)[:, None], "loss": torch.rand(200, 1) + 0.1}
    steps, terms, low, high, packed = pack_trace(trace)
    short = short_trace(trace, 40)
    heights = torch.frombuffer(bytearray(base64.b64decode(packed)), dtype=torch.uint8).double().reshape(len(terms), -1)
    values = low * (high / low) ** (heights / 254)
    wanted = torch.tensor([line for _, line in short["lines"]], dtype=torch.float64)
    assert steps == short["steps"] and terms == ["total", "C·loss"]
    assert (values.log() - wanted.log()).abs().max() < (torch.tensor(high / low)).log() / 254 / 2 * 1.001
    assert pack_trace({"total": torch.tensor([[-1.0], [float("nan")], [3.0]])}) == ([1, 2, 3], ["total"], -1.0, 3.0, "AP/+")
    assert pack_trace({}) is None


def test_data_cannot_end_their_element():
    assert "<" not in script_json({BREAKOUT: HOSTILE}) and json.loads(script_json({BREAKOUT: HOSTILE})) == {BREAKOUT: HOSTILE}


def test_two_solvers_are_paired_by_what_else_differs():
    runs = [[{"task": "invert", "layer": x, "C": c, "solver": s} for x in ("a", "b") for c in (1, 20)] for s in ("fast", "paper")]
    assert pair(*runs).pairs == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert pair(runs[0], runs[1][1:]).pairs == [(1, 0), (2, 1), (3, 2), (0, None)]


def test_two_networks_are_paired_by_class_though_their_layers_have_other_names():
    a = [{"network": "x", "layer": "pool10", "unit": k, "name": f"n ({k})"} for k in range(3)]
    b = [{"network": "y", "layer": "fc", "unit": k, "name": f"n ({k})"} for k in (2, 1, 7)]
    a.append({"network": "x", "layer": "fire9", "unit": 100, "name": "fire9 100"})
    b.append({"network": "y", "layer": "conv5", "unit": 200, "name": "conv5 200"})
    found = pair(a, b)
    assert found.whole == [(1, 1), (2, 0)] and found.alike == 0 and "layer" not in found.settings


def test_what_cannot_be_told_apart_is_not_paired_by_guess():
    a = [{"unit": k, "layer": f"conv{j}"} for k in range(2) for j in (1, 2)]
    b = [{"unit": k, "layer": f"fire{j}"} for k in range(2) for j in (1, 2)]
    found = pair(a, b)
    assert found.whole == [] and found.alike == 8 and len(found.pairs) == 8
    assert pair(a, b, ["unit"]).whole == [] and pair([{"C": 1}], [{"C": 1.0}], ["C"]).whole == [(0, 0)]
    with pytest.raises(InputError, match=r"no setting 'layers'|setting 'layers'"):
        pair(a, b, ["layers"])


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2)), max_size=9),
    st.lists(st.tuples(st.sampled_from("bc"), st.integers(0, 2)), max_size=9),
)
def test_every_result_stands_in_exactly_one_pair(a, b):
    found = pair(*([{"layer": x, "unit": k} for x, k in side] for side in (a, b)))
    assert sorted(i for i, _ in found.pairs if i is not None) == list(range(len(a)))
    assert sorted(j for _, j in found.pairs if j is not None) == list(range(len(b)))
    assert all(all((("layer", "unit")[k] not in found.settings) or a[i][k] == b[j][k] for k in (0, 1)) for i, j in found.whole)


def variant(path, count, change):
    """Another run: the same units, each with another number."""
    store = build(path / "plain", count, NAMES, size=24)
    other = Store.open(path / "changed")
    for r in store.records(status="done")[: count - 4]:
        settings = {k: r.config[k] for k in ("experiment", "task", "network", "layer", "unit", "name", "C") if r.config.get(k) is not None}
        other.save(Job(**settings, solver="paper"), _result("maximize", 24), r.metrics | {"error": r.metrics["error"] + change}, 1.0)
    return store, other


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    first, second = variant(folder, 40, 0.125)
    return write_comparison(first, second, folder / "compare.html")


def test_a_comparison_tells_the_mean_change_and_what_differs(compared):
    text = compared.read_text(encoding="utf-8")
    row = re.search(r'<th scope="row">error</th>(.*?)</tr>', text)[1]
    assert re.findall(r">([^<]+)</td>", row)[2:] == ["12.5%", "12.5% to 12.5%", "36"]
    assert "36 results of the two belong together" in text and "4 stand alone" in text
    assert re.search(r'<th scope="row">solver</th><td class="long">fast</td><td class="long">paper</td>', text)
    columns = {c["name"]: c for c in catalogue(compared)["columns"]}
    assert columns["error.change"]["numbers"][:36] == pytest.approx([0.125] * 36) and columns["error.change"]["numbers"][36:] == [None] * 4


def test_a_setting_is_named_once_when_pairing():
    runs = [{"task": t, "iterations": n} for t in ("invert", "maximize") for n in (10, 20)]
    assert pair(runs, runs).settings == ["task", "iterations"]
    assert len(set(SETTINGS)) == len(SETTINGS)


def test_stores_with_nothing_in_common_are_refused_with_what_to_do(store, tmp_path):
    other = Store.open(tmp_path / "other")
    other.save(Job(experiment="e", task="maximize", network="n", layer="l", unit="x", C=1.0), _result("maximize", 24), {}, 1.0)
    with pytest.raises(InputError, match=r"--by"):
        write_comparison(store, other, tmp_path / "page.html", by=["unit"])
    assert not (tmp_path / "page.html").exists()


def test_the_command_compares_and_copies(tmp_path):
    first, second = variant(tmp_path, 10, 0.1)
    done = CliRunner().invoke(app, ["report", str(first.path), "--compare", str(second.path), "--by", "layer,unit", "--copy", "-q"])
    assert done.exit_code == 0, done.output
    assert (first.path / "compare-changed.html").as_uri() in done.output
    assert (first.path / "compare-changed_files").is_dir()
    for wrong in (["--by", "layer"], ["--compare", str(second.path), "--figures", str(tmp_path / "f")]):
        assert CliRunner().invoke(app, ["report", str(first.path), *wrong, "-q"]).exit_code == 2


# In a real Chromium.
def status(tab):
    return tab.locator("#gallery-status").inner_text()


def cells(tab):
    return tab.locator("#gallery-grid .cell")


def test_the_search_finds_a_class_by_its_name(visit, page):
    tab = visit(page)
    tab.locator("#jump").press_sequentially("tree frog")
    assert status(tab) == "1 of 300"
    assert cells(tab).locator(".one").all_inner_texts() == ["tree frog (1)"]
    assert tab.evaluate("document.activeElement.id") == "gallery-query"
    assert cells(tab).first.is_visible()
    tab.wait_for_function("() => location.hash === '#q=tree%20frog'")


QUERIES = [
    ("layer:fire2", lambda r: r["layer"] == "fire2"),
    ("layer:fire*", lambda r: r["layer"] != "pool10"),
    ("layer:fire", lambda r: False),
    ("-layer:pool10 unit:0..2", lambda r: r["layer"] != "pool10" and r["unit"] <= 2),
    ("unit:7", lambda r: r["unit"] == 7),
    ("error<0.3 layer:pool10", lambda r: r["error"] < 0.3 and r["layer"] == "pool10"),
    ("error>=30% ERROR<=0.5", lambda r: 0.3 <= r["error"] <= 0.5),
    ('"thing 1"', lambda r: r.get("name", "").startswith("thing 1")),
    ("name:thing class:12", lambda r: re.search(r"\b12\b", r.get("name", "")) and "thing" in r["name"]),
    ("alert(1)", lambda r: HOSTILE in r.get("name", "")),
    ("layer: ", lambda r: True),
]


def test_a_search_finds_what_a_plain_filter_finds(visit, store, page):
    rows = [r.config | r.metrics for r in store.records(status="done")]
    tab = visit(page, "#results")
    for text, fits in QUERIES:
        wanted = sum(bool(fits({k: v for k, v in r.items() if v is not None})) for r in rows)
        tab.locator("#gallery-query").fill(text)
        assert status(tab).split()[0] == str(wanted), text
        assert tab.locator("#gallery-problem").inner_text() == "", text


def test_a_search_that_makes_no_sense_says_so_and_finds_nothing(visit, page):
    tab = visit(page, "#results")
    for text, said in (("lair:fire2", "nothing named “lair”"), ("error<x", "“x” is none"), ("layer<3", "has words, not numbers")):
        tab.locator("#gallery-query").fill(text)
        assert said in tab.locator("#gallery-problem").inner_text() and status(tab) == "0 of 300", text
        assert tab.locator("#gallery-none").is_visible(), text


def test_a_link_restores_query_order_and_view(visit, page):
    tab = visit(page, "#results")
    tab.locator("#gallery-query").fill("layer:pool10")
    tab.locator("#gallery-sort").select_option("error")
    tab.locator("#gallery-direction").click()
    tab.locator("#gallery-table").click()
    tab.wait_for_function("() => location.hash.includes('view=table')")
    again = visit(page, tab.evaluate("location.hash"))
    assert status(again) == "150 of 300" and again.locator("#gallery-rows").is_visible()
    heads = again.locator("#gallery-rows thead th").all_inner_texts()
    errors = again.locator(f"#gallery-rows tbody td:nth-child({heads.index('error') + 1})").all_inner_texts()
    numbers = [float(e.rstrip("%")) for e in errors]
    assert len(numbers) > 20 and numbers == sorted(numbers, reverse=True)
    assert again.locator("#gallery-query").input_value() == "layer:pool10"


def test_a_link_to_one_result_enlarges_it_and_one_to_none_says_so(visit, store, page):
    row = next(r for r in store.records(status="done") if r.config.get("name", "").startswith("tree frog"))
    tab = visit(page, f"#show={row.key[:8]}")
    assert tab.locator("#viewer").evaluate("d => d.open") and tab.locator("#viewer-title").inner_text().startswith("tree frog (1)")
    tab.wait_for_function("() => document.querySelector('#viewer-picture img').naturalWidth === 24")  # the exact file
    facts = dict(zip(tab.locator("#viewer-facts dt").all_inner_texts(), tab.locator("#viewer-facts dd").all_inner_texts(), strict=True))
    assert facts["unit"] == "1" and facts["error"] == f"{row.metrics['error']:.1%}"
    assert tab.locator("#viewer-trace path.line").count() == 8
    tab.keyboard.press("ArrowRight")
    tab.wait_for_function("(id) => !location.hash.includes(id)", arg=row.key[:8])
    tab.keyboard.press("Escape")
    tab.wait_for_function("() => !location.hash.includes('show')")
    assert tab.evaluate("document.activeElement.className") == "cell"
    assert "no result “00000000”" in visit(page, "#show=00000000").locator("#gallery-problem").inner_text()


def test_only_what_is_in_view_is_in_the_document(visit, page):
    tab = visit(page, "#results", width=700)
    seen, most = set(), 0
    for _ in range(200):
        places = cells(tab).evaluate_all("all => all.map((c) => Number(c.dataset.place))")
        most, seen = max(most, len(places)), seen | set(places)
        before = tab.evaluate("scrollY")
        tab.evaluate("scrollBy({top: 500, behavior: 'instant'})")
        tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        if tab.evaluate("scrollY") == before:
            break
    assert seen == set(range(COUNT)) and most < 100
    tab.locator("#gallery-table").click()
    assert tab.locator("#gallery-rows tbody tr").count() < 80
    assert tab.locator("#gallery-rows table").get_attribute("aria-rowcount") == str(COUNT + 1)


def test_a_thumbnail_shows_its_own_picture(visit, store, page):
    """The mean colours of a cell on the screen against those of its file."""
    tab = visit(page, "#sort=-error")
    tab.wait_for_timeout(400)
    ranked = sorted(store.records(status="done"), key=lambda r: -r.metrics["error"])
    for place in (0, 4, 11):
        thumb = cells(tab).nth(place).locator(".thumb")
        with PIL.Image.open(io.BytesIO(thumb.screenshot())) as shown, PIL.Image.open(ranked[place].picture) as file:
            a, b = (i.convert("RGB").resize((3, 3), PIL.Image.Resampling.BOX).tobytes() for i in (shown, file))
        assert max(abs(x - y) for x, y in zip(a, b, strict=True)) < 12, place


def test_the_gallery_works_by_keyboard_alone(visit, page):
    tab = visit(page)
    tab.keyboard.press("/")
    assert tab.evaluate("document.activeElement.id") == "gallery-query"
    cells(tab).first.focus()
    across = tab.evaluate("new Set([...document.querySelectorAll('.item')].map((n) => n.getBoundingClientRect().left)).size")
    place = "Number(document.activeElement.dataset.place)"
    for key, wanted in (
        ("ArrowRight", 1),
        ("ArrowDown", 1 + across),
        ("ArrowLeft", across),
        ("End", COUNT - 1),
        ("Home", 0),
        ("ArrowUp", 0),
    ):
        tab.keyboard.press(key)
        assert tab.evaluate(place) == wanted, key
        assert tab.evaluate(
            "(() => { const r = document.activeElement.getBoundingClientRect(); return r.top >= 0 && r.bottom <= innerHeight; })()"
        )
    tab.keyboard.press("End")
    tab.keyboard.press("Enter")
    assert tab.locator("#viewer-place").inner_text() == "300 of 300"
    tab.keyboard.press("Escape")
    assert tab.evaluate(place) == COUNT - 1
    assert tab.locator("#gallery-grid [tabindex='0']").count() == 1  # one stop in the order of tabs


def test_a_hostile_name_is_text_wherever_it_is_shown(visit, page):
    tab = visit(page, "#q=alert(1)")
    assert HOSTILE in cells(tab).first.locator(".one").inner_text()
    cells(tab).first.click()
    assert tab.locator("#viewer-title").inner_text().startswith(HOSTILE)
    tab.keyboard.press("Escape")
    tab.locator("#gallery-table").click()
    assert HOSTILE in tab.locator("#gallery-rows tbody button").first.inner_text()
    assert tab.locator("img[src='x']").count() == 0 and tab.locator("#gallery-grid script").count() == 0


@pytest.mark.parametrize("width", slow([360, 820, 1400], "820"))
def test_the_gallery_never_scrolls_sideways(visit, page, compared, width):
    for path in (page, compared):
        tab = visit(path, "#results", width=width)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        tab.locator("#gallery-table").click()
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_the_lists_beside_the_search_write_the_query(visit, page):
    tab = visit(page, "#results")
    tab.locator("[data-facet=layer]").select_option("fire3")
    assert tab.locator("#gallery-query").input_value() == "layer:fire3"
    tab.locator("#gallery-query").fill("layer:fire4 unit:3")
    assert tab.locator("[data-facet=layer]").input_value() == "fire4"
    tab.locator("[data-facet=layer]").select_option("")
    assert tab.locator("#gallery-query").input_value() == "unit:3"


def test_an_experiments_sample_leads_to_all_of_it_in_the_gallery(visit, page):
    tab = visit(page)
    tab.locator("section.part a[href^='#q=']").first.click()
    tab.wait_for_function("() => document.getElementById('gallery-status').innerText === '150 of 300'")
    assert tab.locator("#gallery-query").is_visible()


def test_a_comparison_shows_pairs_side_by_side_and_sorts_by_the_change(visit, compared):
    tab = visit(compared, "#q=in%3Aboth&sort=error.B")
    assert status(tab) == "36 of 40"
    pairs = cells(tab).first
    assert pairs.locator(".thumb:not(.lost)").count() == 2
    a, b = (float(t.rstrip("%")) for t in pairs.locator(".numbers span").all_inner_texts())
    assert b - a == pytest.approx(12.5, abs=0.11)
    written = "(spans) => spans.map((s) => getComputedStyle(s, '::before').content.slice(1, 2))"
    assert pairs.locator(".numbers span").evaluate_all(written) == ["A", "B"]
    pairs.click()
    assert tab.locator("#viewer-picture figcaption").inner_text().startswith("A: plain")
    assert tab.locator("#viewer-other figcaption").inner_text().startswith("B: changed")
    tab.wait_for_function(
        "() => [...document.querySelectorAll('#viewer-picture img, #viewer-other img')].every((i) => i.naturalWidth === 24)"
    )
    facts = dict(zip(tab.locator("#viewer-facts dt").all_inner_texts(), tab.locator("#viewer-facts dd").all_inner_texts(), strict=True))
    assert (facts["error.change"], facts["solver.A"], facts["solver.B"]) == ("+12.5%", "fast", "paper")
    tab.keyboard.press("Escape")
    tab.locator("#gallery-query").fill('in:"only A"')
    assert status(tab) == "4 of 40" and cells(tab).first.locator(".lost").inner_text() == "no partner"


@pytest.mark.slow
def test_paper_has_no_more_than_the_first_of_many(visit, tmp_path):
    store = build(tmp_path / "store", 510, NAMES, size=16)
    tab = visit(write_report(store, tmp_path / "page.html"))
    tab.emulate_media(media="print")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert cells(tab).count() == 500 and "first 500 of 510" in tab.locator("#gallery-printed").inner_text()
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    tab.emulate_media(media="screen")
    assert cells(tab).count() < 200 and not tab.locator("#gallery-printed").is_visible()


@pytest.mark.parametrize("which", slow(["gallery", "table", "comparison"], "table"))
def test_axe_finds_nothing_grave_and_tab_alone_reaches_everything(visit, page, compared, which):
    tab = visit(compared if which == "comparison" else page, "#view=table" if which == "table" else "#results")
    assert everywhere(tab) == {}
    stops, missed, unmarked = walk(tab)
    assert stops > 10 and missed == [] and unmarked == []


def test_it_all_has_names_for_a_screen_reader(visit, page, compared):
    for path in (page, compared):
        tab = visit(path, "#results")
        unnamed = tab.evaluate("""[...document.querySelectorAll('button, a, input, select, img, [role=list]')].filter((e) => !(
          e.textContent.trim() || e.getAttribute('aria-label') || e.alt || (e.labels && e.labels.length) || e.closest('dialog')
        )).map((e) => e.outerHTML)""")
        assert unnamed == []
        ids = tab.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
        assert len(ids) == len(set(ids))


def test_a_page_with_copied_pictures_works_from_a_web_host(browser, tmp_path):
    store = build(tmp_path / "store", 40, NAMES, size=24)
    (tmp_path / "site").mkdir()
    write_report(store, tmp_path / "site" / "index.html", gallery_from=1, copy=True)
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda self, *args: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=tmp_path / "site")) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        heard, answers = [], []
        tab = browser.new_page()
        tab.on("console", lambda message: heard.append(message.text))
        tab.on("response", lambda response: answers.append((response.url.rpartition("/")[2], response.status)))
        tab.goto(f"http://127.0.0.1:{server.server_port}/#q=tree%20frog")
        cells(tab).first.click()
        tab.wait_for_function("() => document.querySelector('#viewer-picture img').naturalWidth === 24")
        tab.close()
        server.shutdown()
    assert heard == [] and {s for _, s in answers} == {200}
    assert sum(name.endswith(".webp") for name, _ in answers) >= 1 and sum(name.endswith(".png") for name, _ in answers) == 1


@pytest.mark.slow
def test_the_benchmark_measures_what_it_says(browser, page):
    found = measure(browser.browser_type, page, 1, "tree frog")
    assert found["status"] == "1 of 300" and len(found["frames"]) == 240 and len(found["found"]) == len("tree frog")
    assert 0 < found["opened"][0]["scripts done"] <= found["opened"][0]["load"]
