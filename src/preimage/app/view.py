"""What the page shows, as HTML: pictures, how far a run is, the energy curve, what a layer keeps. Everything from outside is escaped."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from ..representations.listing import LayerInfo
from .catalogue import Entry, map_of
from .jobs import DONE, FAILED, RUNNING, STOPPED, WAITING, Job

WIDTH, HEIGHT = 480, 120
"""Of the energy curve, in its own units."""

TASKS = {
    "invert": (
        "Invert",
        "Start from noise and look for an image that this layer cannot tell from the photograph. What comes back is what the layer "
        "has kept; what is wrong or washed out, it has thrown away.",
    ),
    "caricature": (
        "Caricature",
        "Start from the photograph and strengthen whatever the layer already sees in it: textures in early layers, parts of things in "
        "late ones.",
    ),
    "maximize": (
        "Maximize",
        "Start from noise and look for the image that excites one unit most: a class of the network, by its name, or one channel of "
        "the layer, by its number.",
    ),
}
WORDS = {WAITING: "Waiting", RUNNING: "Running", DONE: "Done", STOPPED: "Stopped", FAILED: "Not possible"}


def layer_label(info: LayerInfo) -> str:
    """One line of the list of layers.

    >>> layer_label(LayerInfo("fire4", "Fire", (256, 28, 28), 47, 8, 2, None))
    'fire4   (256 × 28 × 28, sees 47 px)'
    """
    sees = "the whole image" if info.receptive_field is None else f"{info.receptive_field} px"
    return f"{info.name}   ({' × '.join(map(str, info.shape))}, sees {sees})"


def layer_facts(entry: Entry, info: LayerInfo) -> str:
    """What the chosen layer makes of an image, in words and numbers."""
    height, width = entry.size
    given, kept = height * width * entry.channels, math.prod(info.shape)
    grid = map_of(info)
    made = (
        f"{info.shape[0]:,} channels at {grid[0]} × {grid[1]} positions" if len(grid) == 2 else f"{info.shape[0]:,} numbers, no positions"
    )
    sees = "the whole image" if info.receptive_field is None else f"{info.receptive_field} × {info.receptive_field} pixels"
    step = f", one every {info.stride} pixels" if len(grid) == 2 else ""
    code = f"{kept:,} numbers, {kept / given:.2g} for each of the image's {height}×{width}×{entry.channels}"
    rows = [("It makes", made), ("Each unit sees", sees + step), ("Size of the code", code)]
    return '<dl class="facts">' + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in rows) + "</dl>"


def explain(task: str) -> str:
    return f'<p class="teach">{TASKS[task][1]}</p>'


def photograph(source: str, caption: str) -> str:
    """The chosen photograph, small."""
    return (
        f'<figure class="chosen"><img src="{source}" alt="{html.escape(caption)}"><figcaption>{html.escape(caption)}</figcaption></figure>'
    )


def refusal(message: str) -> str:
    """An error, in words, where it happened."""
    return f'<p class="refusal" role="alert">{html.escape(message)}</p>'


def empty() -> str:
    return (
        '<div class="run"><p class="nothing">Choose a layer and a task, then press Start. The image forms here while you watch.</p></div>'
    )


def run(job: Job, ahead: int = 0, link: str = "") -> str:
    """A run as it is now: state, bar, pictures, curve, and at the end the figures and an address that asks for the same."""
    again = f'<p class="teach"><a href="{html.escape(link)}">A link to this request</a></p>' if link else ""
    return (
        f'<div class="run" data-state="{job.state}" data-evaluations="{job.frame.evaluations if job.frame else 0}">'
        f"{_status(job, ahead)}{_pictures(job)}{_curve(job.curve)}{_verdict(job)}{again}</div>"
    )


def _status(job: Job, ahead: int) -> str:
    if job.state == FAILED:
        return refusal(job.message)
    if job.state == WAITING:
        line = f"{ahead} {'runs are' if ahead != 1 else 'run is'} ahead of this one." if ahead else "This run is the next."
    elif job.state == RUNNING:
        line = _going(job)
    else:
        line = job.message or f"{job.outcome.evaluations if job.outcome else 0} evaluations for each image."
    spoken = "off" if job.state == RUNNING else "polite"
    return (
        f'<p class="status" aria-live="{spoken}"><strong>{WORDS[job.state]}.</strong> {html.escape(line)}</p>'
        f'<progress {_done(job)} aria-label="evaluations done"></progress>'
    )


def _done(job: Job) -> str:
    """The bar's attributes: without a value, it moves and says no number."""
    total, frame = job.total, job.frame
    if total is None:
        return "" if job.state == RUNNING else 'max="1" value="0"'
    return f'max="{total}" value="{total if job.state == DONE else min(frame.evaluations, total) if frame else 0}"'


def _going(job: Job) -> str:
    total, frame = job.total, job.frame
    if job.stop.is_set():
        return "Stopping."
    if frame is None:
        return f"Opening {job.order.network} and preparing {job.order.layer}."
    if total is None:
        return f"{frame.evaluations} evaluations so far."
    if frame.evaluations >= total:
        return f"{total} of {total} evaluations; writing the result."
    left = frame.seconds / max(frame.evaluations - 1, 1) * (total - frame.evaluations)
    return f"{frame.evaluations} of {total} evaluations" + (f", about {max(round(left), 1)} s left." if frame.seconds > 1 else ".")


def _pictures(job: Job) -> str:
    shown = job.outcome.pictures if job.outcome else job.frame.pictures if job.frame else ()
    captions: Sequence[str] = job.outcome.captions if job.outcome else [""] * len(shown)
    figures = [_figure(job.original, "the photograph, as the network takes it")] if job.original else []
    figures += [_figure(p, c or "forming", "result") for p, c in zip(shown, captions, strict=True)]
    return f'<div class="figures">{"".join(figures)}</div>' if figures else ""


def _figure(source: str, caption: str, kind: str = "") -> str:
    text = html.escape(caption)
    return f'<figure class="{kind}"><img src="{source}" alt="{text}"><figcaption>{text}</figcaption></figure>'


def _curve(points: Sequence[tuple[int, float]]) -> str:
    """Energy by evaluations, as an SVG in the colours of the page; logarithmic where all of it is above 0."""
    points = [(n, e) for n, e in points if math.isfinite(e)]
    if len(points) < 2:
        return ""
    steep = all(e > 0 for _, e in points)
    heights = [math.log10(e) if steep else e for _, e in points]
    low, high, first, last = min(heights), max(heights), points[0][0], points[-1][0]
    spots = [
        f"{(n - first) / max(last - first, 1) * WIDTH:.1f},{(1 - (h - low) / ((high - low) or 1)) * (HEIGHT - 4) + 2:.1f}"
        for (n, _), h in zip(points, heights, strict=True)
    ]
    start, end = points[0][1], points[-1][1]
    return (
        f'<figure class="curve"><svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="energy from {start:.3g} to {end:.3g}"><polyline points="{" ".join(spots)}"/></svg>'
        f"<figcaption>Energy{' (logarithmic)' if steep else ''}: {start:.3g} at evaluation {first}, {end:.3g} at {last}. "
        "Lower is closer to the goal and more like a natural image.</figcaption></figure>"
    )


def _verdict(job: Job) -> str:
    if job.outcome is None:
        return ""
    meaning = {
        "invert": "The error is the distance between the features of the two images, as a part of the photograph's own: 0 % would be "
        "an image that the layer cannot tell from the photograph.",
        "caricature": "Activation 1 is the photograph's own answer; above it, the layer sees more of the same.",
        "maximize": "The activation is the unit's answer to this image; it has the network's own unit.",
    }[job.outcome.task]
    troubles = "".join(f'<p class="trouble">{html.escape(t)}</p>' for t in job.outcome.troubles)
    nature = "".join(f'<p class="teach">{html.escape(t)}</p>' for t in job.outcome.nature)
    return f'{troubles}<p class="teach">{meaning}</p>{nature}'
