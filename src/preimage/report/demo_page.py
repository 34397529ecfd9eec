"""A page of results that are in memory: what `preimage demo` shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..pixels import images as pictures
from ..tasks.result import Result, data_uri
from .charts import Chart
from .numbers import number_table
from .page import write_html
from .traces import trace_curves

if TYPE_CHECKING:
    import PIL.Image


@dataclass(frozen=True)
class Section:
    """A part of a page: a heading, a paragraph of plain text, and results. originals: show the photographs first."""

    heading: str
    text: str
    results: Sequence[Result]
    originals: bool = False


def write_page(path: Path, title: str, intro: str, sections: Sequence[Section]) -> Path:
    """Write the page, whole or not at all. Everything is escaped: names from outside cannot put markup into it."""
    parts = [_part(k, s) for k, s in enumerate(sections)]
    versions: dict[str, str] = next((r.config["versions"] for s in sections for r in s.results), {})
    return write_html(path, "page.html", title=title, intro=intro, sections=parts, versions=versions)


def _part(k: int, section: Section) -> dict[str, Any]:
    figures: list[dict[str, Any]] = []
    first = section.results[0]
    if section.originals and first.originals is not None:
        figures.append(_figure(pictures.to_pil(first.originals[0]), "the photograph"))
    for result in section.results:
        layer = f"{result.config['representation']} · " if len(section.results) > 1 else ""
        figures += [_figure(p, layer + c) for p, c in zip(result.pil(), result.captions(), strict=True)]
    facts = [_facts(r) for r in section.results]
    return {
        "id": f"section-{k + 1}",
        "heading": section.heading,
        "text": section.text,
        "figures": figures,
        "charts": [
            Chart(f"{r.task}, {r.config['representation']}", trace_curves([r.trace]), "iteration", "energy", log=True, mini=True)
            for r in section.results
        ],
        "numbers": number_table(list(facts[0]), [list(f.values()) for f in facts]),
    }


def _figure(picture: PIL.Image.Image, caption: str) -> dict[str, Any]:
    width, height = picture.size
    return {"src": data_uri(picture), "link": "", "width": width, "height": height, "caption": caption, "alt": caption, "number": ""}


def _facts(result: Result) -> dict[str, Any]:
    config = result.config
    return {
        "layer": config["representation"],
        "C": f"{config['C']:g}",
        "solver": config["solver"],
        "evaluations": result.evaluations,
        "jitter": config["jitter"],
        "energy": f"{result.energy['total'].mean().item():.4g}",
        "error": "" if result.error is None else f"{result.error.mean().item():.1%}",
        "seconds": f"{config['seconds']:.1f}",
        "weights": str(config["weights_sha256"])[:12],
    }
