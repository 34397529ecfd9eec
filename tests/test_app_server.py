"""What the page's server lets through, asked over real HTTP on loopback: files, origins, bodies, signals."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import PIL.Image
import pytest

pytest.importorskip("gradio", reason="the page needs the extra app")

pytestmark = [
    pytest.mark.filterwarnings("ignore::preimage.PreimageWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of Gradio's server against its own libraries
]
META = {"_type": "gradio.FileData"}
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.fixture(scope="module")
def site() -> Iterator[SimpleNamespace]:
    """A server as `preimage app` starts it, in a thread."""
    import uvicorn

    from preimage.app.catalogue import Catalogue
    from preimage.app.jobs import Desk
    from preimage.app.server import listen, make, private_folder

    with private_folder() as folder, listen("127.0.0.1", 0) as bound:
        desk = Desk(folder, workers=1, queue=1)
        found = SimpleNamespace(port=bound.getsockname()[1], desk=desk, folder=folder)

        async def serve() -> None:
            found.app = make(Catalogue(["squeezenet1_1"]), desk)
            found.server = uvicorn.Server(uvicorn.Config(found.app, log_level="critical", timeout_graceful_shutdown=1))
            await found.server.serve(sockets=[bound])

        thread = threading.Thread(target=asyncio.run, args=[serve()])
        thread.start()
        config = json.loads(ask(found, "GET", "/config", seconds=60).body)
        found.functions = {d["api_name"]: d["id"] for d in config["dependencies"]}
        yield found
        found.server.should_exit = True
        thread.join(20)
        desk.close()
        assert not thread.is_alive()


def ask(
    site, method: str, path: str, body: bytes | str | None = None, headers: dict[str, str] | None = None, seconds=20
) -> SimpleNamespace:
    """One request, read to its end."""
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=seconds)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return SimpleNamespace(status=response.status, body=response.read(), headers=response.headers)
    finally:
        connection.close()


def call(site, name: str, data: list, seconds: float = 20) -> str:
    """What one of the page's functions answers to `data`, or the refusal, as the text of the last message."""
    session = uuid.uuid4().hex
    joined = ask(site, "POST", "/gradio_api/queue/join", json.dumps(_event(site, name, data, session)), JSON)
    if joined.status != 200:
        return f"{joined.status} {joined.body.decode()}"
    return ask(site, "GET", f"/gradio_api/queue/data?session_hash={session}", seconds=seconds).body.decode()


def _event(site, name: str, data: list, session: str) -> dict:
    return {"data": data, "event_data": None, "fn_index": site.functions[name], "trigger_id": None, "session_hash": session}


def picture(level: int = 90) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("L", (8, 8), level).save(buffer, "PNG")
    return buffer.getvalue()


def form(data: bytes, name: str = "a.png") -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + data + b"\r\n--x--\r\n"


def uploaded(site, level: int = 90) -> str:
    """The path that the server gives to an upload."""
    answer = ask(site, "POST", "/gradio_api/upload", form(picture(level)), FORM)
    assert answer.status == 200
    return json.loads(answer.body)[0]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "private.png"
    path.write_bytes(picture(201))
    return path


def order(upload) -> list:
    """What the page sends when Start is pressed."""
    return [
        "invert",
        "squeezenet1_1",
        "fire4",
        "my own image",
        upload,
        "a class, by its name",
        0,
        0,
        "",
        "fast",
        "1",
        0,
        1,
        "by the layer",
        *[""] * 4,
        "normal",
    ]


def test_an_upload_can_be_looked_at_and_inverted(site):
    path = uploaded(site)
    assert Path(path).is_relative_to(site.folder)
    assert "data:image/jpeg" in call(site, "choose_photograph", ["my own image", {"path": path, "meta": META}])
    ended = call(
        site, "start", order({"path": path, "meta": META, "orig_name": "a.png", "size": 99, "url": f"/gradio_api/file={path}"}), 60
    )
    assert 'data-state=\\"done\\"' in ended


def named(how: str, secret: Path, site) -> str:
    """The same private picture, spelled in several ways."""
    (inside := site.folder / "link.png").unlink(missing_ok=True)
    if how == "link":
        inside.symlink_to(secret)
        return str(inside)
    spelled = {
        "absolute": str(secret),
        "relative": os.path.relpath(secret),
        "dots": f"{site.folder}/../{os.path.relpath(secret, site.folder.parent)}",
        "url": secret.as_uri(),
        "outside": str(site.folder) + "-other/x.png",
        "folder": str(site.folder),
        "nul": f"{site.folder}/a\0b",
        "missing": f"{site.folder}/none.png",
        "home": f"{site.folder}/~",
        "web": "http://127.0.0.1:9/x.png",
        "empty": "",
    }
    return spelled[how]


WAYS = ["absolute", "relative", "dots", "link", "url", "outside", "folder", "nul", "missing", "home", "web", "empty"]


@pytest.mark.parametrize("how", WAYS)
def test_no_file_but_an_upload_is_read(site, secret, how):
    path = named(how, secret, site)
    before = sorted(p for p in site.folder.rglob("*"))
    for shape in ({"path": path, "meta": META}, [{"path": path, "meta": META}], {"x": {"path": path}}):
        answers = [call(site, "choose_photograph", ["my own image", shape]), call(site, "start", order(shape))]
        assert [a[:3] for a in answers] == ["403", "403"], shape
        assert str(secret) not in "".join(answers)
    event = _event(site, "choose_photograph", ["cat", None], "s") | {"event_data": {"path": path, "meta": META}}
    assert ask(site, "POST", "/gradio_api/queue/join", json.dumps(event), JSON).status == 403
    assert sorted(p for p in site.folder.rglob("*")) == before, "something was copied into the server's folder"


@pytest.mark.parametrize("kind", ["fifo", "/dev/zero", "/dev/stdin"])
def test_a_pipe_or_a_device_is_refused_at_once(site, kind):
    path = site.folder / "pipe.png"
    if kind == "fifo":
        os.mkfifo(path)
    try:
        began = time.monotonic()
        given = str(path) if kind == "fifo" else kind
        assert call(site, "choose_photograph", ["my own image", {"path": given, "meta": META}], seconds=5).startswith("403")
        assert time.monotonic() - began < 5
    finally:
        path.unlink(missing_ok=True)


def test_what_is_not_there_and_what_is_private_get_the_same_answer(site, secret):
    given = [str(secret), str(secret) + ".missing", "/etc/shadow", "/etc", "/no/such/place"]
    assert len({call(site, "choose_photograph", ["my own image", {"path": p, "meta": META}]) for p in given}) == 1
    assert len({ask(site, "GET", f"/gradio_api/file={p}").body for p in given}) == 1


@pytest.mark.parametrize(
    "route", ["queue/join", "run/predict", "run/choose_photograph/", "api/choose_photograph", "call/choose_photograph"]
)
def test_every_way_to_a_function_is_guarded(site, secret, route):
    body = _event(site, "choose_photograph", ["my own image", {"path": str(secret), "meta": META}], "s")
    answer = ask(site, "POST", f"/gradio_api/{route}", json.dumps(body), JSON)
    assert answer.status in (403, 404) and b"data:image" not in answer.body


def test_what_gradio_is_given_is_what_was_checked(site, secret):
    """Two readers of JSON may choose another of two equal keys, or guess another encoding: it is written anew after the check."""
    good, bad = uploaded(site), str(secret)
    body = json.dumps(_event(site, "choose_photograph", ["my own image", {"path": "?", "meta": META}], "s"))
    for first, second in ((good, bad), (bad, good)):
        twice = body.replace('"path": "?"', f'"path": {json.dumps(first)}, "path": {json.dumps(second)}')
        assert ask(site, "POST", "/gradio_api/queue/join", twice, JSON).status == 400
    wide = body.replace("?", bad).encode("utf-16")
    assert ask(site, "POST", "/gradio_api/queue/join", wide, JSON).status in (400, 403)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", JSON, 400),
        (b"[" * 50_000, JSON, 400),
        (b'{"data": ' + b"9" * 5000 + b"}", JSON, 400),
        (b"\xff\xfe\x00", JSON, 400),
        (b'{"data": []}', {"Content-Type": "text/plain"}, 415),
        (b'{"data": []}', {}, 415),
        (form(b"x"), FORM, 415),
    ],
)
def test_a_body_that_is_not_json_is_refused_before_it_is_used(site, body, headers, status):
    for route in ("queue/join", "run/predict", "cancel", "reset"):
        assert ask(site, "POST", f"/gradio_api/{route}", body, headers).status == status


@pytest.mark.parametrize(
    "route", ["component_server", "component_server/", "process_recording", "vibe-edit", "vibe-code/", "stream/x", "/login", "nowhere"]
)
def test_what_the_page_does_not_use_is_closed(site, route):
    path = route if route.startswith("/") else f"/gradio_api/{route}"
    assert ask(site, "POST", path, b"{}", JSON).status == 404


def test_files_are_given_from_the_servers_own_folder_alone(site, secret):
    own = uploaded(site, 77)
    assert ask(site, "GET", f"/gradio_api/file={own}").body == picture(77)
    for path in (str(secret), "http://127.0.0.1:9/x.png", "https://example.org/x.png", f"{site.folder}/../x", "/etc/passwd", ""):
        for route in (f"/gradio_api/file={path}", f"/gradio_api/file/{path}", f"/gradio_api/proxy={path}"):
            assert ask(site, "GET", route).status in (403, 404), route


# Other sites


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Origin": "not an origin"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
    ],
)
def test_another_site_can_neither_read_nor_start_nor_upload(site, headers):
    count = len(list(site.folder.rglob("*")))
    event = json.dumps(_event(site, "choose_photograph", ["cat", None], "s"))
    asked = [
        ask(site, "GET", "/config", headers=headers),
        ask(site, "GET", "/", headers=headers),
        ask(site, "POST", "/gradio_api/queue/join", event, JSON | headers),
        ask(site, "POST", "/gradio_api/upload", form(picture(13)), FORM | headers),
        ask(site, "OPTIONS", "/gradio_api/queue/join", headers=headers | {"Access-Control-Request-Method": "POST"}),
    ]
    assert [a.status for a in asked] == [403] * 5
    assert not [a for a in asked if "access-control-allow-origin" in a.headers]
    assert len(list(site.folder.rglob("*"))) == count


def test_the_page_itself_and_a_link_to_it_are_answered(site):
    own = f"http://127.0.0.1:{site.port}"
    for headers in (
        {"Origin": own},
        {"Origin": own, "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
        {},
    ):
        assert ask(site, "GET", "/config", headers=headers).status == 200
        assert ask(site, "POST", "/gradio_api/upload", form(picture()), FORM | headers).status == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert ask(site, "GET", "/", headers=link).status == 200
    assert ask(site, "POST", "/gradio_api/upload", form(picture()), FORM | link).status == 403, "a form of another site"


def test_a_link_from_elsewhere_fills_the_form_and_starts_nothing(site):
    link = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for origin in ({"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {}):
        answer = ask(site, "GET", "/?class=tree+frog&start=1&start=1", headers=link | origin)
        assert (answer.status, answer.headers["location"]) == (303, "/?class=tree+frog")
    for own in ("none", "same-origin"):
        assert ask(site, "GET", "/?class=tree+frog&start=1", headers=link | {"Sec-Fetch-Site": own}).status == 200
    assert ask(site, "GET", "/?class=tree+frog", headers=link | {"Sec-Fetch-Site": "cross-site"}).status == 200


# What is stored


def test_others_are_answered_while_the_stored_files_are_counted(site, monkeypatch):
    from preimage.app import gate

    begun, go_on = threading.Event(), threading.Event()

    def slow(folder: Path) -> int:
        begun.set()
        assert go_on.wait(20)
        return 0

    monkeypatch.setattr(gate, "stored", slow)
    monkeypatch.setattr(gate, "RECOUNT", 0.0)
    answers: list[int] = []
    upload = threading.Thread(target=lambda: answers.append(ask(site, "POST", "/gradio_api/upload", form(picture()), FORM).status))
    upload.start()
    try:
        assert begun.wait(20)
        assert ask(site, "GET", "/config", seconds=10).status == 200 and answers == []
    finally:
        go_on.set()
        upload.join(20)
    assert answers == [200]


def test_many_small_uploads_fill_the_folder_as_they_fill_the_disk(tmp_path):
    from preimage.app.gate import stored

    for k in range(5):
        (tmp_path / f"{k}").mkdir()
        (tmp_path / f"{k}" / "x").write_bytes(b"x")
    assert stored(tmp_path) >= 5 * 4096


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_server_that_is_told_to_end_leaves_no_file(tmp_path):
    """Both signals at once, as most of the time goes into starting."""
    command, pipe = [sys.executable, "-m", "preimage", "app", "--port", "0"], subprocess.PIPE
    with contextlib.ExitStack() as stack:
        servers = {}
        for number in (signal.SIGTERM, signal.SIGHUP):
            (place := tmp_path / number.name).mkdir()
            env = os.environ | {"TMPDIR": str(place)}
            servers[number] = stack.enter_context(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=env))
            stack.callback(servers[number].kill)
        for number, process in servers.items():
            there = SimpleNamespace(port=int(process.stdout.readline().split()[1].rstrip("/").rpartition(":")[2]))
            assert ask(there, "POST", "/gradio_api/upload", form(picture()), FORM, 60).status == 200
            assert list(tmp_path.glob(f"{number.name}/preimage-app-*/*/a.png"))
            process.send_signal(number)
            assert process.wait(60) == 128 + number
            assert process.stderr.read() == ""
            assert not list(tmp_path.glob(f"{number.name}/preimage-app-*"))


def test_making_the_page_leaves_no_event_loop_open(monkeypatch):
    from preimage.app.catalogue import Catalogue
    from preimage.app.jobs import Desk
    from preimage.app.server import make, private_folder

    loops, new = [], asyncio.new_event_loop
    monkeypatch.setattr(asyncio, "new_event_loop", lambda: loops.append(new()) or loops[-1])
    with private_folder() as folder:
        desk = Desk(folder, workers=1, queue=1)
        make(Catalogue(["squeezenet1_1"]), desk)
        desk.close()
    still_open = [loop for loop in loops if not loop.is_closed()]
    for loop in still_open:
        loop.close()
    assert still_open == []
