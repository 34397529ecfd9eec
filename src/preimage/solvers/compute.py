"""How Φ is computed in the loop: where, in which precision, compiled or not, and how many samples at a time."""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode

from ..energy.energy import Energy
from ..errors import InputError, PreimageWarning, first_line
from ..ranges import checked
from ..representations.base import Representation, as_representation, device_of, module_of
from ..representations.devices import usable_device
from ..representations.natural import centred
from ..representations.relus import opened_now
from ..representations.sessions import plain_torch

PRECISIONS = ("float32", "bfloat16", "auto")
FASTER, ALIKE = 1.15, 0.9  # bfloat16 is taken if it is that much faster and its gradient has that cosine with float32's
SAME = 1e-2  # of the norm of the features; rounding may differ from pass to pass on an accelerator
STATE = 36  # canvases that a solver may keep of a sample; the descent keeps 20 pairs in half the width and some ten more
_LARGE = 2**20  # numbers in a matrix of weights that it is worth to keep rounded
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


@dataclass(frozen=True)
class Trial:
    """What a short run said about bfloat16. float32, bfloat16: seconds of an evaluation. cosine: of the two gradients of the loss."""

    float32: float
    bfloat16: float
    cosine: float

    @property
    def pays(self) -> bool:
        """Whether bfloat16 is clearly faster and its gradient points where float32's does."""
        return self.float32 >= FASTER * self.bfloat16 and self.cosine >= ALIKE

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a result's record."""
        return {k: round(v, 6) for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Compute:
    """How Φ is computed in the loop.

    Parameters
    ----------
    batch : samples evaluated together; default 1 on a CPU, where no bit of a sample then depends on the others, and on a GPU all that fit
    precision : of Φ where gradients are taken: "float32" (default), "bfloat16" (`torch.autocast`; target, image and reported numbers stay
        in float32), or "auto", bfloat16 if a short trial says that it pays
    max_memory : bytes, or as "4GB": as many samples are evaluated together as fit, on any device; default no limit on a CPU
    compiled : Φ through `torch.compile` where gradients are taken, on a GPU as CUDA graphs: the first evaluation then takes seconds to
        minutes. On a CPU it hardly ever pays (docs/performance.md).

    >>> Compute(precision="bfloat16").batch is None
    True
    """

    batch: int | None = None
    precision: str = "float32"
    max_memory: int | str | None = None
    compiled: bool = False


@dataclass
class Computation:
    """Where and how one task computes Φ, checked.

    device, dtype: of the optimised image. chosen: what `prepare` decided, for the record. Raises InputError for what cannot be done.
    """

    phi: Representation
    asked_device: str | torch.device | None = None
    asked_dtype: torch.dtype | None = None
    compute: Compute = Compute()

    def __post_init__(self) -> None:
        if not isinstance(self.compute, Compute):
            raise InputError(f"compute is a preimage.Compute(batch=…, precision=…, …); got {self.compute!r}.")
        self.batch, self.precision = self.compute.batch, self.compute.precision
        self.max_memory, self.compiled = self.compute.max_memory, self.compute.compiled
        self.phi = centred(as_representation(self.phi))
        if self.batch is not None:
            self.batch = checked("batch", self.batch)
        if self.batch is not None and self.max_memory is not None:
            raise InputError("batch and max_memory both say how many samples are evaluated together: leave one out.")
        known = isinstance(self.asked_dtype, torch.dtype) and self.asked_dtype in (torch.float32, torch.float64)
        if self.asked_dtype is not None and not known:
            raise InputError(f"dtype is torch.float32 or torch.float64; got {self.asked_dtype!s:.80}. For bfloat16 see precision.")
        self.device = device_of(self.phi) if self.asked_device is None else usable_device(self.asked_device)
        self.dtype = self.asked_dtype or torch.float32
        check_precision(self.precision, self.dtype)
        self.limit = memory_limit(self.max_memory, self.device)
        self.like = torch.empty(0, device=self.device, dtype=self.dtype)
        self.chosen: dict[str, Any] = {}

    @property
    def channels_last(self) -> bool:
        """By a rule and not by a trial, so that the same run gives the same bits."""
        return self.phi.prefers_channels_last and self.device.type == "cpu"

    @contextmanager
    def session(self) -> Iterator[None]:
        """Around the whole task: the representation prepared once, on the device and in the type asked for."""
        with plain_torch(), self.phi.session(self.device, self.dtype, self.channels_last):
            yield

    def prepare(self, energy: Energy, start: Tensor) -> int | None:
        """Give the energy the Φ that its gradients are taken of; how many of the canvases `start` to evaluate together.

        None: as many as `minimize` takes by itself.
        """
        if not self.chosen:  # once a task
            warn_of_changes([term.phi for term in energy.data.features], energy.transform.crop(start[:1]))
        batch = self.batch
        if batch is None and self.limit is not None:
            batch = samples_at_once(energy, start, self.limit)
        precision, trial = self.precision, None
        if precision == "auto":
            trial = try_bfloat16(energy, energy.transform.crop(start[:1])) if self.dtype == torch.float32 else None
            precision = "bfloat16" if trial is not None and trial.pays else "float32"
        if precision == "bfloat16":
            for term in energy.data.features:
                term.gradient_phi = in_bfloat16(term.phi)
        compiling = self.compiled and not opened_now()
        if self.compiled and not compiling:
            warnings.warn(
                "compiled has no effect here: in this run the gradient passes closed ReLUs throughout, which a compiled graph cannot.",
                PreimageWarning,
                stacklevel=2,
            )
        if compiling:
            for term in energy.data.features:
                term.gradient_phi = compiled(term.gradient_phi or term.phi, self.device)
            some = slice(0, batch or 1)  # what the loop will ask for, as each shape is compiled anew
            try_compiled(energy.part(some), energy.transform.crop(start[some]))
        self.chosen = {"precision": precision, "compiled": compiling} | ({} if trial is None else {"precision_trial": trial.to_dict()})
        return batch

    def record(self) -> dict[str, Any]:
        """Plain values, for a result's record."""
        place = {"device": str(self.device), "dtype": str(self.dtype).removeprefix("torch.")}
        return place | {"channels_last": self.channels_last} | self.chosen


def warn_of_changes(phis: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> None:
    """Warn of a Φ that gives other features for the same image x (1, C, H, W), as no run with it can be made again."""
    for phi in phis:
        try:
            with torch.no_grad():
                first, second = phi(x), phi(x)
        except Exception:  # the loop, which comes to it next, says it in its own words
            return
        if first.shape != second.shape or bool((first - second).norm() > SAME * first.norm()):
            warnings.warn(
                f"{phi!r} gives other features when it is shown the same image again: it draws random numbers from a generator of its "
                "own, or keeps something from pass to pass. The same seed will not give the same image.",
                PreimageWarning,
                stacklevel=2,
            )


def compiled(phi: Callable[[Tensor], Tensor], device: torch.device) -> Callable[[Tensor], Tensor]:
    """Φ traced to one graph of tensor operations, whatever Python it takes, and put through `torch.compile` at the first call for a shape.

    On a CUDA device the graph is replayed as CUDA graphs: features and gradients that it gave before are overwritten by a later call.
    While Φ is opened it runs as it is.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    known: dict[torch.Size, Callable[[Tensor], Tensor]] = {}
    mode = "reduce-overhead" if device.type == "cuda" else "default"
    new_step: Callable[[], None] = torch.compiler.cudagraph_mark_step_begin

    def call(x: Tensor) -> Tensor:
        if opened_now():
            return phi(x)
        if x.shape not in known:
            known[x.shape] = torch.compile(make_fx(phi)(x.detach()), dynamic=False, mode=mode)
        new_step()
        return known[x.shape](x)

    return call


def try_compiled(energy: Energy, x: Tensor) -> None:
    """One evaluation at crops x (B, C, H, W), in which the compiler runs; InputError where it cannot."""
    try:
        energy.differentiate(x)
    except Exception as error:  # the compiler's own errors have no public base
        own = error.__cause__ if isinstance(error, InputError) and isinstance(error.__cause__, Exception) else error
        raise InputError(f"Φ cannot be compiled here: {first_line(own)} Leave compiled out: nothing needs it.") from error


def in_bfloat16(phi: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Φ with its convolutions and matrix products in bfloat16, as `torch.autocast` chooses them; the features come in x's own type.

    Large weights are rounded once, at their first use: the function is for a while in which they do not change.

    >>> from torch import nn
    >>> in_bfloat16(nn.Conv2d(1, 1, 1))(torch.zeros(1, 1, 2, 2)).dtype
    torch.float32
    """
    module = module_of(phi)
    large = module is not None and any(_is_large(p) for p in module.parameters())
    weights: AbstractContextManager[object] = _RoundedWeights() if large else nullcontext()

    def rounded(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16), weights:
            features = phi(x)
        return features.to(x.dtype)

    return rounded


class _RoundedWeights(TorchFunctionMode):
    """Gives linear layers their large frozen weights in bfloat16, which autocast would round anew in each pass.

    Not convolutions: they do enough with each weight for the rounding not to be seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[int, tuple[Tensor, Tensor]] = {}  # by id; the weight is held, so that its id stays its own

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.linear and len(args) > 1 and _is_large(args[1]) and not args[1].requires_grad:
            weight = args[1]
            if id(weight) not in self._known:
                self._known[id(weight)] = weight, weight.detach().to(torch.bfloat16)
            args = (args[0], self._known[id(weight)][1], *args[2:])
        return func(*args, **(kwargs or {}))


def _is_large(weight: Any) -> bool:
    return isinstance(weight, Parameter) and weight.dtype == torch.float32 and weight.dim() == 2 and weight.numel() >= _LARGE


def try_bfloat16(energy: Energy, x: Tensor, rounds: int = 3) -> Trial:
    """Evaluate the energy's loss at one crop x (1, C, H, W) in both precisions by turns, after a first time of each."""
    exact, rounded = energy.part(slice(0, 1)), energy.part(slice(0, 1))
    for term in rounded.data.features:
        term.gradient_phi = in_bfloat16(term.phi)
    times: tuple[list[float], list[float]] = ([], [])
    slopes = []
    for _ in range(rounds + 1):
        for which, taken in zip((exact, rounded), times, strict=True):
            began = time.perf_counter()
            slope = which.data.differentiate(x.detach().requires_grad_())[1]
            _wait(x.device)
            taken.append(time.perf_counter() - began)
            slopes.append(slope)
    cosine = F.cosine_similarity(slopes[-2].flatten(), slopes[-1].flatten(), dim=0).item()
    return Trial(min(times[0][1:]), min(times[1][1:]), cosine)


def samples_at_once(energy: Energy, start: Tensor, limit: int) -> int:
    """How many of the canvases `start` (B, C, H, W) may be evaluated together within `limit` bytes, at least 1.

    Counted for one sample: what its graph keeps for the backward pass, as much again for the pass itself, and what a solver keeps
    of every sample. Raises InputError where not even one fits.
    """
    own = STATE * start[0].numel() * start.element_size()
    each = 2 * graph_bytes(energy.part(slice(0, 1)), energy.transform.crop(start[:1]))
    left = limit - own * len(start)
    if left < each:
        fit = max(0, (limit - each) // own)
        more = f"{fit} would: make them in several runs, or" if fit else "Take a smaller canvas or"
        samples = f"{len(start)} sample{'s' if len(start) > 1 else ''} of {tuple(start.shape[1:])}"
        raise InputError(
            f"{samples} need {_human(own * len(start) + each)} even if evaluated one by one; the limit is {_human(limit)}. {more} raise it."
        )
    return min(len(start), left // each)


def graph_bytes(energy: Energy, x: Tensor) -> int:
    """What the graph of one evaluation at crops x (B, C, H, W) keeps for its backward pass, in bytes; the weights not counted."""
    modules = [m for term in energy.data.features if (m := module_of(term.phi)) is not None]
    held = [t for m in modules for t in (*m.parameters(), *m.buffers())]
    seen = {t.untyped_storage().data_ptr() for t in held}
    count = 0

    def pack(t: Tensor) -> Tensor:
        nonlocal count
        storage = t.untyped_storage()
        if storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            count += storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        energy.differentiate(x.clone())  # with its own storage: that of some samples is that of all
    return max(count, x.numel() * x.element_size())


def memory_limit(limit: int | str | None, device: torch.device) -> int | None:
    """Bytes from "4GB", "512MiB" or a number. None: no limit on a CPU, where samples are evaluated one by one, and on a GPU four
    fifths of what is free.

    >>> memory_limit("1.5 GB", torch.device("cpu")), memory_limit(None, torch.device("cpu"))
    (1500000000, None)
    """
    if limit is None:
        return int(0.8 * torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?i?B)?\s*", str(limit), flags=re.IGNORECASE)
    found = None if match is None else int(float(match[1]) * _UNITS[(match[2] or "B").upper()])
    if not found:
        raise InputError(f"A limit of memory is a number of bytes, or as '4GB' or '512MiB'; got {limit!r}.")
    return found


def check_precision(precision: str, dtype: torch.dtype = torch.float32) -> str:
    """The name, if it is one that goes with the type of the variable."""
    if precision not in PRECISIONS:
        raise InputError(f"precision is one of {', '.join(PRECISIONS)}; got {precision!r}.")
    if precision == "bfloat16" and dtype != torch.float32:
        raise InputError(f"precision='bfloat16' rounds what dtype=torch.float32 computes; it does not go with {dtype}.")
    return precision


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _human(count: int) -> str:
    return f"{count / 10**9:.1f} GB" if count >= 10**9 else f"{count / 10**6:.0f} MB"
