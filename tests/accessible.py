"""Whether a page can be used without a mouse and without seeing it well: axe-core's findings, and a walk through the page by Tab."""

from __future__ import annotations

from typing import Any

import pytest

WIDTHS = (320, 1280)
EDGES = (320, 2560)  # between them nothing has to be scrolled sideways
GRAVE = ("serious", "critical")
MOST = 2000  # stops of a page, so that a trap ends the walk

WATCH = """() => {
  window.stopsSeen = new Set();
  document.addEventListener("focusin", (e) => window.stopsSeen.add(e.target));
  document.activeElement?.blur?.();
  for (const e of document.querySelectorAll("[data-unmarked]")) delete e.dataset.unmarked;
}"""
STOP = """() => {
  const e = document.activeElement;
  if (e === document.body || e === document.documentElement) return "end";
  if ("unmarked" in e.dataset) return "again";
  const marked = (s) => s.outlineStyle !== "none" || s.boxShadow !== "none";
  const [own, around] = [e, e.parentElement ?? e].map((one) => getComputedStyle(one));
  e.dataset.unmarked = String(!(marked(own) || marked(around)));
  return "new";
}"""
MISSED = """() => {
  const shown = (e) => e.checkVisibility({ visibilityProperty: true }) && e.getClientRects().length > 0;
  const kinds = "a[href], button, input, select, textarea, summary, [tabindex], [role=button], [role=option], [contenteditable]";
  const named = (e) => e.outerHTML.slice(0, 120);
  const seen = [...window.stopsSeen];
  const group = (e) => e.closest("[role=list], [role=listbox], [role=grid], [role=radiogroup], fieldset, tbody");
  return [...document.querySelectorAll(kinds)].filter((e) => shown(e) && !e.disabled && !window.stopsSeen.has(e)).filter((e) => {
    const list = e.closest("[role=listbox][id]"); // its options are gone through by the arrows, from what opens it
    if (list && seen.some((s) => s.getAttribute("aria-controls") === list.id)) return false;
    if (e.type === "radio") return !seen.some((s) => s.type === "radio" && s.name === e.name); // arrows go on inside a group
    const usable = e.matches("a, button, input, select, textarea, [role=option]");
    if (e.tabIndex < 0 && usable) return !(group(e) && seen.some((s) => group(e).contains(s)));
    return e.tabIndex >= 0;
  }).map(named);
}"""
UNMARKED = """() => [...window.stopsSeen].filter((e) => e.dataset.unmarked === "true").map(
  (e) => `${e.parentElement?.closest("[id]")?.id ?? ""}: ${e.outerHTML.slice(0, 120)}`
)"""


def grave_findings(page: Any, *rules: str) -> list[str]:
    """What axe-core calls serious or critical on the page as it is now, by all rules or some: the rule, and the first places."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="the pages are tried with axe-core: make setup")
    options = {"resultTypes": ["violations"]} | ({"runOnly": list(rules)} if rules else {})
    return [
        f"{v['id']} ({v['impact']}): {v['help']}: " + " | ".join(str(node["html"])[:160] for node in v["nodes"][:3])
        for v in axe.Axe().run(page, options=options).response["violations"]
        if v["impact"] in GRAVE
    ]


def everywhere(page: Any) -> dict[str, list[str]]:
    """The grave findings of an open page at both widths and in both colours, which change contrasts alone; only where there are some.

    A page that is wider than its window, narrow or wide, is one of them.
    """
    found = {}
    for width in EDGES:
        page.set_viewport_size({"width": width, "height": 900})
        found[f"{width} px"] = too_wide(page, width)
    for scheme, rules in (("light", ()), ("dark", ("color-contrast",))):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_function("document.getAnimations().every((a) => a.playState !== 'running')")  # colours that fade
            found[f"{scheme}, {width} px"] = grave_findings(page, *rules)
    return {where: what for where, what in found.items() if what}


def too_wide(page: Any, width: int) -> list[str]:
    """What would have to be scrolled sideways with the whole page: nothing, or how wide it is."""
    is_ = page.evaluate("document.documentElement.scrollWidth")
    return [f"the page is {is_} px wide"] if is_ > width else []


def walk(page: Any) -> tuple[int, list[str], list[str]]:
    """Go through the page by Tab: how many stops it has, what can be used and was not reached, and stops that do not show the focus."""
    page.evaluate(WATCH)
    stops = ends = 0  # ends of the document, from where Tab goes on at its beginning
    while stops < MOST and ends < 3:
        page.keyboard.press("Tab")
        stop = page.evaluate(STOP)
        if stop == "again":
            break
        ends += stop == "end"
        stops += stop == "new"
    return stops, page.evaluate(MISSED), page.evaluate(UNMARKED)
