"""The command line: one file a family of commands; each registers its own with `app`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

app = typer.Typer(
    name="preimage",
    help="Natural pre-images: see what a vision representation has kept of an image, and what its parts look for.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (what was found by then is saved).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        from .. import __version__

        typer.echo(f"preimage {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


from . import common, tasks, recipes, compare, networks, fetch, stats, direction, inverse, shallow, paper, atlas, activation_atlas, audit  # noqa: E402, F401, I001 (in the order of the help page)
from . import runs, mirror, report, demo, interactive  # noqa: E402, F401


def main() -> None:
    """The entry point of the command `preimage`."""
    from .signals import tell

    # threads that wait must not spin: beside any other work on the machine that is many times slower. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    stdout = sys.stdout
    try:
        app()
    except OSError as error:  # while typer itself prints: a full device
        tell(f"preimage: error: nothing can be printed: {error.strerror or error}.")
        raise SystemExit(common.FAILED) from None
    finally:
        unread = sys.stdout is not stdout and common.unread()  # typer wraps it when it meets a closed pipe, and would exit with 1
        common.let_go()
        if unread:
            raise SystemExit(common.UNREAD)
