"""The parts of methods beside the paper's, gathered so that they are registered wherever parts are chosen by name."""

from . import margin, octaves, scores, texture

__all__ = ["margin", "octaves", "scores", "texture"]
