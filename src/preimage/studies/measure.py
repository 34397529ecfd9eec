"""New metrics of results that are there: taken from the kept tensors, without running anything again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import PreimageError, first_line
from ..metrics import METRICS, Seen, measure_image, metric_revisions
from ..networks.network import NETWORKS, Network, known_networks
from .jobs import open_network

if TYPE_CHECKING:
    from .store import Record, Store


@dataclass
class Measured:
    """What `measure_store` did. results: how many got metrics, numbers: how many metrics; left_out: key -> why nothing could be taken."""

    results: int = 0
    numbers: int = 0
    left_out: dict[str, str] = field(default_factory=dict)


def measure_store(store: Store) -> Measured:
    """Take the registered metrics that the results of a store have not, or have in an earlier revision, from the kept tensors.

    No image and no key changes. A metric that needs the network is taken only where that is one of this package's by name and its weights
    are those of the result: a store may be from anywhere, and must not decide what is opened.

    Parameters
    ----------
    store : Store
        Also one of an earlier version, whose results are read.

    Returns
    -------
    Measured : how many results and numbers, and what was left out, with the reason
    """
    done = Measured()
    wanted = metric_revisions()
    for record in store.records(status="done"):
        if all(record.measured.get(name) == revision for name, revision in wanted.items()):
            continue
        try:
            found = _measure(store, record, done)
            if found:
                store.add_metrics(record.key, found, {name: wanted[name] for name in found})
                done.results += 1
                done.numbers += len(found)
        except PreimageError as error:  # one result must not keep the others from being measured
            done.left_out[record.key] = first_line(error)
    return done


def _measure(store: Store, record: Record, done: Measured) -> dict[str, float]:
    result = store.result(record.key)
    missing = [n for n, revision in metric_revisions().items() if record.measured.get(n) != revision]
    network = None
    if result.originals is not None and any(METRICS[n].needs_network for n in missing):
        network, why = _network(record.config)
        if why:
            done.left_out[record.key] = why
    return measure_image(Seen(result.images, result.originals, network), "store", record.measured)


def _network(config: dict[str, Any]) -> tuple[Network | None, str]:
    """The network of a result, if it has classes; or why it is not opened."""
    name, weights = config.get("network"), config.get("weights", "default")
    if name is None:
        return None, ""
    known_networks()
    if name not in NETWORKS or weights not in ("default", "none"):
        return None, f"{name} with the weights {weights} is no network of this package: metrics that need it are left out."
    network, sha = open_network(str(name), str(weights))
    if config.get("weights_sha256") not in (None, sha):
        return None, f"the weights of {name} are not those of the result: metrics that need it are left out."
    return (network if network.classes else None), ""
