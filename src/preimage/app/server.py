"""Serving the page: loopback unless another address is asked for, nothing from other hosts, private files that do not stay."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ..errors import InputError, missing_extra
from ..networks.network import known_networks
from .catalogue import Catalogue
from .gate import MAX_UPLOAD, Gate
from .jobs import Desk
from .units import UnitPages

if TYPE_CHECKING:
    from fastapi import FastAPI

_PREFIX, _HELD = "preimage-app-", ".held"
LOOPBACK = ["localhost", "127.0.0.1", "[::1]", "::1"]

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
    _sweep()
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as name, _held(Path(name) / _HELD):
        ours = {"GRADIO_TEMP_DIR": name, "GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
        before = {key: os.environ.get(key) for key in ours}
        os.environ.update(ours)
        try:
            yield Path(name)
        finally:
            for key, value in before.items():
                os.environ.pop(key) if value is None else os.environ.__setitem__(key, value)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold a lock that ends with this process, however it ends, so that its folder can be told from one that nobody needs."""
    with path.open("wb") as file:
        _lock(file)
        yield


def _lock(file: IO[bytes]) -> None:
    """Take the lock of an open file. Raises OSError where somebody has it."""
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sweep() -> None:
    """Delete the folders of servers that were killed, with what was uploaded there. Those of others, and of live ones, stay."""
    if sys.platform == "win32":
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with (folder / _HELD).open("rb") as file:
                _lock(file)  # an OSError where its server runs
                shutil.rmtree(folder, ignore_errors=True)


def make(catalogue: Catalogue, desk: Desk, units: UnitPages | None = None, *, local: bool = True) -> FastAPI:
    """Make the application, ready for any ASGI server. Raises MissingExtra without Gradio.

    units: of the networks that statistics were given of. local: answer only requests that name this machine itself, so that no other site
    can reach the page through the visitor's browser.
    """
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise missing_extra("The interactive page needs Gradio", "app") from None

    async def made() -> FastAPI:  # where no loop runs Gradio makes one for each lock, and leaves them open
        return _made(catalogue, desk, units, local)

    with ThreadPoolExecutor(1) as pool:  # a thread of its own, as a thread in which a loop runs cannot run another
        return pool.submit(lambda: asyncio.run(made())).result()


def _made(catalogue: Catalogue, desk: Desk, units: UnitPages | None, local: bool) -> FastAPI:
    import gradio as gr
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from . import page

    outer = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    blocks = page.build(catalogue, desk, units)
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
        head=page.head(),
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
    )
    outer.add_middleware(Gate, folder=desk.folder)
    if local:
        outer.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK, www_redirect=False)
    return outer


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
        family, *_, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        address = ipaddress.ip_address(str(where[0]).partition("%")[0])
        if address.is_multicast or (address.version == 4 and address.is_reserved):  # some systems listen there, and nobody can call
            raise OSError(None, "no address of a machine")
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"The page cannot be served at {host} port {port}: {reason}. Choose another --port, or 0 for any.") from None


def serve(app: FastAPI, bound: socket.socket) -> None:
    """Serve until Ctrl-C. Another signal of `ending_signals` raises SystemExit when the answers under way have been given."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, server_header=False))
    hung_up = threading.Event()

    def hang_up(number: int, frame: Any) -> None:  # the one that uvicorn does not wait for
        hung_up.set()
        server.should_exit = True

    number = getattr(signal, "SIGHUP", None)
    before = None if number is None else signal.getsignal(number)
    if number is not None and callable(before):  # neither ignored nor left to the system
        signal.signal(number, hang_up)
    with suppress(KeyboardInterrupt):
        server.run(sockets=[bound])
    if number is not None and callable(before):
        signal.signal(number, before)
    if number is not None and hung_up.is_set():
        signal.raise_signal(number)


@contextmanager
def ending_signals() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP end what is inside by an exception, so that files are deleted; a second one changes nothing.

    SIGTERM and SIGHUP raise SystemExit of 128 and their number. A signal that is ignored (as by nohup) stays so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [n for name in ("SIGINT", "SIGTERM", "SIGHUP") if (n := getattr(signal, name, None)) is not None]
    before = {n: found for n in numbers if (found := signal.getsignal(n)) not in (signal.SIG_IGN, None)}

    def end(number: int, frame: Any) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    for n in before:
        signal.signal(n, end)
    try:
        yield
    finally:
        for n, found in before.items():
            signal.signal(n, found)
