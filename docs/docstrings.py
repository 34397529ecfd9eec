"""Our plain docstrings as Markdown, for the API pages: a list of the arguments, doctests as code blocks, formulas as code.

A Griffe extension, named in mkdocs.yml.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import griffe

_NAMES = re.compile(r"(?:^|(?<=[.;] )|(?<=\n))((?:\w+, )*\w+): ")  # "jitter: …" and "mean, std: …" where a sentence begins
_AFTER = re.compile(r"(?:(?<=[.] )|(?<=\n))(?=(?:Returns|Raises|Gives) )")


class PlainDocstrings(griffe.Extension):
    """Every docstring is rewritten once, when all have been read."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        _rewrite(pkg)


def _rewrite(obj: griffe.Object) -> None:
    if obj.docstring is not None:
        obj.docstring.value = as_markdown(obj.docstring.value, _names(obj))
    for member in obj.members.values():
        if not member.is_alias and isinstance(member, griffe.Object):
            _rewrite(member)


def _names(obj: griffe.Object) -> set[str]:
    """What a docstring can explain: arguments, and of a class also its attributes."""
    names = {p.name for p in obj.parameters} if isinstance(obj, (griffe.Function, griffe.Class)) else set()
    return names | set(obj.attributes) if isinstance(obj, griffe.Class) else names


def as_markdown(text: str, names: Collection[str] = ()) -> str:
    """A docstring as Markdown. names: those whose explanations ("name: …") become a list; paragraphs of other text stay.

    >>> print(as_markdown("Halve.\\n\\nx, y: numbers. z: another.\\nRaises nothing.", ["x", "y", "z"]))
    Halve.
    <BLANKLINE>
    - **x, y**: numbers.
    - **z**: another.
    <BLANKLINE>
    Raises nothing.
    """
    text = _without_links(text)
    paragraphs = re.split(r"\n\s*\n", re.sub(r":math:`", "`", text).strip("\n"))
    return "\n\n".join(_fenced(p) if ">>> " in p else _listed(p, names) for p in paragraphs)


def _without_links(text: str) -> str:
    """Brackets of our own notation, as Return [step][sample], that Markdown would take for links; code stays as it is."""
    lines = [line if line.lstrip().startswith((">>>", "...")) else _escaped(line) for line in text.split("\n")]
    return "\n".join(lines)


def _escaped(line: str) -> str:
    return "".join(part if k % 2 else re.sub(r"\](?=\[)", r"]\\", part) for k, part in enumerate(re.split(r"(`[^`]*`)", line)))


def _fenced(paragraph: str) -> str:
    """The lines from the first prompt on as a code block."""
    before, prompt, code = paragraph.partition(">>> ")
    return f"{before}```pycon\n{prompt}{code}\n```"


def _listed(paragraph: str, names: Collection[str]) -> str:
    starts = [m for m in _NAMES.finditer(paragraph) if all(name in names for name in m[1].split(", "))]
    if not starts:
        return paragraph
    ends = [m.start() for m in starts[1:]] + [len(paragraph)]
    lines = [paragraph[: starts[0].start()].rstrip(), ""] if starts[0].start() else []
    rest = ""
    for start, end in zip(starts, ends, strict=True):
        said, *after = _AFTER.split(paragraph[start.end() : end], maxsplit=1)
        lines.append(f"- **{start[1]}**: {' '.join(said.split())}")
        rest = "".join(after)
    return "\n".join([*lines, "", rest] if rest else lines)
