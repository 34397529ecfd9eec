"""Which cases of a test are slow: `make test` takes their quicker siblings, `make test-slow` all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def slow(cases: Iterable[Any], *names: str) -> list[Any]:
    """The cases of a parametrized test, those with these names marked slow; the name of a case with several values is its first."""
    found: list[Any] = []
    given = list(cases)
    for case in given:
        values = case if isinstance(case, tuple) else (case,)
        name = values[0] if isinstance(values[0], str) else getattr(values[0], "__name__", str(values[0]))
        found.append(pytest.param(*values, id=name, marks=[pytest.mark.slow] if name in names else []))
    known = {p.id for p in found}
    assert known >= set(names), f"no case is called {sorted(set(names) - known)}"
    return found
