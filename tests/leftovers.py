"""What a test module may not leave behind: event loops, sockets, threads, processes, files, and settings of the whole process."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

PATIENCE = 10.0  # seconds that threads and processes, which were told to end, may take on a busy machine
_THREADS = {"TMonitor": "tqdm's, which looks at bars that do not move; one for the whole process"}
_PROCESSES = {
    "multiprocessing.resource_tracker": "Python's own, one for the whole process",
    "torch/_inductor/compile_worker": "torch.compile's, one set for the whole process; it ends when its parent does",
}
_FILES = {
    "torchinductor_": "what torch.compile keeps for the user's next program",
    ".org.chromium.Chromium.": "Chromium's own, of which it leaves one now and then when it is closed",
}
_RC = {"backend", "backend_fallback"}  # Gradio chooses matplotlib's backend when it is imported
_VARIABLES = {  # by how their names begin; libraries set them for the whole process when they are first imported or used
    "HF_HUB_DISABLE_TELEMETRY": "Gradio's, when it is imported",
    "PYTEST_": "pytest's own",
    "KMP_": "scikit-learn's, for OpenMP",
    "_TORCHINDUCTOR_": "torch.compile's",
    "CUDA_": "torch's, when it first looks for a GPU",
}
_SIGNALS = [s for n in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGPIPE") if (s := getattr(signal, n, None))]


@dataclass(frozen=True)
class State:
    """What there is at one moment. Loops and sockets are those that are open."""

    open: weakref.WeakSet[Any]
    threads: frozenset[int]
    processes: Mapping[int, str]
    files: frozenset[Path]
    settings: Mapping[str, Any] = field(repr=False)

    @classmethod
    def now(cls) -> State:
        return cls(
            weakref.WeakSet(_open()),
            frozenset(t.ident or 0 for t in threading.enumerate()),
            children(),
            _files(),
            {name: read() for name, read in SETTINGS.items()},
        )

    def left(self) -> list[str]:
        """In words, what has come since and is still there, after some patience for what is about to end."""
        end = time.monotonic() + PATIENCE
        while (found := self._running()) and time.monotonic() < end:
            time.sleep(0.05)
        with warnings.catch_warnings():  # sockets that are open are counted below; closed ones of libraries say so when they are collected
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()  # in its own module, so that what a library left to the collector is not blamed on another one
        found += [f"open: {thing!r:.200}" for thing in _open() if thing not in self.open]
        found += [f"a file or folder: {path}" for path in sorted(_files() - self.files)]
        return found + [
            f"{name}: {_change(self.settings[name], now)}" for name, read in SETTINGS.items() if self.settings[name] != (now := read())
        ]

    def _running(self) -> list[str]:
        threads = [
            t for t in threading.enumerate() if t.ident not in self.threads and type(t).__name__ not in _THREADS and t not in _compilers()
        ]
        return [f"a {'daemon ' if t.daemon else ''}thread: {t.name}" for t in threads] + [
            f"a process: {line:.200}"
            for pid, line in children().items()
            if pid not in self.processes and not any(p in line for p in _PROCESSES)
        ]


def _files() -> frozenset[Path]:
    return frozenset(p for p in Path(tempfile.gettempdir()).iterdir() if not p.name.startswith(tuple(_FILES)))


def _compilers() -> set[threading.Thread]:
    """The threads that torch.compile keeps for the whole process, if it has any."""
    module = sys.modules.get("torch._inductor.async_compile")
    pool = module.AsyncCompile.pool if module is not None else None
    return set(pool()._threads) if pool is not None and pool.cache_info().currsize else set()


def children() -> dict[int, str]:
    """The processes that this one has started and that have not ended, with their command lines. None where there is no /proc."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
    return found


def _open() -> Iterable[Any]:
    for thing in gc.get_objects():
        kind = type(thing)  # isinstance would ask lazy modules and proxies for their class
        if issubclass(kind, socket.socket):
            if thing.fileno() != -1:
                yield thing
        elif issubclass(kind, asyncio.AbstractEventLoop) and not thing.is_closed():
            yield thing


def _loggers() -> dict[str, tuple[Any, ...]]:
    names = ["preimage", *(n for n in logging.root.manager.loggerDict if n.startswith("preimage."))]
    loggers = [logging.root, *(logging.getLogger(n) for n in names)]
    handlers = [h for h in logging.root.handlers if not type(h).__module__.startswith("_pytest")]
    changed = {g.name: now for g in loggers if (now := (g.level, g.propagate, g.disabled)) != (logging.NOTSET, True, False)}
    return changed | {"handlers": (handlers, logging.root.manager.disable)}


def _matplotlib() -> dict[str, Any]:
    import matplotlib

    return {k: v for k, v in dict(matplotlib.rcParams).items() if k not in _RC}


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _change(before: Any, now: Any) -> str:
    """What of a setting is another."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = [k for k in {**before, **now} if before.get(k) != now.get(k)]
        return ", ".join(f"{k} was {before.get(k)!r:.80} and is {now.get(k)!r:.80}" for k in keys)
    if isinstance(before, list) and isinstance(now, list):
        return f"less {[v for v in before if v not in now]}, more {[v for v in now if v not in before]}"
    return f"was {before!r:.200} and is {now!r:.200}"


SETTINGS: Mapping[str, Callable[[], Any]] = {
    "torch's threads": torch.get_num_threads,
    "torch's default dtype": torch.get_default_dtype,
    "torch's default device": torch.get_default_device,
    "torch's grad mode": torch.is_grad_enabled,
    "torch's inference mode": torch.is_inference_mode_enabled,
    "torch's autocast": lambda: (torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")),
    "torch's deterministic algorithms": lambda: (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    ),
    "torch's matmul precision": torch.get_float32_matmul_precision,
    "torch's cudnn": lambda: (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
    "numpy's error handling": np.geterr,
    "Pillow's largest image": lambda: PIL.Image.MAX_IMAGE_PIXELS,
    "the folder": os.getcwd,
    "the environment": lambda: {k: v for k, v in os.environ.items() if not k.startswith(tuple(_VARIABLES))},
    "modules that cannot be imported": lambda: {name for name, module in list(sys.modules.items()) if module is None},
    "sys.excepthook": lambda: sys.excepthook,
    "matplotlib": _matplotlib,
    "logging": _loggers,
    "signals": lambda: {s.name: signal.getsignal(s) for s in _SIGNALS},
    "the mask of new files": _umask,
}
