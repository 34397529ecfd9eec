"""Running many jobs in a store from the command line: what was done, what failed, and the exit code that says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from ..errors import InputError
from .common import FAILED, one_line, resumable
from .signals import tell

if TYPE_CHECKING:
    from ..experiments import Experiment
    from ..experiments.base import Study
    from ..studies.backends import Backend


def choose_backend(name: str, address: str | None, workers: int | None) -> Backend:
    """The backend of this name. Raises UnknownName, and InputError for an address that it has no use for."""
    from ..studies.ray import Ray
    from ..studies.runner import known_backends

    found = known_backends()[name]
    if name == "ray":
        return Ray(address, every=workers is None)
    if address is not None:
        raise InputError(f"--address is that of a Ray cluster: give --backend ray with it, not {name}.")
    return found


def run_and_tell(study: Study, experiments: Mapping[str, Experiment], **how: Any) -> None:
    """`run_study`, a line for each summary, and the failures at the end. Raises typer.Exit where something failed or was interrupted."""
    from ..experiments.study import run_study

    with resumable():
        found, written = run_study(study, experiments, **how)
    for line in written:
        typer.echo(line)
    typer.echo(f"{found}. Saved in {study.store.path}/")
    unmirrored = found.mirrored.failed if found.mirrored else {}
    failed = [*found.failed.values(), *found.without_image.values()]
    for reason in [*failed, *(f"not in the mirror: {reason}" for reason in unmirrored.values())]:
        tell(f"preimage: error: {one_line(reason)}")
    if failed or unmirrored:
        raise typer.Exit(FAILED)
