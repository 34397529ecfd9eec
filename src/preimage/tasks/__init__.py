"""The three tasks of the paper, and the result that they give."""

from ..solvers.monitor import Monitor
from .caricature import caricature
from .invert import invert
from .maximize import maximize

BOUND = 160.0  # B₊ = 2B

__all__ = ["BOUND", "Monitor", "caricature", "invert", "maximize"]
