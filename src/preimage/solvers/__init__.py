"""How the energy is minimised: the solvers, the loop that they share, and where it is computed."""

from .methods import LBFGS, Adam, Fast, FourierAdam, Paper, spectrum

__all__ = ["LBFGS", "Adam", "Fast", "FourierAdam", "Paper", "spectrum"]
