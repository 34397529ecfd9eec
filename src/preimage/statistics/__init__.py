"""Statistics of a network's units over many images (get_neuron_stats.m): collected in one pass, kept in a file, used by `maximize`."""

from __future__ import annotations

from .collect import Keep, collect_statistics
from .layer import LayerStatistics
from .matching import Matches, match_units
from .statistics import Excitation, Statistics, load_statistics
from .wiring import Wiring, find_wiring

__all__ = [
    "Excitation",
    "Keep",
    "LayerStatistics",
    "Matches",
    "Statistics",
    "Wiring",
    "collect_statistics",
    "find_wiring",
    "load_statistics",
    "match_units",
]
