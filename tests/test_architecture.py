"""The files of the package stand in rows, and a file imports from its own row and those before it; no two need each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import preimage

ROOT = Path(preimage.__file__).parent
# Each row is a file or a folder of src/preimage; "" is the package itself, whose __init__ gathers the public names.
ROWS = (
    *("errors", "registry", "plain", "files", "untrusted", "seeds", "bars", "ranges", "schemas"),
    *("pixels", "representations", "networks", "metrics", "statistics", "energy"),
    *(
        "solvers",
        "inverses",
        "methods",
        "statistics",
        "directions",
        "tasks",
        "studies",
        "experiments",
        "report",
        "demo",
        "doctor",
        "app",
        "cli",
        "__main__",
        "",
    ),
)
# (file, what it imports): why it may, although that stands in a later row.
ALLOWED = {
    ("statistics.collect", ""): "the version, for the record",
    ("inverses.fit", ""): "the version, for the record",
    ("tasks.result", ""): "the version, for the record",
    ("experiments.audit", "report.audit_page"): "an audit ends with its own page",
    ("experiments.activation_atlas", "report.activation_page"): "an atlas is its page",
    ("doctor", ""): "the version, which it tells",
    ("cli", ""): "the version, for --version",
}
COMMANDS = "cli"  # its __init__ makes the app and imports the commands at its end, each of which adds itself to the app


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """All import statements, also inside functions, but those that only type checkers run."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        yield from statements(node)


def imported(name: str, text: str, package: bool) -> set[str]:
    """The files of this package that a file imports."""
    found: set[str] = set()
    here = ["preimage", *name.split(".")] if name else ["preimage"]
    for node in statements(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
            continue
        assert isinstance(node, ast.ImportFrom)
        depth = len(here) - node.level + (1 if package else 0)
        base = [*here[:depth], *(node.module or "").split(".")] if node.level else (node.module or "").split(".")
        whole = ".".join(part for part in base if part)
        found |= {f"{whole}.{a.name}" if f"{whole}.{a.name}".partition(".")[2] in FILES else whole for a in node.names}
    return {f.partition(".")[2] for f in found if f == "preimage" or f.startswith("preimage.")} - {name}


GRAPH = {name: imported(name, path.read_text(), path.name == "__init__.py") for name, path in FILES.items()}


def circles(graph: dict[str, set[str]]) -> set[frozenset[str]]:
    """Sets of files of which each leads to every other."""
    reach: dict[str, set[str]] = {}
    for name in graph:
        seen, left = set[str](), [name]
        while left:
            for further in graph.get(left.pop(), set()) - seen:
                seen.add(further)
                left.append(further)
        reach[name] = seen
    return {frozenset(other for other in graph if other in reach[a] and a in reach.get(other, set())) for a in graph if a in reach[a]}


def test_every_file_stands_in_a_row():
    assert {name.split(".")[0] for name in FILES} == set(ROWS)


def test_a_file_imports_only_from_its_own_row_and_those_before_it():
    row = {name: ROWS.index(name.split(".")[0]) for name in FILES}
    later = {(a, b) for a, wanted in GRAPH.items() for b in wanted if row[b] > row[a]}
    assert later - ALLOWED.keys() == set(), "these import from a later row"
    assert ALLOWED.keys() - later == set(), "these exceptions are needed no more"


def test_no_two_files_need_each_other():
    found = circles({a: {b for b in wanted if (a, b) not in ALLOWED} for a, wanted in GRAPH.items()})
    commands = {circle for circle in found if COMMANDS in circle}
    assert all(name == COMMANDS or name.startswith(f"{COMMANDS}.") for circle in commands for name in circle)
    assert found == commands


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("from ..errors import InputError", {"errors"}),
        ("from . import loop", {"solvers.loop"}),
        ("from .run import Run", {"solvers.run"}),
        ("def f():\n    from .. import __version__", {""}),
        ("import preimage.pixels.images", {"pixels.images"}),
        ("if TYPE_CHECKING:\n    from .run import Run", set()),
        ("import torch\nfrom torch import nn", set()),
    ],
)
def test_the_imports_of_a_file_are_read(text, wanted):
    assert imported("solvers.plans", text, package=False) == wanted


def test_a_circle_is_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {frozenset("abc")}
