"""The page of a comparison of methods: every image of a subject beside the others, and their numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from ..experiments.methods import COLUMNS, Comparison, Entry
from ..methods.recipe import recipe_named
from ..pixels import images as pictures
from ..tasks.result import data_uri, versions
from .numbers import number_table
from .page import write_html

PAGE = "methods.html"
_SAID = 3  # subjects whose best method the first lines name
_TITLES = {
    "maximize": "The same unit by many methods",
    "invert": "The same photograph by many methods",
    "caricature": "The same photograph, exaggerated by many methods",
}


def write_methods(comparison: Comparison, path: Path | None = None) -> Path:
    """Write the page of a comparison, one file that needs no other, and return its path.

    Parameters
    ----------
    comparison : what `experiments.methods.compare` found
    path : default methods.html in the comparison's store
    """
    subjects = list(dict.fromkeys(e.subject for e in comparison.entries))
    columns = comparison.columns[1:]
    return write_html(
        path or comparison.store / PAGE,
        "methods.html",
        title=_TITLES[comparison.task],
        found=_found(comparison, subjects),
        intro="Every method ran on the same network, with its own settings where no note says otherwise, and was measured in the same way. "
        "A picture shows levels 0–255, what is beyond is clipped.",
        sections=[_section(k, s, comparison, columns) for k, s in enumerate(subjects)],
        columns=[(c, COLUMNS[c]) for c in columns],
        methods=[_method(name) for name in dict.fromkeys(e.recipe for e in comparison.entries)],
        notes=comparison.notes,
        versions=versions(),
    )


def _found(comparison: Comparison, subjects: list[str]) -> str:
    """What the comparison shows, in words: the method that goes furthest for each subject, and those that another network recognises."""
    number, best, words = {
        "maximize": ("activation", max, "excites {} most ({:.3g})"),
        "invert": ("error", min, "comes nearest to the features of {} (error {:.0%})"),
        "caricature": ("activation", max, "exaggerates {} most ({:.3g} times)"),
    }[comparison.task]
    said = []
    for subject in subjects[:_SAID]:
        if rows := [r for r in comparison.rows if r["subject"] == subject and r.get(number) is not None]:
            row = best(rows, key=lambda r: r[number])
            said.append(f"{row['method']} {words.format(subject, row[number])}.")
    ranked = [r for r in comparison.rows if r.get("rank") is not None]
    if ranked:
        first = list(dict.fromkeys(r["method"] for r in ranked if r["rank"] <= 1))
        names = f", of {', '.join(first)}" if first else ""
        said.append(f"The judge puts the wanted class first for {sum(r['rank'] <= 1 for r in ranked)} of {len(ranked)}{names}.")
    return " ".join(said)


def _section(k: int, subject: str, comparison: Comparison, columns: list[str]) -> dict[str, Any]:
    rows = [row for row in comparison.rows if row["subject"] == subject]
    words = "where methods begin that change an image" if comparison.task == "maximize" else "the photograph"
    figures = [_figure(comparison.originals[subject], words, "")] if subject in comparison.originals else []
    figures += [_figure(e.image, _name(e, comparison), _number(e)) for e in comparison.entries if e.subject == subject]
    table = number_table(columns, [[row.get(c) for c in columns] for row in rows])
    return {"id": f"subject-{k + 1}", "heading": subject, "figures": figures, "numbers": table}


def _name(entry: Entry, comparison: Comparison) -> str:
    several = len({e.network for e in comparison.entries}) > 1
    seeds = len({e.seed for e in comparison.entries}) > 1
    return " · ".join([entry.recipe, *([entry.network] if several else []), *([f"seed {entry.seed}"] if seeds else [])])


def _number(entry: Entry) -> str:
    numbers = entry.record.metrics
    if "error" in numbers:
        return f"error {numbers['error']:.0%}"
    return f"activation {numbers['activation']:.3g}" if "activation" in numbers else ""


def _figure(image: Tensor, caption: str, number: str) -> dict[str, Any]:
    if image.shape[1] not in (1, 3):
        return {"missing": f"{image.shape[1]} channels", "caption": caption, "number": number}
    picture = pictures.to_pil(image[0])
    width, height = picture.size
    return {"src": data_uri(picture), "link": "", "width": width, "height": height, "caption": caption, "alt": caption, "number": number}


def _method(name: str) -> dict[str, str]:
    recipe = recipe_named(name)
    return {"name": name, "sentence": recipe.sentence, "source": recipe.source, "differs": recipe.differs}
