"""How many units of a layer end closed: units 0 to 63 of fire5 … fire9 by the plain call, in one table.

python -m benchmarks.closed STORE [--layers fire9,fire5,fire6,fire7,fire8] [--units 64] [--recipe NAME] [--shown] [--json FILE]

Every unit is one job of a store, made as `preimage.maximize(net.layer(LAYER), UNIT)` with nothing else chosen, but --recipe where it is
given; the same command goes on where it was ended, and --shown prints the table of what is there and computes nothing. A unit is *opened*
if no gradient reached its start, *reopened* if it closed on the way and other starts found it, and *failed* if its status is not ok: then
no image answers.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from preimage.networks.network import weights_hash
from preimage.studies.jobs import Job, open_network
from preimage.studies.runner import run
from preimage.studies.store import Store

from .common import write

LAYERS = ("fire9", "fire5", "fire6", "fire7", "fire8")
NETWORK = "squeezenet1_1"


def jobs(layer: str, units: int, recipe: str | None = None) -> list[Job]:
    """The plain call for the first units of a layer, or that by a recipe for the paper's question at its weight."""
    network, _ = open_network(NETWORK)
    sha = weights_hash(network.module)
    return [
        Job(
            experiment="closed", task="maximize", C=1e4, network=NETWORK, weights_sha256=sha, layer=layer, unit=unit,
            name=f"{layer} {unit}", recipe=recipe,
        )
        for unit in range(units)
    ]  # fmt: skip


def count(store: Store, layer: str, units: int, recipe: str | None = None) -> dict[str, Any]:
    """A row of the table: how many units are done, and how they ended."""
    row: dict[str, Any] = {"layer": layer, "done": 0, "ok": 0, "opened": 0, "reopened": 0, "failed": 0, "which": []}
    given_up = {r.key: r.reason for r in store.records(status="failed")}
    for job in jobs(layer, units, recipe):
        if not store.done(job.key):
            if job.key in given_up:
                row["done"] += 1
                row["failed"] += 1
                row["which"].append({"unit": job.unit, "status": given_up[job.key]})
            continue
        found = store.result(job.key)
        good = found.status == ["ok"]
        row["done"] += 1
        row["ok"] += good
        row["opened"] += bool(found.config["opened"])
        row["reopened"] += good and bool(found.config["reopened"])
        row["failed"] += not good
        if not good:
            row["which"].append({"unit": job.unit, "status": found.status[0]})
    return row


def table(rows: Sequence[dict[str, Any]], units: int) -> str:
    """The rows as text, with their sum; the units that failed are named."""
    names = ("done", "ok", "opened", "reopened", "failed")
    lines = [f"{'layer':8}" + "".join(f"{n:>10}" for n in names) + f"   of {units} units; failed ones"]
    for row in rows:
        lines.append(
            f"{row['layer']:8}" + "".join(f"{row[n]:>10}" for n in names) + "   " + ", ".join(str(w["unit"]) for w in row["which"])
        )
    lines.append(f"{'all':8}" + "".join(f"{sum(r[n] for r in rows):>10}" for n in names))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", help="a folder: a new one, or one from an earlier run")
    parser.add_argument("--layers", default=",".join(LAYERS))
    parser.add_argument("--units", type=int, default=64)
    parser.add_argument("--recipe", help="by which the images are made, in place of the default")
    parser.add_argument("--shown", action="store_true", help="compute nothing")
    parser.add_argument("--json", type=Path, help="also write the rows and the machine to this file")
    given = parser.parse_args()
    layers, store = given.layers.split(","), Store.open(given.store)
    try:
        for layer in [] if given.shown else layers:
            run(jobs(layer, given.units, given.recipe), store, progress=True)
            print(table([count(store, layer, given.units, given.recipe)], given.units), flush=True)
    except KeyboardInterrupt:
        print("Ended; the same command goes on.")
    rows = [count(store, layer, given.units, given.recipe) for layer in layers]
    print(table(rows, given.units))
    if given.json:
        write(given.json, {"benchmark": "closed", "units": given.units, "recipe": given.recipe, "rows": rows})


if __name__ == "__main__":
    main()
