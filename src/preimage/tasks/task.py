"""One call of a task: what was asked, resolved into parts; the run; the record."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..energy.energy import Energy, Problem
from ..energy.losses import InnerProduct, Loss
from ..energy.objectives import Given, data_term
from ..energy.regularizers import OfStart, PixelBall, Regularizer
from ..energy.terms import DataTerm, FeatureTerm
from ..energy.transforms import Jitter
from ..errors import InputError, Interrupted
from ..networks.network import Network, weights_hash
from ..ranges import checked
from ..representations.base import Representation, features_of
from ..solvers.compute import Computation
from ..solvers.loop import Minimum, minimize
from ..solvers.memory import State, take
from ..solvers.monitor import Monitor
from ..solvers.plans import Asked, Plan, evaluations_at, plan_for
from ..solvers.starts import generator
from ..solvers.state import with_about
from .choice import Choice, is_of_classes
from .inputs import Start, covering, size_of, to_uint8
from .restarts import in_their_order, loss_of, of_samples, rounds_of
from .result import Result, load_result, versions
from .resuming import Resume, check_asked, state_of

R = TypeVar("R", bound=Result)
_log = logging.getLogger(__name__)
REVISION = 2  # of what the tasks do beside the parts: raised when their images change


@dataclass
class Task:
    """One call of a task: the parts, where they are computed, and the record of what ran."""

    name: str
    computation: Computation
    choice: Choice
    monitor: Monitor = field(default_factory=Monitor)
    progress: bool = True
    warm: bool = False  # whether it begins near its end
    restarts: int = 1  # of each request; they stand next to each other
    from_noise: bool = False  # whether this run begins with noise, which is then the parameterization's own
    resume: Resume = None  # an earlier run of this task, to be continued
    asked: dict[str, Any] = field(default_factory=dict)  # what the task itself adds to what a run must have in common with that one
    began: str = ""  # with what, in words
    opened: list[int] = field(default_factory=list)  # samples whose unit was opened before the run
    spent: int = 0  # evaluations for that

    def __post_init__(self) -> None:
        if not isinstance(self.monitor, Monitor):
            raise InputError(f"monitor is a preimage.Monitor(frames=…, watch=…); got {self.monitor!r}.")
        checked("frames", self.monitor.frames)
        self.phi = self.computation.phi
        self._layers: dict[str, Representation] = {}  # of its network, that objectives name
        self.parts, self.recipe = self.choice.parts(self.name)
        self.past = state_of(self.resume)
        self.warm = self.warm or (self.past is not None and self.past.about.get("warm") is True)
        self.transform = self.parts.transform or Jitter(self.own_jitter)
        asked = Asked(self.name, float(self.phi.stride), self.own_jitter, self.phi.fast_rate, self.warm)
        self.plan: Plan = plan_for(asked, self.parts.solver, self.parts.iterations, self.parts.stages)
        if self.choice.quality is not None and (n := evaluations_at(self.choice.quality, self.plan.iterations)) != self.plan.iterations:
            self.plan = plan_for(asked, self.parts.solver, n, self.parts.stages)

    @property
    def sequential(self) -> bool:
        """Whether restarts run one after the other, each given the images of those before it."""
        return any(o.sequential for o in self.parts.objective)

    @property
    def as_default(self) -> bool:
        """Whether it runs as long as it would by itself."""
        return self.parts.solver == "fast" and self.parts.iterations is None

    @property
    def own_jitter(self) -> int:
        """The paper's amount for Φ, or its own."""
        return Jitter.for_stride(float(self.phi.stride)).amount if self.phi.jitter is None else self.phi.jitter

    def minimize(
        self,
        main: tuple[Loss, Tensor],
        start: Tensor,
        seeds: Sequence[int],
        size: tuple[int, int],
        x0: Tensor | None = None,
        once_more: bool = False,
    ) -> tuple[Minimum, float]:
        """Minimise the energy from these canvases; the seconds that it took, an earlier run's too. main: the task's own loss and target.

        once_more: an attempt with other starts, after the run that can be continued.
        """
        if not self.sequential or self.restarts == 1:
            return self._minimize(main, start, seeds, size, x0, once_more=once_more)
        if self.past is not None or self.monitor.keep_state:
            raise InputError("Restarts that are unlike those before them keep no state, so their run cannot be continued.")
        found: list[Minimum] = []
        rounds, took = rounds_of(len(start), self.restarts), 0.0
        for samples in rounds:
            earlier = torch.stack([m.x for m in found], dim=1) if found else None
            own = loss_of(main[0], samples), of_samples(main[1], samples)
            shown = None if x0 is None else of_samples(x0, samples)
            one, seconds = self._minimize(own, start[samples], [seeds[b] for b in samples], size, shown, earlier)
            found.append(one)
            took += seconds
            if one.interrupted:
                break
        return in_their_order(found, rounds, start), took

    def _minimize(
        self,
        main: tuple[Loss, Tensor],
        start: Tensor,
        seeds: Sequence[int],
        size: tuple[int, int],
        x0: Tensor | None,
        earlier: Tensor | None = None,
        once_more: bool = False,
    ) -> tuple[Minimum, float]:
        """The same for samples that run together."""
        passes = (self.parts.closed_slope, self.parts.pool_share)
        shown = x0
        past, keep = (None, False) if once_more else (self.past, self.monitor.keep_state)
        asked = self._asked(seeds, size) if past is not None or keep else {}
        if past is not None:
            check_asked(past, asked)
            take({"start": past.start}, "start", start)
        if x0 is None and not self.from_noise:
            x0 = self.transform.crop(start)
        with ExitStack() as stack:
            given = Given(
                self.phi, size, len(start), self.computation.like, x0, main, self._layer, self._encode, prepare=self._ready(stack)
            )
            given.scores, given.earlier = self._scores(given), earlier
            own = data_term(self.parts.objective, given, self.parts.C) if self.parts.objective else self._main(main)
            energy = Energy(own, self._regularizers(start), self.transform)
            began = time.monotonic()
            if any(passes) and self.phi.can_open:
                stack.enter_context(self.phi.opened(*passes))
            batch = self.computation.prepare(energy, start)
            batch = batch if past is None else past.about["batch"]
            found = minimize(
                Problem(
                    energy,
                    self.parts.parameterization,
                    PixelBall(self.parts.bound),
                    self.phi.space,
                    from_noise=self.from_noise,
                    opened=self.phi.opened if self.phi.can_open else None,
                ),
                start,
                plan=self.plan,
                generators=[generator(s, "jitter") for s in seeds],
                progress=self.progress,
                title=f"{self.name} {self.phi.name}",
                batch=batch,
                monitor=Monitor(self.monitor.frames, self.monitor.watch and self._levels_to_watch, keep),
                resume=past,
            )
        _log.info("%s of %s: %d images, %d evaluations of each", self.name, self.phi.name, len(start), found.evaluations)
        took = time.monotonic() - began + (0.0 if past is None else past.about["seconds"])
        if found.state is not None:
            found.state = with_about(
                found.state,
                shown,
                start,
                asked=asked,
                batch=batch,
                seconds=took,
                warm=self.warm,
                from_noise=self.from_noise,
                continued=self.continued,
                start=self.began,
                opened=self.opened,
                spent=self.spent,
            )
        return found, took

    @property
    def continued(self) -> list[int]:
        """After which evaluations the run was taken up again."""
        return [] if self.past is None else [*self.past.about["continued"], self.past.evaluations]

    def canvases_of(self, past: State, size: tuple[int, int], samples: int) -> Tensor:
        """Return the canvases with which a run began that is continued."""
        self.from_noise = past.about["from_noise"]
        like = self.computation.like.new_empty((samples, self.phi.space.count, *self.transform.canvas(size)))
        fits = past.start is not None and past.start.shape == like.shape
        return past.start.to(like) if fits and past.start is not None else torch.zeros_like(like)  # refused when the run begins

    def _asked(self, seeds: Sequence[int], size: tuple[int, int]) -> dict[str, Any]:
        """What a run and the one that continues it have in common, as plain values; the plan is looked at by itself."""
        module = self.phi.module
        parts = {k: v for k, v in self.parts.to_plain().items() if k not in ("iterations", "stages", "start")}
        facts = {
            "task": self.name,
            "representation": self.phi.name,
            "leak": self.phi.leak,
            "weights": None if module is None else weights_hash(module),
            "space": self.phi.space.to_dict(),
            "parts": parts,
            "seeds": list(seeds),
            "size": list(size),
            "dtype": str(self.computation.dtype),
            "revision": REVISION,
        }
        plain: dict[str, Any] = json.loads(json.dumps(facts | self.asked))
        return plain

    def _regularizers(self, start: Tensor) -> dict[str, Regularizer]:
        """Those of the parts; the ones that speak of the start know it."""
        found = dict(self.parts.regularizers)
        for name, regularizer in found.items():
            if isinstance(regularizer, OfStart):
                told = regularizer.begin(start.detach())
                if self.from_noise and told is not regularizer:
                    raise InputError(
                        f"{name!r} keeps an image near the one that the run begins with, and this begins with noise: give start=."
                    )
                found[name] = told
        return found

    def _ready(self, stack: ExitStack) -> Callable[[Representation], Representation]:
        """A function that enters the session of a representation beside the task's own, where the task computes, until the stack ends."""
        done = {id(self.phi)}

        def enter(phi: Representation) -> Representation:
            if id(phi) not in done:
                done.add(id(phi))
                last = self.computation.channels_last and phi.prefers_channels_last
                stack.enter_context(phi.session(self.computation.device, self.computation.dtype, last))
            return phi

        return enter

    def _scores(self, given: Given) -> Representation | None:
        """The layer with the classes' scores, where the task is about its network's classes and that is another."""
        network = self.phi.network
        if not isinstance(network, Network) or network.card.scores is None or not is_of_classes(self.phi):
            return None
        return given.representation(network.card.scores)

    def _main(self, main: tuple[Loss, Tensor]) -> DataTerm:
        return FeatureTerm(main[0], self.phi, main[1], self.parts.C, name=self.phi.name)

    def _layer(self, name: str) -> Representation:
        network = self.phi.network
        if not isinstance(network, Network):
            raise InputError(f"An objective names the layer {name!r}, and {self.phi.name} belongs to no network: give a Layer.")
        if name not in self._layers:
            self._layers[name] = network.layer(name, leak=self.phi.leak)
        return self._layers[name]

    def _encode(self, picture: Any) -> Tensor:
        return self.phi.space.encode(picture)

    def _levels_to_watch(self, evaluations: int, x: Tensor, energy: Tensor) -> bool | None:
        assert self.monitor.watch is not None
        return self.monitor.watch(evaluations, self.phi.space.decode(x), energy)

    def canvas_of(self, x: Tensor) -> Tensor:
        """Return canvases with these images (B, C, H, W) at their centre; the border that the transform adds is the mean colour."""
        height, width = self.transform.canvas(size_of(x))
        canvas = x.new_zeros(*x.shape[:2], height, width)
        top, left = (height - x.shape[2]) // 2, (width - x.shape[3]) // 2
        canvas[..., top : top + x.shape[2], left : left + x.shape[3]] = x
        return canvas

    def start_from(self, start: Start, size: tuple[int, int], samples: int) -> Tensor | None:
        """Return the canvases of a start that was given, one for all or one a sample; None where it is noise. Raises InputError."""
        if isinstance(start, str) and start == "inverse":
            raise InputError(f"An inverse answers to an image's features: it is a start of invert, not of {self.name}.")
        if start is None or (isinstance(start, str) and start in ("noise", "image")):
            return None
        if isinstance(start, (str, os.PathLike)) and Path(start).is_dir():
            start = load_result(start)
        if isinstance(start, Result):
            x = torch.cat([self.phi.space.encode(to_uint8(i), size=size) for i in start.images])
            if start.images.shape[-2:] == size:
                x = start.images - self.phi.space.decode(torch.zeros(1, self.phi.space.count, 1, 1))
        else:
            given = start if isinstance(start, (list, tuple)) else [start]
            if not given:
                raise InputError(f"start is one image, or one for each of the {samples} samples; got an empty list.")
            x = torch.cat([covering(self.phi.space.encode(i, size=size), size) for i in given])
        if len(x) not in (1, samples):
            raise InputError(f"start is one image, or one for each of the {samples} samples; got {len(x)}.")
        return self.canvas_of(x.to(self.computation.like)).expand(samples, -1, -1, -1).contiguous()

    def activation(self, found: Minimum, loss: Loss, target: Tensor, divisor: Tensor | float) -> Tensor:
        """Return what the unit answers at the images: the energy's loss where it is that, else one more look."""
        if not self.parts.objective and isinstance(loss, InnerProduct):
            return (-(found.energy["loss"].cpu() / self.parts.C) * divisor).float()
        features = features_of(self.phi, found.x)
        one = loss(features, target) if isinstance(loss, InnerProduct) else InnerProduct(1.0)(features, target)
        return (-one.cpu() * divisor).float()

    def result(
        self,
        kind: type[R],
        found: Minimum,
        took: float,
        *,
        labels: list[str],
        seeds: list[int],
        more: Mapping[str, Any],
        originals: Tensor | None = None,
        error: Tensor | None = None,
        activation: Tensor | None = None,
    ) -> R:
        """Return everything on the CPU, levels 0–255; raises Interrupted, with the result, if Ctrl-C came. kind: the task's own class."""
        decode = self.phi.space.decode
        result = kind(
            task=self.name,
            images=decode(found.x).float().cpu(),
            error=error,
            activation=activation,
            energy={k: v.float().cpu() for k, v in found.energy.items()},
            trace={k: v.float() for k, v in found.trace.items()},
            evaluations=found.evaluations,
            labels=labels,
            seeds=seeds,
            status=found.status,
            config=json.loads(json.dumps(self._record(took) | dict(more))),
            originals=None if originals is None else decode(originals).float().cpu(),
            frames=[decode(f).float() for f in found.frames],
            interrupted=found.interrupted,
            state=found.state,
        )
        if found.interrupted:
            raise Interrupted(result)
        return result

    def _record(self, took: float) -> dict[str, Any]:
        module = self.phi.module
        network = self.phi.network if isinstance(self.phi.network, Network) else None
        solver = self.parts.solver
        return {
            "representation": self.phi.name,
            "network": None if network is None else network.card.name,
            "weights": None if network is None else network.weights,
            "weights_sha256": None if module is None else weights_hash(module),
            "leak": self.phi.leak,
            "space": self.phi.space.to_dict(),
            "C": self.parts.C,
            "solver": solver if isinstance(solver, str) else repr(solver),
            "iterations": self.parts.iterations,
            "plan": self.plan.record(),
            "recipe": self.recipe,
            "parts": self.parts.to_plain(),
            "jitter": self.transform.amount if isinstance(self.transform, Jitter) else None,
            "regularizers": {k: repr(r) for k, r in self.parts.regularizers.items()},
            "bound": self.parts.bound if math.isfinite(self.parts.bound) else None,
            **self.computation.record(),
            "seconds": round(took, 3),
            "versions": versions(),
        } | {k: v for k, v in {"continued": self.continued, "quality": self.choice.quality}.items() if v}
