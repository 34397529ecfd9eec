"""What there is to show in a store: its records by experiment, in grids, with their curves, energies and receptive fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ..bars import progress_bar
from ..errors import InputError, PreimageError
from ..studies.about import About, read_about
from .archive import Archive, Row, inside, summaries
from .boxes import Box, Geometry, gather, geometry, masked_box
from .charts import Chart
from .grids import AXES, Grid, arrange, label, telling
from .judged import RANK
from .numbers import show_metric
from .traces import trace_curve

_LINES = 6  # more lines than this on one small chart cannot be told apart
_VERSIONS = 30  # names of software that one result tells
_POOLED = ("layer", "representation", "unit", "restart", "seed")  # what does not get an energy curve of its own


class StoreView:
    """A store's records, read once. progress: show a bar while the energies are read."""

    def __init__(self, store: Archive, progress: bool = False) -> None:

        self.store = store
        self.rows: list[Row] = list(store.records())
        self.failed = [r for r in self.rows if r.status == "failed"]
        self.originals = [inside(store.path, r.config.get("original")) for r in self.rows]
        self.traces: dict[int, Mapping[str, Tensor]] = {}
        self.versions: dict[str, set[str]] = {}
        self.abouts: dict[int, About] = {}
        self.damaged: dict[str, str] = {}
        notes: dict[str, str] = {}
        whole = [i for i, r in enumerate(self.rows) if r.status == "done"]
        for i in progress_bar(whole, desc="energies", unit="result", shown=progress):
            try:
                self.traces[i], config = store.trace(self.rows[i].key)
            except PreimageError as error:
                self.damaged[self.rows[i].key] = str(error)
                continue
            self._note(i, config, notes)
        self.damaged |= store.damaged
        self.done = list(self.traces)
        self.geometries, self.unknown_networks = _geometries(self.rows, self.abouts, notes)
        self.summaries = summaries(store.path)

    def _note(self, i: int, config: Mapping[str, Any], notes: dict[str, str]) -> None:
        """What a result says of the software and of its network, if that can be read."""
        versions = config.get("versions")
        for name, version in list(versions.items())[:_VERSIONS] if isinstance(versions, dict) else ():
            self.versions.setdefault(_word(name), set()).add(_word(version))
        try:
            self.abouts[i] = read_about(config.get("about"))
        except InputError as error:
            if config.get("about"):
                notes.setdefault(str(self.rows[i].config.get("network")), str(error))

    def experiments(self) -> list[str]:
        """Their names in the order in which they first ran; one that is made of another's results comes after that one."""
        names = list(dict.fromkeys(r.experiment for r in self.rows))
        owner = {r.key: r.experiment for r in self.rows}
        for name, summary in reversed(self.summaries.items()):
            if name not in names:
                source = next((owner[k] for k in summary.keys if k in owner), None)
                names.insert(len(names) if source is None else names.index(source) + 1, name)
        return names

    def members(self, experiment: str) -> list[int]:
        """The indices of its finished jobs."""
        return [i for i in self.done if self.rows[i].experiment == experiment]

    def grids(self, experiment: str) -> list[Grid]:
        """Its pictures in grids, whose indices are those of `members`."""
        configs = [self.rows[i].config for i in self.members(experiment)]
        return arrange(configs, self._layer_order(configs)) if configs else []

    def energies(self, experiment: str) -> list[Chart]:
        """Small charts of the total energy by iteration: one a layer, one curve for each C (or what else differs)."""
        members = self.members(experiment)
        order = self._layer_order([self.rows[i].config for i in members])
        differ = telling([self.rows[i].config for i in members], [k for k in AXES if k not in _POOLED])
        groups: dict[str, dict[str, list[Tensor]]] = {}
        for i in sorted(members, key=lambda i: _position(order, self.rows[i].config.get("layer"))):
            config = self.rows[i].config
            if "total" in self.traces[i]:
                line = " · ".join(label(k, config.get(k)) for k in differ)
                layer = str(config.get("layer") or config.get("representation", ""))
                groups.setdefault(layer, {}).setdefault(line, []).append(self.traces[i]["total"])
        charts = []
        for layer, lines in groups.items():
            if len(lines) > _LINES:
                lines = {"all": [t for traces in lines.values() for t in traces]}
            curves = [trace_curve(line, traces) for line, traces in sorted(lines.items(), key=lambda kv: _natural(kv[0]))]
            charts.append(Chart(layer, curves, "iteration", "energy", log=True, mini=True, name=f"energy-{layer}"))
        return charts

    def name(self, row: Row) -> str:
        """A job in words, for captions, alternatives of pictures and the list of failures."""
        config = row.config
        parts = [str(config[k]) for k in ("image", "name", "layer", "representation") if config.get(k) is not None]
        parts += [label(k, config[k]) for k in ("unit", "C", "variant", "mask") if config.get(k) is not None]
        parts += [label("restart", config["restart"])] if config.get("restart") else []
        return " · ".join(parts) or row.key

    def box(self, row: Row) -> Box | None:
        """What the features see that the job's mask keeps, if it keeps central ones."""
        known = self.geometries.get(str(row.config.get("network")))
        info = known.layers.get(str(row.config.get("layer"))) if known else None
        return masked_box(info, known.size, row.config.get("mask")) if known and info else None

    def number(self, row: Row) -> str:
        """The one number that stands under a picture, and where other networks put what it should show."""
        ranks = "".join(f", {name.removeprefix(RANK)}: rank {v:.0f}" for name, v in row.metrics.items() if name.startswith(RANK))
        for name in ("error", "activation", *(m for m in row.metrics if not m.startswith(RANK))):
            if name in row.metrics:
                shown = show_metric(name, row.metrics[name])
                return (shown if name == "error" else f"{name} {shown}") + ranks
        return ranks.removeprefix(", ")

    def layers(self) -> list[str]:
        """Of all results, in the order in which the networks run them."""
        return self._layer_order([r.config for r in self.rows])

    def _layer_order(self, configs: Sequence[Mapping[str, Any]]) -> list[str]:
        """As the networks run them; where a network is not known, as they come in the store."""
        networks = dict.fromkeys(str(c.get("network")) for c in configs)
        known = [layer for n in networks if n in self.geometries for layer in self.geometries[n].layers]
        return list(dict.fromkeys([*known, *[str(c.get("layer")) for c in configs]]))


def _geometries(rows: Sequence[Row], abouts: Mapping[int, About], notes: Mapping[str, str]) -> tuple[dict[str, Geometry], dict[str, str]]:
    """Of the networks in the store, as their results tell it, and why there is none for the others."""
    found: dict[str, Geometry] = {}
    unknown: dict[str, str] = {}
    for name in dict.fromkeys(str(r.config["network"]) for r in rows if r.config.get("network")):
        told = [about for i, about in abouts.items() if str(rows[i].config.get("network")) == name]
        try:
            found[name] = gather(told) if told else geometry(name)
        except InputError as error:
            unknown[name] = notes.get(name, str(error))
    return found, unknown


def _word(value: Any) -> str:
    """A name or a version as a page can have it."""
    return str(value)[:80].encode("utf-8", "replace").decode("utf-8")


def _position(order: Sequence[str], layer: Any) -> int:
    return order.index(layer) if layer in order else len(order)


def _natural(text: str) -> list[Any]:
    """Sorts "C = 20" before "C = 100"."""
    import re

    return [(0, float(p), "") if re.fullmatch(r"\d+(\.\d+)?", p) else (1, 0.0, p) for p in re.split(r"(\d+(?:\.\d+)?)", text)]
