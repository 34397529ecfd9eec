"""What a store's results say, in the words with which its page begins."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median

from .archive import Row
from .judged import RANK
from .numbers import show_metric


def findings(rows: Sequence[Row], layers: Sequence[str]) -> str:
    """Return the sentences that say what was found, of finished results; an empty text where no task is known by its numbers.

    Parameters
    ----------
    rows : finished results
    layers : their layers in the order in which the network runs them

    Returns
    -------
    str
        What inversions kept at the first and the last layer, how far images go beyond photographs, how often another network
        recognises them. Numbers of several results are medians, which is said.
    """
    tasks: dict[str, list[Row]] = {}
    for row in rows:
        tasks.setdefault(str(row.config.get("task")), []).append(row)
    said = [words(found, layers) for task, words in _SAYS.items() if (found := tasks.get(task))]
    return " ".join(filter(None, [*said, _judged(rows)]))


def _inverted(rows: Sequence[Row], layers: Sequence[str]) -> str:
    errors = {layer: found for layer in layers if (found := _numbers([r for r in rows if r.config.get("layer") == layer], "error"))}
    if not errors:
        return ""
    ends = list(dict.fromkeys([next(iter(errors)), list(errors)[-1]]))
    parts = [f"by {show_metric('error', median(errors[layer]))} at {layer}{_of(len(errors[layer]))}" for layer in ends]
    between = f" {len(errors)} layers were tried, of which these are the first and the last." if len(errors) > 2 else ""
    return (
        "Images found from the features of one layer alone have features that differ from the photograph's "
        f"{' and '.join(parts)}; at 0% the layer could not tell the two apart.{between}"
    )


def _maximized(rows: Sequence[Row], layers: Sequence[str]) -> str:
    units = len({(r.config.get("network"), r.config.get("layer"), str(r.config.get("unit"))) for r in rows})
    shown = f"{_many(len(rows), 'image')} of what {_many(units, 'unit')} look{'s' if units == 1 else ''} for"
    if times := _numbers(rows, "natural_times"):
        beyond = sum(t > 1 for t in times)
        return (
            f"{shown}: {beyond:,} of {len(times):,} excite their unit more than any photograph that was tried, "
            f"{median(times):.3g} times as much{_of(len(times))}."
        )
    return f"{shown}."


def _exaggerated(rows: Sequence[Row], layers: Sequence[str]) -> str:
    if not (times := _numbers(rows, "activation")):
        return ""
    return f"In {_many(len(times), 'caricature')} a layer sees {median(times):.3g} times what it sees in the photograph{_of(len(times))}."


_SAYS: dict[str, Callable[[Sequence[Row], Sequence[str]], str]] = {
    "invert": _inverted,
    "maximize": _maximized,
    "caricature": _exaggerated,
}


def _judged(rows: Sequence[Row]) -> str:
    """How often each judge of the store puts first what a picture should show."""
    names = dict.fromkeys(m for r in rows for m in r.metrics if m.startswith(RANK))
    ranks = {name.removeprefix(RANK): _numbers(rows, name) for name in names}
    said = "{}, which made none of them, puts {:,} of {:,} first."
    return " ".join(said.format(name, sum(n <= 1 for n in r), len(r)) for name, r in ranks.items() if r)


def _numbers(rows: Sequence[Row], name: str) -> list[float]:
    return [v for r in rows if (v := r.metrics.get(name)) is not None and math.isfinite(v)]


def _many(count: int, what: str) -> str:
    """A number of things in words.

    >>> _many(1, "unit"), _many(1200, "unit")
    ('1 unit', '1,200 units')
    """
    return f"{count:,} {what}{'s' if count != 1 else ''}"


def _of(count: int) -> str:
    """How many results a number is the median of.

    >>> _of(1), _of(1200)
    ('', ' (median of 1,200)')
    """
    return f" (median of {count:,})" if count > 1 else ""
