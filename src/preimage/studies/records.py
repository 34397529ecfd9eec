"""Records from anywhere: one place that says what a job's record may be, for lists, pages and mirrors. A store is data."""

from __future__ import annotations

import json
import math
import re
import types
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from ..errors import InputError, PreimageError, first_line
from ..files import is_plain_name, read_own
from .jobs import Job

LARGEST = 2**20  # bytes of a record
LARGEST_FILE = 2**30  # bytes of a file that one lists
KEY = re.compile(r"[0-9a-f]{64}")
_LONGEST = 2_000  # characters of a text
_DEEPEST = 6
_MOST = 2_000  # values in a config
_FILES = 64
_INTEGER = 2**63
_WHEN = re.compile(r"[0-9T:.+Z-]{0,40}")


def read_facts(path: Path, key: str) -> dict[str, Any]:
    """Read and check the record of a job from its file. Raises InputError, with what is wrong with it."""
    try:
        return check_facts(json.loads(read_own(path, LARGEST)), key)
    except PreimageError as error:
        raise InputError(str(error)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"it is no JSON that can be read ({first_line(error)}).") from error


def check_facts(facts: Any, key: str) -> dict[str, Any]:
    """Check the record of a job: its types, sizes, depth and numbers. Raises InputError, with what is wrong with it.

    Texts are made printable, and metrics that are not finite are left out.

    >>> check_facts({"key": "a"}, "b")
    Traceback (most recent call last):
    preimage.errors.InputError: it is the record of another result.
    """
    if not isinstance(facts, dict) or facts.get("key") != key:
        raise InputError("it is the record of another result.")
    if facts.get("status") not in ("done", "failed"):
        raise InputError("its status is neither done nor failed.")
    return {
        "key": key,
        "status": facts["status"],
        "config": check_config(facts.get("config")),
        "metrics": _metrics(facts.get("metrics")),
        "reason": printable(facts.get("reason"), "reason", 10_000),
        "created": _created(facts.get("created")),
        "seconds": _seconds(facts.get("seconds")),
        "measured": _measured(facts.get("measured")),
    }


def check_config(config: Any) -> dict[str, Any]:
    """Check the settings of a job: each setting of `jobs.Job` is of its kind, others are plain. Raises InputError."""
    if not isinstance(config, dict) or not isinstance(config.get("experiment"), str):
        raise InputError("its settings name no experiment.")
    left = [_MOST]
    found = {printable(name, "name of a setting", 100): _plain(value, left, 0) for name, value in config.items()}
    for name, kind in _kinds().items():
        if name in found and not _fits(found[name], kind):
            raise InputError(f"its setting {name!r} cannot be {_short(found[name])}.")
    return found


def check_sizes(facts: Any) -> dict[str, int]:
    """Check the files that a record lists with their sizes: plain names, no size below 0 or beyond `LARGEST_FILE`. Raises InputError."""
    sizes = facts.get("sizes") if isinstance(facts, dict) else None
    if not isinstance(sizes, dict) or len(sizes) > _FILES:
        raise InputError("it is no record of a result: it lists no files with their sizes.")
    for name, size in sizes.items():
        if not is_plain_name(name):
            raise InputError(f"it names files that none has: {_short(name)}.")
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= LARGEST_FILE:
            raise InputError(f"it says that {name} has {_short(size)} bytes.")
    return dict(sizes)


def printable(text: Any, what: str, longest: int = _LONGEST) -> str:
    """A text of bounded length as every page, table and terminal can have it. Raises InputError for anything else."""
    if not isinstance(text, str) or len(text) > longest:
        raise InputError(f"its {what} is no text of up to {longest} characters: {_short(text)}.")
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def clean(value: Any) -> Any:
    """Plain values with every text printable, for a file or a table.

    >>> clean({"image": ["caf\\udce9"]})
    {'image': ['caf?']}
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, Mapping):
        return {clean(k): clean(v) for k, v in value.items()}
    return [clean(v) for v in value] if isinstance(value, (list, tuple)) else value


def _plain(value: Any, left: list[int], depth: int) -> Any:
    left[0] -= 1
    if left[0] < 0 or depth > _DEEPEST:
        raise InputError(f"its settings are more than {_MOST} values, or deeper than {_DEEPEST}.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        if not math.isfinite(value) or (abs(value) >= _INTEGER and isinstance(value, int)):
            raise InputError(f"its settings hold {_short(value)}, which no setting can be.")
        return value
    if isinstance(value, str):
        return printable(value, "setting")
    if isinstance(value, list):
        return [_plain(v, left, depth + 1) for v in value]
    if isinstance(value, dict):
        return {printable(k, "name of a setting", 100): _plain(v, left, depth + 1) for k, v in value.items()}
    raise InputError(f"its settings hold {_short(value)}.")


def _measured(revisions: Any) -> dict[str, int]:
    """The revision of each metric with which it was taken; records of earlier versions have none."""
    if revisions is None:
        return {}
    if not isinstance(revisions, dict) or len(revisions) > _MOST:
        raise InputError("its metrics have no revisions by name.")
    strange = [v for v in revisions.values() if isinstance(v, bool) or not isinstance(v, int) or not 0 < v < _INTEGER]
    if strange:
        raise InputError(f"a metric cannot be of the revision {_short(strange[0])}.")
    return {printable(name, "name of a metric", 100): v for name, v in revisions.items()}


def _metrics(metrics: Any) -> dict[str, float]:
    if not isinstance(metrics, dict) or len(metrics) > _MOST:
        raise InputError("its metrics are no numbers by name.")
    found = {}
    for name, value in metrics.items():
        if value is None:  # it was not finite
            continue
        if isinstance(value, bool) or not isinstance(value, (int, float)) or (isinstance(value, int) and abs(value) >= _INTEGER):
            raise InputError(f"its metric {_short(name)} is {_short(value)}.")
        if math.isfinite(value):
            found[printable(name, "name of a metric", 100)] = value
    return found


def _created(value: Any) -> str:
    if not isinstance(value, str) or not _WHEN.fullmatch(value):
        raise InputError(f"it was made at no time: {_short(value)}.")
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
        raise InputError(f"it took {_short(value)} seconds.")
    return float(value)


@cache
def _kinds() -> dict[str, Any]:
    """The type of each setting of a job, by the job's own fields; a picture's place is a text."""
    hints = get_type_hints(Job)
    return {name: hint for name, hint in hints.items() if name in Job.__dataclass_fields__}


def _fits(value: Any, kind: Any) -> bool:
    """Whether a plain value can be read as this type."""
    origin, given = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return any(_fits(value, k) for k in given)
    if origin in (tuple, list):
        inner = [k for k in given if k is not Ellipsis]
        return isinstance(value, list) and all(any(_fits(v, k) for k in inner) for v in value)
    if kind is type(None):
        return value is None
    if kind is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind) if kind in (str, bool) else True


def _short(value: Any) -> str:
    """What a value is, in few characters, whatever it is."""
    if isinstance(value, (dict, list)):
        return f"a {'list' if isinstance(value, list) else 'mapping'} of {len(value)}"
    if isinstance(value, int) and abs(value) > _INTEGER:
        return "a number of more than 19 digits"
    return ascii(value)[:60]
