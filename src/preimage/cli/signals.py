"""Ctrl-C, a plain kill and a closed terminal: the first ends the work and keeps what was found; none ends the keeping."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

_PATIENCE = 3  # of so many signals the last is obeyed at once, unless something is being saved


class _Signals:
    """What has come, and whether something is being saved."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.came: list[int] = []
        self.saving = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # a child that was forked has nothing to keep
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.came.append(number)
        if self.saving:
            return
        if len(self.came) == 1 or len(self.came) >= _PATIENCE:
            raise KeyboardInterrupt
        tell("preimage: ending; once more to give up what was found")


_signals: _Signals | None = None


def tell(line: str) -> None:
    """Print a line on stderr, if there is one and somebody reads it: saying something never ends anything."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(line, file=sys.stderr, flush=True)


@contextmanager
def obeying() -> Iterator[None]:
    """For a while SIGTERM and SIGHUP end the work as Ctrl-C does; those that are ignored, as by nohup, stay so."""
    global _signals
    if _signals is not None or not _in_main_thread():
        yield
        return
    mine = _signals = _Signals()
    before: dict[int, Any] = {}
    try:
        for number in _numbers():
            found = signal.getsignal(number)
            if found is not signal.SIG_IGN and found is not None:
                before[number] = signal.signal(number, mine)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _signals = None


@contextmanager
def saving() -> Iterator[None]:
    """No signal ends what is done in here; what came meanwhile is told by `exit_code`."""
    signals = _signals
    if signals is None:
        yield
        return
    signals.saving += 1
    try:
        yield
    finally:
        signals.saving -= 1


def exit_code() -> int:
    """128 and the number of the first signal that came, as a shell reports it: 130 for Ctrl-C. 0 if none came."""
    return 128 + _signals.came[0] if _signals is not None and _signals.came else 0


def _numbers() -> list[int]:
    return [int(getattr(signal, name)) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def _in_main_thread() -> bool:
    import threading

    return threading.current_thread() is threading.main_thread()
