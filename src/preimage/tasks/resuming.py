"""Earlier runs that a task continues: where their state is, and whether the same is asked for now."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..errors import InputError
from ..solvers.memory import State
from .result import Result, load_kept

Resume = str | os.PathLike[str] | Result | State | None


def state_of(resume: Resume) -> State | None:
    """Return the state of an earlier run: of its result, in its folder, or itself. Raises InputError and ResultFolderError."""
    if isinstance(resume, Result):
        if resume.state is None:
            raise InputError("This result keeps no state from which it goes on: ask for it with monitor=Monitor(keep_state=True).")
        resume = resume.state
    if resume is None or isinstance(resume, State):
        return resume
    if not isinstance(resume, (str, os.PathLike)):
        raise InputError(f"resume is a result or its folder; got {resume!r:.80}.")
    return load_kept(resume)


def check_start(start: object, resume: Resume) -> None:
    """Raise InputError where both say with what to begin."""
    if start is not None and resume is not None:
        raise InputError("start and resume both say with what the run begins: leave one of them out.")


def check_asked(past: State, asked: Mapping[str, Any]) -> None:
    """Raise InputError, with what differs, unless an earlier run was asked for the same."""
    before = past.about["asked"]
    differ = [k for k in asked if before.get(k) != asked[k]]
    if differ:
        was, now = (json.dumps(v.get(differ[0]), ensure_ascii=False) for v in (before, asked))
        raise InputError(
            f"The run to be continued had other {', '.join(differ)}: {was:.100} there, {now:.100} here. Ask for the same, or begin anew."
        )


def digest(values: Tensor | None) -> str | None:
    """Return what tells these numbers from others; None for none."""
    return None if values is None else hashlib.sha256(values.detach().float().cpu().numpy().tobytes()).hexdigest()
