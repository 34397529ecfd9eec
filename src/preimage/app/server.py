"""Serving the page: loopback unless another address is asked for, nothing from other hosts, private files that do not stay."""

from __future__ import annotations

import ipaddress
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, MissingExtra
from ..networks.network import known_networks
from .catalogue import Catalogue
from .jobs import Desk

if TYPE_CHECKING:
    from fastapi import FastAPI

MAX_UPLOAD = 32 * 2**20
"""Bytes of one uploaded file."""

MAX_BODY = 2**20
"""Bytes of anything else that is sent."""

MAX_STORED = 2 * 2**30
"""Bytes of all uploads and results together; beyond it nothing is taken until old ones have been deleted."""

LOOPBACK = ["localhost", "127.0.0.1", "[::1]", "::1"]

HEADERS = {
    # Gradio's page needs inline scripts and makes functions of templates; what matters is that it can reach this server alone.
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; worker-src 'self' blob:; connect-src 'self'; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


FIRST = "squeezenet1_1"
"""Stands first unless another network was asked for: it is small and always there."""


def networks_here(extra: Sequence[str] = ()) -> list[str]:
    """The networks asked for, then those known by name that come with trained weights."""
    known = [c.name for c in known_networks() if c.weights is not None and c.name not in extra]
    return [*extra, *sorted(known, key=lambda name: (name != FIRST, name))]


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder for uploads and results that only this user can read; it goes when the server ends.

    Gradio takes its place for files, and whether to report its use, from the environment: both are set while the folder is there.
    """
    with tempfile.TemporaryDirectory(prefix="preimage-app-") as name:
        ours = {"GRADIO_TEMP_DIR": name, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
        before = {key: os.environ.get(key) for key in ours}
        os.environ.update(ours)
        try:
            yield Path(name)
        finally:
            for key, value in before.items():
                os.environ.pop(key) if value is None else os.environ.__setitem__(key, value)


def make(catalogue: Catalogue, desk: Desk, *, local: bool = True) -> FastAPI:
    """The application, ready for any ASGI server. local: answer only requests that name this machine itself, so that no other
    site can reach the page through the visitor's browser. Raises MissingExtra without Gradio."""
    try:
        import gradio as gr
    except ImportError:
        raise MissingExtra("The interactive page needs Gradio: pip install 'preimage[app]'.") from None
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from . import page

    outer = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    blocks = page.build(catalogue, desk)
    gr.mount_gradio_app(
        outer,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=MAX_UPLOAD,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        theme=page.theme(),
        css=page.style(),
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
    )
    outer.add_middleware(_Gate, folder=desk.folder)
    if local:
        outer.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK, www_redirect=False)
    return outer


class _Gate:
    """Adds the security headers to every answer; refuses bodies that are too long, and uploads while the folder is full."""

    def __init__(self, app: Any, folder: Path) -> None:
        self.app, self.folder = app, folder

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in HEADERS.items())]
            await send(message)

        app = self.app
        if scope["type"] == "http" and (refused := self._refusal(scope)):
            from starlette.responses import JSONResponse

            app = JSONResponse({"detail": refused[1]}, status_code=refused[0])
        await app(scope, receive, send_with_headers if scope["type"] == "http" else send)

    def _refusal(self, scope: Any) -> tuple[int, str] | None:
        """The status and the words."""
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return None
        upload = scope["path"].endswith("/upload")
        length = dict(scope["headers"]).get(b"content-length", b"")
        if not length.isdigit():
            return 411, "The length of the body must be said beforehand."
        if int(length) > (MAX_UPLOAD + MAX_BODY if upload else MAX_BODY):
            return 413, f"At most {MAX_UPLOAD // 2**20} MiB are taken."
        if upload and stored(self.folder) > MAX_STORED:
            return 507, "The server's folder for uploads is full. Try again later."
        return None


def stored(folder: Path) -> int:
    """Bytes of all files in a folder; what disappears meanwhile does not count."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def is_loopback(host: str) -> bool:
    """
    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises InputError if the address cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"The page cannot be served at {host} port {port}: {reason}. Choose another --port, or 0 for any.") from None


def serve(app: FastAPI, bound: socket.socket) -> None:
    """Serve until Ctrl-C."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, server_header=False))
    with suppress(KeyboardInterrupt):
        server.run(sockets=[bound])
