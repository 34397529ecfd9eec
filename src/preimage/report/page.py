"""One look for all pages: the template, the style sheet and the script, inside the file; a policy that lets nothing else run."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..pixels.images import atomic_write
from .numbers import show_value


def write_html(path: Path, template: str, *, gallery: bool = False, assets: Sequence[str] = (), **values: Any) -> Path:
    """Render a template into one file, whole or not at all. Every value is escaped: names from outside cannot put markup into it.

    The page's policy names the one script and the one style sheet by their hashes: even markup that got in would not run.
    gallery: with the script and the style of a searchable grid. assets: names of further scripts and styles, NAME.js and NAME.css.
    """
    environment = _environment()
    text = environment.get_template(template).render(values | _assets(gallery, tuple(assets)))
    with atomic_write(path) as file:
        file.write(text.encode())
    return path


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("preimage"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["value"] = show_value
    environment.filters["marked"] = marked
    return environment


def marked(text: str) -> Any:
    """Plain words for a page, what stands between backticks as code; all else in them is text.

    >>> print(marked("see `a<b` & c"))
    see <code>a&lt;b</code> &amp; c
    """
    from markupsafe import Markup, escape

    parts = str(text).split("`")  # an absent text is empty
    if len(parts) % 2 == 0:  # one backtick has no partner
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(part) if k % 2 else escape(part) for k, part in enumerate(parts))


def script_json(value: Any) -> Any:
    """Data inside a script element of type application/json: nothing in it can end the element, and markup in it is text.

    >>> print(script_json(["</script><!--", 1.5]))
    ["\\u003c/script\\u003e\\u003c!--",1.5]
    """
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


@cache
def _assets(gallery: bool, more: tuple[str, ...] = ()) -> dict[str, Any]:
    from markupsafe import Markup

    folder = Path(__file__).parent.parent / "templates"
    styles, scripts = ["page.css"], ["page.js"]
    if gallery:
        styles, scripts = [*styles, "gallery.css"], [*scripts, "query.js", "gallery.js"]
    styles, scripts = [*styles, *(f"{name}.css" for name in more)], [*scripts, *(f"{name}.js" for name in more)]
    style, script = ("".join((folder / name).read_text(encoding="utf-8") for name in names) for names in (styles, scripts))
    policy = f"default-src 'none'; img-src 'self' data: file:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'"
    return {"style": Markup(style), "script": Markup(script), "policy": policy}


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
