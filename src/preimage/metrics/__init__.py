"""Numbers that say how good a pre-image is, for each sample, on float images and features.

The original computed its own on contrast-stretched PNGs: give ``through_png(images)`` instead of ``images`` for those numbers.
"""

from __future__ import annotations

from .features import normalised_error, top1_agreement
from .perceptual import LPIPS
from .pictures import gradient_histogram, ms_ssim, naturalness, psnr, roughness, ssim, through_png
from .recognition import Recognition, Resemblance, Share, embeddings, recognition, resemblance
from .registered import METRICS, Metric, Seen, measure_image, metric_revisions
from .sets import Interval, bootstrap, interval, pairwise_distance, reidentified, rms, spread

__all__ = [
    "LPIPS",
    "METRICS",
    "Interval",
    "Metric",
    "Recognition",
    "Resemblance",
    "Seen",
    "Share",
    "bootstrap",
    "embeddings",
    "gradient_histogram",
    "interval",
    "measure_image",
    "metric_revisions",
    "ms_ssim",
    "naturalness",
    "normalised_error",
    "pairwise_distance",
    "psnr",
    "recognition",
    "reidentified",
    "resemblance",
    "rms",
    "roughness",
    "spread",
    "ssim",
    "through_png",
    "top1_agreement",
]
