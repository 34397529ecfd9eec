"""preimage completion: what a shell needs to complete commands and their options."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from . import app
from .common import guard

_SHELLS = ("bash", "zsh", "fish")
_ASKED = "_PREIMAGE_COMPLETE"  # set by the scripts when the shell asks what may come next


def answer() -> None:
    """Make ready for a question of a shell's, where this process was started for one; typer answers it then."""
    if _ASKED in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]

        completion_init()


@app.command(
    epilog="Once, for the shell that you use:\n\n"
    "  preimage completion bash >> ~/.bashrc\n\n"
    "  preimage completion zsh >> ~/.zshrc\n\n"
    "  preimage completion fish > ~/.config/fish/completions/preimage.fish"
)
def completion(shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="For which shell.")]) -> None:
    """Print what makes a shell complete commands and options with the tab key."""
    with guard():
        from typer.completion import get_completion_script  # type: ignore[attr-defined]

        from ..registry import unknown

        if shell not in _SHELLS:
            raise unknown("shell", shell, _SHELLS, "preimage completion --help")
        typer.echo(get_completion_script(prog_name="preimage", complete_var=_ASKED, shell=shell))
