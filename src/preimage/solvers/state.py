"""States of runs: whether one goes on by another plan, and their files."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..energy.transforms import Transform
from ..errors import InputError, ResultFolderError, first_line
from ..files import is_own_file
from .memory import State
from .plans import Plan

FORMAT = 1
_KEY = "preimage-state"  # of the record in the file's header
_MEMORY = re.compile(r"memory\.\d{1,6}\.[a-z]\w{0,30}")
_TENSORS = {"z", "best", "verdicts", "records"}
_MORE = {"x0", "start"}
_LONGEST = 10**6  # iterations of a stage in a file
_ELSE = "Begin another run from its image: start=FOLDER, --start FOLDER."


def check_plan(state: State, plan: Plan, transform: Transform, by_length: tuple[type, ...]) -> None:
    """Raise InputError unless the run of this plan begins with the iterations that the state has done.

    by_length: solvers whose steps depend on how long their phase is.
    """
    if state.plan == plan.record():
        return
    why = _differs(state, plan, transform, by_length)
    if why:
        raise InputError(f"A run of {plan.iterations} iterations does not begin with the {state.evaluations} of this one: {why}. {_ELSE}")


def _differs(state: State, plan: Plan, transform: Transform, by_length: tuple[type, ...]) -> str:
    """Say why a plan does not go on from a state, or nothing."""
    new = plan.record()
    if state.phase >= len(new) or state.plan[: state.phase] != new[: state.phase]:
        return "its solvers or their stages are others"
    was, now, phase = state.plan[state.phase], new[state.phase], plan.phases[state.phase]
    if was["solver"] != now["solver"]:
        return f"its solver is {now['solver']}, not {was['solver']}"
    length, before = (sum(s["iterations"] for s in stages) for stages in (now["stages"], was["stages"]))
    if state.done and isinstance(phase.solver, by_length) and length != before:
        return f"the steps of {type(phase.solver).__name__} fall to zero over {before} iterations, and would over {length}"
    ends = 0
    for k, stage in enumerate(now["stages"]):
        if ends >= state.done:
            return ""
        old = was["stages"][k] if k < len(was["stages"]) else None
        if old is None or (old["rate"], old["jitter"]) != (stage["rate"], stage["jitter"]):
            return "its stages are others"
        inside = state.done <= ends + min(old["iterations"], stage["iterations"])
        if old["iterations"] != stage["iterations"] and not inside:
            return f"its stages are {_lengths(was)} long, and would be {_lengths(now)}"
        if old["iterations"] != stage["iterations"] and stage["jitter"] and not _goes_on(transform, old["iterations"], stage["iterations"]):
            return "its views are drawn for the whole length at once"
        ends += stage["iterations"]
    return "" if ends >= state.done else f"it is shorter than the {state.done} that are done"


def _lengths(phase: Mapping[str, Any]) -> str:
    return " and ".join(str(s["iterations"]) for s in phase["stages"])


def _goes_on(transform: Transform, old: int, new: int) -> bool:
    """Whether the draws of a longer stage begin with those of a shorter one."""
    if transform.fixed:
        return True
    a, b = (transform.sample(torch.Generator().manual_seed(0), n * transform.views) for n in (old, new))
    some = min(len(a), len(b))
    return a[:some] == b[:some]


def save_state(path: Path, state: State) -> None:
    """Write a state as one safetensors file, its plain values in the header."""
    from safetensors.torch import save

    tensors = {name: getattr(state, name) for name in _TENSORS} | {f"memory.{k}": t for k, t in state.memory.items()}
    tensors |= {name: t for name, t in (("x0", state.x0), ("start", state.start)) if t is not None}
    record = {"version": FORMAT, "plan": state.plan, "phase": state.phase, "done": state.done, "about": state.about}
    plain = {k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()}  # no two may share their memory
    path.write_bytes(save(plain, metadata={_KEY: json.dumps(record)}))


def load_state(path: str | os.PathLike[str]) -> State:
    """Read what `save_state` wrote: tensors and plain values, each looked at before it is used.

    Raises ResultFolderError for anything else.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    try:
        if not is_own_file(path):
            raise ResultFolderError("it is no regular file" if path.exists() or path.is_symlink() else "it is not there")
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})[_KEY])
            names = set(file.keys())
            known = {n for n in names if _MEMORY.fullmatch(n)} | (_TENSORS | _MORE) & names
            if names != known or not names >= _TENSORS:
                raise ValueError("its tensors are not those of a state")
            tensors = {name: file.get_tensor(name) for name in names}
        return _checked(record, tensors)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, RecursionError, AttributeError, SafetensorError) as error:
        raise ResultFolderError(
            f"{str(path)!r} holds no state from which a run goes on ({first_line(error).rstrip('.')}). "
            "It is kept where it is asked for: --keep-state, Monitor(keep_state=True)."
        ) from error


def _checked(record: Any, tensors: dict[str, Tensor]) -> State:
    """The state, if its values are of the right kinds and go together. Raises ValueError, TypeError or KeyError."""
    if record["version"] != FORMAT:
        raise ValueError(f"its version is {record['version']!r}, wanted {FORMAT}")
    plan, phase, done, about = record["plan"], record["phase"], record["done"], record["about"]
    lengths = [[(_whole(s["iterations"], _LONGEST), s["rate"], s["jitter"])[0] for s in p["stages"]] for p in plan if p["solver"]]
    if len(lengths) != len(plan) or not isinstance(plan, list) or not isinstance(about, dict):
        raise ValueError("its record is not that of a state")
    _whole(phase, len(plan) - 1)
    _whole(done, sum(lengths[phase]))
    samples = len(tensors["z"])
    if len(tensors["records"]) != sum(sum(p) for p in lengths[:phase]) + done or tensors["records"].dim() != 3:
        raise ValueError("it has not recorded each of its iterations")
    if tensors["records"].shape[2] != samples or tensors["verdicts"].shape != (3, samples) or tensors["verdicts"].dtype != torch.bool:
        raise ValueError("its tensors are of other numbers of samples")
    _check_about(about)
    memory = {n.removeprefix("memory."): t for n, t in tensors.items() if n.startswith("memory.")}
    return State(
        plan, phase, done, **{n: tensors[n] for n in _TENSORS}, memory=memory, x0=tensors.get("x0"), start=tensors.get("start"), about=about
    )


def _check_about(about: dict[str, Any]) -> None:
    """What a task has to say, as `with_about` writes it."""
    seconds, batch = about["seconds"], about["batch"]
    if not isinstance(about["asked"], dict) or not isinstance(seconds, float) or not 0 <= seconds < _LONGEST * 100:
        raise ValueError("what was asked for is not told")
    if batch is not None and _whole(batch, _LONGEST) == 0:
        raise ValueError("no samples are evaluated together")
    if not all(isinstance(about[k], bool) for k in ("warm", "from_noise")) or not isinstance(about["continued"], list):
        raise ValueError("where it began is not told")
    for count in [*about["continued"], *about["opened"], about["spent"]]:
        _whole(count, _LONGEST)
    if not isinstance(about["start"], str):
        raise ValueError("what it began with is not told")


def _whole(value: Any, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
        raise ValueError(f"{value!r:.40} is no whole number up to {most}")
    return value


def with_about(state: State, x0: Tensor | None, canvases: Tensor, **about: Any) -> State:
    """Return the state with what a task has to say about it."""
    return replace(state, x0=x0, start=canvases, about=json.loads(json.dumps(about)))
