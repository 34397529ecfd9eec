"""A page that shows results: one HTML file with its pictures inside, which opens from disk with no network."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import images as pictures
from .result import Result, data_uri, plot_energy


@dataclass(frozen=True)
class Section:
    """A part of a page: a heading, a paragraph of plain text, and results. originals: show the photographs first."""

    heading: str
    text: str
    results: Sequence[Result]
    originals: bool = False


def write_page(path: Path, title: str, intro: str, sections: Sequence[Section]) -> Path:
    """Write the page, whole or not at all. Everything is escaped: names from outside cannot put markup into it."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("preimage"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    parts = [_part(s) for s in sections]
    versions: dict[str, str] = next((r.config["versions"] for s in sections for r in s.results), {})
    text = environment.get_template("page.html").render(title=title, intro=intro, sections=parts, versions=versions)
    with pictures.atomic_write(path) as file:
        file.write(text.encode())
    return path


def _part(section: Section) -> dict[str, Any]:
    figures: list[dict[str, str]] = []
    first = section.results[0]
    if section.originals and first.originals is not None:
        figures.append({"src": data_uri(pictures.to_pil(first.originals[0])), "caption": "the photograph"})
    for result in section.results:
        layer = f"{result.config['representation']} · " if len(section.results) > 1 else ""
        figures += [{"src": data_uri(p), "caption": layer + c} for p, c in zip(result.pil(), result.captions(), strict=True)]
    return {
        "heading": section.heading,
        "text": section.text,
        "figures": figures,
        "curves": [{"src": _curve(r), "caption": f"{r.task}, {r.config['representation']}"} for r in section.results],
        "facts": [_facts(r) for r in section.results],
    }


def _curve(result: Result) -> str:
    import PIL.Image

    with tempfile.TemporaryDirectory() as folder:
        plot_energy(result, Path(folder) / "energy.png")
        with PIL.Image.open(Path(folder) / "energy.png") as picture:
            return data_uri(picture)


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
