"""The page of a large store: how long it takes to write and to open, how it scrolls and searches in Chromium, from disk.

python -m benchmarks.gallery [--results 10000] [--store DIR] [--json FILE]

Without --store one is made through `Store.save`, of smooth random pictures of 64x64: classes by name and units of eight layers; nothing is
optimised. Times of opening are the browser's own since navigation: the first paint, and the end of all scripts, when the search answers.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from preimage.report import write_report
from preimage.studies.jobs import Job
from preimage.studies.store import Store
from preimage.tasks.result import Result

from .common import quartiles, write

LAYERS = [f"fire{k}" for k in range(2, 10)]
FRAMES = """() => new Promise((done) => {
  const times = [];
  let last = 0, y = document.getElementById("gallery-grid").getBoundingClientRect().top + scrollY;
  const step = (now) => {
    if (last) times.push(now - last);
    last = now;
    y += 120;
    scrollTo(0, y);
    if (times.length < 240) requestAnimationFrame(step); else done(times);
  };
  requestAnimationFrame(step);
})"""
SEARCH = """(text) => new Promise((done) => {
  const box = document.getElementById("gallery-query");
  const began = performance.now();
  box.value = text;
  box.dispatchEvent(new Event("input"));
  const found = performance.now() - began;
  requestAnimationFrame(() => setTimeout(() => done([found, performance.now() - began])));
})"""


def build(path: Path, count: int, names: list[str] | None = None, size: int = 64) -> Store:
    """A store of so many results: units of fire modules with inversions between them, and classes by name."""
    store = Store.open(path)
    generator = torch.Generator().manual_seed(0)
    names = names or [f"class of things {k}" for k in range(999)] + ["tree frog"]
    trace = torch.logspace(4, 1, 100)[:, None]
    for k in tqdm(range(count), desc="store", unit="result"):
        small = torch.rand(1, 3, 12, 12, generator=generator)
        images = 255 * torch.nn.functional.interpolate(small, size, mode="bicubic").clamp(0, 1)
        images += 16 * torch.randn(images.shape, generator=generator)
        if k % 2:
            job = Job(
                experiment="atlas", task="maximize", network="squeezenet1_1", layer="pool10", unit=k // 2, name=_name(names, k // 2), C=1e4
            )
        else:
            job = Job(experiment="units", task="maximize", network="squeezenet1_1", layer=LAYERS[k // 2 % 8], unit=k // 16, C=1e4)
        noise = torch.rand(2, generator=generator).tolist()
        result = Result(
            task="maximize", images=images, error=None, activation=torch.tensor([noise[0]]), energy={"total": torch.tensor([1.0])},
            trace={"total": trace, "loss": trace / 2, "alpha-norm": trace / 4, "tv-beta": trace / 4}, evaluations=100,
            labels=[""], seeds=[k], status=["ok"], config={"versions": {}},
        )  # fmt: skip
        store.save(job, result, {"activation": 300 * noise[0], "error": noise[1], "energy": -noise[0]}, seconds=1.0)
    return store


def _name(names: list[str], k: int) -> str:
    return f"{names[k % len(names)]} ({k})"


def measure(chromium: Any, page: Path, rounds: int, query: str) -> dict[str, Any]:
    """Open it so many times in a new Chromium each; the last one scrolls and searches. Milliseconds, except where it says otherwise."""
    opened = []
    for _ in range(rounds):
        browser = chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1400, "height": 900})
        tab.goto(page.absolute().as_uri(), wait_until="load")
        tab.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length")  # it may come after the load
        navigation = tab.evaluate("performance.getEntriesByType('navigation')[0].toJSON()")
        paint = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        opened.append({"first paint": paint, "scripts done": navigation["domContentLoadedEventEnd"], "load": navigation["loadEventEnd"]})
        found = {"opened": opened, **(_used(tab, query) if len(opened) == rounds else {})}
        browser.close()
    return found


def _used(tab: Any, query: str) -> dict[str, Any]:
    def metrics() -> dict[str, float]:
        session.send("HeapProfiler.collectGarbage")
        values = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
        return {"heap MB": values["JSHeapUsedSize"] / 2**20, "nodes": values["Nodes"]}

    session = tab.context.new_cdp_session(tab)
    session.send("Performance.enable")
    tab.evaluate("document.getElementById('results').scrollIntoView()")
    before = metrics()
    frames = tab.evaluate(FRAMES)
    tab.evaluate("location.hash = 'sort=-energy'")
    tab.wait_for_function("() => document.getElementById('gallery-sort').value === 'energy'")
    mixed = tab.evaluate(FRAMES)
    searches = [tab.evaluate(SEARCH, text) for text in (query[: k + 1] for k in range(len(query)))]
    status = tab.locator("#gallery-status").inner_text()
    return {
        "frames": frames,
        "frames in order of a number": mixed,
        "found": [s[0] for s in searches],
        "shown": [s[1] for s in searches],
        "status": status,
        "opened memory": before,
        "scrolled memory": metrics(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=int, default=10_000)
    parser.add_argument("--store", type=Path, help="measure this store instead of a made one; its page is written elsewhere")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--query", default="tree frog")
    parser.add_argument("--json", type=Path, default=Path("build/gallery.json"))
    given = parser.parse_args()
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(given.store, create=False) if given.store else build(Path(folder, "store"), given.results)
        page = Path(folder, "report.html")
        times = []
        for _ in range(2):
            began = time.perf_counter()
            write_report(store, page, gallery_from=1)
            times.append(time.perf_counter() - began)
        sheets = [p.stat().st_size for p in Path(folder, "report_files").glob("*.webp")]
        with sync_playwright() as playwright:
            found = measure(playwright.chromium, page, given.rounds, given.query)
        record = {
            "benchmark": "gallery",
            "results": len(store.records(status="done")),
            "seconds to write, first and again": times,
            "page MB": page.stat().st_size / 2**20,
            "sheets": len(sheets),
            "sheets MB": sum(sheets) / 2**20,
            **found,
        }
    write(given.json, record)
    print(f"{record['results']} results: written in {times[0]:.1f} s, again in {times[1]:.1f} s; page {record['page MB']:.1f} MB, ", end="")
    print(f"{len(sheets)} sheets {record['sheets MB']:.1f} MB")
    for name in ("first paint", "scripts done", "load"):
        low, middle, high = quartiles([o[name] for o in found["opened"]])
        print(f"{name}: {middle:.0f} ms [{low:.0f}, {high:.0f}]")
    for name in ("frames", "frames in order of a number"):
        low, middle, high = quartiles(found[name])
        worst = sorted(found[name])[int(0.95 * len(found[name]))]
        print(f"{name} while scrolling: {middle:.0f} ms [{low:.0f}, {high:.0f}], 95% within {worst:.0f} ms")
    slowest = [max(found[k]) for k in ("found", "shown")]
    print(f"{given.query!r}: {found['status']}; a letter is searched in {slowest[0]:.0f} ms and shown in {slowest[1]:.0f} ms at most")
    print(f"opened {found['opened memory']}, scrolled {found['scrolled memory']}")


if __name__ == "__main__":
    main()
