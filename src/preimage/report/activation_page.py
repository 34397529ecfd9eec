"""The page of an activation atlas: a map that is zoomed and moved by mouse, touch and keys, with natural examples behind each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .page import script_json, write_html


def write_activation_atlas(folder: Path, about: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> Path:
    """Write index.html of an atlas whose pictures are in the folder's `cells`, and return its path.

    cells: of each one row, column, count, channels, and why it failed or "". The page opens from disk and asks no network for anything.
    """
    rows = [dict(c) | {"name": f"{c['row']:02}-{c['column']:02}"} for c in cells]
    taken = {(c["row"], c["column"]) for c in rows}
    data = [[c["row"], c["column"], c["count"], c["channels"], c["failed"]] for c in rows]
    return write_html(
        folder / "index.html",
        "activations.html",
        assets=("activations",),
        title=f"Activation atlas of {about['network']}, {about['layer']}",
        about=about,
        cells=rows,
        count=len(taken),
        activations=sum(c["count"] for c in rows),
        data=script_json({"grid": about["grid"], "cells": data}),
        versions={},
    )
