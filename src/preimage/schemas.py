"""What machines are told: the kinds of JSON that the package writes, each with its schema and the version of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from .registry import unknown

FILE = Path(__file__).parent / "data" / "schemas.json"


@cache
def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON schema (draft 2020-12) of every kind, by its name.

    >>> sorted(schemas())[:4]
    ['audit', 'compare', 'direction', 'doctor']
    """
    found: dict[str, dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def schema(kind: str) -> dict[str, Any]:
    """Return the JSON schema of a kind. Raises UnknownName.

    >>> schema("layers")["properties"]["schema"]
    {'const': 'preimage/layers/1'}
    """
    if kind not in schemas():
        raise unknown("kind of JSON", kind, list(schemas()), "preimage schema")
    return schemas()[kind]


def said(kind: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts as a machine is told them: first which schema they keep; numbers that are not finite, which JSON has not, are null.

    >>> said("direction", {"accuracy": [0.5, float("nan")]})
    {'schema': 'preimage/direction/1', 'accuracy': [0.5, None]}
    """
    return {"schema": schema(kind)["properties"]["schema"]["const"], **finite(dict(facts))}


def finite(value: Any) -> Any:
    """Return plain values in which null stands for a number that is not finite.

    >>> finite({"a": [1.0, float("inf")], "b": "nan"})
    {'a': [1.0, None], 'b': 'nan'}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    return [finite(v) for v in value] if isinstance(value, (list, tuple)) else value
