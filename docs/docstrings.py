"""Our plain docstrings as Markdown, for the API pages: doctests become code blocks, formulas in TeX code in the line.

A Griffe extension, named in mkdocs.yml.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class PlainDocstrings(griffe.Extension):
    """Every docstring is rewritten once, when its object has been read."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Fence each run of lines from a prompt to the next empty line; :math:`x` is shown as `x`.

    >>> as_markdown("Halve.\\n\\n>>> half(4)\\n2").splitlines()
    ['Halve.', '', '```pycon', '>>> half(4)', '2', '```']
    """
    text = re.sub(r":math:`", "`", text)
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        if not inside and line.startswith(">>> "):
            lines.append("```pycon")
            inside = True
        elif inside and not line.strip():
            lines.append("```")
            inside = False
        lines.append(line)
    return "\n".join([*lines, "```"] if inside else lines)
