"""FREAK: which of two fields of a retina is brighter, for 43 fields that overlap and grow outwards."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .binary import BinaryDescriptor, Keypoints
from .receptive_field import Number

_LARGEST, _SMALLEST = 2 / 3, 2 / 24  # radii of the outermost and the innermost ring, over the scale
_STEPS = (0, 6, 11, 15, 18, 20)  # how far each ring but the innermost lies within the outermost, of 21 to the innermost
_LEARNED = """
404 431 818 511 181 52 311 874 774 543 719 230 417 205 11 560 149 265 39 306 165 857 250 8 61 15 55 717 44 412 592 134 761 695 660 782
625 487 549 516 271 665 762 392 178 796 773 31 672 845 548 794 677 654 241 831 225 238 849 83 691 484 826 707 122 517 583 731 328 339
571 475 394 472 580 381 137 93 380 327 619 729 808 218 213 459 141 806 341 95 382 568 124 750 193 749 706 843 79 199 317 329 768 198 100
466 613 78 562 783 689 136 838 94 142 164 679 219 419 366 418 423 77 89 523 259 683 312 555 20 470 684 123 458 453 833 72 113 253 108
313 25 153 648 411 607 618 128 305 232 301 84 56 264 371 46 407 360 38 99 176 710 114 578 66 372 653 129 359 424 159 821 10 323 393 5
340 891 9 790 47 0 175 346 236 26 172 147 574 561 32 294 429 724 755 398 787 288 299 769 565 767 722 757 224 465 723 498 467 235 127 802
446 233 544 482 800 318 16 532 801 441 554 173 60 530 713 469 30 212 630 899 170 266 799 88 49 512 399 23 500 107 524 90 194 143 135 192
206 345 148 71 119 101 563 870 158 254 214 276 464 332 725 188 385 24 476 40 231 620 171 258 67 109 844 244 187 388 701 690 50 7 850 479
48 522 22 154 12 659 736 655 577 737 830 811 174 21 237 335 353 234 53 270 62 182 45 177 245 812 673 355 556 612 166 204 54 248 365 226
242 452 700 685 573 14 842 481 468 781 564 416 179 405 35 819 608 624 367 98 643 448 2 460 676 440 240 130 146 184 185 430 65 807 377 82
121 708 239 310 138 596 730 575 477 851 797 247 27 85 586 307 779 326 494 856 324 827 96 748 13 397 125 688 702 92 293 716 277 140 112 4
80 855 839 1 413 347 584 493 289 696 19 751 379 76 73 115 6 590 183 734 197 483 217 344 330 400 186 243 587 220 780 200 793 246 824 41
735 579 81 703 322 760 720 139 480 490 91 814 813 163 152 488 763 263 425 410 576 120 319 668 150 160 302 491 515 260 145 428 97 251 395
272 252 18 106 358 854 485 144 550 131 133 378 68 102 104 58 361 275 209 697 582 338 742 589 325 408 229 28 304 191 189 110 126 486 211
547 533 70 215 670 249 36 581 389 605 331 518 442 822
"""
"""The pairs that Alahi et al. chose of 903 for much variance and little correlation: OpenCV's default, in its order, read off its bits."""


class FREAK(BinaryDescriptor):
    r"""Fast retina keypoints (Alahi, Ortiz, Vandergheynst, CVPR 2012), upright and of one size, with a soft comparison.

    x: grey (B, 1, H, W), levels 0–255 -> (B, P, h, w), a descriptor every `step` pixels as far as its fields are inside the image;
    with keypoints (B, P, keypoints). Feature p is tanh((m_i − m_j)/T), m the mean of levels over a field: near 1 where OpenCV's bit
    is set, near −1 where it is not. Field 0 to 5 are the outermost ring, 42 the centre; pair p is (i, j) with i > j.

    Parameters
    ----------
    pairs : "learned" or "all"
        The 512 that the authors chose, in OpenCV's order, or all 903, ordered by i and then j.
    scale : float, default 22
        Of the pattern, in pixels; OpenCV's `patternScale`, at its smallest keypoints. The fields reach as far.
    field : "box" or "gaussian"
        The mean over a square, as OpenCV takes it (below half a pixel one interpolated level), or under a Gaussian whose standard
        deviation is half of that square's side, as the paper has it, cut off at 2.5 of them.
    step, keypoints, temperature : as in `BinaryDescriptor`; default a grid of 8 pixels and 8 grey levels

    A change of all levels by the same amount changes nothing; the negative has the opposite features. Orientation is not
    estimated. space: grey pixels of any size, mean 128. jitter: 1. No parameters; float32 or float64, on the device of x.
    Raises InputError for wrong settings and images.

    >>> phi = FREAK()
    >>> phi(torch.rand(2, 1, 64, 80) * 255).shape, phi.stride, phi.receptive_field
    (torch.Size([2, 512, 3, 5]), 8, 45)
    """

    def __init__(
        self,
        pairs: Literal["learned", "all"] = "learned",
        scale: float = 22.0,
        field: Literal["box", "gaussian"] = "box",
        step: int = 8,
        keypoints: Keypoints | None = None,
        temperature: float = 8.0,
    ) -> None:
        super().__init__("freak", step, keypoints, temperature)
        if pairs not in ("learned", "all"):
            raise InputError(f"pairs is 'learned' or 'all'; got {pairs!r}.")
        if field not in ("box", "gaussian"):
            raise InputError(f"field is 'box' or 'gaussian'; got {field!r}.")
        if not 4 <= scale < math.inf:
            raise InputError(f"scale is in pixels, at least 4; got {scale!r}.")
        self.which, self.scale, self.field = pairs, float(scale), field
        every = np.stack(np.tril_indices(len(_fields()), -1))
        chosen = every if pairs == "all" else every[:, [int(k) for k in _LEARNED.split()]]
        self.tests, self.pairs = torch.from_numpy(chosen), chosen.shape[1]
        self.radius = len(_kernels(self.scale, field)[0]) // 2
        self.receptive_field: Number | None = 2 * self.radius + 1

    def extra_repr(self) -> str:
        return f"pairs={self.which!r}, scale={self.scale:g}, field={self.field!r}, step={self.step}, temperature={self.temperature:g}"

    def means(self, planes: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the mean of every field, (B, H, W) and n centres -> (B, 43, n)."""
        side = 2 * self.radius + 1
        reach = torch.arange(-self.radius, self.radius + 1, device=planes.device)
        at = (rows[:, None, None] + reach[:, None]) * planes.shape[2] + columns[:, None, None] + reach
        patches = planes.flatten(1)[:, at.flatten()].view(len(planes), len(rows), side * side)
        kernels = torch.from_numpy(_kernels(self.scale, self.field)).to(planes).flatten(1)
        return kernels @ patches.mT

    def _differences(self, planes: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        means = self.means(planes, rows, columns)
        first, second = self.tests.to(planes.device)
        return means[:, first] - means[:, second]


def _fields() -> list[tuple[float, float, float]]:
    """Row and column of each field's centre and half of its side, over the scale."""
    unit = (_LARGEST - _SMALLEST) / 21
    radii = [*(_LARGEST - steps * unit for steps in _STEPS), _SMALLEST]
    found = []
    for ring, radius in enumerate(radii):
        for k in range(6):
            angle = math.pi / 3 * k + math.pi / 6 * (ring % 2)  # every other ring is turned by half a step
            found.append((radius * math.sin(angle), radius * math.cos(angle), radius / 2))
    return [*found, (0.0, 0.0, _SMALLEST / 2)]


@lru_cache(maxsize=16)
def _kernels(scale: float, field: str) -> np.ndarray:
    """(43, k, k) weights of the pixels around the centre, each field's sum 1."""
    fields = scale * np.array(_fields())
    cut = 1.0 if field == "box" else 2.5
    radius = math.ceil((np.linalg.norm(fields[:, :2], axis=1) + cut * fields[:, 2]).max() - 1e-9)
    place = np.arange(-radius, radius + 1)
    kernels = []
    for row, column, half in fields:
        if field == "gaussian":
            sides = [
                np.exp(-0.5 * ((place - centre) / half) ** 2) * (np.abs(place - centre) <= cut * half + 0.5 + 1e-6)
                for centre in (row, column)
            ]
        elif half < 0.5:
            sides = [np.maximum(1 - np.abs(place - centre), 0) for centre in (row, column)]
        else:  # from one rounded edge to the other; 1e-6 so that an edge halfway between pixels is not decided by the last bit
            sides = [
                ((place >= math.floor(centre - half + 0.5 + 1e-6)) & (place <= math.floor(centre + half + 0.5 + 1e-6))).astype(float)
                for centre in (row, column)
            ]
        kernel = np.outer(*sides)
        kernels.append(kernel / kernel.sum())
    return np.stack(kernels)
