"""What excites a channel more, its image or photographs? Random channels of deep layers, by several recipes, and a page of them.

python -m benchmarks.units STORE [--channels 100] [--layers fire5 … fire9] [--recipes default preimage2026-units mahendran2016]
                                 [--net NET] [--images FOLDER] [--judge NET] [--shown] [--json FILE] [--page FILE.html] [--pictures FILE]

Channels are drawn by SEED, evenly over the layers, without those on which a recipe was chosen (CHOSEN_ON). Each gets one image by each
recipe, one job of a store, made as `preimage.maximize(net.layer(LAYER), UNIT, recipe=RECIPE)`; *default* chooses none. The same command
goes on where it was ended, and --shown makes no image and reports on what is there.

The natural images are photographs, or where there are fewer than NATURAL of them, as many squares of each as it takes: the middle one, and
random ones of 40 to 100 % of its short side. Without --images they are the 20 photographs of foolbox and the 13 free ones of scikit-image,
scikit-learn and matplotlib, whence 231 squares, that is, many of one photograph. An image *beats nature* if the answer of the middle unit
of the plain network to it, as 8 bits, is more than the largest answer at any place of any natural image, and the run ended ok. Shares have
Wilson's 95 % intervals, means of ratios are geometric. Processor seconds are of the whole call, in one thread.

The page shows of each channel the images, the three photographs with the strongest squares, one square each, with the words of the
judge's first class for the photograph's middle square, and the numbers; SAMPLE channels, the first of the draw, are larger. --pictures
draws the first DRAWN channels, a row a recipe, with the answer by the largest natural one.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import preimage
from preimage.inverses.photographs import Crops, free_photographs
from preimage.methods.recipe import recipe_named
from preimage.metrics import Share
from preimage.pixels.images import find_pictures
from preimage.report.numbers import number_table
from preimage.report.page import write_html
from preimage.representations.units import unit_targets
from preimage.studies.jobs import Job, open_network
from preimage.studies.runner import run
from preimage.studies.store import Store
from preimage.tasks.result import data_uri, versions

from .common import figure as canvas
from .common import photographs, quartiles, save, write

SEED = 20161101  # that of the report classes of benchmarks.recognition
CHOSEN_ON = {"fire7": (106, 5, 266, 376, 18), "fire8": (161, 244, 17)}  # docs/atlas.md; of SqueezeNet
LAYERS = ("fire5", "fire6", "fire7", "fire8", "fire9")
RECIPES = ("default", "preimage2026-units")
NATURAL, SAMPLE, SHOWN, DRAWN = 200, 10, 3, 12
LARGE, SMALL = 227, 128  # pixels of a picture on the page
COLUMNS = {
    "recipe": "default: nothing chosen",
    "answer": "of the middle unit to the picture as 8 bits",
    "natural": "the largest answer at any place of any natural image",
    "times": "the first by the second",
    "status": "ok, or why no image was found",
    "evaluations": "of the network and its gradient",
    "processor seconds": "of the call, one thread",
}


@dataclass(frozen=True)
class Channel:
    """A channel of a layer."""

    layer: str
    unit: int

    @property
    def name(self) -> str:
        return f"{self.layer} {self.unit}"


@dataclass(frozen=True)
class Nature:
    """Natural images, (N, 3, H, W) levels, and which photograph each is a part of."""

    images: Tensor
    photograph: list[int]
    paths: list[Path]


def channels(net: preimage.Network, layers: Sequence[str], count: int) -> list[Channel]:
    """Return the channels of the draw, a layer in turn; a smaller count is a part of a larger one."""
    chosen_on = CHOSEN_ON if net.card.name == "squeezenet1_1" else {}
    order = {}
    for layer in layers:
        free = [c for c in range(net.layer(layer).shape[0]) if c not in chosen_on.get(layer, ())]
        order[layer] = random.Random(f"{SEED} {layer}").sample(free, len(free))
    longest = max(len(o) for o in order.values())
    return [Channel(layer, order[layer][k]) for k in range(longest) for layer in layers if k < len(order[layer])][:count]


def job(net: str, channel: Channel, recipe: str) -> Job:
    """Return the plain call for a channel by a recipe."""
    _, sha = open_network(net)
    strength = 1e4 if recipe == "default" else recipe_named(recipe).parts("maximize").C
    return Job(
        experiment="units", task="maximize", C=strength, network=net, weights_sha256=sha,
        layer=channel.layer, unit=channel.unit, name=channel.name, recipe=None if recipe == "default" else recipe,
    )  # fmt: skip


def make(store: Store, wanted: Job) -> None:
    """Run a job that the store has not, and keep the processor seconds beside its numbers."""
    if store.done(wanted.key):
        return
    began = time.process_time()
    run([wanted], store, progress=False)
    if store.done(wanted.key):
        store.add_metrics(wanted.key, {"processor_seconds": time.process_time() - began}, {})


def nature(paths: Sequence[str | Path], space: preimage.PixelSpace, least: int = NATURAL) -> Nature:
    """Return the middle square of each photograph and, where these are too few, as many random squares of each as it takes."""
    assert space.size is not None
    each = max(1, math.ceil(least / len(paths)))
    crops = Crops(list(paths), space, space.size, SEED)
    middle = [space.encode(p) for p in paths]
    found = torch.cat(middle + [crops[n] for n in range(len(paths) * (each - 1))])
    return Nature(space.decode(found).clamp(0, 255), [n % len(paths) for n in range(len(found))], [Path(p) for p in paths])


def natural_answers(net: preimage.Network, drawn: Sequence[Channel], seen: Nature) -> dict[Channel, Tensor]:
    """Return of each channel its largest answer in each natural image, (N,)."""
    found = {}
    for layer in dict.fromkeys(c.layer for c in drawn):
        phi, parts = net.layer(layer), []
        for batch in seen.images.split(16):
            with torch.no_grad():
                parts.append(phi(phi.space.encode(batch)).amax(dim=(2, 3)))
        largest = torch.cat(parts)
        found |= {c: largest[:, c.unit] for c in drawn if c.layer == layer}
    return found


def answer(net: preimage.Network, channel: Channel, images: Tensor) -> float:
    """Return the middle unit's answer to an image (1, 3, H, W) as 8 bits."""
    phi = net.layer(channel.layer)
    x = images.round().clamp(0, 255) - phi.space.mean_colour
    target, _ = unit_targets(phi, [channel.unit], (x.shape[2], x.shape[3]), False, x)
    with torch.no_grad():
        return float((phi(x) * target).sum())


def measured(store: Store, net: preimage.Network, channel: Channel, recipe: str, natural: Tensor) -> dict[str, Any] | None:
    """Return what is known of a channel's image by a recipe; None where it was not made yet."""
    wanted = job(net.card.name, channel, recipe)
    given_up = {r.key: r.reason for r in store.records(status="failed", layer=channel.layer)}
    row: dict[str, Any] = {"channel": channel.name, "layer": channel.layer, "recipe": recipe, "natural": float(natural.max())}
    if not store.done(wanted.key):
        failed = given_up.get(wanted.key)
        return None if failed is None else row | {"ok": False, "beats": False, "status": failed}
    found, numbers = store.result(wanted.key), store.record(wanted.key)
    value = answer(net, channel, found.images)
    ok = found.status == ["ok"]
    return row | {
        "answer": value,
        "times": value / row["natural"] if row["natural"] > 0 else math.nan,
        "ok": ok,
        "beats": ok and value > row["natural"],
        "status": found.status[0],
        "reopened": bool(found.config["reopened"]),
        "evaluations": found.evaluations,
        "processor_seconds": None if numbers is None else numbers.metrics.get("processor_seconds"),
    }


def beside_the_first(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows, each with its answer by that of the first recipe for the same channel, where both ended ok.

    >>> made = [{"channel": "a", "recipe": r, "ok": True, "answer": v} for r, v in (("default", 4.0), ("own", 6.0))]
    >>> [row["by_first"] for row in beside_the_first(made)]
    [1.0, 1.5]
    """
    first = {r["channel"]: r["answer"] for r in rows if r["recipe"] == rows[0]["recipe"] and r["ok"] and r["answer"] > 0}
    return [r | ({"by_first": r["answer"] / first[r["channel"]]} if r["ok"] and r["channel"] in first else {}) for r in rows]


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the shares and medians of some rows.

    >>> summary([{"beats": True, "ok": True, "times": 2.0}, {"beats": False, "ok": False, "status": "closed"}])["failed"]
    1
    """
    times = [r["times"] for r in rows if r["ok"] and r.get("times", 0) > 0]
    relative = [r["by_first"] for r in rows if r.get("by_first", 0) > 0]
    seconds = [r["processor_seconds"] for r in rows if r.get("processor_seconds") is not None]
    return {
        "done": len(rows),
        "beats": str(Share(sum(r["beats"] for r in rows), len(rows))),
        "failed": sum(not r["ok"] for r in rows),
        "times": statistics.geometric_mean(times) if times else math.nan,
        "by_first": (min(relative), statistics.geometric_mean(relative), max(relative)) if relative else None,
        "seconds": quartiles(seconds) if seconds else None,
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table, a line for each layer and recipe and one for all of a recipe."""
    heads = ("recipe", "layer", "channels", "beat all natural images", "no image", "answer by the largest natural")
    heads += (f"by that of {rows[0]['recipe']}: least, mean, most", "processor seconds")
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for recipe in dict.fromkeys(r["recipe"] for r in rows):
        own = [r for r in rows if r["recipe"] == recipe]
        for layer in [*dict.fromkeys(r["layer"] for r in own), "all"]:
            said = summary([r for r in own if layer in (r["layer"], "all")])
            took = "–" if said["seconds"] is None else f"{said['seconds'][1]:.1f} [{said['seconds'][0]:.1f}, {said['seconds'][2]:.1f}]"
            against = "–" if said["by_first"] is None else ", ".join(f"{v:.2f}" for v in said["by_first"])
            cells = (recipe, layer, said["done"], said["beats"], said["failed"], f"{said['times']:.2f}", against, took)
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


@lru_cache(maxsize=1)
def words(judge: preimage.Network, paths: tuple[Path, ...]) -> list[str]:
    """Return the judge's first class for the middle square of each photograph."""
    x = torch.cat([judge.space.encode(p) for p in paths])
    scores = judge.layer(judge.layers()[-1].name)
    with torch.no_grad():
        found = torch.cat([scores(b).flatten(1) for b in x.split(8)])
    return [judge.class_name(int(k)) for k in found.argmax(dim=1)]


def strongest(natural: Tensor, seen: Nature) -> list[int]:
    """Return the strongest square of each of the photographs whose squares are the strongest."""
    found: list[int] = []
    for n in natural.argsort(descending=True, stable=True).tolist():
        if seen.photograph[n] not in [seen.photograph[f] for f in found]:
            found.append(n)
        if len(found) == SHOWN:
            break
    return found


def page(
    path: Path, drawn: Sequence[Channel], rows: Sequence[dict[str, Any]], store: Store, net: preimage.Network, judge: preimage.Network,
    seen: Nature, natural: dict[Channel, Tensor],
) -> None:  # fmt: skip
    """Write the page of all channels, the sample first and larger."""
    said = words(judge, tuple(seen.paths))
    sections = []
    for k, channel in enumerate(drawn):
        own = [r for r in rows if r["channel"] == channel.name]
        if not own:
            continue
        side = LARGE if k < SAMPLE else SMALL
        figures = []
        for row in own:
            wanted = job(net.card.name, channel, row["recipe"])
            if store.done(wanted.key):
                image = store.result(wanted.key).images[0]
                figures.append(figure(image, side, row["recipe"], f"{row['answer']:.4g}" if row["ok"] else "no image was found"))
        for n in strongest(natural[channel], seen):
            figures.append(figure(seen.images[n], side, said[seen.photograph[n]], f"{float(natural[channel][n]):.4g}"))
        cells = [[r.get(c.replace(" ", "_")) for c in COLUMNS] for r in own]
        heading = channel.name + (" (sample)" if k < SAMPLE else "")
        sections.append({"id": f"channel-{k + 1}", "heading": heading, "figures": figures, "numbers": number_table(list(COLUMNS), cells)})
    recipes = list(dict.fromkeys(r["recipe"] for r in rows))
    totals = {r: summary([row for row in rows if row["recipe"] == r]) for r in recipes}
    write_html(
        path,
        "methods.html",
        title=f"{len(sections)} random channels beside photographs",
        found=" ".join(f"{r}: {t['beats']} beat all natural images, {t['failed']} found no image." for r, t in totals.items()),
        intro=f"Channels of {', '.join(dict.fromkeys(c.layer for c in drawn))} of {net.card.name}, drawn by a seed. First the image of "
        f"each recipe with the answer of its middle unit, then the strongest squares of three photographs with the largest answer in "
        f"each. There are {len(seen.images)} natural images, squares of {len(seen.paths)} photographs, so many are of one photograph. "
        f"The words under a photograph are those of the class that {judge.card.name} puts first for its middle square; they may be "
        f"wrong. The first {SAMPLE} channels are the sample on which a person's view is given in docs/recognition.md.",
        sections=sections,
        columns=list(COLUMNS.items()),
        methods=[{"name": r, "sentence": recipe_named(r).sentence, "source": recipe_named(r).source} for r in recipes if r != "default"],
        notes=[f"{r['channel']}, {r['recipe']}: {r['status']}" for r in rows if not r["ok"]],
        versions=versions(),
    )  # fmt: skip


def figure(levels: Tensor, side: int, caption: str, number: str) -> dict[str, Any]:
    """Return a picture for the page."""
    array = levels.round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    picture = Image.fromarray(array).resize((side, side), Image.Resampling.LANCZOS)
    about = {"caption": caption, "alt": caption, "number": number}
    return {"src": data_uri(picture), "link": "", "width": side, "height": side, **about}


def sheet(path: Path, drawn: Sequence[Channel], rows: Sequence[dict[str, Any]], store: Store, net: preimage.Network) -> None:
    """Draw the first channels of the draw, a row a recipe."""
    shown, recipes = drawn[:DRAWN], list(dict.fromkeys(r["recipe"] for r in rows))
    known = {(r["channel"], r["recipe"]): r for r in rows if "answer" in r}
    drawing = canvas(1.35 * len(shown), 1.65 * len(recipes))
    for line, recipe in zip(drawing.subplots(len(recipes), len(shown), squeeze=False), recipes, strict=True):
        for axes, channel in zip(line, shown, strict=True):
            axes.axis("off")
            if row := known.get((channel.name, recipe)):
                axes.imshow(store.result(job(net.card.name, channel, recipe).key).images[0].round().clamp(0, 255).byte().permute(1, 2, 0))
                axes.set_title(f"{channel.name}: {row['times']:.1f}" if row["ok"] else f"{channel.name}: none", fontsize=7)
        line[0].text(-0.05, 0.5, recipe, transform=line[0].transAxes, rotation=90, va="center", ha="right", fontsize=6)
    save(drawing, path)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", help="a folder: a new one, or one from an earlier run")
    parser.add_argument("--channels", type=int, default=100)
    parser.add_argument("--layers", nargs="+", default=list(LAYERS))
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), help="by name; default: none is chosen")
    parser.add_argument("--net", default="squeezenet1_1")
    parser.add_argument("--judge", default="efficientnet-lite0", help="for the words of the photographs")
    parser.add_argument("--images", help="a folder of photographs, in place of those that packages carry")
    parser.add_argument("--shown", action="store_true", help="make no image")
    parser.add_argument("--json", type=Path, help="also write the rows and the machine to this file")
    parser.add_argument("--page", type=Path, help="also write the page to this file")
    parser.add_argument("--pictures", type=Path, help="also draw the first channels to this file")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    net, store = open_network(given.net)[0], Store.open(given.store)
    drawn = channels(net, given.layers, given.channels)
    try:
        for channel in [] if given.shown else drawn:
            for recipe in given.recipes:
                make(store, job(given.net, channel, recipe))
    except KeyboardInterrupt:
        print("Ended; the same command goes on.")
    paths = find_pictures(given.images, deep=True) if given.images else [*photographs(), *free_photographs(shown=True)]
    seen = nature(paths, net.space)
    natural = natural_answers(net, drawn, seen)
    found = [measured(store, net, c, r, natural[c]) for r in given.recipes for c in drawn]
    rows = beside_the_first([row for row in found if row is not None])
    if not rows:
        raise SystemExit("There is no image yet: leave out --shown.")
    print(f"{len(seen.images)} natural images, squares of {len(seen.paths)} photographs\n\n{table(rows)}")
    print("\n".join(f"{r['recipe']}, {r['channel']}: {r['status']}" for r in rows if not r["ok"]))
    if given.json:
        about = {"seed": SEED, "natural": len(seen.images), "photographs": len(seen.paths)}
        write(given.json, {"benchmark": "units", **about, "rows": rows})
    if given.page:
        page(given.page, drawn, rows, store, net, preimage.load_network(given.judge), seen, natural)
    if given.pictures:
        sheet(given.pictures, drawn, rows, store, net)


if __name__ == "__main__":
    main()
