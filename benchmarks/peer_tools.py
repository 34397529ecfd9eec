"""How each tool is asked for the same picture, through its public names and at its own defaults; nothing of theirs is repeated here.

A tool gets a `Problem` and a `Clock`, shows the clock its picture at every step (as RGB 0–1, before any transform), and goes on until
the clock has seen enough. What a tool has no function for is written as its documentation says to: an objective of one's own.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor, nn

import preimage

from . import paper_loop
from .common import precision

ENDLESS = 10**6  # iterations: the clock ends the run


class TimeUp(Exception):
    """The clock has seen enough."""


class NoSuchTask(Exception):
    """The tool has nothing for this task."""


class Levels(nn.Module):
    """A network as these tools want one: RGB 0–1 in; what `space` says of scale, mean and order is done inside."""

    def __init__(self, network: nn.Module, space: preimage.PixelSpace) -> None:
        super().__init__()
        self.network, self.space = network, space
        self.register_buffer("mean", space.mean_colour)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(self.space.to_network(x * 255 - self.mean))


@dataclass(frozen=True)
class Problem:
    """One picture that everybody is asked for.

    task: "invert" (the features of `photo` at `layer`) or "maximize" (the mean of channel `unit` of `layer` over its map; a class is
    a channel of the last layer). dotted, depth: where torchvision has the layer, and how many of its `features` lead there.
    photo: canonical (1, 3, H, W).
    """

    name: str
    task: str
    net: preimage.Network
    layer: str
    dotted: str
    depth: int | None
    photo: Tensor
    unit: int = 0

    @cached_property
    def phi(self) -> Any:
        return self.net.layer(self.layer)

    @cached_property
    def Z(self) -> float:
        """The divisor that preimage takes for this channel, so that the paper's loop minimises the same energy."""
        short = {"canvas": self.size, "everywhere": True, "iterations": 1, "progress": False}
        return float(preimage.maximize(self.phi, self.unit, **short).config["Z"][0])  # type: ignore[arg-type]

    @property
    def device(self) -> str:
        return str(self.photo.device)

    def model(self) -> Levels:
        """The whole network, a copy of its own: hooks that a tool leaves behind stay there."""
        return Levels(copy.deepcopy(self.net.module), self.net.space).to(self.device).eval().requires_grad_(False)

    def truncated(self) -> Levels:
        """The network up to the layer, for tools and loops that take the model's output."""
        module = copy.deepcopy(self.net.module)
        part = module if self.depth is None else nn.Sequential(*module.features[: self.depth])
        return Levels(part, self.net.space).to(self.device).eval().requires_grad_(False)

    def loss(self, features: Tensor, target: Tensor | None) -> Tensor:
        """What users write: the mean square of the difference, or the channel's mean negated."""
        return ((features - target) ** 2).mean() if target is not None else -self.answers(features).mean()

    def answers(self, features: Tensor) -> Tensor:
        """The channel's map, (B, positions)."""
        return features.reshape(len(features), features.shape[1], -1)[:, self.unit]

    def target(self, model: nn.Module) -> Tensor | None:
        return model(self.levels()).detach() if self.task == "invert" else None

    def levels(self) -> Tensor:
        """The photograph as RGB 0–1."""
        return self.net.space.decode(self.photo) / 255

    @property
    def size(self) -> tuple[int, int]:
        return int(self.photo.shape[-2]), int(self.photo.shape[-1])


class Clock:
    """Wall time since `start`, and the picture every `every` seconds.

    limit: seconds after which the run is ended once the tool's own number of iterations is over, and at three times that in any case.
    own: that number, None for a loop that has none. cut: the run was ended before it.
    """

    def __init__(self, limit: float, own: int | None = None, every: float = 0.1, steps: int | None = None) -> None:
        self.limit, self.own, self.every, self.steps = limit, own, every, steps
        self.seen: list[tuple[float, int, Tensor]] = []
        self.count, self.cut, self._began, self._last = 0, False, 0.0, -1.0

    def __deepcopy__(self, memo: Any) -> Clock:
        return self  # tools copy their images, and the clock inside stays the one clock

    def start(self) -> None:
        self._began = time.perf_counter()

    @property
    def over(self) -> bool:
        now = time.perf_counter() - self._began
        done = self.steps is not None and self.count > self.steps
        self.cut = now > 3 * self.limit and self.own is not None and self.count <= self.own
        return done or self.cut or (now > self.limit and self.count > (self.own or 0))

    def see(self, image: Tensor) -> None:
        """image: (1, 3, H, W), RGB 0–1, as it is now."""
        self.look(image)
        self.count += 1
        if self.over:
            raise TimeUp

    def look(self, image: Tensor, force: bool = False) -> None:
        if image.is_cuda:
            torch.cuda.synchronize()
        now = time.perf_counter() - self._began
        if force or now - self._last >= self.every or self.count == self.own:
            self._last = now
            self.seen.append((now, self.count, image.detach().float().cpu().clone()))


@dataclass(frozen=True)
class Tool:
    """name, what is run, its package (None: part of this repository), the iterations it takes where nothing is said.

    own: ENDLESS for what ends by itself, None for a loop that goes on for ever.
    """

    name: str
    run: Callable[[Problem, Clock], Tensor | None]
    package: str | None = None
    own: int | None = ENDLESS

    @property
    def version(self) -> str | None:
        return version(self.package) if self.package else None


def ours(precision_: str | None, **more: Any) -> Callable[[Problem, Clock], Tensor]:
    """preimage, with what is given beside the defaults."""

    def run(problem: Problem, clock: Clock) -> Tensor:
        def watch(evaluations: int, images: Tensor, energy: Tensor) -> bool:
            clock.count = evaluations
            clock.look(images / 255)
            return clock.over

        monitor, compute = preimage.Monitor(watch=watch), preimage.Compute(**precision(precision_))
        common: dict[str, Any] = {"progress": False, "monitor": monitor, "compute": compute, **more}
        try:
            if problem.task == "invert":
                result = preimage.invert(problem.phi, problem.photo, **common)
            else:
                canvas = {"canvas": problem.size, "everywhere": True}
                result = preimage.maximize(problem.phi, problem.unit, **canvas, **common)
        except preimage.Interrupted as stopped:
            result = stopped.result
        clock.count = result.evaluations
        return result.images / 255

    return run


def papers_loop(problem: Problem, clock: Clock) -> Tensor:
    """`paper_loop`: C and Z as the paper's, jitter by its rule; the truncated network, as the original's."""
    model, phi = problem.truncated(), problem.phi
    mean = problem.net.space.mean_colour.to(problem.device)

    def picture(x: Tensor) -> Tensor:
        return (x + mean) / 255

    target = problem.target(model)
    if target is None:
        loss = lambda x: 1e4 / problem.Z * problem.loss(model(picture(x)), None)  # noqa: E731
    else:
        norm = target.square().sum()
        loss = lambda x: 100 * (model(picture(x)) - target).square().sum() / norm  # noqa: E731
    phases = paper_loop.INVERT if problem.task == "invert" else paper_loop.MAXIMIZE
    jitter = max(int(phi.stride / 4 + 0.5), 1)
    return picture(paper_loop.run(loss, problem.size, jitter, phases, see=lambda x: clock.see(picture(x)), device=problem.device))


def plain_adam(problem: Problem, clock: Clock) -> Tensor:
    """What users of attribution libraries write: Adam on the pixels of a nearly grey image, no regularizer, clamped to 0–1."""
    model = problem.truncated()
    target = problem.target(model)
    generator = torch.Generator().manual_seed(0)
    pixels = (0.5 + 0.01 * torch.randn(1, 3, *problem.size, generator=generator)).to(problem.device).requires_grad_()
    adam = torch.optim.Adam([pixels], lr=0.025)
    while True:
        adam.zero_grad()
        problem.loss(model(pixels), target).backward()
        adam.step()
        with torch.no_grad():
            pixels.clamp_(0, 1)
        clock.see(pixels)


def captum(problem: Problem, clock: Clock) -> None:
    """Its optim part, if this version has one."""
    import captum

    if not hasattr(captum, "optim"):
        raise NoSuchTask("captum has no captum.optim in this version, and no inversion; see plain Adam")
    raise NoSuchTask("captum.optim came back in this version: write its adapter here")


def lucent(problem: Problem, clock: Clock) -> None:
    """render_vis; for an inversion an objective of one's own, on the image's own size and without transforms, which would move it."""
    from lucent.optvis import objectives, param, render

    model = problem.model()
    layer = "network_" + problem.dotted.replace(".", "_")
    if problem.task == "invert":
        target = problem.target(problem.truncated())
        objective = objectives.Objective(lambda look: problem.loss(look(layer), target))
        more: dict[str, Any] = {"transforms": [], "fixed_image_size": problem.size}
        own = lambda: param.image(problem.size[1], problem.size[0])  # noqa: E731
    else:
        objective, more = objectives.channel(layer, problem.unit), {}
        own = lambda: param.image(128)  # noqa: E731

    def watched() -> Any:
        values, image = own()

        def seen() -> Tensor:
            now: Tensor = image()
            clock.see(now)
            return now

        return values, seen

    render.render_vis(model, objective, watched, thresholds=(ENDLESS,), preprocess=False, progress=False, show_image=False, **more)


def torch_dreams(problem: Problem, clock: Clock) -> None:
    """Dreamer.render with a function of the layer; for an inversion without transforms."""
    from torch_dreams import Dreamer
    from torch_dreams.auto_image_param import AutoImageParam

    class Watched(AutoImageParam):  # type: ignore[misc]
        def postprocess(self, device: str) -> Tensor:
            image: Tensor = super().postprocess(device)
            clock.see(image)
            return image

    model = problem.model()
    dreamer = Dreamer(model, quiet=True, device=problem.device)
    dreamer.set_custom_normalization(nn.Identity())
    size, target = (256, 256), None
    if problem.task == "invert":
        dreamer.set_custom_transforms(nn.Identity())
        size, target = problem.size, problem.target(problem.truncated())
    image = Watched(height=size[0], width=size[1], device=problem.device, standard_deviation=0.01)
    layer = model.network.get_submodule(problem.dotted)
    dreamer.render([layer], image_parameter=image, iters=ENDLESS, custom_func=lambda found: problem.loss(found[0], target))


def dreamlens(problem: Problem, clock: Clock) -> None:
    """FeatureVisualizer.maximize of a channel; for an inversion synthesize with an objective of one's own, without transforms."""
    from dreamlens import FeatureTarget, FeatureVisualizer, FourierCanvas, RenderConfig

    class Watched(FourierCanvas):  # type: ignore[misc]
        def forward(self, device: Any = None) -> Tensor:
            image: Tensor = super().forward(device)
            clock.see(image)
            return image

    visualizer = FeatureVisualizer(problem.model(), quiet=True, preprocess=lambda x: x)
    layer = f"network.{problem.dotted}"
    if problem.task == "invert":
        target = problem.target(problem.truncated())
        canvas = Watched(*problem.size, device=problem.device)
        func = lambda found: problem.loss(found[0], target)  # noqa: E731
        visualizer.synthesize([layer], canvas, iters=ENDLESS, custom_func=func, transforms=[])
    else:
        wanted = FeatureTarget.for_channel(layer, problem.unit)
        visualizer.maximize(wanted, RenderConfig(steps=ENDLESS), Watched(256, 256, device=problem.device))


def plenoptic(problem: Problem, clock: Clock) -> None:
    """Metamer of the truncated network."""
    if problem.task != "invert":
        raise NoSuchTask("plenoptic matches representations; it has no activation maximization")
    import plenoptic as po

    class Watched(Levels):
        def forward(self, x: Tensor) -> Tensor:
            if x.requires_grad and started:
                clock.see(x)
            return super().forward(x)

    started: list[bool] = []
    model = Watched(problem.truncated().network, problem.net.space).to(problem.device).eval()
    po.remove_grad(model)
    metamer = po.Metamer(problem.levels(), model)
    started.append(True)
    metamer.synthesize(max_iter=ENDLESS)


def tools(precision_: str | None) -> list[Tool]:
    """Ours first: it is what the others are set against."""
    return [
        Tool("preimage", ours(precision_)),
        Tool("preimage, 50 evaluations", ours(precision_, iterations=50)),
        Tool("preimage, C x 30", by_task(precision_)),
        Tool("preimage, solver paper", ours(precision_, solver="paper")),
        Tool("the paper's loop, plain PyTorch", papers_loop),
        Tool("plain Adam on pixels", plain_adam, own=None),
        Tool("lucent", lucent, "torch-lucent", 512),
        Tool("torch-dreams", torch_dreams, "torch-dreams", 120),
        Tool("dreamlens", dreamlens, "dreamlens", 120),
        Tool("plenoptic", plenoptic, "plenoptic", 100),
        Tool("captum", captum, "captum"),
    ]


def by_task(precision_: str | None) -> Callable[[Problem, Clock], Tensor]:
    """preimage with the feature's weight 30 times the default: nearer to what tools without a regularizer ask for."""

    def run(problem: Problem, clock: Clock) -> Tensor:
        return ours(precision_, C=30 * (100.0 if problem.task == "invert" else 1e4))(problem, clock)

    return run
