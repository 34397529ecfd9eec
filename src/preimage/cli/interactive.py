"""preimage app. (A module named app would hide this package's own `app`.)"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from ..ranges import checked
from . import app
from .common import guard
from .options import Device, InputSize, Space, Trust
from .signals import tell


@app.command(
    "app",
    epilog="Examples:\n\n  preimage app\n\n  preimage app --net NAME --port 8000\n\n"
    "With --host 0.0.0.0 everybody who can reach this machine can use its time: there is no password.",
)
def interactive(
    net: Annotated[
        list[str] | None,
        typer.Option("--net", metavar="NAME", help="Also offer this network, first in the list. Repeat for several.", show_default=False),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FILE", help="Of the one network of --net.", show_default="its own trained ones")
    ] = None,
    space: Space = None,
    size: InputSize = None,
    trust: Trust = False,
    stats: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Statistics (`preimage statistics`) of a network of the page, to show natural examples of its units. Repeat for several.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="127.0.0.1 is this machine alone; 0.0.0.0 everybody.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="0 takes any that is free.", min=0, max=65535)] = 7860,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Runs at once.", min=1, show_default="one for each CPU, at most 4; 1 on an accelerator")
    ] = None,
    queue: Annotated[int, typer.Option(metavar="N", help="Runs that may wait; more are refused.", min=0)] = 8,
    seconds: Annotated[float, typer.Option(metavar="S", help="The longest that one run may take.", min=1)] = 600.0,
    keep: Annotated[float, typer.Option(metavar="S", help="Uploads and results are deleted after so long.", min=60)] = 3600.0,
    device: Device = None,
) -> None:
    """Serve a page on which to invert, caricature and maximize, and to watch the images form.

    Nothing on the page comes from, or goes to, any other machine. Ctrl-C (or SIGTERM) ends it, and its files with it.
    """
    with guard():
        from ..app.catalogue import Catalogue
        from ..app.jobs import Desk
        from ..app.server import ending_signals, is_loopback, listen, make, networks_here, private_folder, serve
        from ..app.units import UnitPages

        how = _opening(net or [], weights, space, size, trust)
        catalogue = Catalogue(networks_here(net or []), how)
        for name in net or []:
            catalogue.entry(name)
        units = UnitPages(catalogue, stats or [])
        local = is_loopback(host)
        with ending_signals(), listen(host, port) as bound, private_folder() as folder:
            desk = Desk(
                folder,
                workers=workers or _share(device),
                queue=queue,
                seconds=checked("seconds", seconds),
                keep=checked("seconds", keep, "keep"),
                device=device,
                load=catalogue.load,
                statistics=units.of,
            )
            try:
                application = make(catalogue, desk, units, local=local)
                if not local:
                    tell(f"preimage: warning: served at {host}: anybody who can reach this machine can use it.")
                typer.echo(f"Open http://{f'[{host}]' if ':' in host else host}:{bound.getsockname()[1]}/ (Ctrl-C ends it)")
                serve(application, bound)
            finally:
                desk.close()


def _opening(net: list[str], weights: str | None, space: str | None, size: str | None, trust: bool) -> dict[str, dict[str, Any]]:
    """How the network that was asked for is opened. Raises InputError where it is not one."""
    from ..pixels.pixelspace import PixelSpace, parse_size

    how: dict[str, Any] = {} if weights is None else {"weights": None if weights == "none" else weights}
    how |= {} if space is None else {"space": PixelSpace.parse(space)}
    how |= {} if size is None else {"size": parse_size(size)}
    if how and len(net) != 1:
        raise InputError("--weights, --space and --size are of one network: give --net once with them.")
    how |= {"trust": True} if trust else {}
    return dict.fromkeys(net, how) if how else {}


def _share(device: str | None) -> int:
    """Runs at once: one for each CPU that this process may use, but no more than 4 copies of a network in memory."""
    if device not in (None, "cpu"):
        return 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, 4)
