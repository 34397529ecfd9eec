"""The parts of methods beside the paper's, gathered so that they are registered wherever parts are chosen by name."""

from . import diversity, margin, octaves, scores, texture

__all__ = ["diversity", "margin", "octaves", "scores", "texture"]
