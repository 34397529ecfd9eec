"""The package as a whole: light to import, documented, and its README true."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

import preimage
from preimage.energy.regularizers import REGULARIZERS
from preimage.errors import how_to_install, missing_extra
from preimage.methods.recipe import recipes
from preimage.networks.network import known_networks
from preimage.solvers.run import SOLVERS
from preimage.tasks import task as tasks_task

ROOT = Path(__file__).parents[1]


def seconds(code):
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def test_importing_brings_in_nothing_heavy_and_writes_nothing(tmp_path):
    code = (
        "import sys, torch, preimage; heavy = {'torchvision', 'matplotlib', 'typer', 'PIL', 'ndf', 'jinja2'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
    code = "import sys, preimage as p; p.Layer, p.invert; assert not {'torchvision', 'matplotlib', 'typer'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there_and_says_what_it_is():
    for name in preimage.__all__:
        thing = getattr(preimage, name)
        if name != "__version__":
            assert inspect.getdoc(thing), name
    assert set(preimage.__all__) <= set(dir(preimage))
    with pytest.raises(AttributeError, match="no attribute 'inver'"):
        preimage.inver  # noqa: B018


def test_registered_things_are_documented_and_can_be_built():
    for registry in (SOLVERS, REGULARIZERS):
        for name in registry:
            assert inspect.getdoc(registry[name]), name
            for kw in registry.examples(name):
                registry[name](**kw)


def readme_blocks(language):
    text = (ROOT / "README.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.S)


def test_the_readme_s_python_runs(tmp_path, monkeypatch, cat):
    """As it stands, at fewer iterations."""
    (tmp_path / "photo.jpg").write_bytes(Path(cat).read_bytes())
    monkeypatch.chdir(tmp_path)
    plan, real = tasks_task.plan_for, tasks_task.minimize
    monkeypatch.setattr(tasks_task, "plan_for", lambda asked, solver, iterations, stages: plan(asked, solver, 12, stages))
    monkeypatch.setattr(tasks_task, "minimize", lambda *a, **k: real(*a, **{**k, "progress": False}))
    blocks = readme_blocks("python")
    assert len(blocks) >= 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_the_readme_s_commands_exist():
    from preimage.cli import app

    commands = {c.name or c.callback.__name__ for c in app.registered_commands}
    used = {m for block in readme_blocks("sh") for m in re.findall(r"^preimage (\w+)", block, flags=re.M)}
    assert used
    assert used <= commands | {g.name for g in app.registered_groups}
    targets = set(re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), flags=re.M))
    assert {m for block in readme_blocks("sh") for m in re.findall(r"^make ([\w-]+)", block, flags=re.M)} <= targets


def test_pages_and_messages_name_a_command_by_the_name_that_the_help_lists():
    from preimage.cli import app

    hidden = [c.name for c in app.registered_commands if c.hidden]
    assert hidden == ["stats"]
    texts = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "gallery").glob("*.py"), *(ROOT / "src").rglob("*.py")]
    older = re.compile(rf"preimage ({'|'.join(hidden)})\b")
    assert [f"{t.relative_to(ROOT)}: {found[0]}" for t in texts if (found := older.search(t.read_text(encoding="utf-8")))] == []


def documented_commands() -> list[tuple[str, list[str]]]:
    """Every line of the pages' shell blocks that runs preimage: the page, and its words as a shell would give them."""
    found = []
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for language, block in re.findall(r"^```([^\n]*)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.S | re.M):
            for line in block.replace("\\\n", " ").splitlines():
                if language in ("", "sh", "bash") and line.startswith("preimage "):
                    lexer = shlex.shlex(
                        re.sub(r"\s>>?\s.*", "", line), posix=True, punctuation_chars="|&;"
                    )  # what follows is another program's
                    lexer.whitespace_split = True
                    found.append((page.name, list(itertools.takewhile(lambda word: word not in ("|", "&&", ";", "&"), lexer))))
    return found


def test_every_command_line_of_the_pages_has_a_command_and_options_that_exist():
    import typer

    from preimage.cli import app

    root = typer.main.get_command(app)
    lines = documented_commands()
    assert len(lines) > 90 and {page for page, _ in lines} > {"README.md", "clusters.md", "metamers.md", "directions.md"}
    wrong = []
    for page, (_, *words) in lines:
        command, context = root, root.context_class(root)
        try:
            while hasattr(command, "commands") and words and not words[0].startswith("-"):
                name, command, words = command.resolve_command(context, words)
                context = command.context_class(command, parent=context, info_name=name)
            if command.params:
                command.make_parser(context).parse_args(list(words))
        except Exception as error:
            wrong.append((page, words, str(error) or type(error).__name__))
    assert wrong == []


def test_the_readme_s_rows_of_methods_name_every_recipe_descriptor_and_classic_network_and_none_that_there_is_not():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [line for line in text.partition("## Which methods are here")[2].partition("\n## ")[0].splitlines() if line.startswith("| ")]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[2])}
    assert set(recipes()) <= named
    assert {name for name in named if re.fullmatch(r"[a-z-]+(?:19|20)\d\d(?:-[a-z]+)?", name)} == set(recipes())
    assert {"hog", "hogb", "dsift", "lbp", "brief", "freak"} <= named
    assert {"bow", "vlad", "fisher", "llc", "scspm", "super-vector", "textons"} <= named
    classic = {name for name in named if re.match(r"caffe-|vgg-", name)}
    assert classic == {card.name for card in known_networks() if re.match(r"caffe-|vgg-", card.name)}


def test_links_in_the_documents_lead_somewhere():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), (page.name, target)


def test_the_version_is_one():
    import importlib.metadata

    assert importlib.metadata.version("preimage") == preimage.__version__
    assert f"## {preimage.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.slow
def test_importing_costs_less_than_a_third_of_a_second_more_than_torch():
    both = [(seconds("import torch, preimage"), seconds("import torch")) for _ in range(5)]
    assert statistics.median(a - b for a, b in both) < 0.3


def test_nothing_tells_to_install_preimage_from_an_index_where_it_is_not():
    """errors.how_to_install is the place that says where from; the pages say the same."""
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("gallery/*.py"), *ROOT.glob("src/**/*.py")]
    assert len(pages) > 50
    assert [p for p in pages if "pip install 'preimage[" in p.read_text(encoding="utf-8")] == []
    assert str(missing_extra("It needs x", "x")).endswith(f"{how_to_install('x')}.")


def test_the_oldest_python_is_the_same_for_installing_types_style_and_the_classifiers():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (oldest,) = re.findall(r'^requires-python = ">=3\.(\d+)"$', text, re.MULTILINE)  # ruff reads it from there too
    assert re.findall(r'^python_version = "3\.(\d+)"$', text, re.MULTILINE) == [oldest] and "target-version" not in text
    listed = [int(n) for n in re.findall(r'"Programming Language :: Python :: 3\.(\d+)"', text)]
    assert listed == list(range(int(oldest), max(listed) + 1)) and max(listed) >= 14
    assert f"(3, {oldest})" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "docs", "gallery"])
def test_every_file_is_written_in_the_grammar_of_the_oldest_python(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for file in files:
        ast.parse(file.read_text(encoding="utf-8"), str(file), feature_version=(3, 10))
