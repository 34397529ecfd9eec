"""The values of every part that has a revision, in a few numbers each; `python -m tests.revisions` records them in revisions.json.

The keys of jobs hold revisions and not the code, so a part whose values change without its revision would let a store give old images for
new. The inputs are chirps of sines, which no generator of random numbers decides.
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import preimage
from preimage.energy.energy import Energy, Problem
from preimage.energy.keep_classes import ExpectedMargin
from preimage.energy.losses import LOSSES, CrossEntropy, Euclidean, InnerProduct
from preimage.energy.margin import Margin
from preimage.energy.objectives import OBJECTIVES, Given
from preimage.energy.parameterizations import PARAMETERIZATIONS
from preimage.energy.regularizers import REGULARIZERS
from preimage.energy.scores import LogProbability
from preimage.energy.terms import FeatureTerm
from preimage.energy.transforms import TRANSFORMS
from preimage.pixels import pixelspace
from preimage.pixels.pixelspace import PixelSpace
from preimage.representations.shallow import SHALLOW, load_shallow
from preimage.solvers import plans
from preimage.solvers.loop import minimize
from preimage.solvers.run import SOLVERS, Stage
from preimage.solvers.starts import generator, noise, sample_seeds
from preimage.studies import jobs
from preimage.tasks import task as tasks_task

GOLDEN = Path(__file__).with_name("revisions.json")
COMMAND = "python -m tests.revisions"
# The parts are computed in float64, but the spectrum, what is drawn, and the features of a layer and of the descriptors are of float32: its
# last bit, 6e-8, and other orders of sums on another CPU leave about 1e-6 of the values; a changed constant moves them by more than 1e-4.
TOLERANCE = 2e-5

Facts = dict[str, dict[str, Any]]  # part -> {"revision": n, "values": {case: [numbers]}}


def wave(*shape: int, phase: float = 0.0, size: float = 1.0) -> Tensor:
    """Values between -size and size that look irregular and are the same everywhere."""
    k = torch.arange(int(np.prod(shape)), dtype=torch.float64)
    return (torch.sin(0.37 * k * (1 + 0.013 * k) + phase) * size).reshape(shape)


def digest(*found: Tensor) -> list[float]:
    """Of each tensor its mean, its root mean square and its inner product with a wave, to 8 digits."""
    numbers: list[float] = []
    for x in found:
        v = x.detach().double().flatten()
        numbers += [v.mean().item(), v.square().mean().sqrt().item(), (v * wave(len(v), phase=0.5)).mean().item()]
    return [float(f"{n:.8g}") for n in numbers]


def parts() -> Iterator[tuple[str, int, Callable[[], dict[str, list[float]]]]]:
    """The name, the revision and the values of every part."""
    each: list[tuple[Any, Callable[[Any], list[float]]]] = [
        (LOSSES, _loss),
        (TRANSFORMS, _transform),
        (PARAMETERIZATIONS, _parameterization),
        (REGULARIZERS, _regularizer),
        (SOLVERS, _solver),
        (OBJECTIVES, _objective),
    ]
    for registry, values in each:
        for name in registry:
            yield f"{registry.kind} {name}", registry.revision(name), _cases(registry, name, values)
    yield "pixels", pixelspace.REVISION, _pixels
    yield "plan", plans.REVISION, _plans
    yield "start noise", tasks_task.REVISION, lambda: {"canvases": digest(noise(sample_seeds(3, ["a", "b"], 2)[1], (3, 7, 9), _LIKE))}
    for task in ("invert", "maximize", "caricature"):
        yield f"task {task}", tasks_task.REVISION, lambda task=task: {"image": _task(task)}
    yield "representation layer", jobs.REPRESENTATION_REVISION, lambda: {"features": _layer()}
    for name in SHALLOW:
        if name not in ("bow", "vlad", "fisher", "llc", "scspm", "super-vector", "textons"):  # of a vocabulary that the user gives
            yield f"representation {name}", jobs.REPRESENTATION_REVISION, lambda name=name: {"features": _shallow(name)}


def where(part: str) -> str:
    """Where the revision of a part is raised."""
    return {
        "pixels": "REVISION of pixels/pixelspace.py",
        "plan": "REVISION of solvers/plans.py",
        "start": "REVISION of tasks/task.py",
        "task": "REVISION of tasks/task.py",
        "representation": "REPRESENTATION_REVISION of studies/jobs.py",
    }.get(part.partition(" ")[0], f"`revision` of the class that is registered as {part}")


def current() -> Facts:
    """What the code gives now."""
    return {name: {"revision": revision, "values": values()} for name, revision, values in parts()}


def differences(golden: Facts, now: Facts) -> dict[str, list[str]]:
    """What is wrong, in two kinds: "unraised" values that changed under the same revision, and what is only not "recorded" yet."""
    unraised, recorded = [], []
    for name in sorted({*golden, *now}):
        if name not in now or name not in golden:
            recorded.append(f"{name} is {'gone' if name not in now else 'new'}.")
            continue
        old, new = golden[name], now[name]
        if old["revision"] != new["revision"]:
            recorded.append(f"{name} has revision {new['revision']}, and the values recorded are those of {old['revision']}.")
            continue
        cases = [case for case in old["values"] if case in new["values"] and not _alike(old["values"][case], new["values"][case])]
        if cases:
            said = f"The values of {name} ({'; '.join(cases)}) changed and its revision, {new['revision']}, did not"
            unraised.append(f"{said}: raise the {where(name)}.")
        elif old["values"].keys() != new["values"].keys():
            recorded.append(f"{name} has other examples.")
    return {"unraised": unraised, "recorded": recorded}


def main() -> int:
    """Record what the code gives now; 1, and nothing is written, where a part changed and its revision did not."""
    golden, now = (json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}), current()
    wrong = differences(golden, now)["unraised"]
    if wrong:
        print("Nothing is recorded: raise the revisions first.", *wrong, sep="\n- ")
        return 1
    kept = {name: golden[name] if _same(golden.get(name), now[name]) else now[name] for name in sorted(now)}
    lines = [f'  "{name}": {json.dumps(facts)}' for name, facts in kept.items()]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return 0


def _same(old: dict[str, Any] | None, new: dict[str, Any]) -> bool:
    """Whether a record may stay, so that another CPU's last digits make no difference in the file."""
    return old is not None and old["revision"] == new["revision"] and old["values"].keys() == new["values"].keys()


def _alike(old: list[float], new: list[float]) -> bool:
    if len(old) != len(new):
        return False
    sizes = [max(abs(v) for v in old[k - k % 3 : k - k % 3 + 3]) for k in range(len(old))]  # of a tensor its three numbers together
    return all(abs(a - b) <= TOLERANCE * size + 1e-12 for a, b, size in zip(old, new, sizes, strict=True))


def _cases(registry: Any, name: str, values: Callable[[Any], list[float]]) -> Callable[[], dict[str, list[float]]]:
    def made() -> dict[str, list[float]]:
        found = {}
        for given in registry.examples(name):
            try:
                part = registry[name](**given)
            except TypeError:  # one that only an object of the user's can make
                continue
            found[repr(part)] = values(part)
        return found

    return made


_LIKE = torch.empty(0, dtype=torch.float64)
_SPACE = PixelSpace(None, "rgb", mean=(100.0, 110.0, 120.0))


def _seeded(count: int) -> list[torch.Generator]:
    return [generator(s, "jitter") for s in range(count)]


def _loss(loss: Any) -> list[float]:
    target, features = wave(2, 4, 3, 3).abs(), wave(2, 4, 3, 3, phase=1.0, size=2.0)
    if isinstance(loss, (CrossEntropy, ExpectedMargin, LogProbability, Margin)):
        target = torch.zeros_like(target)
        target[:, 1] = 1.0
    return digest(*loss.differentiate(features, target, loss.scale(target)))


def _transform(transform: Any) -> list[float]:
    x = wave(2, 3, *transform.canvas((12, 10)), size=60.0)
    found = []
    for view in transform.draw(_seeded(2), 1)[0]:
        seen, add = transform.show(x, view)
        back = torch.zeros_like(x)
        add(back, wave(*seen.shape, phase=2.0))
        found += [seen, back]
    return digest(*found, transform.crop(x))


def _parameterization(parameterization: Any) -> list[float]:
    written = parameterization.at((3, 12, 10), _SPACE)
    x = wave(2, 3, 12, 10, size=60.0)
    z = written.start(x, _seeded(2))
    image, pull = written.show(z)
    try:
        encoded = [written.encode(x)]
    except preimage.InputError:  # no coordinates for a given image
        encoded = []
    return digest(z, image, pull(wave(*image.shape, phase=2.0)), *encoded)


def _regularizer(regularizer: Any) -> list[float]:
    x = wave(2, 3, 9, 8, size=60.0)
    gradient = torch.zeros_like(x)
    return digest(regularizer.add_gradient(x, gradient) if hasattr(regularizer, "add_gradient") else regularizer(x), gradient)


def _quarter(x: Tensor) -> Tensor:
    return nn.functional.avg_pool2d(x, 2)


def _solver(solver: Any) -> list[float]:
    energy = Energy(FeatureTerm(Euclidean(), _quarter, wave(1, 3, 6, 5, phase=1.0, size=30.0), C=50.0), transform=TRANSFORMS["jitter"](3))
    x0 = wave(2, 3, *energy.transform.canvas((12, 10)), size=20.0)
    stages = [Stage(12), Stage(8, rate=0.5, jitter=False)]
    found = minimize(Problem(energy, space=_SPACE), x0, solver=solver, stages=stages, generators=_seeded(2))
    return digest(found.x, *found.trace.values())


def _objective(objective: Any) -> list[float]:
    phi = preimage.from_callable(_quarter, _SPACE)
    x = wave(2, 3, 12, 10, size=60.0)
    given = Given(phi, (12, 10), 2, x, x0=x, earlier=wave(2, 2, 3, 12, 10, phase=0.3, size=60.0))
    if type(objective).__name__ in ("Activate", "Score", "Probability"):
        phi = preimage.from_callable(lambda v: v.mean(dim=(2, 3)), _SPACE)
        given = Given(phi, (12, 10), 2, x, main=(InnerProduct(3.0), torch.eye(3, dtype=torch.float64)[1:2]))
    return digest(objective.term(given, 10.0)(wave(2, 3, 12, 10, phase=1.0, size=40.0))["loss"])


def _picture() -> np.ndarray:
    return (wave(20, 30, 3).numpy() * 127 + 128).astype(np.uint8)


def _pixels() -> dict[str, list[float]]:
    found = {}
    for space in (PixelSpace(12, "rgb"), PixelSpace((9, 14), "bgr", 1.0, (0.4, 0.5, 0.6), (0.2,), "squash"), PixelSpace(8, "grey")):
        x = space.encode(_picture())
        found[repr(space)] = digest(x, space.to_network(x), space.decode(x))
    return found


def _plans() -> dict[str, list[float]]:
    """The names, stages and starts of all plans as one number: settings are the solvers' own."""
    found = {}
    for task in ("invert", "maximize", "caricature"):
        for solver in plans.solver_names():
            made = []
            for stride, jitter, iterations in ((1.0, 1, None), (8.0, 1, None), (16.0, 4, None), (16.0, 4, 60)):
                plan = plans.plan_for(plans.Asked(task, stride, jitter), solver, iterations)
                made.append([plan.start_scale, [[type(p.solver).__name__, [vars(s) for s in p.stages]] for p in plan.phases]])
            sha = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()
            found[f"{task} {solver}"] = [float(int(sha[:8], 16))]
    return found


def _task(task: str) -> list[float]:
    space = PixelSpace(16, "rgb", mean=(100.0, 110.0, 120.0))
    shared: dict[str, Any] = {"progress": False, "iterations": 4, "dtype": torch.float64, "seed": 2}
    if task == "maximize":
        phi = preimage.from_callable(lambda x: x.mean(dim=(2, 3)), space)
        return digest(preimage.maximize(phi, [0, 2], **shared).images)
    phi = preimage.from_callable(_quarter, space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", preimage.PreimageWarning)  # so few iterations do not come far
        return digest(getattr(preimage, task)(phi, _picture(), **shared).images)


def _layer() -> list[float]:
    module = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3))
    with torch.no_grad():
        for k, p in enumerate(module.parameters()):
            p.copy_(wave(*p.shape, phase=float(k), size=0.3))
    phi = preimage.Layer(module, "3", space=PixelSpace.imagenet(16))
    return digest(phi(phi.space.encode(_picture())))


def _shallow(name: str) -> list[float]:
    phi = load_shallow(name)
    picture = np.kron((wave(10, 10).numpy() * 127 + 128).astype(np.uint8), np.ones((5, 5), np.uint8))  # edges, of 5 pixels
    return digest(phi(phi.space.encode(np.stack([picture] * 3, axis=2))))


if __name__ == "__main__":
    sys.exit(main())
