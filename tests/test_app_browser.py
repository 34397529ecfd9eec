"""The interactive page in a real Chromium against a real server on loopback: one of each for all tests here."""

from __future__ import annotations

import http.client
import io
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import numpy as np
import PIL.Image
import pytest

import preimage
from preimage.methods.recipe import DEFAULTS

from .accessible import everywhere, grave_findings, walk

pytest.importorskip("gradio", reason="the page needs the extra app")

pytestmark = [
    pytest.mark.filterwarnings("ignore::preimage.PreimageWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Gradio's server against its own libraries
]
SECOND = 1000  # playwright counts in milliseconds


@pytest.fixture(scope="module")
def site() -> Iterator[SimpleNamespace]:
    """A server as `preimage app` starts it, with two workers, in a thread."""
    import uvicorn

    from preimage.app.catalogue import Catalogue
    from preimage.app.jobs import Desk
    from preimage.app.server import listen, make, networks_here, private_folder

    with private_folder() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("preimage.app.jobs.PATIENCE", 3600.0)  # on a busy machine a page may look late
        desk = Desk(folder, workers=2, queue=4)
        app = make(Catalogue(networks_here()), desk)
        bound = listen("127.0.0.1", 0)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        port = bound.getsockname()[1]
        yield SimpleNamespace(url=f"http://127.0.0.1:{port}/", port=port, desk=desk, folder=folder)
        server.should_exit = True
        thread.join(600)
        desk.close()
        bound.close()


class Visitor:
    """One person with one tab, who notes what the page asks for and complains of."""

    def __init__(self, browser, site, query: str = "", ready: str = "#start:not([disabled])") -> None:
        self.context = browser.new_context(accept_downloads=True, viewport={"width": 1280, "height": 900})
        self.page = self.context.new_page()
        self.hosts: set[str] = set()
        self.complaints: list[str] = []
        self.page.on("request", lambda r: self.hosts.add(urlsplit(r.url).netloc or urlsplit(r.url).scheme))
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.complaints.append(str(e)))
        self.page.set_default_timeout(600 * SECOND)
        self.page.goto(site.url + query)
        self.page.wait_for_selector(ready)

    def pick(self, where: str, text: str) -> None:
        """From a list: click it, then the line that begins so."""
        self.page.click(f"#{where} input")
        self.page.locator(f"#{where} [role=option]").filter(has_text=text).first.click()

    def open_settings(self) -> None:
        """Gradio makes what is in a closed part when it is first opened; wait until that is done."""
        if not self.page.locator("#iterations textarea, #iterations input").is_visible():
            self.page.click("#settings button")
        self.page.wait_for_selector("#seed input")
        self.page.wait_for_timeout(0.5 * SECOND)

    def evaluations(self, count: int) -> None:
        self.open_settings()
        self.page.fill("#iterations textarea, #iterations input", str(count))
        self.page.press("#iterations textarea, #iterations input", "Tab")
        self.page.wait_for_timeout(0.2 * SECOND)
        assert self.page.input_value("#iterations textarea, #iterations input") == str(count)

    def start(self) -> None:
        self.page.click("#start")

    def wait(self, state: str) -> None:
        self.page.wait_for_selector(f".run[data-state={state}]")

    def result(self, folder: Path) -> preimage.Result:
        """Download the zip, unpack it, read it back."""
        self.page.wait_for_selector("#download:not([disabled])")
        with self.page.expect_download() as download:
            self.page.click("#download")
        assert download.value.suggested_filename.endswith(".zip")
        with zipfile.ZipFile(download.value.path()) as file:
            file.extractall(folder)
            (root,) = {Path(n).parts[0] for n in file.namelist()}
        return preimage.load_result(folder / root)

    def leave(self) -> None:
        self.context.close()


@pytest.fixture
def visitor(browser, site) -> Iterator[Visitor]:
    visitor = Visitor(browser, site)
    yield visitor
    visitor.leave()
    assert visitor.complaints == [], "the page complains"
    assert visitor.hosts <= {f"127.0.0.1:{site.port}", "data", "blob"}, "the page asks elsewhere"


WATCH = """() => {
  window.formed = new Set();
  const note = () => { const image = document.querySelector(".run .result img"); if (image) formed.add(image.src); };
  new MutationObserver(note).observe(document.body, { subtree: true, childList: true, attributes: true, attributeFilter: ["src"] });
}"""  # in the page, which misses none: who looks from outside sees few on a busy machine


def test_an_inversion_is_chosen_watched_and_downloaded(visitor, net, cat, tmp_path):
    visitor.pick("depth", "56 × 56")
    visitor.page.wait_for_function("document.querySelector('#layer input').value.startsWith('fire3 ')")
    visitor.pick("layer", "pool1 ")
    visitor.page.wait_for_function("document.querySelector('#facts').innerText.includes('64 channels at 56 × 56')")
    visitor.evaluations(180)
    visitor.page.evaluate(WATCH)
    visitor.start()
    visitor.wait("done")
    assert visitor.page.evaluate("formed.size") >= 3, "the image does not form before one's eyes"
    result = visitor.result(tmp_path)
    assert (result.task, result.config["representation"], result.evaluations) == ("invert", "pool1", 180)
    assert (result.images == preimage.invert(net.layer("pool1"), cat, iterations=180, progress=False).images).all()
    assert f"error {result.error.item():.1%}" in visitor.page.inner_text(".run")
    assert visitor.page.locator(".run .curve polyline").count() == 1


def test_stop_gives_what_was_found(visitor, site, tmp_path):
    visitor.evaluations(1000)
    visitor.start()
    visitor.page.wait_for_selector(".run .result img")
    assert visitor.page.is_disabled("#start")
    visitor.page.click("#stop")
    visitor.wait("stopped")
    result = visitor.result(tmp_path)
    assert result.interrupted and 1 <= result.evaluations < 1000
    assert "found by then" in visitor.page.inner_text(".run") and visitor.page.is_enabled("#start")


def test_a_link_starts_the_request_that_it_says(browser, site, tmp_path):
    link = "?layer=fire2&photograph=coffee&solver=adam&iterations=3&C=50&seed=4&start=1"
    visitor = Visitor(browser, site, link, ready=".run[data-state=done]")
    result = visitor.result(tmp_path)
    assert (result.task, result.config["representation"], result.evaluations, result.config["C"]) == ("invert", "fire2", 3, 50.0)
    assert visitor.page.input_value("#layer input").startswith("fire2") and visitor.page.is_checked("#choice input[value=coffee]")
    again = visitor.page.get_attribute(".run a", "href")
    assert "layer=fire2" in again and "&start=" not in again
    visitor.leave()
    assert visitor.complaints == []


def test_a_class_is_found_by_typing_its_name(visitor, tmp_path):
    visitor.page.click("#task label:has-text('Maximize')")
    visitor.page.wait_for_selector("#class input")
    assert not visitor.page.is_visible("#picture")
    visitor.page.click("#class input")
    visitor.page.keyboard.type("cheeseb")
    visitor.page.locator("#class [role=option]").filter(has_text="cheeseburger").first.click()
    visitor.evaluations(2)
    visitor.start()
    visitor.wait("done")
    result = visitor.result(tmp_path)
    assert (result.task, result.labels, result.config["representation"]) == ("maximize", ["cheeseburger"], "pool10")
    assert result.config["recipe"] == "preimage2026"


@pytest.mark.slow
def test_an_image_of_ones_own_is_exaggerated(visitor, tmp_path):
    picture = tmp_path / "stripes & <b>dots.png"
    PIL.Image.fromarray(np.tile(np.uint8([40, 200]), (300, 150))).save(picture)
    visitor.page.set_input_files("#upload input[type=file]", picture)
    visitor.page.wait_for_function("document.querySelector('#chosen').innerText.includes('stripes')")
    assert visitor.page.locator("#chosen b").count() == 0
    visitor.page.click("#task label:has-text('Caricature')")
    visitor.page.wait_for_function("document.querySelector('.teach').innerText.startsWith('Start from the photograph')")
    visitor.evaluations(2)
    assert visitor.page.get_attribute("#C textarea, #C input", "placeholder") == "default: by the layer"
    visitor.start()
    visitor.wait("done")
    result = visitor.result(tmp_path)
    assert result.task == "caricature" and result.config["C"] == DEFAULTS["caricature"].C and result.originals.shape == (1, 3, 227, 227)


def test_a_hundred_megapixels_are_refused(visitor, tmp_path, site):
    picture = tmp_path / "wall.png"
    PIL.Image.new("1", (10_000, 10_000)).save(picture)
    visitor.page.set_input_files("#upload input[type=file]", picture)
    visitor.page.wait_for_selector("#chosen [role=alert]")
    assert "100,000,000 pixels, more than 32,000,000" in visitor.page.inner_text("#chosen")
    visitor.start()
    visitor.page.wait_for_selector("#run [role=alert]")
    assert "100,000,000 pixels" in visitor.page.inner_text("#run") and "Traceback" not in visitor.page.content()
    assert str(site.folder) not in visitor.page.inner_text("body")


def test_a_text_named_png_is_refused(visitor, tmp_path):
    (tmp_path / "notes.png").write_text("only words\n" * 100)
    visitor.page.set_input_files("#upload input[type=file]", tmp_path / "notes.png")
    visitor.page.wait_for_selector("#chosen [role=alert]")
    assert "'notes.png' is not an image, whatever its name says" in visitor.page.inner_text("#chosen")


def test_a_file_that_is_too_large_is_not_taken(browser, site, tmp_path):
    visitor = Visitor(browser, site)
    (tmp_path / "huge.png").write_bytes(bytes(33 * 2**20))
    visitor.page.set_input_files("#upload input[type=file]", tmp_path / "huge.png")
    visitor.page.wait_for_selector("text=/maximum allowed size|too large/i")
    visitor.leave()
    assert not [p for p in site.folder.rglob("*") if p.is_file() and p.stat().st_size >= 33 * 2**20]


def test_a_closed_tab_stops_its_run(browser, site):
    visitor = Visitor(browser, site)
    visitor.evaluations(1000)
    visitor.start()
    visitor.page.wait_for_selector(".run .result img")
    (job,) = site.desk._jobs.values()
    assert job.state == "running"
    visitor.leave()
    assert job.over.wait(600), "the run goes on though nobody is there"  # its patience is longer
    assert job.state == "stopped" and job.frame.evaluations < 1000


@pytest.mark.slow
def test_four_visitors_at_once_get_each_their_own(browser, site, net, tmp_path):
    from preimage.app.handlers import example

    visitors = [Visitor(browser, site) for _ in range(4)]
    depths = ["113 × 113", "56 × 56", "28 × 28", "14 × 14"]
    wanted = ["relu_conv1", "fire3", "fire5", "relu_conv10"]
    photographs = ["cat", "astronaut", "coffee", "cat"]
    for visitor, depth, layer, photograph in zip(visitors, depths, wanted, photographs, strict=True):
        visitor.pick("depth", depth)
        visitor.page.wait_for_function(f"document.querySelector('#layer input').value.startsWith('{layer} ')")
        visitor.page.click(f"#choice label:has-text('{photograph}')")
        visitor.evaluations(25)
    for visitor in visitors:
        visitor.start()
    end = time.monotonic() + 10
    while len(site.desk._jobs) < 4:
        assert time.monotonic() < end, "they are not there at once"
        time.sleep(0.01)
    for k, (visitor, layer, photograph) in enumerate(zip(visitors, wanted, photographs, strict=True)):
        visitor.wait("done")
        result = visitor.result(tmp_path / str(k))
        alone = preimage.invert(net.layer(layer), example(photograph), iterations=25, progress=False)
        assert result.config["representation"] == layer and (result.images == alone.images).all()
        visitor.leave()
        assert visitor.complaints == []


def test_the_server_answers_only_in_its_own_name_and_gives_no_files(site, tmp_path):
    def ask(path: str, host: str = f"127.0.0.1:{site.port}") -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=600)
        connection.request("GET", path, headers={"Host": host})
        response = connection.getresponse()
        response.read()
        connection.close()
        return response

    assert ask("/").status == 200 and ask("/", f"localhost:{site.port}").status == 200
    assert ask("/", "evil.example").status == 400, "another site's name could be pointed at this server"
    assert "connect-src 'self'" in ask("/").headers["content-security-policy"]
    (tmp_path / "secret.txt").write_text("secret")
    for path in ("/etc/passwd", str(tmp_path / "secret.txt"), str(Path("pyproject.toml").absolute()), f"{site.folder}/../x"):
        assert ask(f"/gradio_api/file={path}").status in (403, 404), path
    assert ask("/docs").status == 404 and ask("/openapi.json").status == 404


FOCUS = "() => document.activeElement.closest('[id]:not(input)')?.id"


def test_tab_closes_menus_and_takes_a_group_of_choices_as_one_stop(visitor):
    page, stops = visitor.page, []
    for k in range(9):
        page.keyboard.press("Tab")
        open_menus = "[...document.querySelectorAll('[role=listbox]')].filter((e) => e.checkVisibility()).length"
        page.wait_for_function(f"{open_menus} === {int(k < 3)}")  # its own; the one before has closed
        stops.append(page.evaluate(FOCUS))
    assert stops == ["network", "depth", "layer", "task", "choice", "upload", "settings", "parts", "start"]
    assert page.locator("[role=listbox]:visible").count() == 0
    page.focus("#task input")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.teach').innerText.startsWith('Start from the photograph')")
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#class input")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUS) == "what"
    page.keyboard.press("Tab")
    page.keyboard.type("cheeseb")
    page.locator("#class [role=option]").filter(has_text="cheeseburger").first.wait_for()  # the list has followed the letters
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#class input').value.startsWith('cheeseburger')")


CONTRASTS = """() => {
  const linear = (x) => (x /= 255) <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4;
  const lum = (c) => .2126 * linear(c[0]) + .7152 * linear(c[1]) + .0722 * linear(c[2]);
  const parts = (s) => { const m = s.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
  const over = (c, below) => below.map((v, i) => v * (1 - c[3]) + c[i] * c[3]);
  const paper = (e) => e ? over(parts(getComputedStyle(e).backgroundColor), paper(e.parentElement)) : [255, 255, 255];
  const found = [], words = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (words.nextNode()) {
    const e = words.currentNode.parentElement, text = words.currentNode.textContent.trim();
    if (!text || ["STYLE", "SCRIPT"].includes(e.tagName) || e.closest(":disabled")) continue;
    if (!e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true }) || !e.getBoundingClientRect().width) continue;
    const back = paper(e), front = over(parts(getComputedStyle(e).color), back), both = [lum(front), lum(back)];
    found.push([text.slice(0, 40), (Math.max(...both) + .05) / (Math.min(...both) + .05)]);
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_and_buttons_are_called_what_is_written_on_them(visitor, scheme):
    """Contrast of at least 4.5 (WCAG AA); the accessible name holds the visible one (WCAG 2.5.3)."""
    visitor.page.emulate_media(color_scheme=scheme)
    visitor.page.reload()
    visitor.page.wait_for_selector("#start:not([disabled])")
    found = visitor.page.evaluate(CONTRASTS)
    assert len(found) > 20 and [f for f in found if f[0] == "Start"]
    assert [f for f in found if f[1] < 4.5] == []
    upload = visitor.page.locator("#upload button.upload-container")
    assert upload.get_attribute("aria-label") is None and "Click to Upload" in upload.inner_text()


def test_axe_finds_nothing_grave_on_the_page_as_it_opens_and_unfolded_with_a_result(visitor):
    page = visitor.page
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    found = {"as it opens": grave_findings(page)}
    visitor.open_settings()
    page.click("#parts button")
    page.wait_for_selector("#objective textarea, #objective input")
    visitor.evaluations(2)
    visitor.start()
    visitor.wait("done")
    found |= {f"unfolded, with a result, {where}": what for where, what in everywhere(page).items()}
    assert page.evaluate("document.body.classList.contains('dark')")  # as everywhere leaves it: the dark page was looked at too
    assert {where: what for where, what in found.items() if what} == {}


def test_tab_alone_reaches_every_part_of_the_unfolded_page_and_shows_where_it_is(visitor):
    visitor.open_settings()
    visitor.page.click("#parts button")
    visitor.page.wait_for_selector("#objective textarea, #objective input")
    stops, missed, unmarked = walk(visitor.page)
    assert stops >= 20 and missed == []
    assert unmarked == []


def post(site, path: str, body: bytes, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=600)
    connection.request("POST", path, body, headers)
    status = connection.getresponse().status
    connection.close()
    return status


def test_no_upload_is_taken_while_the_folder_is_full_and_no_body_that_is_too_long(site, monkeypatch):
    from preimage.app import gate

    buffer = io.BytesIO()
    PIL.Image.new("L", (8, 8)).save(buffer, "PNG")
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + buffer.getvalue() + b"\r\n--x--\r\n"
    assert post(site, "/gradio_api/upload", body, form) == 200
    monkeypatch.setattr(gate, "MAX_STORED", 0)
    assert post(site, "/gradio_api/upload", body, form) == 507
    assert post(site, "/gradio_api/queue/join", b"", {"Content-Length": str(2 * 2**20)}) == 413
    assert post(site, "/gradio_api/upload", b"", form | {"Content-Length": str(2**33)}) == 413
    assert post(site, "/gradio_api/queue/join", b"0\r\n\r\n", {"Transfer-Encoding": "chunked"}) == 411


@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted():
    command = [sys.executable, "-m", "preimage", "app", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        url = line.split()[1]
        with urllib.request.urlopen(url, timeout=600) as page:
            assert page.status == 200 and b"<gradio-app" in page.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0, process.stderr.read()
        assert process.stderr.read() == ""
