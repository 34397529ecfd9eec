"""The site builds without a warning, its links lead somewhere, reading it asks nobody else for anything, and the tutorial runs."""

from __future__ import annotations

import functools
import html
import http.server
import os
import re
import runpy
import subprocess
import sys
import threading
import types
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import PIL.Image
import pytest
import torch
from safetensors.torch import save_file

import preimage

ROOT = Path(__file__).parents[1]
FETCHED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "video": "src", "link": "href"}  # by showing a page


class Page(HTMLParser):
    """What a built page links to and loads, and the places that can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.links, self.loaded, self.places = path, [], [], {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = {k: v or "" for k, v in attrs}
        self.places.add(given.get("id", ""))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in FETCHED and FETCHED[tag] in given and given.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(given[FETCHED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> dict[Path, Page]:
    for needed in ("mkdocs", "material", "mkdocstrings_handlers.python"):
        pytest.importorskip(needed, reason="the site needs pip install 'preimage[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"})
    assert built.returncode == 0, built.stderr
    return {path: Page(path) for path in folder.resolve().rglob("*.html")}


def test_every_page_of_the_menu_is_there_and_every_page_is_in_the_menu():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    listed = re.findall(r"([\w/-]+\.md)$", nav, flags=re.M)
    assert len(listed) == len(set(listed))
    assert set(listed) == {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}


def test_links_inside_the_site_lead_to_a_page_and_a_place(site):
    broken = []
    for page in site.values():
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or page.path.name == "404.html":
                continue
            target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            there = target in site and unquote(parts.fragment) in site[target].places if target.suffix == ".html" else target.exists()
            if not there:
                broken.append((page.path.name, link))
    assert not broken


def test_a_page_loads_nothing_from_elsewhere(site):
    assert not [(p.path.name, url) for p in site.values() for url in p.loaded if urlsplit(url).netloc]
    sheets = [p.read_text(encoding="utf-8") for p in next(iter(site)).parent.rglob("*.css")]
    assert not [url for sheet in sheets for url in re.findall(r"url\(\s*['\"]?(https?:[^)]*)", sheet)]


def test_what_the_package_offers_by_name_is_in_the_reference(site):
    places = set().union(*(p.places for p in site.values() if p.path.parent.name == "api"))
    last = {place.rpartition(".")[2] for place in places}
    offered = set(preimage.__all__) - {"__version__", "tasks"}  # tasks is a module whose functions have a page
    assert not offered - last


def test_doctests_are_code_blocks(site):
    (tasks,) = (p for p in site if p.name == "tasks.html" and p.parent.name == "api")
    text = tasks.read_text(encoding="utf-8")
    assert "<blockquote>" not in text
    assert 'class="gp"' in text  # a prompt, as highlighted


def test_the_gallery_shows_every_script_as_it_is(site):
    (page,) = (p for p in site if p.name == "gallery.html")
    shown = html.unescape(re.sub(r"<[^>]*>", "", page.read_text(encoding="utf-8")))
    for script in (ROOT / "gallery").glob("*.py"):
        assert script.read_text(encoding="utf-8").strip() in shown, script.name


def test_a_docstring_becomes_markdown():
    pytest.importorskip("griffe", reason="the site needs pip install 'preimage[docs]'")
    as_markdown = runpy.run_path(str(ROOT / "docs" / "docstrings.py"))["as_markdown"]
    text = "Half of :math:`x`.\n\n>>> half(4)\n2\n\nMore.\n>>> half(2)\n1"
    assert as_markdown(text) == "Half of `x`.\n\n```pycon\n>>> half(4)\n2\n```\n\nMore.\n```pycon\n>>> half(2)\n1\n```"
    text = "First.\n\nx, y: numbers, as\nyou like: any. z: one. Note: no name.\nRaises InputError for z: a reason."
    wanted = "First.\n\n- **x, y**: numbers, as you like: any.\n- **z**: one. Note: no name.\n\nRaises InputError for z: a reason."
    assert as_markdown(text, ["x", "y", "z"]) == wanted
    assert as_markdown(text) == text


def test_the_tutorial_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, iterations in (("invert", 8), ("maximize", 8), ("caricature", 30)):  # in 8, a caricature at C=10 has not come down yet
        monkeypatch.setattr(preimage, name, functools.partial(getattr(preimage, name), iterations=iterations, progress=False))
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.S):
        exec(compile(block, "tutorial.md", "exec"), names)
    assert len(names["several"].images) == 4
    assert (tmp_path / "out" / "first" / "result.json").is_file()
    assert "evaluations 8" in capsys.readouterr().out


def found_by_search(page, word: str) -> list[str]:
    """The addresses that the site's own search gives for a word."""
    field = page.locator("input.md-search__input")
    field.focus()
    page.locator(".md-search-result__meta", has_text="Type to start searching").wait_for(state="attached", timeout=20_000)
    field.press_sequentially(word)  # the page listens to keys, which a value that is filled in does not give
    found = page.locator(".md-search-result__link")
    found.first.wait_for(timeout=20_000)
    assert word in page.locator(".md-search-result__list").inner_text().lower()
    return [link.get_attribute("href") for link in found.all()]


def test_the_search_finds_something_when_the_pages_are_read_from_disk(site, visit):
    (start,) = (p for p in site if p.name == "index.html")
    found = found_by_search(visit(start), "caricature")
    assert len(found) >= 3 and found[0].startswith("file:")


def test_the_search_finds_something_when_the_pages_are_served(site, browser):
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    (start,) = (p for p in site if p.name == "index.html")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=start.parent)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at = f"http://127.0.0.1:{server.server_port}/"
        context = browser.new_context()
        try:
            page, asked = context.new_page(), []
            page.on("request", lambda request: asked.append(request.url))
            page.goto(at)
            found = found_by_search(page, "caricature")
        finally:
            context.close()
            server.shutdown()
    assert len(found) >= 3 and all(link.startswith(at) for link in found)
    assert all(url.startswith((at, f"blob:{at}", "data:")) for url in asked)


def test_the_page_on_tables_runs_and_its_table_has_a_row_an_image(tmp_path, monkeypatch, capsys):
    from preimage.pixels.images import reference_images
    from preimage.studies.jobs import Job
    from preimage.studies.runner import run
    from preimage.studies.store import Store

    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(Path(reference_images()[0]).read_bytes())
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "reading-results.md").read_text(encoding="utf-8"), flags=re.S):
        exec(compile(block, "reading-results.md", "exec"), names)
    assert "'label': 'photo'" in capsys.readouterr().out
    job = Job(experiment="x", task="maximize", C=1e4, network="squeezenet1_1", layer="conv1", unit=3, canvas=24, iterations=2)
    run([job], Store.open(tmp_path / "study"), progress=False)
    (row,) = names["table"](tmp_path / "study")
    assert row["unit"] == 3 and row["activation"] > 0 and Path(row["picture"]).is_file()


@pytest.mark.parametrize("page", ["own-parts", "checkpoints", "metamers"])
def test_a_page_of_how_to_runs(page, tmp_path, monkeypatch, capsys):
    from preimage.pixels.images import reference_images

    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(Path(reference_images()[0]).read_bytes())
    weights = {k: v.clone() for k, v in preimage.load_network("squeezenet1_1").module.state_dict().items()}
    for name in ("before", "after") if page == "checkpoints" else ():
        save_file(weights, tmp_path / f"{name}.safetensors")
        net = preimage.load_network("squeezenet1_1", size=64)
        keep = preimage.Keep(sample=40, places=40)
        found = preimage.collect_statistics(net, [tmp_path / "photo.jpg"], layers=["fire2"], keep=keep, progress=False)
        found.save(tmp_path / f"units-{name}.safetensors")
    for name in ("invert", "maximize"):
        monkeypatch.setattr(preimage, name, functools.partial(getattr(preimage, name), iterations=2, progress=False))
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, flags=re.S))
    assert "160" in code
    names: dict = {"__name__": "a_page"}
    monkeypatch.setitem(sys.modules, "a_page", types.ModuleType("a_page"))  # where dataclasses look for names of types
    exec(compile(code.replace("160", "64"), page, "exec"), names)
    if page == "own-parts":
        assert names["frog"].energy["mirror"].shape == (1,) and names["image"].images.shape[-1] == 64
        assert names["strong"].error.isfinite().all() and set(names["strong"].energy) > {"loss", "total"}
    elif page == "metamers":
        saved = preimage.load_result(tmp_path / "out" / "metamers")
        assert len(saved.seeds) == 4 and saved.images.equal(names["result"].images) and saved.images[0].ne(saved.images[1]).any()
    else:
        before, after = (preimage.load_result(tmp_path / "out" / f"{name}.safetensors") for name in ("before", "after"))
        assert before.images.equal(after.images)
        said = capsys.readouterr().out
        assert said.startswith("before.safetensors") and re.search(r"^fire2 (1\.0|0\.99\d+) 0\.\d+$", said, flags=re.M)


@pytest.mark.slow
def test_the_page_of_directions_runs(tmp_path, monkeypatch):
    pytest.importorskip("sklearn", reason="channels are factored by scikit-learn")
    from preimage.pixels.images import reference_images

    monkeypatch.chdir(tmp_path)
    photo = PIL.Image.open(reference_images()[0]).convert("RGB")
    for folder in ("striped", "others", "photos"):
        (tmp_path / folder).mkdir()
        for k in range(4):
            photo.rotate(90 * k if folder == "others" else k).resize((64, 64)).save(tmp_path / folder / f"{k}.png")
    photo.save(tmp_path / "photo.jpg")
    rng = torch.Generator().manual_seed(0)
    state = {"W_enc": torch.randn(512, 16, generator=rng), "b_enc": torch.zeros(16), "W_dec": torch.randn(16, 512, generator=rng)}
    save_file(state, tmp_path / "sae.safetensors")
    for name in ("invert", "maximize"):
        monkeypatch.setattr(preimage, name, functools.partial(getattr(preimage, name), iterations=1, progress=False))
    monkeypatch.setattr(preimage, "load_network", functools.partial(preimage.load_network, size=64))
    text = (ROOT / "docs" / "directions.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert "image_text" in blocks[-1]  # which needs a network of texts; tests/test_directions.py has it
    names: dict = {}
    for block in blocks[:-1]:
        exec(compile(block, "directions.md", "exec"), names)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"striped", "together", "sum", "latent-12", "writes-12", "kept"}
    assert len(preimage.load_result(tmp_path / "out" / "together").images) == 6


def test_the_letters_are_in_the_glossary():
    rows = re.findall(r"^\| ([^|]+) \|", (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"), flags=re.M)
    assert {"x", "x0", "Φ (`phi`)", "Φ0", "Φ₊", "E", "ℓ", "C", "Z", "M", "R_α", "R_TVβ", "B", "B₊", "V", "T", "g, z"} <= set(rows)
