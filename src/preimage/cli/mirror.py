"""preimage push, preimage pull."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import app
from .common import FAILED, guard, one_line
from .signals import tell

if TYPE_CHECKING:
    from ..studies.mirror import Copied

_Url = Annotated[str, typer.Argument(metavar="URL", help="As fsspec takes them: s3://bucket/study, sftp://host/study, a shared folder.")]


@app.command(epilog="Example:\n\n  preimage push study/ s3://bucket/study")
def push(store: Annotated[Path, typer.Argument(metavar="DIR", help="A store of results.")], url: _Url) -> None:
    """Copy the results of a store to a mirror, those that are not there. `--mirror URL` of atlas and paper does so while they run."""
    with guard():
        from ..studies.mirror import push as copy
        from ..studies.store import Store

        _tell(copy(Store.open(store, create=False), url))


@app.command(epilog="Example:\n\n  preimage pull s3://bucket/study -o study/")
def pull(
    url: _Url,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The store: a new folder, or one that is there.")],
) -> None:
    """Copy the results of a mirror into a store, those that it has not, and make its table again."""
    with guard():
        from ..studies.mirror import Mirror
        from ..studies.mirror import pull as copy
        from ..studies.store import store_for

        version = Mirror.open(url, create=False).version  # before a folder is made
        with store_for(out, version) as store:
            _tell(copy(url, store))


def _tell(found: Copied) -> None:
    typer.echo(str(found))
    for reason in found.failed.values():
        tell(f"preimage: error: {one_line(reason)}")
    if found.failed:
        raise typer.Exit(FAILED)
