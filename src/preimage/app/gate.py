"""What reaches Gradio at all: requests of the page itself, for functions that the page has, about files that were uploaded here."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from .links import START

MAX_UPLOAD = 32 * 2**20
"""Bytes of one uploaded file."""

MAX_BODY = 2**20
"""Bytes of anything else that is sent."""

MAX_STORED = 2 * 2**30
"""Bytes of all uploads and results together; beyond it nothing is taken until old ones have been deleted."""

BLOCK = 4096
"""Bytes that the smallest file takes of a disk, and counts here."""

API = "/gradio_api/"
UPLOAD = API + "upload"
POSTED = (API + "queue/join", API + "run/", API + "cancel", API + "reset")
"""Where the page sends JSON; everything else that Gradio would take is closed."""

FILE, SHUT = (API + "file=", API + "file/"), (API + "proxy=", "/proxy=", "/custom_component/", "/monitoring")

HEADERS = {
    # Gradio's page needs inline scripts and makes functions of templates; what matters is that it can reach this server alone.
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; worker-src 'self' blob:; connect-src 'self'; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
RECOUNT = 1.0
"""Seconds after which the files of the folder are counted again."""

DEPTH = 40
"""Lists and objects inside each other; the page itself sends three."""

Refusal = tuple[int, str]
"""A status and the words."""

NOT_UPLOADED = (403, "This file has not been uploaded here, or it has been deleted by now.")
CLOSED = (404, "There is nothing here.")


class Gate:
    """Stands before Gradio, whose own check of paths is off for an application that is mounted in another.

    Refuses what another site's page asks for, ways in that the page does not use, bodies that are too long or no JSON, every file that
    is not a regular one below `folder` (whatever its path looks like, before anything is opened), and uploads while the folder is full.
    Adds the security headers to every answer.
    """

    def __init__(self, app: Any, folder: Path) -> None:
        self.app, self.folder = app, folder
        self._measuring, self._measured, self._total = asyncio.Lock(), 0.0, 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http":
            await self.app(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.responses import JSONResponse, RedirectResponse

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in HEADERS.items())]
            await send(message)

        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        refused = foreign(scope["method"], headers) or await self._closed(scope["method"], scope["path"], headers)
        if refused is None and scope["method"] == "POST" and scope["path"].rstrip("/") != UPLOAD:
            body = await _whole_body(receive)
            refused = body if isinstance(body, tuple) else await self._unread(body)
            receive = _once(json.dumps(body).encode(), receive)  # written anew: Gradio reads what was checked, byte for byte
            length = [(k, v) for k, v in scope["headers"] if k.lower() not in (b"content-length", b"content-type")]
            scope = scope | {"headers": [*length, (b"content-type", b"application/json")]}
        app = self.app if refused is None else JSONResponse({"detail": refused[1]}, status_code=refused[0])
        calm = calmed(scope["method"], scope["path"], scope["query_string"].decode("latin-1"), headers)
        if refused is None and calm is not None:
            app = RedirectResponse(calm, status_code=303)
        await app(scope, receive, send_with_headers)

    async def _closed(self, method: str, path: str, headers: dict[str, str]) -> Refusal | None:
        """What method, path and headers tell."""
        if method in ("GET", "HEAD"):
            if path.startswith(SHUT):
                return CLOSED
            given = next((path[len(f) :] for f in FILE if path.startswith(f)), None)
            return None if given is None or await asyncio.to_thread(uploaded, given, self.folder) else NOT_UPLOADED
        upload = path.rstrip("/") == UPLOAD
        length = headers.get("content-length", "")
        if not (length.isascii() and length.isdigit()):
            return 411, "The length of the body must be said beforehand."
        if int(length[:18]) > (MAX_UPLOAD + MAX_BODY if upload else MAX_BODY):
            return 413, f"At most {MAX_UPLOAD // 2**20} MiB are taken."
        if method != "POST" or not (upload or path.startswith(POSTED)):
            return CLOSED
        if not upload and headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return 415, "Only application/json is taken here."
        if upload and await self._stored(int(length)) > MAX_STORED:
            return 507, "The server's folder for uploads is full. Try again later."
        return None

    async def _unread(self, body: Any) -> Refusal | None:
        """Whether a body names a file that is not an upload."""
        given = list(paths_in(body))
        found = await asyncio.to_thread(lambda: all(uploaded(p, self.folder) for p in given))
        return None if found else NOT_UPLOADED

    async def _stored(self, coming: int) -> int:
        """Bytes in the folder, counted in a thread, at most once in a second; between two counts, what comes is added."""
        async with self._measuring:
            if time.monotonic() - self._measured > RECOUNT:
                self._total = await asyncio.to_thread(stored, self.folder)
                self._measured = time.monotonic()
            self._total += max(coming, BLOCK)
            return self._total


def foreign(method: str, headers: dict[str, str]) -> Refusal | None:
    """The refusal of a request that another site's page has made; following a link to the page is no such request.

    Browsers say where a request comes from: in Sec-Fetch-Site, and old ones, or those without TLS, in Origin. Other programs say nothing.

    >>> foreign("GET", {"host": "localhost:7860", "origin": "http://localhost:3000"})[0]
    403
    >>> foreign("GET", {"host": "localhost:7860", "origin": "http://localhost:7860"}) is None
    True
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    link = method in ("GET", "HEAD") and (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    if site is not None:
        own = site in ("same-origin", "none") or link
    else:
        own = origin is None or _host_of(origin) == _without_port_of_scheme(headers.get("host", ""))
    return None if own else (403, "Another site's page has asked for this.")


def calmed(method: str, path: str, query: str, headers: dict[str, str]) -> str | None:
    """The address without its start, of a link that another site, or nobody knows who, has led to: it fills the form and waits.

    Only where a browser says that the visitor typed the address, has it as a bookmark, or comes from the page itself, does it start a run.

    >>> calmed("GET", "/", "class=tree+frog&start=1", {"sec-fetch-site": "cross-site"})
    '/?class=tree+frog'
    >>> calmed("GET", "/", "class=tree+frog&start=1", {"sec-fetch-site": "none"}) is None
    True
    """
    pairs = parse_qsl(query, keep_blank_values=True)
    if method != "GET" or path != "/" or not any(k == START for k, _ in pairs) or headers.get("sec-fetch-site") in ("same-origin", "none"):
        return None
    return f"/?{urlencode([(k, v) for k, v in pairs if k != START])}"


def _host_of(origin: str) -> str | None:
    """The host and port of an origin; None if it is none."""
    try:
        found = urlsplit(origin)
    except ValueError:
        return None
    return _without_port_of_scheme(found.netloc) if found.scheme in ("http", "https") and found.netloc else None


def _without_port_of_scheme(host: str) -> str:
    """A host as browsers write it: small letters, without the ports 80 and 443."""
    return host.lower().removesuffix(":80").removesuffix(":443")


def paths_in(value: Any) -> list[str]:
    """Every path of a file in a JSON value: what stands under "path", at any depth, marked as a file or not.

    >>> paths_in([{"path": "/a"}, {"x": {"path": "b", "more": [{"path": 3}]}}])
    ['/a', 'b']
    """
    found, left = [], [value]
    while left:
        item = left.pop(0)
        if isinstance(item, dict):
            if isinstance(item.get("path"), str):
                found.append(item["path"])
            left += item.values()
        elif isinstance(item, list):
            left += item
    return found


def uploaded(path: str | os.PathLike[str], folder: Path) -> bool:
    """Whether a path is a regular file below the folder, links followed. Paths elsewhere are not touched: no disk is asked about them.

    >>> uploaded("/etc/hostname", Path("/tmp/none"))
    False
    """
    try:
        plain, top = os.path.abspath(path), folder.resolve()  # noqa: PTH100 (resolve would ask the disk about any path)
        if not plain.startswith((f"{folder.absolute()}{os.sep}", f"{top}{os.sep}")):
            return False
        found = Path(plain).resolve(strict=True)
        return found.is_relative_to(top) and stat.S_ISREG(found.stat().st_mode)
    except (OSError, ValueError, RuntimeError):  # not there, NUL, a circle of links
        return False


def stored(folder: Path) -> int:
    """Bytes that the files in a folder take, each at least a block; what disappears meanwhile does not count."""
    total, left = 0, [os.fspath(folder)]
    while left:
        with suppress(OSError), os.scandir(left.pop()) as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    else:
                        total += max(entry.stat(follow_symlinks=False).st_size, BLOCK)
    return total


async def _whole_body(receive: Any) -> Any:
    """The JSON value that a request carries, or the refusal as a tuple."""
    data, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return 400, "The request was not complete."
        data, more = data + message.get("body", b""), message.get("more_body", False)
        if len(data) > MAX_BODY:
            return 413, f"At most {MAX_BODY} bytes are taken."
    try:
        value = json.loads(data, object_pairs_hook=_distinct)
    except (ValueError, RecursionError):
        return 400, "The body is no JSON."
    return value if isinstance(value, dict) and _shallow(value) else (400, "The body is no JSON object, or nested too deeply.")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ: of two equal ones, readers may choose either."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _shallow(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH):
        level = [i for v in level for i in (v.values() if isinstance(v, dict) else v if isinstance(v, list) else ())]
        if not level:
            return True
    return False


def _once(body: bytes, receive: Any) -> Any:
    """A `receive` that gives this body, and after it whatever comes (that the other side has gone)."""
    given = False

    async def again() -> Any:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
