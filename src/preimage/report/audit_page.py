"""The page of an audit: one finding a layer in plain words first, then the pictures, the attacks, the protections, methods and limits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ImageError, InputError, PreimageError
from ..files import read_own
from .archive import Archive, inside, summaries
from .charts import Chart, Curve
from .numbers import number_table, show_value
from .page import write_html
from .pictures import Album

TITLE = "What can be recovered from the features"
_LARGEST = 2**26  # bytes of a summary
_EACH = 12  # pictures of each finding
_FAILURES = 50
_WAYS = {"found by judge": "by an independent network", "found by ssim": "by structure", "found by pixels": "by pixels"}
_CLASSES = {"given away": "high", "told apart": "middle"}


def write_audit(store: Archive, path: Path, *, lead: str = "") -> Path:
    """Write the page of an audit as one HTML file and return its path.

    store: that of the audit, with its summary. lead: the first paragraph. Raises InputError where the summary is missing or no audit's.
    """
    file = store.path / "summary" / "audit" / "summary.json"
    try:
        data = json.loads(read_own(file, _LARGEST))
        page = _Page(store, path, data)
        values = page.values()
    except (OSError, ValueError, TypeError, AttributeError, KeyError, IndexError, RecursionError) as error:
        if isinstance(error, PreimageError):
            raise
        raise InputError(f"{str(file)!r} is no summary of an audit ({error!r}). Run the audit again.") from error
    return write_html(path, "audit.html", title=TITLE, lead=lead, **values)


@dataclass
class _Page:
    """The values that the template prints. data: the summary, as it was written."""

    store: Archive
    path: Path
    data: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.findings: list[Mapping[str, Any]] = list(self.data["findings"])
        records = list(self.store.records())
        self.rows = {r.key: r for r in records if r.status == "done" and r.experiment == "audit"}
        self.failed = [r for r in records if r.status == "failed" and r.experiment == "audit"]
        keys = [k for one in self.data["strip"] for k in one["keys"] if k] + [
            p["key"] for f in self.findings for p in f["pictures"][:_EACH]
        ]
        originals = [one["original"] for one in self.data["strip"]] + [p["original"] for f in self.findings for p in f["pictures"][:_EACH]]
        known = [self.rows[k].picture for k in keys if k in self.rows]
        known += [p for name in dict.fromkeys(originals) if (p := inside(self.store.path, name)) is not None]
        self.album = Album(self.path, known)

    def values(self) -> dict[str, Any]:
        """Everything, section by section."""
        summary = summaries(self.store.path)["audit"]
        versions, config = self._record()
        return {
            "intro": self._facts(config),
            "findings": [self._finding(f) for f in self.findings],
            "strip": self._strip(),
            "ladders": self._ladders(),
            "attacks": [(str(a["attack"]), str(a["knows"])) for a in self.data["attacks"]],
            "ladder_notes": [str(s) for s in self.data["ladder"]],
            "protections": self._protections(),
            "controls": self._controls(),
            "notes": summary.notes,
            "charts": summary.charts,
            "numbers": number_table(list(summary.columns), summary.rows),
            "columns": [(k, v) for k, v in summary.columns.items() if v],
            "repeat": str(self.data.get("repeat", "")),
            "failures": [(str(r.config.get("layer")), str(r.config.get("image")), r.reason) for r in self.failed[:_FAILURES]],
            "failed": len(self.failed),
            "versions": versions,
            "settings": [(k, show_value(config[k])) for k in ("network", "weights", "weights_sha256", "space", "size") if config.get(k)],
        }

    def _record(self) -> tuple[dict[str, str], Mapping[str, Any]]:
        """The software of one of the results, and the settings of its job."""
        if not self.rows:
            return {}, {}
        row = next(iter(self.rows.values()))
        try:
            versions = self.store.trace(row.key)[1].get("versions")
        except PreimageError:
            versions = None
        return {str(k): str(v) for k, v in (versions or {}).items()}, row.config

    def _facts(self, config: Mapping[str, Any]) -> list[tuple[str, str]]:
        images = max(int(f["images"]) for f in self.findings)
        layers = dict.fromkeys(f["layer"] for f in self.findings)
        found = [("network", str(config.get("network", ""))), ("images", str(images)), ("layers", str(len(layers)))]
        return [*found, ("attacks", str(len(self.data["attacks"]))), ("releases", str(len({f["release"] for f in self.findings})))]

    def _finding(self, one: Mapping[str, Any]) -> dict[str, Any]:
        where, _, words = str(one["sentence"]).partition(": ")
        pictures = [
            {
                "original": self._picture(inside(self.store.path, p["original"]), f"original: {p['image']}"),
                "image": self._picture(self.rows[p["key"]].picture if p["key"] in self.rows else None, f"reconstruction: {p['image']}"),
                "words": f"{p['image']}, {p['psnr']:.1f} dB" + (", found again" if p["found"] else ", not found"),
            }
            for p in one["pictures"][:_EACH]
        ]
        return {
            "where": where,
            "words": words,
            "exact": one["release"] == "exact",
            "level": str(one["level"]),
            "class": _CLASSES.get(str(one["level"]), "low"),
            "attack": str(one["attack"]),
            "pictures": pictures,
            "count": len(one["pictures"]),
        }

    def _strip(self) -> dict[str, Any]:
        """The worst images with their best reconstructions, a column a layer."""
        shown = [k for k, f in enumerate(self.findings) if f["release"] == "exact"] or list(range(len(self.findings)))
        rows = []
        for one in self.data["strip"]:
            cells = [self._picture(inside(self.store.path, one["original"]), f"original: {one['image']}")]
            for k, key in zip(shown, one["keys"], strict=True):
                words = f"{one['image']} from {self.findings[k]['layer']}"
                cells.append(self._picture(self.rows[key].picture if key in self.rows else None, words))
            rows.append((str(one["image"]), [[c] for c in cells]))
        return {"columns": ["original", *[str(self.findings[k]["layer"]) for k in shown]], "rows": rows}

    def _ladders(self) -> list[dict[str, Any]]:
        """For each number a table of layers and attacks, with the strongest marked."""
        rows = [r for r in self.data["rows"] if r.get("attack")]
        attacks = list(dict.fromkeys(str(r["attack"]) for r in rows))
        tables = []
        for name, title in (("psnr", "PSNR in dB"), *((n, f"found again {w}") for n, w in _WAYS.items())):
            if not any(r.get(name) is not None for r in rows):
                continue
            lines = []
            for f in self.findings:
                mine = [r for r in rows if (r["layer"], r["release"]) == (f["layer"], f["release"])]
                best = max((r[name] for r in mine if r.get(name) is not None), default=None)
                for known in dict.fromkeys(r.get("protection known") for r in mine):
                    by = {str(r["attack"]): r for r in mine if r.get("protection known") == known}
                    words = "" if known is None else "knows it" if known else "does not know it"
                    cells = [_with_interval(name, by.get(a), best) for a in attacks]
                    lines.append({"layer": f["layer"], "release": f["release"], "known": words, "cells": cells})
            tables.append({"title": title, "attacks": attacks, "lines": lines, "protected": any(line["known"] for line in lines)})
        return tables

    def _protections(self) -> list[dict[str, Any]]:
        """For each layer what its releases keep of the use and of the images, as a table and curves."""
        rows = [r for r in self.data["rows"] if r.get("attack")]
        found = []
        for layer in dict.fromkeys(str(f["layer"]) for f in self.findings):
            mine = [f for f in self.findings if f["layer"] == layer]
            if len(mine) < 2:
                continue
            names = [str(f["release"]) for f in mine]
            cost = [next((r.get("utility") for r in rows if (r["layer"], r["release"]) == (layer, n)), None) for n in names]
            way = next(n for n in _WAYS if n in mine[0]["numbers"])
            share = [f["numbers"][way]["value"] for f in mine]
            naive = [_naive(rows, layer, n, way) for n in names]
            places = [float(k) for k in range(len(names))]
            curves = [Curve("still of use: the network's own class", places, cost)] if any(c is not None for c in cost) else []
            curves += [Curve(f"found again {_WAYS[way]}, strongest attack", places, share)]
            curves += [Curve("the same, attacks that do not know the protection", places, naive)]
            table = number_table(
                ["release", "still of use", f"found again {_WAYS[way]}", "PSNR, dB", "strongest attack"],
                [[n, c, s, f["numbers"]["psnr"]["value"], f["attack"]] for n, c, s, f in zip(names, cost, share, mine, strict=True)],
            )
            found.append({"layer": layer, "chart": Chart("", curves, "", "share of images", names), "table": table})
        return found

    def _controls(self) -> dict[str, Any] | None:
        rows = self.data["controls"]
        ways = [n for n in _WAYS if any(r.get(n) is not None for r in rows)]
        if not rows:
            return None
        lines = [[r["control"], *[_share(r, n) for n in ways], f"{r['chance']:.0%}", r["images"]] for r in rows]
        return number_table(["control", *[f"found {_WAYS[n]}" for n in ways], "chance", "images"], lines)

    def _picture(self, path: Path | None, words: str) -> dict[str, Any]:
        if path is None:
            return {"missing": f"no picture: {words}"}
        try:
            found = self.album.picture(path)
        except ImageError as error:
            return {"missing": str(error)}
        return {
            "src": found.src,
            "link": found.link,
            "width": found.width,
            "height": found.height,
            "alt": words,
            "caption": "",
            "number": "",
        }


def _with_interval(name: str, row: Mapping[str, Any] | None, best: float | None) -> dict[str, Any]:
    value = None if row is None else row.get(name)
    if row is None or value is None:
        return {"text": "–", "best": False}
    return {"text": _share(row, name), "best": value == best}


def _share(row: Mapping[str, Any], name: str) -> str:
    """A number with its interval: of shares in percent."""
    value, low, high = (row.get(n) for n in (name, f"{name}_low", f"{name}_high"))
    if value is None:
        return "–"
    shown = ["–" if v is None else f"{v:.1f}" if name == "psnr" else f"{v:.0%}" for v in (value, low, high)]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def _naive(rows: Sequence[Mapping[str, Any]], layer: str, release: str, way: str) -> float | None:
    """What attacks find that do not know the protection."""
    mine = [r for r in rows if (r["layer"], r["release"]) == (layer, release) and not r.get("protection known")]
    return max((r[way] for r in mine if r.get(way) is not None), default=None)
