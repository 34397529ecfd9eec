"""The command line: one file a family of commands; each registers its own with `app`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from .loudness import Commands, Loudness, set_loudness

app = typer.Typer(
    cls=Commands,
    name="preimage",
    help="Natural pre-images: see what a vision representation has kept of an image, and what its parts look for.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (what was found by then is saved).",
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    add_completion=False,  # `preimage completion SHELL` prints it; no command writes into the files of a shell
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        from .. import __version__

        typer.echo(f"preimage {__version__}")
        raise typer.Exit


GREETING = """\
preimage {version}: see what a vision representation has kept of an image, and what its parts look for.

Three to begin with:

  preimage demo                                     a page of pictures, in about a minute
  preimage maximize --unit "tree frog" -o frog      what a network calls a tree frog
  preimage invert photo.jpg --layer fire4 -o out    your photograph, from the features of one layer

The network comes with the package; nothing is downloaded.
All commands: preimage --help. Of one: preimage invert --help. Is all well here? preimage doctor
"""


@app.callback()
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="Say on stderr what is done; -vv: errors whole.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    set_loudness(Loudness(verbose, quiet))
    if context.invoked_subcommand is None:
        from .. import __version__

        typer.echo(GREETING.format(version=__version__), nl=False)


from . import common, tasks, recipes, compare, networks, fetch, stats, direction, inverse, shallow, paper, atlas, activation_atlas, audit  # noqa: E402, F401, I001 (in the order of the help page)
from . import saliency, runs, export, mirror, report, microscope, match, demo, interactive, doctor, schema, completion  # noqa: E402, F401


def main() -> None:
    """The entry point of the command `preimage`."""
    from .signals import tell

    # threads that wait must not spin: beside any other work on the machine that is many times slower. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    completion.answer()
    stdout = sys.stdout
    try:
        app(prog_name="preimage")  # also for `python -m preimage`: the name that completion and usage lines say
    except OSError as error:  # while typer itself prints: a full device
        tell(f"preimage: error: nothing can be printed: {error.strerror or error}.")
        raise SystemExit(common.FAILED) from None
    finally:
        unread = sys.stdout is not stdout and common.unread()  # typer wraps it when it meets a closed pipe, and would exit with 1
        common.let_go()
        if unread:
            raise SystemExit(common.UNREAD)
