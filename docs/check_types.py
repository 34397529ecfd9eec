"""Check the types of every documented line: README.md, CONTRIBUTING.md, the pages of docs/ and the scripts of gallery/.

    python docs/check_types.py            # mypy --strict
    python docs/check_types.py pyright    # what editors use, in its own mode "standard"

The blocks of a page are one program, as a reader types them; a block that begins with a comment, as `# my_models.py`, is a file of
its own. Calls of functions that PyTorch itself leaves untyped are no fault of a reader's program.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".mypy_cache" / "docs"  # of its own: with other options mypy would begin anew, here and for the package
MYPY = [f"--cache-dir={CACHE}", "--strict", "--untyped-calls-exclude=torch", "--untyped-calls-exclude=IPython", "--no-error-summary"]


def programs(root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """Give the name and the text of every program that the documentation shows."""
    for page in [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]:
        yield from of_page(page.relative_to(root).as_posix(), page.read_text(encoding="utf-8"))
    for script in sorted((root / "gallery").glob("*.py")):
        yield script.stem, script.read_text(encoding="utf-8")


def of_page(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Give the programs of a page: one of its blocks together, and one of each block that begins with a comment.

    >>> page = "```python\\na = 1\\n```\\nand\\n```python\\nb = a\\n```\\n```python\\n# file.py\\nc = 2\\n```"
    >>> list(of_page("docs/page.md", page))
    [('docs_page_md_3', '# file.py\\nc = 2\\n'), ('docs_page_md', 'a = 1\\n\\nb = a\\n')]
    """
    base, together = re.sub(r"\W", "_", name), []
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.S | re.M)
    for number, block in enumerate(blocks, 1):
        if block.startswith("#"):
            yield f"{base}_{number}", absolute(block)
        else:
            together.append(block)
    if together:
        yield base, "\n".join(together)


def absolute(block: str) -> str:
    """Return a file of the package, which says where it is in its first line, as one that may stand elsewhere.

    >>> absolute("# src/preimage/networks/lenet.py\\nfrom ..pixels import images\\nfrom .chain import Chain\\n").splitlines()[1:]
    ['from preimage.pixels import images', 'from preimage.networks.chain import Chain']
    """
    found = re.match(r"# src/(preimage[\w/]*)/\w+\.py", block)
    if found is None:
        return block
    here = found[1].split("/")
    return re.sub(r"^from (\.+)(?=\w)", lambda m: "from " + ".".join(here[: len(here) - len(m[1]) + 1]) + ".", block, flags=re.M)


def main(checker: str = "mypy") -> int:
    """Write the programs into a folder, check them, and return the exit status; the names in messages are those of the pages."""
    with tempfile.TemporaryDirectory() as folder:
        written = []
        for name, text in programs():
            written.append(Path(folder, f"{name}.py"))
            written[-1].write_text(text, encoding="utf-8")
        print(f"{len(written)} programs of the documentation, by {checker}", flush=True)
        if checker == "mypy":
            command = [sys.executable, "-m", "mypy", f"--config-file={ROOT / 'pyproject.toml'}", *MYPY, *map(str, written)]
            return subprocess.run(command, cwd=ROOT).returncode
        config = {"include": ["."], "extraPaths": [str(ROOT / "src")], "typeCheckingMode": "standard", "reportMissingImports": "error"}
        Path(folder, "pyrightconfig.json").write_text(json.dumps(config))
        return subprocess.run([checker, "--project", folder, "--pythonpath", sys.executable]).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
