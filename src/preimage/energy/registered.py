"""The parts of methods beside the paper's, gathered so that they are registered wherever parts are chosen by name."""

from . import batch_norm, diversity, feature_statistics, frame, guide, keep_classes, margin, octaves, patches, portilla, scores, texture

__all__ = [
    "batch_norm",
    "diversity",
    "feature_statistics",
    "frame",
    "guide",
    "keep_classes",
    "margin",
    "octaves",
    "patches",
    "portilla",
    "scores",
    "texture",
]
