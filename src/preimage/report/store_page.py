"""The page of a store: every experiment's pictures, curves, energies, settings and failures, from the store alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..bars import progress_bar
from ..errors import ImageError
from .archive import Archive, Row, Summary, inside
from .boxes import Geometry, central_box
from .catalogue import FIRST, Records, captions, columns, encode, identities
from .findings import findings
from .grids import AXES, Grid, sample
from .numbers import number_table, show_duration, show_metric, show_value
from .page import script_json, write_html
from .pictures import INLINE_LIMIT, Album
from .sheets import Folder
from .traces import short_trace
from .view import StoreView

_SHOWN = 12  # values of a setting that are listed
_ROWS = 200  # rows of an experiment's own table that are printed; a longer one is in its table.csv


GALLERY_FROM = 400
"""Pictures from which on a page shows samples of them and has them all in a gallery, whose thumbnails are in a folder beside it."""

_SAMPLES = 240  # pictures on such a page above its gallery, shared by its experiments, but of each at least and at most:
_EACH = (12, 96)
_FAILURES = 500  # that such a page lists


def write_report(
    store: Archive,
    path: Path,
    *,
    title: str = "",
    lead: str = "",
    inline_limit: int = INLINE_LIMIT,
    gallery_from: int = GALLERY_FROM,
    copy: bool = False,
    progress: bool = False,
) -> Path:
    """Write the page of a store as one HTML file, whole or not at all, and return its path.

    store: a `preimage.store.Store`. title, lead: heading and first paragraph, plain text; by default what was found, in words. Pictures
    are inside the page while their PNGs have at most `inline_limit` bytes together; else it has thumbnails, and the files, wherever
    they are relative to the page, are shown when one is enlarged. From `gallery_from` pictures on it has a gallery of them all, with a
    search: its thumbnails are in a folder, NAME_files beside NAME.html, and `copy` puts the whole pictures there too, so that the two
    can leave the store. progress: show bars. Raises InputError for a summary that cannot be read and ResultFolderError for a damaged
    result or a folder that cannot be written.
    """
    view = StoreView(store, progress)
    if len(view.done) >= gallery_from:
        return _write_large(view, path, title, lead, copy, progress)
    known = [*(view.rows[i].picture for i in view.done), *(p for p in view.originals if p is not None)]
    known += [p for s in view.summaries.values() for p in (*s.figures, *s.beside.values())]
    return write_html(path, "report.html", **_Page(view, path, Album(path, known, inline_limit)).values(title, lead))


def _write_large(view: StoreView, path: Path, title: str, lead: str, copy: bool, progress: bool) -> Path:
    """The page with a gallery: its folder first, then the page, then what an earlier page left in the folder goes."""

    folder, records = Folder(path), Records.of(view)
    with progress_bar(total=len(records.rows), desc="pictures", unit="picture", shown=progress) as bar:
        pictures = records.pictures(folder, copy, bar.update)
    words = captions(records.rows)
    catalogue = {
        "records": pictures,
        "ids": identities([r.key for r in records.rows]),
        "first": encode(words[0]),
        "second": encode(words[1]),
        "columns": [c.packed() for c in columns(records.rows, view.layers())],
    }

    def link(file: Path) -> str:
        return folder.copy(file) if copy and inside(view.store.path, str(file)) else folder.link(file)

    album = Album(path, (), limit=-1, link=link)
    samples = min(max(_SAMPLES // max(len(view.experiments()), 1), _EACH[0]), _EACH[1])
    page = _Page(view, path, album, samples=samples).values(title, lead)
    data = {"catalogue": script_json(catalogue), "energies": script_json(records.energies()), "count": len(records.rows)}
    written = write_html(path, "report.html", gallery=True, **page, **data)
    folder.tidy()
    return written


@dataclass
class _Page:
    """The values that the template prints. samples: of so many pictures of each experiment, as the rest is in the gallery."""

    view: StoreView
    path: Path
    album: Album
    samples: int | None = None
    details: list[dict[str, Any]] = field(default_factory=list)

    def values(self, title: str, lead: str) -> dict[str, Any]:
        view = self.view
        sections = [self.section(k, name) for k, name in enumerate(view.experiments(), 1)]
        networks = dict.fromkeys(str(r.config["network"]) for r in view.rows if r.config.get("network"))
        return {
            "title": title or f"Pre-images of {' and '.join(networks) or view.store.path.name}",
            "lead": lead or findings([view.rows[i] for i in view.done], view.layers()),
            "intro": self.intro(),
            "sections": sections,
            "fields": [f for name, known in view.geometries.items() if (f := self.fields(name, known))],
            "unknown_networks": view.unknown_networks,
            "damaged": list(view.damaged.items())[:_FAILURES],
            "damaged_count": len(view.damaged),
            "settings": _settings(view.rows),
            "table": self.table() if self.samples is None else None,
            "failures": [
                {"what": view.name(r), "reason": r.reason, "when": _when(r.created), "key": r.key}
                for r in (view.failed if self.samples is None else view.failed[:_FAILURES])
            ],
            "failed": len(view.failed),
            "details": {"records": self.details},
            "versions": {k: ", ".join(sorted(v)) for k, v in sorted(view.versions.items())},
            "whole": self.album.whole,
        }

    def intro(self) -> list[tuple[str, str]]:
        rows = self.view.rows

        def kinds(key: str) -> int:
            return len({str(r.config[key]) for r in rows if r.config.get(key) is not None})

        counts = [(len(self.view.done), "pre-image"), (len(self.view.failed), "failed"), (len(self.view.experiments()), "experiment")]
        counts += [(kinds("network"), "network"), (kinds("layer"), "layer"), (kinds("original"), "photograph")]
        facts = [(name if n == 1 or name == "failed" else f"{name}s", f"{n:,}") for n, name in counts if n or name == "pre-image"]
        return [*facts, ("computed in", show_duration(sum(r.seconds or 0.0 for r in rows)))]

    def section(self, k: int, experiment: str) -> dict[str, Any]:
        view, found = self.view, self.view.summaries.get(experiment)
        members, grids = view.members(experiment), view.grids(experiment)
        shown = grids if self.samples is None else sample(grids, self.samples)
        drawn = [self.grid(g, members) for g in shown]
        values = {
            "id": f"experiment-{k}",
            "name": experiment,
            "title": experiment,
            "grids": drawn,
            "shown": sum(len(g["gallery"]) + sum(len(cell) for _, row in g["rows"] for cell in row) for g in drawn),
            "energies": view.energies(experiment),
            "failed": sum(r.experiment == experiment for r in view.failed),
            "count": len(members),
        }
        return values | self.summary(found, with_figures=not members) if found else values

    def summary(self, found: Summary, with_figures: bool) -> dict[str, Any]:
        """What an experiment says of itself; its figures too, where the page has no pictures and no curves to draw them from."""
        shown = [
            self.picture(p) | {"alt": p.stem, "caption": p.stem, "number": ""} for p in found.figures if with_figures and not found.charts
        ]
        files = [(p.with_suffix(s), s[1:].upper()) for p in found.figures for s in (".png", ".svg", ".pdf")]
        few = 0 < len(found.rows) <= _ROWS
        return {
            "title": found.title,
            "caption": found.caption,
            "notes": found.notes,
            "charts": found.charts,
            "numbers": number_table(list(found.columns), found.rows) if few else None,
            "columns": [(k, v) for k, v in found.columns.items() if v],
            "figures": shown,
            "files": [(path.stem, kind, self.link(path)) for path, kind in files if path.is_file()],
            "bands": any(c.has_band for chart in found.charts for c in chart.curves),
        }

    def grid(self, grid: Grid, members: Sequence[int]) -> dict[str, Any]:
        first = members[grid.records[0]]
        original, image = self.view.originals[first], None
        if original is not None:
            words = {"caption": "original", "number": "", "alt": f"original: {self.view.rows[first].config.get('image', 'the photograph')}"}
            image = self.picture(original) | words | {"id": f"original-{len(self.details)}"}
        anchor = str(image["id"]) if image else ""
        rows = [
            (name, [[self.cell(members[i], "", anchor) for i in cell] for cell in row])
            for name, row in zip(grid.rows, grid.cells, strict=True)
        ]
        gallery = [self.cell(members[i], text, anchor) for text, i in grid.gallery]
        return {"heading": grid.heading, "columns": grid.columns, "rows": rows, "gallery": gallery, "original": image}

    def cell(self, i: int, text: str, original: str) -> dict[str, Any]:
        row, view = self.view.rows[i], self.view
        name = view.name(row)
        facts = [[k, show_value(row.config[k])] for k in ("network", "weights", *AXES) if row.config.get(k) is not None]
        facts += [[k, show_metric(k, v)] for k, v in row.metrics.items()]
        facts += [["seconds", show_value(row.seconds)], ["key", row.key[:16]]]
        self.details.append({"title": name, "facts": facts, "trace": short_trace(view.traces[i]), "original": original})
        summary = view.summaries.get(row.experiment)
        natural = summary.beside.get(row.key) if summary is not None else None
        beside = {} if natural is None else {"natural": self.picture(natural) | {"alt": f"natural examples: {name}"}}
        return (
            self.picture(row.picture)
            | beside
            | {
                "index": len(self.details) - 1,
                "caption": text,
                "number": view.number(row),
                "alt": name,
                "box": view.box(row),
            }
        )

    def fields(self, network: str, known: Geometry) -> dict[str, Any] | None:
        """The boxes of the central units of a network's layers in the store, over its first photograph."""
        mine = [i for i in self.view.done if self.view.rows[i].config.get("network") == network]
        shown = {self.view.rows[i].config.get("layer") for i in mine}
        layers = [n for n in known.layers if n in shown]
        original = next((p for i in mine if (p := self.view.originals[i])), None)
        if original is None or not layers:
            return None
        height, width = known.size
        boxes = [central_box(known.layers[n], known.size) for n in layers]
        rows = [
            {
                "layer": n,
                "info": known.layers[n],
                "box": b,
                "share": f"{100 * b.width * b.height / (height * width):.2g}%",
                "shade": 7 * k // len(boxes),
            }
            for k, (n, b) in enumerate(zip(layers, boxes, strict=True))
        ]
        words = {"alt": "the photograph under the receptive fields", "number": "", "caption": ""}
        return {"network": network, "picture": self.picture(original) | words, "size": known.size, "boxes": rows}

    def table(self) -> dict[str, Any]:
        rows = self.view.rows
        keys = [k for k in ("network", "weights", "image", *AXES) if _varies(k, [r.config.get(k) for r in rows])]
        given = dict.fromkeys(m for r in rows for m in r.metrics if not m.startswith("energy."))  # the terms are in the enlarged view
        metrics = sorted(given, key=lambda m: FIRST.index(m) if m in FIRST else len(FIRST))
        lines = []
        for r in rows:
            cells = [_cell(r.experiment), *[_cell(r.config.get(k)) for k in keys]]
            cells += [_cell(r.metrics.get(m), show_metric(m, r.metrics.get(m))) for m in metrics]
            lines.append({"cells": [*cells, _cell(r.seconds), _cell(r.status)], "link": self.link(r.folder)})
        return {"columns": ["experiment", *keys, *metrics, "seconds", "status"], "rows": lines}

    def picture(self, path: Path) -> dict[str, Any]:
        try:
            if path.exists() and inside(self.view.store.path, str(path.absolute())) is None:
                raise ImageError(f"The picture {str(path)!r} leads out of the store.")
            found = self.album.picture(path)
        except ImageError as error:
            return {"missing": str(error)}
        return {"src": found.src, "link": found.link, "width": found.width, "height": found.height}

    def link(self, path: Path | None) -> str:
        """From the page to a file or folder."""
        return "" if path is None else quote(os.path.relpath(path, self.path.absolute().parent).replace(os.sep, "/"))


def _varies(key: str, values: Sequence[Any]) -> bool:
    """Whether a setting deserves a column: it takes several values, or is one that only some jobs have for a reason."""
    found = {repr(v) for v in values if v is not None}
    return len(found) > 1 or (key in ("mask", "variant", "unit", "quirks") and len(found - {"[]"}) == 1 and len(set(map(repr, values))) > 1)


def _cell(value: Any, text: str | None = None) -> dict[str, Any]:
    """What a cell shows and what it is sorted by."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return {"text": show_value(value) if text is None else text, "sort": repr(float(value)) if number else None}


def _when(created: str) -> str:
    """An ISO time to the minute.

    >>> _when("2026-01-31T09:05:59.123+00:00")
    '2026-01-31 09:05'
    """
    return created[:16].replace("T", " ")


def _settings(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Every setting with the values that it took."""
    lines = []
    configs: list[Mapping[str, Any]] = [r.config for r in rows]
    for key in dict.fromkeys(k for c in configs for k in c if k != "original"):
        values = list(dict.fromkeys(show_value(c[key]) for c in configs if c.get(key) is not None))
        more = f" … ({len(values)} in all)" if len(values) > _SHOWN else ""
        if values:
            lines.append((key, ", ".join(values[:_SHOWN]) + more))
    return lines
