"""One thread at a time at a module: a session changes its modes, weights and hooks, which another thread would see."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ..errors import InputError


class Turns:
    """Who is at which modules. A thread waits while another is at one of the modules that it wants; it may itself take them again.

    A module is taken with all that is in it, so that two networks which share a part are not used at once either. Threads that would
    wait for each other for ever are refused in words. One that has ended holds nothing.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: list[tuple[threading.Thread, frozenset[int]]] = []
        self._wanted: dict[threading.Thread, frozenset[int]] = {}

    @contextmanager
    def take(self, module: nn.Module) -> Iterator[None]:
        """Wait for a module and hold it. Raises InputError where the thread that holds it waits for this one."""
        own = (threading.current_thread(), frozenset(map(id, module.modules())))
        with self._changed:
            self._wait(*own)
            self._held.append(own)
        try:
            yield
        finally:
            with self._changed:
                self._held.remove(own)
                self._changed.notify_all()

    def _wait(self, me: threading.Thread, wanted: frozenset[int]) -> None:
        self._wanted[me] = wanted
        try:
            while self._holders(me, wanted):
                if me in self._waited_for(me):
                    raise InputError(
                        "Two threads wait for each other's networks: each is inside a session of one and calls the other's. "
                        "Leave the first session before the second begins, or take the networks in the same order in both threads."
                    )
                self._changed.wait()
        finally:
            del self._wanted[me]

    def _holders(self, me: threading.Thread, wanted: frozenset[int]) -> set[threading.Thread]:
        return {t for t, held in self._held if t is not me and t.is_alive() and not held.isdisjoint(wanted)}

    def _waited_for(self, me: threading.Thread) -> set[threading.Thread]:
        """Every thread that must go on before this one can."""
        found: set[threading.Thread] = set()
        open_ends = [me]
        while open_ends:
            thread = open_ends.pop()
            new = self._holders(thread, self._wanted.get(thread, frozenset())) - found
            found |= new
            open_ends += new
        return found


TURNS = Turns()
"""The turns of this process."""
