"""A unit's page, live: its natural examples, all its answers, the units that are like it, from statistics that the server was given."""

from __future__ import annotations

import base64
import html
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..networks.network import NETWORKS, Network, weights_hash
from ..statistics import LayerStatistics, Statistics, Wiring, find_wiring, load_statistics
from ..statistics.matching import alike_units
from .catalogue import Catalogue

SHOWN, FOR, ALIKE, BINS = 9, 6, 6, 32
"""Natural examples, units that speak for one, units that are like it, and bars of the histogram."""


@dataclass
class UnitPages:
    """The pages of the units of the networks that statistics were given of.

    Parameters
    ----------
    catalogue : Catalogue
        Of the server's networks.
    files : paths
        Of `preimage statistics`, at most one a network. Raises InputError for one of another network or other weights, or without crops.
    """

    catalogue: Catalogue
    files: Sequence[str | Path] = ()
    _known: dict[str, Statistics] = field(default_factory=dict, init=False)
    _wiring: dict[str, dict[str, Wiring]] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        for file in self.files:
            stats = load_statistics(file)
            name = self._name(stats, file)
            if stats.examples is None:
                raise InputError(f"{str(file)!r} holds no crops, so there is nothing to show: collect it again with --crops 64.")
            network = self.catalogue.load(name)
            stats.check(weights_hash(network.module), network.space.to_dict())
            self._known[name] = stats

    def of(self, network: str) -> Statistics | None:
        """Return the statistics of a network on the page, if there are any."""
        return self._known.get(network)

    def page(self, network: str, layer: str, channel: int) -> str:
        """Return a unit's page as HTML; nothing where there are no statistics of its layer."""
        stats = self.of(network)
        entry = self.catalogue.entry(network)
        if stats is None or layer not in stats or not 0 <= channel < stats[layer].channels:
            return ""
        of = stats[layer]
        names = entry.classes if len(entry.classes) == of.channels else ()
        title = f"{layer} {channel}{f' · {names[channel]}' if names else ''}"
        parts = [
            f"<h3>What excites {html.escape(title)} most in {len(stats.images):,} images</h3>",
            f'<div class="examples">{_examples(stats, of, channel)}</div>',
            _histogram(of, channel),
        ]
        alike = alike_units(stats, of.name, ALIKE)
        if alike:
            parts.append(_listed("Units of the layer that answer alike", [(f"{k}", r) for k, r in alike[channel]]))
        parts += self._weights(network, stats, of, channel)
        return f'<section class="unit" aria-label="{html.escape(title)} in nature">{"".join(parts)}</section>'

    def _weights(self, network: str, stats: Statistics, of: LayerStatistics, channel: int) -> list[str]:
        """What the network's weights say of a unit."""
        with self._lock:
            if network not in self._wiring:
                self._wiring[network] = find_wiring(self.catalogue.load(network), layers=list(stats))
        known = self._wiring[network].get(of.name)
        if known is None:
            return []
        cosine = known.alike()[channel]
        best = cosine.topk(min(ALIKE, len(cosine)))
        pairs = [(f"{k}", v) for k, v in zip(best.indices.tolist(), best.values.tolist(), strict=True) if v > 0.05]
        parts = [_listed("Units of the layer with alike weights", pairs)] if pairs else []
        if known.source is not None and known.by_channel is not None:
            row = known.by_channel[channel]
            order = row.argsort(descending=True, stable=True)[:FOR].tolist()
            shots = [_example(stats, known.source, k, f"{known.source} {k}: {row[k]:.3g}") for k in order if row[k] > 0]
            if shots:
                parts.append(f"<h3>Units of {html.escape(known.source)} that speak for it, by weight</h3>")
                parts.append(f'<div class="examples">{"".join(shots)}</div>')
        return parts

    def _name(self, stats: Statistics, file: str | Path) -> str:
        """The network on the page that statistics are of."""
        told, offered = str(stats.about.get("network")), self.catalogue.names
        own = [n for n in offered if n == told] or [n for n in offered if n not in NETWORKS and self.catalogue.entry(n).name == told]
        if not own:
            raise InputError(f"{str(file)!r} is of {told}, which is not on this page: offer it with --net.")
        if own[0] in self._known:
            raise InputError(f"{str(file)!r} is of {told} too: give one file of statistics a network.")
        return own[0]


def beside(result: Any, network: Network, layer: str, stats: Statistics) -> tuple[str, ...]:
    """Put a result beside its natural examples, in its record too, and say in sentences what comes of it."""
    from ..tasks.natural import natural_check

    found = natural_check(result, network.layer(layer), stats)["units"][0]
    said = []
    if found["spread"] is not None:
        said.append(f"The layer answers to the {len(found['share'])} images with a rank correlation of {found['spread']:.2f}.")
    way, end = ((found["path"] or {}).get(name) for name in ("overall", "end"))
    if way is not None:
        last = "" if end is None else f", and to {end:.2f} at {layer} itself"
        said.append(
            f"The network takes {'them' if len(found['share']) > 1 else 'it'} the way of natural images to {way:.2f}{last} "
            "(1: as these, 0: as those of other units)."
        )
    elif found["path"]:
        said.append("The natural images of this unit are hardly more alike to the network than those of others, so the way says nothing.")
    elif found.get("path_missing"):
        said.append(f"The way through the network could not be compared with that of natural images: {found['path_missing']}")
    return tuple(said)


def _examples(stats: Statistics, of: LayerStatistics, channel: int) -> str:
    shown = [(e, f"{e.value:.4g} · {Path(e.image).name}") for e in stats.top(of.name, channel)[:SHOWN]]
    return "".join(_figure(e.jpeg, text) for e, text in shown if e.jpeg is not None)


def _example(stats: Statistics, layer: str, channel: int, text: str) -> str:
    """The strongest example of another unit."""
    best = stats.top(layer, channel)
    return _figure(best[0].jpeg, text) if best and best[0].jpeg is not None else ""


def _figure(jpeg: bytes, text: str) -> str:
    words = html.escape(text)
    source = f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"
    return f'<figure><img src="{source}" alt="part of {words}"><figcaption>{words}</figcaption></figure>'


def _listed(title: str, pairs: Sequence[tuple[str, float]]) -> str:
    return f"<h3>{html.escape(title)}</h3><p>{' · '.join(f'{html.escape(name)} <small>{r:.2f}</small>' for name, r in pairs)}</p>"


def _histogram(of: LayerStatistics, channel: int) -> str:
    """All answers, counts on a logarithmic scale."""
    heights = of.histogram(BINS)[channel].double().log1p()
    heights = heights / heights.max().clamp(min=1e-12)
    bars = "".join(
        f'<rect x="{10 * k + 1}" y="{100 - 98 * h:.1f}" width="8" height="{98 * h:.1f}"/>' for k, h in enumerate(heights.tolist())
    )
    low, high, mean, firing = (float(v[channel]) for v in (of.min, of.max, of.mean, of.firing))
    said = f"All answers: from {low:.4g} to {high:.4g}, mean {mean:.4g}, above 0 in {100 * firing:.3g} %; counts on a logarithmic scale."
    drawn = f'<svg viewBox="0 0 {10 * BINS} 100" preserveAspectRatio="none" role="img" aria-label="{said}">{bars}</svg>'
    return f'{drawn}<p class="teach">{said}</p>'
