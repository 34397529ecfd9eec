"""Which numbers an option takes: one table for Python, the command line, jobs and the page, looked at before anything is made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from .errors import InputError


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included. whole: whole ones alone. open: low itself is not among them. endless: infinity is.

    about: what the number is, for the message.
    """

    low: float
    high: float
    whole: bool = True
    open: bool = False
    endless: bool = False
    about: str = ""

    @property
    def text(self) -> str:
        """What is wanted, in words."""
        if self.open:
            return f"{self.about}a number above {self.low:g}"
        return f"{self.about}a {'whole ' * self.whole}number of at least {self.low:g}"


MOST_ITERATIONS = 10**7
_COUNT, _AMOUNT = Range(1, 10**9), Range(0, 1e30, whole=False, open=True)
RANGES: Mapping[str, Range] = {
    # of a task
    "C": Range(0, 1e30, whole=False, open=True, about="the weight of the loss, "),
    "iterations": Range(1, MOST_ITERATIONS),
    "restarts": Range(1, 10**5),
    "restart": Range(0, 10**9),
    "seed": Range(0, 2**63 - 1),
    "batch": Range(1, 10**6),
    "frames": Range(0, MOST_ITERATIONS),
    "jitter": Range(1, 4096),
    "leak": Range(0, 1, whole=False),
    "bound": Range(0, math.inf, whole=False, open=True, endless=True),
    "Z": _AMOUNT,
    "beta": Range(0, 100, whole=False, open=True),
    # of a solver
    "rate": _AMOUNT,
    "first_step": _AMOUNT,
    "tolerance": Range(0, 1, whole=False),
    "memory": Range(1, 1000),
    "opened": Range(0, MOST_ITERATIONS),
    "closed_slope": Range(0, 1, whole=False),
    "pool_share": Range(0, 1, whole=False),
    # of a study
    "workers": Range(1, 4096),
    "threads": Range(1, 1024),  # OpenMP ends the process at some ten thousand
    "units": _COUNT,
    "groups": Range(1, 10**6),
    "positions": Range(1, 9999),
    # of statistics, inverses and vocabularies
    "top": Range(0, 10**6),
    "crop": Range(0, 512),
    "side": Range(8, 4096),
    "sample": Range(0, 10**7),
    "readers": Range(0, 1024),
    "seconds": Range(0, 1e9, whole=False),
    "crops": _COUNT,
    "grid": Range(2, 1000, about="the fields along a side of the map, "),
    "kernel": Range(1, 999),
    "overlap": Range(1, 999),
    "rank": _COUNT,
    "width": Range(1, 8192),
    "hidden": Range(1, 65536),
    "words": _COUNT,
    "descriptors": _COUNT,
}


def checked(name: str, value: Any, told: str | None = None) -> Any:
    """Return the number, a numpy one as Python's own, if the option takes it. told: what the message calls it. Raises InputError.

    >>> checked("iterations", 300), checked("C", 0.5)
    (300, 0.5)
    >>> checked("seed", -1)
    Traceback (most recent call last):
    preimage.errors.InputError: seed is a whole number of at least 0; got -1.
    """
    found = RANGES[name]
    number = _is_number(value, Integral if found.whole else Real)
    if not number or not _inside(value, found):
        high = number and value > found.high
        wanted = f"at most {found.high:,.10g}" if high else found.text
        raise InputError(f"{told or name} is {wanted}; got {value!r:.80}.")
    return int(value) if found.whole else float(value)


def is_zero(value: Any) -> bool:
    """Return whether a value is the whole number 0, Python's or numpy's; not False."""
    return _is_number(value, Integral) and bool(value == 0)


def is_real(value: Any) -> bool:
    """Return whether a value is one real number, Python's or numpy's."""
    return _is_number(value, Real)


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _inside(value: float, found: Range) -> bool:
    if math.isnan(value) or (math.isinf(value) and not found.endless):
        return False
    return value <= found.high and (value > found.low if found.open else value >= found.low)


def fraction(name: str, value: Any) -> float:
    """Return a number from 0 to less than 1, as a decay is. Raises InputError.

    >>> fraction("rho", 0.9)
    0.9
    """
    if not _is_number(value, Real) or not 0 <= value < 1:
        raise InputError(f"{name} is a number from 0 to less than 1; got {value!r:.80}.")
    return float(value)
