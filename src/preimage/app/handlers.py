"""What happens when something on the page is touched: plain values in, updates of components out. No handler keeps anything."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import AsyncIterator
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr
import numpy as np
import torch

from ..errors import ImageError, InputError, PreimageError
from ..methods.recipe import DEFAULTS, recipe_named
from ..pixels import images as pictures
from ..representations.units import Unit
from ..solvers.plans import NORMAL, Asked, plan_for
from ..tasks.choice import check_quality
from . import view
from .catalogue import Catalogue, Entry
from .gate import uploaded
from .jobs import Desk, Job, Order, plain, preview
from .links import START, link_to, read_link
from .parts import FIELDS, read_parts, recipes_for
from .units import UnitPages

MAX_PIXELS = 32_000_000
"""An uploaded image of more pixels is refused before it is decoded; one that is just within takes about half a gibibyte for a moment."""

FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")
"""Of uploads; pillow reads others, some of them with the help of outside programs."""

OWN = "my own image"
BY_LAYER = "by the layer"  # no solver, or recipe, is said: the task's own default for the layer
EXAMPLES = {"cat": "chelsea.jpg", "astronaut": "astronaut.jpg", "coffee": "coffee.jpg"}
CLASS, CHANNEL = "a class, by its name", "a channel of the layer, by its number"
EVERY = 0.2
"""Seconds between two views of a run."""

LINKED = (
    "network", "group", "layer", "facts", "task", "explanation", "picture", "choice", "chosen", "unit", "what", "named", "channel", "C",
    "iterations", "solver", "quality", "seed", "restarts", "recipe", *FIELDS,
)  # fmt: skip
"""The components that a link fills."""

MOST_ITERATIONS, MOST_RESTARTS, MOST_SEED = 1000, 4, 2**31


_log = logging.getLogger(__name__)


class Handlers:
    """The page's handlers, over what there is to choose and the desk that runs it."""

    def __init__(self, catalogue: Catalogue, desk: Desk, units: UnitPages | None = None) -> None:
        self.catalogue, self.desk = catalogue, desk
        self.units = units or UnitPages(catalogue)
        self._decoding = threading.Lock()  # one large image in memory at a time

    def choose_network(self, name: str) -> list[Any]:
        """-> part, layer, facts, channel, class, what to maximize. In words, if the network cannot be opened."""
        try:
            entry = self.catalogue.entry(name)
        except PreimageError as error:
            return [gr.skip(), gr.skip(), view.refusal(str(error)), gr.skip(), gr.skip(), gr.skip()]
        group = entry.groups[len(entry.groups) // 2]
        titles = [g.title for g in entry.groups]
        what = [CLASS, CHANNEL] if entry.class_layer is not None else [CHANNEL]
        rest = [class_choices(entry), gr.update(choices=what, value=what[0])]
        return [gr.update(choices=titles, value=group.title), *self.choose_group(name, group.title), *rest]

    def choose_group(self, name: str, title: str) -> list[Any]:
        """-> layer, facts, channel."""
        layers = self.catalogue.entry(name).group(title).layers
        choices = [(view.layer_label(i), i.name) for i in layers]
        return [gr.update(choices=choices, value=layers[-1].name), *self.choose_layer(name, layers[-1].name)]

    def choose_layer(self, name: str, layer: str) -> list[Any]:
        """-> facts, channel."""
        entry = self.catalogue.entry(name)
        info = entry.layer(layer)
        return [view.layer_facts(entry, info), gr.update(maximum=info.shape[0] - 1, value=0, info=f"0 to {info.shape[0] - 1}")]

    def choose_task(self, task: str, solver: str, recipe: str) -> list[Any]:
        """-> explanation, photograph's part, unit's part, restarts, recipe, C, iterations."""
        able = [BY_LAYER, *recipes_for(task)]
        chosen = recipe if recipe in able else BY_LAYER
        return [
            view.explain(task),
            gr.update(visible=task != "maximize"),
            gr.update(visible=task == "maximize"),
            gr.update(visible=task != "caricature"),
            gr.update(choices=able, value=chosen),
            *self.choose_method(task, solver, chosen),
        ]

    def choose_method(self, task: str, solver: str, recipe: str) -> list[Any]:
        """-> C, iterations."""
        return [gr.update(placeholder=own_C(task, solver, recipe)), gr.update(placeholder=own_iterations(task, solver, recipe))]

    def choose_what(self, what: str) -> list[Any]:
        """-> class, channel."""
        return [gr.update(visible=what == CLASS), gr.update(visible=what != CLASS)]

    def choose_unit(self, task: str, network: str, layer: str, what: str, class_index: int | None, channel: float | None) -> str:
        """-> the unit's page, where the server was given statistics; nothing while another task is chosen, or a value is half written."""
        try:
            if task != "maximize" or self.units.of(network) is None:
                return ""
            name, unit = self._place(self.catalogue.entry(network), layer, what, class_index, channel)
            return self.units.page(network, name, unit)
        except PreimageError:
            return ""

    def open_link(self, address: str) -> list[Any]:
        """The query of the address -> the components of `LINKED`, the run's view, and whether to start ("1")."""
        query = {k: v for k, v in parse_qsl(address.removeprefix("?"), keep_blank_values=True) if not k.startswith("__")}  # __: Gradio's
        if not query:
            return [gr.skip()] * (len(LINKED) + 2)
        try:
            return [*self._linked(read_link(query, self.catalogue)), gr.skip(), query.get(START, "")]
        except PreimageError as error:
            return [*[gr.skip()] * len(LINKED), view.refusal(str(error)), ""]

    def _linked(self, said: dict[str, Any]) -> list[Any]:
        """-> the components of `LINKED`."""
        name, task = said["network"], said.get("task", "maximize" if {"class", "channel"} & said.keys() else "invert")
        if task not in view.TASKS:
            raise InputError(f"There is no task {task!r}: choose one of {', '.join(view.TASKS)}.")
        entry = self.catalogue.entry(name)
        group, layer, facts, channel, classes, what = self.choose_network(name)
        if "layer" in said:
            wanted = next(g for g in entry.groups if any(i.name == said["layer"] for i in g.layers))
            layer, facts, channel = self.choose_group(name, wanted.title)
            group = group | {"value": wanted.title}
            facts, channel = self.choose_layer(name, said["layer"])
            layer = layer | {"value": said["layer"]}
        by_class = what["value"] == CLASS and "channel" not in said
        if "class" in said:
            classes = classes | {"value": said["class"]}
        if "channel" in said:
            channel = channel | {"value": said["channel"]}
        solver, recipe = said.get("solver", BY_LAYER), said.get("recipe", BY_LAYER)
        if recipe != BY_LAYER and recipe not in recipes_for(task):
            raise InputError(f"{task} has no recipe {recipe!r}: {', '.join(recipes_for(task))}.")
        if solver != BY_LAYER:
            plan_for(Asked(task), solver)
        quality = said.get("quality", NORMAL)
        check_quality(None if quality == NORMAL else quality, None)
        photograph = said.get("photograph", "cat")
        explanation, picture, unit, restarts, recipes, C, iterations = self.choose_task(task, solver, recipe)
        settings = {"C": C, "iterations": iterations}
        return [
            name,
            group,
            layer,
            facts,
            task,
            explanation,
            picture,
            photograph,
            self.choose_photograph(photograph, None),
            unit,
            what | {"value": CLASS if by_class else CHANNEL},
            classes | {"visible": by_class},
            channel | {"visible": not by_class},
            *(settings[k] | ({"value": said[k]} if k in said else {}) for k in ("C", "iterations")),
            solver,
            quality,
            said.get("seed", gr.skip()),
            restarts | ({"value": said["restarts"]} if "restarts" in said else {}),
            recipes,
            *(said.get(k, gr.skip()) for k in FIELDS),
        ]

    async def start_linked(self, request: gr.Request, start: str, *values: Any) -> AsyncIterator[list[Any]]:
        """-> as `start`, where the link says so."""
        if start == "1":
            async for shown in self.start(request, *values):
                yield shown

    def choose_photograph(self, choice: str, upload: str | None) -> str:
        """The preview, or why there is none."""
        if choice != OWN:
            return view.photograph(small(read(example(choice))), choice)
        if upload is None:
            return view.refusal("Drop an image below first.")
        path = Path(upload)
        try:
            with self._decoding:
                return view.photograph(small(read(self._own(path))), path.name)
        except PreimageError as error:
            return view.refusal(plain(error, path))

    def upload(self, upload: str | None) -> list[Any]:
        """-> which photograph, its preview."""
        choice = OWN if upload is not None else "cat"
        return [choice, self.choose_photograph(choice, upload)]

    async def start(self, request: gr.Request, *values: Any) -> AsyncIterator[list[Any]]:
        """-> the run's view, Start, Stop, Download; again and again until it is over. Closed early, it stops the run."""
        session = str(request.session_hash)
        try:
            order = await asyncio.to_thread(self.order, *values)
            job = self.desk.submit(session, order)
        except PreimageError as error:
            yield [view.refusal(str(error)), *buttons(False)]
            return
        except Exception:
            _log.exception("An order failed: %s", values)
            yield [view.refusal("This could not be started; the server's log says why. Try other settings."), *buttons(False)]
            return
        try:
            while not job.over.is_set():
                yield [view.run(job.touch(), self.desk.ahead(job)), *buttons(True, job)]
                await asyncio.sleep(EVERY)
                self.desk.let_go(session, job)
            yield [view.run(job, link=link_of(order)), *buttons(False, job)]
        finally:
            if not job.over.is_set():
                self.desk.stop(session)

    def stop(self, request: gr.Request) -> None:
        """The Stop button, and a page that was closed."""
        self.desk.stop(str(request.session_hash))

    def order(
        self,
        task: str,
        network: str,
        layer: str,
        choice: str,
        upload: str | None,
        what: str,
        class_index: int | None,
        channel: float | None,
        C: str | None,
        solver: str | None,
        iterations: str | None,
        seed: float | None,
        restarts: float | None,
        recipe: str | None = None,
        objective: str | None = None,
        transform: str | None = None,
        parameterization: str | None = None,
        prior: str | None = None,
        quality: str | None = None,
    ) -> Order:
        """The values of the page as an order; what is empty is not said, and the task's own default decides, as everywhere in preimage.

        Raises PreimageError in words for what cannot be used.
        """
        if task not in view.TASKS:
            raise InputError(f"There is no task {task!r}: choose one of {', '.join(view.TASKS)}.")
        chosen = None if not solver or solver == BY_LAYER else solver
        if chosen is not None:
            plan_for(Asked(task), chosen)
        length = None if blank(iterations) else whole("Evaluations", typed("Evaluations", iterations), 1, MOST_ITERATIONS)
        work = None if not quality or quality == NORMAL else quality
        check_quality(work, length)
        method = None if not recipe or recipe == BY_LAYER else recipe
        parts = read_parts(task, method, objective=objective, transform=transform, parameterization=parameterization, prior=prior)
        entry = self.catalogue.entry(network)
        image, unit = None, None
        if task == "maximize":
            layer, unit = self._unit(entry, layer, what, class_index, channel)
        else:
            image = self._image(choice, upload)
        return Order(
            task=task,
            network=network,
            layer=entry.layer(layer).name,
            image=image,
            unit=unit,
            C=None if blank(C) else number("C", typed("C", C), 1e-6, 1e9),
            solver=chosen,
            iterations=length,
            quality=work,
            seed=None if seed is None else whole("Seed", seed, 0, MOST_SEED),
            restarts=None if restarts is None else whole("Restarts", restarts, 1, MOST_RESTARTS),
            parts=parts,
        )

    def _image(self, choice: str, upload: str | None) -> Path:
        if choice != OWN:
            return example(choice)
        if upload is None:
            raise InputError("Drop an image first, or choose one of the example photographs.")
        path = self._own(Path(upload))
        try:
            with self._decoding:
                read(path)
        except PreimageError as error:
            raise ImageError(plain(error, path)) from None
        return path

    def _own(self, path: Path) -> Path:
        """A path, if it is a file in this server's folder. The gate has looked already, and what stands behind it must not rely on that."""
        if not uploaded(path, self.desk.folder):
            raise InputError("The image that you dropped has been deleted by now: drop it again.")
        return path

    def _unit(self, entry: Entry, layer: str, what: str, index: int | None, channel: float | None) -> tuple[str, Any]:
        name, place = self._place(entry, layer, what, index, channel)
        return name, unit_of(entry.classes, place) if what == CLASS else place

    def _place(self, entry: Entry, layer: str, what: str, index: int | None, channel: float | None) -> tuple[str, int]:
        """The layer and the number of a unit."""
        if what == CLASS:
            if entry.class_layer is None:
                raise InputError(f"{entry.name} has no class names: choose a channel by its number.")
            return entry.class_layer, whole("Class", index, 0, len(entry.classes) - 1)
        return layer, whole("Channel", channel, 0, entry.layer(layer).shape[0] - 1)


def link_of(order: Order) -> str:
    """The address of a request, without its start; nothing for an image of the visitor's own, which no address holds."""
    photograph = next((name for name in EXAMPLES if order.image is not None and order.image == example(name)), None)
    if order.image is not None and photograph is None:
        return ""
    said: dict[str, Any] = {"task": order.task, "network": order.network, "layer": order.layer, "photograph": photograph}
    said |= {"class" if isinstance(order.unit, str) else "channel": order.unit}
    parts = {f.name: getattr(order.parts, f.name) for f in fields(order.parts)}
    parts = {k: "; ".join(v) if isinstance(v, tuple) else v for k, v in parts.items()}
    return link_to(said | {n: getattr(order, n) for n in ("C", "solver", "iterations", "quality", "seed", "restarts")} | parts)


def buttons(going: bool, job: Job | None = None) -> list[Any]:
    """-> Start, Stop, Download."""
    archive = job.outcome.archive if job is not None and job.outcome is not None else None
    return [
        gr.update(interactive=not going),
        gr.update(interactive=going and not (job is not None and job.stop.is_set())),
        gr.update(value=None if archive is None else str(archive), interactive=archive is not None),
    ]


def class_choices(entry: Entry) -> Any:
    """Every class, with its number where several have the same name."""
    names = [c if entry.classes.count(c) == 1 else f"{c} ({k})" for k, c in enumerate(entry.classes)]
    return gr.update(choices=[(n, k) for k, n in enumerate(names)], value=favourite(entry.classes))


def favourite(classes: tuple[str, ...]) -> int | None:
    """A class that makes a good first picture, where there is one."""
    return next((k for k, c in enumerate(classes) if c.startswith("tree frog")), 0) if classes else None


def unit_of(classes: tuple[str, ...], index: int) -> Unit:
    """A class by its name, which then is the result's label; by its number where the name is not its own."""
    return classes[index] if classes.count(classes[index]) == 1 else index


def own_C(task: str, solver: str = BY_LAYER, recipe: str = BY_LAYER) -> str:
    """What is written in the field while it is empty, which means the task's own; deep layers have another than early ones."""
    if recipe == BY_LAYER and solver == BY_LAYER:
        return "default: by the layer"
    method = "mahendran2016" if recipe == BY_LAYER and solver == "paper" else recipe
    parts = DEFAULTS[task] if method == BY_LAYER else recipe_named(method).parts(task)
    return f"default {parts.C:,.6g}"


def own_iterations(task: str, solver: str = BY_LAYER, recipe: str = BY_LAYER) -> str:
    """The same for the evaluations."""
    if recipe != BY_LAYER and solver == BY_LAYER:
        return "default: by the recipe"
    if solver in (BY_LAYER, "fast"):
        return "default: by the layer"
    return f"default {plan_for(Asked(task), solver).iterations}"


def example(choice: str) -> Path:
    """A packaged photograph by its name on the page."""
    if choice not in EXAMPLES:
        raise InputError(f"There is no photograph {choice!r}: choose one of {', '.join(EXAMPLES)}.")
    return next(Path(p) for p in pictures.reference_images() if Path(p).name == EXAMPLES[choice])


def read(path: Path) -> np.ndarray:
    """A visitor's file as grey levels. Raises ImageError for what is no image, or too large a one."""
    return pictures.read_image(path, max_pixels=MAX_PIXELS, formats=FORMATS)


def small(levels: np.ndarray, side: int = 256) -> str:
    """Grey levels (H, W[, C]) as a small JPEG in the page."""
    height, width = levels.shape[:2]
    scale = min(1.0, side / max(height, width))
    fitted = pictures.resize(levels, (max(1, round(height * scale)), max(1, round(width * scale))))
    return preview(torch.from_numpy(np.array(np.atleast_3d(fitted).transpose(2, 0, 1))))


def blank(text: str | None) -> bool:
    return text is None or not text.strip()


def typed(name: str, text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise InputError(f"{name} is a number, or left empty; got {(text or '')[:40]!r}.") from None


def number(name: str, value: float | None, low: float, high: float) -> float:
    if value is None or not math.isfinite(value) or not low <= value <= high:
        raise InputError(f"{name} is a number from {low:g} to {high:g}; got {'nothing' if value is None else f'{value:g}'}.")
    return float(value)


def whole(name: str, value: float | None, low: int, high: int) -> int:
    if value is None or not math.isfinite(value) or value != int(value) or not low <= value <= high:
        raise InputError(f"{name} is a whole number from {low} to {high}; got {'nothing' if value is None else f'{value:g}'}.")
    return int(value)
