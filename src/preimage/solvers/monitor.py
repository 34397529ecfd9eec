"""What is watched of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Watch = Callable[[int, Tensor, Tensor], "bool | None"]


@dataclass(frozen=True)
class Monitor:
    """What is watched of a run.

    Parameters
    ----------
    frames : keep the images every so many iterations, 0 for none
    watch : called a few times a second with the evaluations so far, the images (B, C, H, W) as levels 0–255 and their energies (B,);
        if it returns True the run ends as with Ctrl-C
    keep_state : keep what the solver carries from step to step, in `Result.state` and with `Result.save` in the folder, so that an
        interrupted or finished run can be continued (`resume=`, `again(…, resume=True)`); it is as large as a few to some forty images

    >>> Monitor(frames=5).watch is None
    True
    """

    frames: int = 0
    watch: Watch | None = None
    keep_state: bool = False
