"""The page in a real Chromium: it loads, sorts, enlarges, keeps the focus, and asks the network for nothing."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from preimage.report import write_report

from .accessible import everywhere, grave_findings, walk
from .marks import slow
from .report_store import build_store
from .test_report import BREAKOUT, HOSTILE


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build_store(tmp_path_factory.mktemp("browser") / "store", names=("astronaut", HOSTILE + BREAKOUT))


@pytest.fixture(scope="module", params=["inline", "thumbnails"])
def path(request, store):
    limit = 2**30 if request.param == "inline" else 0
    return write_report(store, store.path / f"{request.param}.html", inline_limit=limit)


def focused(page):
    return page.evaluate("document.activeElement.id || document.activeElement.getAttribute('aria-label') || document.activeElement.tagName")


def viewer(page):
    return SimpleNamespace(
        open=page.evaluate("document.getElementById('viewer').open"),
        title=page.locator("#viewer-title").inner_text(),
        place=page.locator("#viewer-place").inner_text(),
        original=page.locator("#viewer-original").is_visible(),
        width=page.evaluate("document.querySelector('#viewer-picture img').naturalWidth"),
    )


def test_every_picture_loads(visit, path):
    page = visit(path)
    widths = page.evaluate("Promise.all([...document.querySelectorAll('main img')].map(i => i.decode().then(() => i.naturalWidth)))")
    assert len(widths) == 2 * 9 + 1 + 2 + 1
    assert min(widths) > 0


def test_a_click_enlarges_a_picture_beside_its_original_and_escape_gives_the_focus_back(visit, path):
    page = visit(path)
    buttons = page.locator("button.picture")
    second = buttons.nth(2)
    label = second.get_attribute("aria-label")
    second.click()
    page.wait_for_function("document.querySelector('#viewer-picture img').complete")
    shown = viewer(page)
    assert shown.open and shown.original and shown.width == 32  # the exact file, not its thumbnail
    assert label == f"Enlarge: {shown.title}" and shown.place == f"3 of {buttons.count()}"
    assert page.locator("#viewer-facts dt").all_inner_texts()[:2] == ["network", "weights"]
    assert page.locator("#viewer-trace path.line").count() == 6  # three lines, each in the drawing and in its legend
    page.keyboard.press("Escape")
    assert not viewer(page).open
    assert focused(page) == label


def test_the_enlarged_view_works_by_keyboard_alone_and_keeps_the_focus(visit, path):
    page = visit(path)
    page.locator("button.picture").first.focus()
    page.keyboard.press("Enter")
    first = viewer(page)
    assert first.open and first.place.startswith("1 of")
    page.keyboard.press("ArrowRight")
    assert viewer(page).place.startswith("2 of")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    total = first.place.split()[-1]
    assert viewer(page).place == f"{total} of {total}"
    page.keyboard.press("Home")
    assert viewer(page).place == first.place
    inside = "document.activeElement === document.body || document.getElementById('viewer').contains(document.activeElement)"
    for _ in range(8):
        page.keyboard.press("Tab")
        assert page.evaluate(inside)
    page.locator("#viewer-close").focus()
    page.keyboard.press("Enter")
    assert not viewer(page).open
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    label = page.locator("button.picture").nth(1).get_attribute("aria-label")  # where one has come to
    page.wait_for_function("label => document.activeElement.getAttribute('aria-label') === label", arg=label, timeout=60_000)


def column(page, name):
    heads = [h.strip() for h in page.locator("#table thead th").all_inner_texts()]
    return page.locator(f"#table tbody tr:visible td:nth-child({heads.index(name) + 1})").all_inner_texts()


def test_the_table_sorts_by_mouse_and_by_keyboard_numbers_as_numbers(visit, path):
    page = visit(path)
    head = page.locator("#table thead th", has_text=re.compile(r"^C"))
    before = column(page, "C")
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, "C") == sorted(before, key=float) != sorted(before)
    head.locator("button").press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(page, "C") == sorted(before, key=float, reverse=True)
    other = page.locator("#table thead th", has_text=re.compile(r"^error"))
    other.locator("button").press("Space")
    values = column(page, "error")
    assert values[-2:] == ["–", "–"]  # what has no number stands last
    numbers = [float(v.rstrip("%")) for v in values[:-2]]
    assert numbers == sorted(numbers) and head.get_attribute("aria-sort") == "none"
    other.locator("button").press("Space")
    assert column(page, "error")[:-2] == values[-3::-1] and column(page, "error")[-2:] == ["–", "–"]


def test_the_filter_keeps_the_rows_that_hold_every_word(visit, path):
    page = visit(path)
    page.locator("#table-filter").fill("FIRE9 astro")
    assert set(column(page, "layer")) == {"fire9"} and page.locator("#table-count").inner_text() == "3 of 20 rows"
    page.locator("#table-filter").fill("")
    assert len(column(page, "layer")) == 20


def test_dark_and_light_follow_the_system_and_the_button(visit, path):
    def paper(page):
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    light, dark = paper(visit(path)), paper(visit(path, scheme="dark"))
    assert light != dark
    page = visit(path)
    button = page.locator("#theme")
    button.click()
    assert (paper(page), button.get_attribute("aria-label")) == (light, "Colours: light")
    button.click()
    assert (paper(page), button.get_attribute("aria-label")) == (dark, "Colours: dark")
    button.click()
    assert button.get_attribute("aria-label") == "Colours: as the system"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_the_paper(visit, path, scheme):
    """Contrast of at least 4.5 (WCAG AA) for every colour that words have."""
    page = visit(path, scheme=scheme)
    contrast = """() => {
      const linear = (x) => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4;
      const lum = (c) => { const v = c.match(/[\\d.]+/g).slice(0, 3).map((x) => linear(x / 255));
        return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
      const paper = lum(getComputedStyle(document.body).backgroundColor);
      return ["h1", "p.lead", ".facts dt", ".contents a", "figcaption", "th[scope=row]", "summary", ".note a"].map((s) => {
        const a = lum(getComputedStyle(document.querySelector(s)).color);
        return [s, (Math.max(a, paper) + .05) / (Math.min(a, paper) + .05)]; });
    }"""
    found = page.evaluate(contrast)
    assert len(found) == 8 and all(ratio >= 4.5 for _, ratio in found), found


@pytest.mark.parametrize("width", [360, 820, 1400])
def test_the_page_never_scrolls_sideways(visit, path, width):
    page = visit(path, width=width)
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_contents_lead_to_every_part_and_show_where_one_is(visit, path):
    page = visit(path)
    links = page.locator(".contents a")
    arrived = """(k) => document.querySelectorAll('.contents a')[k].hasAttribute('aria-current')
      || scrollY + innerHeight >= document.documentElement.scrollHeight - 2"""
    for k in range(links.count()):
        link = links.nth(k)
        target = link.get_attribute("href")
        assert page.locator(target).count() == 1
        link.click()
        page.wait_for_function(arrived, arg=k)
    assert page.locator(".contents a[aria-current]").count() == 1


def test_paper_shows_the_pictures_and_hides_what_cannot_be_used_there(visit, path):
    page = visit(path)
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not page.locator("#theme").is_visible() and not page.locator(".contents").is_visible()
    assert "enlarge" not in page.locator("main").inner_text()
    assert page.locator("table.grid img").first.is_visible() and page.locator(".minis svg").first.is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("main details:not([open])").count() > 0
    assert page.pdf().startswith(b"%PDF")


UNFOLD = "for (const part of document.querySelectorAll('main details')) part.open = true"


def test_axe_finds_nothing_grave_in_either_colour_on_a_telephone_or_a_desk(visit, store):
    page = visit(write_report(store, store.path / "tried.html"))
    page.evaluate(UNFOLD)
    assert everywhere(page) == {}
    page.locator("button.picture").nth(2).click()
    assert grave_findings(page) == []  # the enlarged view, in the dark


@pytest.mark.parametrize("width", slow([320, 1280], "1280"))
def test_tab_alone_reaches_all_that_can_be_used_and_shows_where_one_is(visit, store, width):
    page = visit(write_report(store, store.path / "walked.html"), width=width)
    page.evaluate(UNFOLD)
    stops, missed, unmarked = walk(page)
    assert stops > 40 and missed == [] and unmarked == []


def test_what_scrolls_sideways_is_a_stop_and_what_does_not_is_none(visit, store):
    path = write_report(store, store.path / "scrolled.html")
    scrolling = """[...document.querySelectorAll('.plot, main .scroll')].filter(
      (e) => e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight)"""
    for width, some in ((320, True), (1280, False)):
        page = visit(path, width=width)
        page.evaluate(UNFOLD)
        page.wait_for_function(f"{scrolling}.every((e) => e.tabIndex === 0)")
        assert page.evaluate(f"{scrolling}.some((e) => e.matches('.plot'))") == some
        page.wait_for_function(
            "[...document.querySelectorAll('.plot')].every((e) => (e.scrollWidth > e.clientWidth) === (e.tabIndex === 0))"
        )


def test_it_all_has_names_for_a_screen_reader(visit, path):
    page = visit(path)
    unnamed = page.evaluate("""[...document.querySelectorAll('button, a, input, img, svg[role=img]')].filter((e) => !(
      e.textContent.trim() || e.getAttribute('aria-label') || e.alt || (e.labels && e.labels.length) || e.closest('dialog')
    )).map((e) => e.outerHTML)""")
    assert unnamed == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
