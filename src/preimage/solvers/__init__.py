"""How the energy is minimised: the solvers, the loop that they share, plans, and where it is computed."""

from .methods import LBFGS, Adam, Descend, FourierAdam, Paper, spectrum

__all__ = ["LBFGS", "Adam", "Descend", "FourierAdam", "Paper", "spectrum"]
