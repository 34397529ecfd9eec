"""The page itself: its parts from top to bottom, then what touches what."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import gradio as gr

from ..solvers.plans import NORMAL, QUALITIES, solver_names
from . import view
from .catalogue import Catalogue
from .handlers import (
    BY_LAYER,
    CLASS,
    EXAMPLES,
    FORMATS,
    LINKED,
    MAX_PIXELS,
    MOST_ITERATIONS,
    MOST_RESTARTS,
    OWN,
    Handlers,
    own_C,
    own_iterations,
)
from .jobs import Desk
from .parts import FIELDS, MOST_LETTERS, names_in_words, recipes_for
from .units import UnitPages

TITLE = "preimage"
INTRO = (
    "# preimage\n"
    "See what a vision network has kept of an image, and what its parts look for: every picture here is found by searching over images "
    "for one whose features are the wanted ones and that still looks natural."
)
FONT = ("system-ui", "sans-serif")


@dataclass
class _Parts:
    """The components, by what they are for."""

    network: Any
    group: Any
    layer: Any
    facts: Any
    task: Any
    explanation: Any
    picture: Any
    choice: Any
    upload: Any
    chosen: Any
    unit: Any
    what: Any
    named: Any
    channel: Any
    C: Any
    solver: Any
    iterations: Any
    seed: Any
    restarts: Any
    quality: Any
    recipe: Any
    objective: Any
    transform: Any
    parameterization: Any
    prior: Any
    nature: Any = None
    linked: Any = None
    address: Any = None
    start: Any = None
    stop: Any = None
    download: Any = None
    run: Any = None


def build(catalogue: Catalogue, desk: Desk, units: UnitPages | None = None) -> gr.Blocks:
    """The page, not yet served. Nothing in it asks for anything outside its own server."""
    handlers = Handlers(catalogue, desk, units)
    page = gr.Blocks(title=TITLE, analytics_enabled=False)
    with page:
        gr.Markdown(INTRO)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                parts = _controls(handlers)
            with gr.Column(scale=6, min_width=320, elem_id="stage"):
                parts.start, parts.stop = _go()
                parts.run = gr.HTML(view.empty(), elem_id="run")
                parts.nature = gr.HTML("", elem_id="nature")
                parts.linked = gr.Textbox("", visible=False)
                parts.address = gr.Textbox("", elem_id="address", show_label=False)  # one that is not drawn tells of no change
                parts.download = gr.DownloadButton("Download the result folder (zip)", interactive=False, elem_id="download")
        _connect(page, parts, handlers)
    page.queue(max_size=200, default_concurrency_limit=None)
    return page


def theme() -> gr.themes.Base:
    """Plain and calm, with the fonts that the visitor's system has."""
    return gr.themes.Default(
        primary_hue="teal", neutral_hue="slate", radius_size="sm", font=FONT, font_mono=("ui-monospace", "monospace")
    ).set(
        block_info_text_size="0.8rem",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        layout_gap="0.8rem",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
    )


def style() -> str:
    return (files("preimage") / "templates" / "app.css").read_text(encoding="utf-8")


def head() -> str:
    """A script for the head of the page."""
    return f"<script>{(files('preimage') / 'templates' / 'app.js').read_text(encoding='utf-8')}</script>"


def _controls(handlers: Handlers) -> _Parts:
    name = handlers.catalogue.names[0]
    group, layer, facts, channel, classes, what = (_plain(u) for u in handlers.choose_network(name))
    network = gr.Dropdown(handlers.catalogue.names, value=name, label="Network", elem_id="network")
    part = gr.Dropdown(**group, label="Depth", info="Parts of the network from the image to the last layer.", elem_id="depth")
    one = gr.Dropdown(**layer, label="Layer", info="Its output's shape, and how much of the image one unit sees.", elem_id="layer")
    about = gr.HTML(facts, elem_id="facts")
    task = gr.Radio([(title, key) for key, (title, _) in view.TASKS.items()], value="invert", label="Task", elem_id="task")
    explanation = gr.HTML(view.explain("invert"))
    picture, choice, upload, chosen = _picture(handlers)
    unit, what, named, number = _unit(what, channel, classes)
    shown = (network, part, one, about, task, explanation, picture, choice, upload, chosen, unit, what, named, number)
    return _Parts(*shown, *_settings(), *_energy())


def _picture(handlers: Handlers) -> tuple[Any, Any, Any, Any]:
    with gr.Group(elem_id="picture") as picture:
        choice = gr.Radio([*EXAMPLES, OWN], value="cat", label="Photograph", elem_id="choice")
        chosen = gr.HTML(handlers.choose_photograph("cat", None), elem_id="chosen")
        upload = gr.File(
            label=f"Or drop your own, up to {MAX_PIXELS // 10**6} megapixels",
            file_types=[f".{f.lower()}" for f in FORMATS] + [".jpg", ".tif"],
            height=120,
            elem_id="upload",
        )
    return picture, choice, upload, chosen


def _unit(what: dict[str, Any], channel: dict[str, Any], classes: dict[str, Any]) -> tuple[Any, Any, Any, Any]:
    by_name = what["value"] == CLASS
    with gr.Group(visible=False, elem_id="unit") as unit:
        which = gr.Radio(**what, label="Look for", elem_id="what")
        named = gr.Dropdown(
            **classes,
            label="Class",
            info="Type to search. The network's last layer is used, whatever layer is chosen above.",
            num_choices_shown=50,
            visible=by_name,
            elem_id="class",
        )
        number = gr.Number(**channel, label="Channel of the chosen layer", minimum=0, precision=0, visible=not by_name, elem_id="channel")
    return unit, which, named, number


def _settings() -> tuple[Any, ...]:
    small: dict[str, Any] = {"min_width": 140}
    with gr.Accordion("Settings", open=False, elem_id="settings"):
        with gr.Row():
            C = gr.Textbox(label="C, the weight of the features", placeholder=own_C("invert"), elem_id="C", **small)
            solver = gr.Dropdown([BY_LAYER, *solver_names()], value=BY_LAYER, label="Solver", elem_id="solver", **small)
        gr.HTML('<p class="teach">A higher C comes closer to the features, a lower one is smoother. paper is the published solver.</p>')
        work = "How many evaluations: a third of those that it takes by itself, these, or three times as many."
        quality = gr.Radio(list(QUALITIES), value=NORMAL, label="Quality", info=work, elem_id="quality")
        with gr.Row():
            iterations = gr.Textbox(label="Evaluations", placeholder=own_iterations("invert"), elem_id="iterations", **small)
            seed = gr.Number(0, label="Seed", precision=0, placeholder="default 0", elem_id="seed", **small)
        gr.HTML(
            f'<p class="teach">The gradient is taken so often, at most {MOST_ITERATIONS:,} times: more comes closer. '
            "The same seed gives the same image.</p>"
        )
        said = "What differs between several starts, the layer does not hold."
        restarts = gr.Slider(1, MOST_RESTARTS, 1, step=1, label="Restarts", info=said, elem_id="restarts")
    return C, solver, iterations, seed, restarts, quality


def _energy() -> tuple[Any, ...]:
    """A recipe, and the parts that stand in the place of its own, as texts."""
    with gr.Accordion("Parts of the energy", open=False, elem_id="parts"):
        said = "A published method: all parts at once. What is written below stands in the place of its own."
        recipe = gr.Dropdown([BY_LAYER, *recipes_for("invert")], value=BY_LAYER, label="Recipe", info=said, elem_id="recipe")
        texts = [
            gr.Textbox(label=label, info=names_in_words(name), placeholder="default", max_length=MOST_LETTERS, elem_id=name)
            for name, (label, _, _) in FIELDS.items()
        ]
        gr.HTML('<p class="teach">As --recipe, --objective, --transform, --parameterization and --prior on the command line.</p>')
    return recipe, *texts


def _go() -> tuple[Any, Any]:
    with gr.Row(elem_id="go"):
        start = gr.Button("Start", variant="primary", elem_id="start", min_width=120)
        stop = gr.Button("Stop", interactive=False, elem_id="stop", min_width=120)
    return start, stop


def _connect(page: gr.Blocks, p: _Parts, h: Handlers) -> None:
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    p.network.input(h.choose_network, [p.network], [p.group, p.layer, p.facts, p.channel, p.named, p.what], **quiet)
    p.group.input(h.choose_group, [p.network, p.group], [p.layer, p.facts, p.channel], **quiet)
    p.layer.input(h.choose_layer, [p.network, p.layer], [p.facts, p.channel], **quiet)
    method = [p.task, p.solver, p.recipe]
    p.task.input(h.choose_task, method, [p.explanation, p.picture, p.unit, p.restarts, p.recipe, p.C, p.iterations], **quiet)
    p.solver.input(h.choose_method, method, [p.C, p.iterations], **quiet)
    p.recipe.input(h.choose_method, method, [p.C, p.iterations], **quiet)
    p.what.change(h.choose_what, [p.what], [p.named, p.channel], **quiet)
    p.named.focus(None, js="() => document.querySelector('#class input').select()", **quiet)  # typing then searches anew
    p.choice.input(h.choose_photograph, [p.choice, p.upload], [p.chosen], **quiet)
    p.upload.upload(h.upload, [p.upload], [p.choice, p.chosen], **quiet)
    p.upload.clear(h.upload, [p.upload], [p.choice, p.chosen], **quiet)
    asked = [p.task, p.network, p.layer, p.choice, p.upload, p.what, p.named, p.channel, p.C, p.solver, p.iterations, p.seed, p.restarts]
    asked += [p.recipe, *(getattr(p, name) for name in FIELDS), p.quality]
    told = [p.task, p.network, p.layer, p.what, p.named, p.channel]
    gr.on([c.change for c in told], h.choose_unit, told, [p.nature], trigger_mode="always_last", **quiet)
    page.load(None, None, [p.address], js="() => location.search", **quiet)  # a page without a query asks the server for nothing
    opened = p.address.change(h.open_link, [p.address], [*(getattr(p, name) for name in LINKED), p.run, p.linked], **quiet)
    opened.then(h.start_linked, [p.linked, *asked], [p.run, p.start, p.stop, p.download], **quiet)
    p.start.click(h.start, asked, [p.run, p.start, p.stop, p.download], trigger_mode="once", **quiet)
    p.stop.click(h.stop, queue=False, **quiet)
    page.unload(h.stop)


def _plain(update: Any) -> Any:
    """The same values for a component that is being made."""
    return {k: v for k, v in update.items() if k != "__type__"} if isinstance(update, dict) else update
