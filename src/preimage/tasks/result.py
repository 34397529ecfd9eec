"""What a task returns, and the folder that it can be kept in and made again from."""

from __future__ import annotations

import base64
import html
import io
import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..errors import InputError, PreimageWarning, ResultFolderError, first_line, missing_extra
from ..metrics import Seen, measure_image
from ..pixels import images as pictures
from ..schemas import finite, said
from ..solvers.memory import State
from ..solvers.state import load_state, save_state
from .folders import RECORD, packed
from .folders import check_folder as check_folder
from .folders import new_folder as new_folder
from .judged import said_of
from .natural import examples_of, said_of_nature, strip_of

if TYPE_CHECKING:
    import PIL.Image

_log = logging.getLogger(__name__)
TENSORS, STATE = "tensors.safetensors", "state.safetensors"
_KINDS = {"task": str, "evaluations": int, "labels": list, "seeds": list, "status": list, "config": dict, "interrupted": bool}
_NO_FRAMES = "No frames were kept: ask for them with monitor=Monitor(frames=N), one every N iterations."


@dataclass
class Result:
    """Pre-images and everything known about them; B of them, all on the CPU.

    task: "invert", "maximize" or "caricature". images: (B, 3 or 1, H, W) float32 levels 0–255, RGB or grey, not clipped.
    error: (B,) ‖M⊙(Φ(x)−Φ0)‖/‖M⊙Φ0‖ at the image, without jitter; None unless the task is an inversion.
    activation: (B,) what was maximized, ⟨Φ(x), Φ0⟩, at the image, without jitter; None for an inversion.
    Each task returns a class of its own, `InversionResult`, `MaximizationResult` or `CaricatureResult`, in which what the task always has
    is no longer "or None".
    energy: term -> (B,) at the image, without jitter, as it enters the sum ("loss" includes C), and "total".
    trace: the same per iteration, (T, B), with the jitter of that iteration. evaluations: gradients taken for each image.
    labels: a short name for each image. seeds: each image's own seed. status: "ok" or what is wrong, for each image.
    originals: the photographs, (B, C, H, W), where the task had one. config: what is needed to make it again.
    frames: the images every so many iterations, if they were asked for. interrupted: Ctrl-C ended it early.
    state: from which the run can be continued, if it was asked for (`Monitor(keep_state=True)`); `load_result` leaves it in the folder.
    """

    task: str
    images: Tensor
    error: Tensor | None
    activation: Tensor | None
    energy: dict[str, Tensor]
    trace: dict[str, Tensor]
    evaluations: int
    labels: list[str]
    seeds: list[int]
    status: list[str]
    config: dict[str, Any]
    originals: Tensor | None = None
    frames: list[Tensor] = field(default_factory=list)
    interrupted: bool = False
    state: State | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.labels = [printable(label) for label in self.labels]

    def __repr__(self) -> str:
        height, width = self.images.shape[-2:]
        value = "" if self.error is None else f", error {self.error.mean().item():.3f}"
        value += "" if self.activation is None else f", activation {self.activation.mean().item():.4g}"
        bad = sum(s != "ok" for s in self.status)
        trouble = f", {bad} not ok" if bad else ""
        return f"Result({self.task}: {len(self.images)} x {height}x{width}{value}, {self.evaluations} evaluations{trouble})"

    def pil(self) -> list[PIL.Image.Image]:
        """The images as PIL pictures, clipped to 0–255, never stretched."""
        return [pictures.to_pil(i) for i in self.images]

    def captions(self) -> list[str]:
        """A line for each image: its label and what was reached."""
        lines = []
        for b, label in enumerate(self.labels):
            reached = "" if self.error is None else f"error {self.error[b].item():.1%}"
            if self.error is not None and self.error[b] >= 1:  # also where a length was chosen, so that it may well be ok
                reached += ", no nearer to the image's features than none at all"
            if self.activation is not None:
                reached = f"activation {self.activation[b].item():.4g}" + (" of the photograph's" if self.task == "caricature" else "")
            lines.append(
                f"{label}: {reached}{said_of(self.config, b)}{said_of_nature(self.config, b)}"
                + ("" if self.status[b] == "ok" else " (not ok)")
            )
        return lines

    def summary(self) -> dict[str, Any]:
        """The record without the tensors: plain values, for result.json and for machines, in the schema `preimage schema result`."""
        facts = {
            "task": self.task,
            "labels": self.labels,
            "error": None if self.error is None else self.error.tolist(),
            "activation": None if self.activation is None else self.activation.tolist(),
            "energy": {k: v.tolist() for k, v in self.energy.items()},
            "evaluations": self.evaluations,
            "status": self.status,
            "interrupted": self.interrupted,
            "seeds": self.seeds,
        }
        return said("result", facts) | {"config": self.config}

    def metrics(self) -> dict[str, list[float | None]]:
        """Take the registered metrics of each image, beside its photograph where there is one: name -> B numbers, None where undefined.

        What is registered is in `preimage.metrics.METRICS`; metrics that need a network are taken in stores only.
        """
        originals = [None] * len(self.images) if self.originals is None else [x[None] for x in self.originals]
        found = [measure_image(Seen(x[None], o), "result") for x, o in zip(self.images, originals, strict=True)]
        return {name: [one.get(name) for one in found] for name in dict.fromkeys(n for one in found for n in one)}

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False, video: str | None = None) -> Path:
        """Write the folder: PNGs (and the originals), energy.png (if there was a search), tensors, result.json, frames, the state.

        The folder appears complete or not at all. overwrite: replace an earlier result in the folder, and nothing else: files that
        are no part of it stay. video: "mp4" (needs the extra `video`) or "gif", if frames were kept. A drawing or a film that
        cannot be made is left out with a warning: the tensors are kept whatever happens.
        Raises ResultFolderError if it cannot be written or holds something already, and MissingExtra before anything is written.
        """
        destination = Path(folder)
        if video:
            check_video(video)
        with new_folder(destination, overwrite) as part:
            files = self._write_pictures(part)
            if self.evaluations:
                files += _drawn("energy.png", lambda: plot_energy(self, part / "energy.png"), part)
            if video and not self.frames:
                raise InputError(_NO_FRAMES)
            if video:
                files += _drawn(f"frames.{video}", lambda: write_video(self, part / f"frames.{video}"), part)
            if self.state is not None:
                save_state(part / STATE, self.state)
                files.append(STATE)
            self.write_record(part, files, self.metrics())
        _log.info("saved %s: %s", destination, self)
        return destination

    def write_record(self, folder: Path, files: Sequence[str], metrics: Mapping[str, Any] | None = None) -> None:
        """The tensors and result.json, all that `load_result` needs. files: names of what else was written there; metrics: if taken."""
        self._write_tensors(folder / TENSORS)
        record = {"preimage": 1, **self.summary(), **({"metrics": finite(dict(metrics))} if metrics else {}), "files": [*files, TENSORS]}
        (folder / RECORD).write_bytes(plain_json(record))

    def _write_pictures(self, folder: Path) -> list[str]:
        if self.images.shape[1] not in (1, 3):
            return []  # no colours to show; the tensors hold them
        names = file_names(self.labels)
        for name, image in zip(names, self.images, strict=True):
            pictures.write_png(folder / f"{name}.png", image)
        written = [f"{n}.png" for n in names]
        for unit, name in enumerate(names[:: max(len(names) // self._units(), 1)]):
            if (strip := strip_of(self.config, unit)) is not None:
                strip.save(folder / f"{name}-natural.png")
                written.append(f"{name}-natural.png")
        if self.originals is not None:
            for name, image in zip(names, self.originals, strict=True):
                pictures.write_png(folder / f"{name}-original.png", image)
                written.append(f"{name}-original.png")
        return written

    def _units(self) -> int:
        """How many units the images are of; restarts of one stand together."""
        units = self.config.get("unit")
        return len(units) if isinstance(units, list) and units else 1

    def _write_tensors(self, path: Path) -> None:
        from safetensors.torch import save

        tensors = {"images": self.images}
        tensors |= {
            k: t for k, t in (("error", self.error), ("activation", self.activation), ("originals", self.originals)) if t is not None
        }
        tensors |= {f"energy.{k}": t for k, t in self.energy.items()} | {f"trace.{k}": t for k, t in self.trace.items()}
        path.write_bytes(save({k: t.detach().cpu().contiguous().clone() for k, t in tensors.items()}))  # no two may share their memory

    def _repr_html_(self) -> str:
        """How a notebook shows it."""
        if self.images.shape[1] not in (1, 3):
            return f"<pre>{html.escape(repr(self))}</pre>"
        tiles = [
            f'<figure style="margin:4px"><img src="{data_uri(picture)}" alt="{html.escape(caption)}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
            for picture, caption in zip(self.pil(), self.captions(), strict=True)
        ]
        for unit in range(self._units()):
            shown = "".join(
                f'<img src="data:image/jpeg;base64,{base64.b64encode(e).decode()}" alt="">' for e in examples_of(self.config, unit)
            )
            tiles += [f'<figure style="margin:4px">{shown}<figcaption>natural examples</figcaption></figure>'] if shown else []
        return f'<div style="display:flex;flex-wrap:wrap">{"".join(tiles)}</div>'


@dataclass(repr=False, eq=False)
class InversionResult(Result):
    """What `invert` returns: a `Result` that has an error and the photographs, and no activation."""

    error: Tensor
    activation: None
    originals: Tensor


@dataclass(repr=False, eq=False)
class MaximizationResult(Result):
    """What `maximize` returns: a `Result` that has an activation, and no error."""

    error: None
    activation: Tensor


@dataclass(repr=False, eq=False)
class CaricatureResult(Result):
    """What `caricature` returns: a `Result` that has an activation and the photographs, and no error."""

    error: None
    activation: Tensor
    originals: Tensor


def load_result(folder: str | os.PathLike[str]) -> Result:
    """Read back what `Result.save` wrote (without the frames), as the class that its task returns.

    A folder without what its task always has (an inversion without an error) gives a plain `Result`.
    Raises ResultFolderError if the folder holds no result.

    >>> import tempfile, numpy as np, preimage
    >>> phi = preimage.from_callable(lambda x: x, preimage.PixelSpace(8, "grey"))
    >>> saved = preimage.invert(phi, np.full((8, 8), 200, np.uint8), iterations=1, progress=False).save(tempfile.mkdtemp() + "/out")
    >>> read = load_result(saved)
    >>> isinstance(read, preimage.InversionResult) and read.error.shape
    torch.Size([1])
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not isinstance(folder, (str, os.PathLike)):
        raise ResultFolderError(f"A result is read from the path of its folder; got {folder!r:.80}.")
    path = Path(folder)
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        tensors = load_file(path / TENSORS)
        groups: dict[str, dict[str, Tensor]] = {"energy": {}, "trace": {}}
        for key, value in tensors.items():
            group, _, term = key.partition(".")
            if term:
                groups[group][term] = value
        plain: dict[str, Any] = {k: record[k] for k in _KINDS}
        strange = [k for k, kind in _KINDS.items() if not isinstance(plain[k], kind)]
        if strange or not all(isinstance(label, str) for label in plain["labels"]):
            raise ValueError(f"{', '.join(strange) or 'labels'} cannot be what the record says")
        given = {name: tensors.get(name) for name in ("error", "activation", "originals")}
        return _class_of(plain["task"], given)(
            images=tensors["images"],
            error=given["error"],
            activation=given["activation"],
            originals=given["originals"],
            energy=groups["energy"],
            trace=groups["trace"],
            **plain,
        )
    except (OSError, KeyError, ValueError, TypeError, RecursionError, SafetensorError) as error:
        raise ResultFolderError(f"{str(path)!r} holds no whole result of preimage ({error}).{packed(path)}") from error


def _class_of(task: str, given: Mapping[str, Tensor | None]) -> type[Result]:
    """The class of a task's results, where all is there that it promises and nothing that it excludes."""
    kind = {"invert": InversionResult, "maximize": MaximizationResult, "caricature": CaricatureResult}.get(task, Result)
    promised = {name: hint == "None" for name, hint in kind.__annotations__.items()} if kind is not Result else {}
    return kind if all((given[name] is None) == none for name, none in promised.items()) else Result


def load_kept(folder: str | os.PathLike[str]) -> State:
    """Read the state from which the run of a result folder goes on. Raises ResultFolderError where there is none, or a strange one."""
    return load_state(Path(folder) / STATE)


def load_trace(folder: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The energies by iteration, term -> (T, B), and the config of a result; its images stay on the disk. Raises as `load_result`."""
    from safetensors import SafetensorError, safe_open

    path = Path(folder)
    try:
        config = json.loads((path / RECORD).read_text(encoding="utf-8"))["config"]
        with safe_open(path / TENSORS, framework="pt") as file:
            traces = {name.removeprefix("trace."): file.get_tensor(name) for name in file.keys() if name.startswith("trace.")}  # noqa: SIM118
        if not isinstance(config, dict):
            raise TypeError("its config is no mapping")
        return traces, config
    except (OSError, KeyError, ValueError, TypeError, RecursionError, SafetensorError) as error:
        raise ResultFolderError(f"{str(path)!r} holds no whole result of preimage ({error}).") from error


def file_names(labels: Sequence[str]) -> list[str]:
    """Labels as file names: letters, digits, dot, dash and underscore, no two alike, nothing that leads out of the folder.

    >>> file_names(["tree frog", "tree frog", "../x"])
    ['tree-frog', 'tree-frog-1', 'x']
    """
    names: list[str] = []
    for label in labels:
        base = re.sub(r"[^\w.-]+", "-", label)[:80].encode("utf-8", "ignore")[:160].decode("utf-8", "ignore").strip("-.") or "image"
        name, k = base, 0
        while name.lower() in [n.lower() for n in names]:
            k += 1
            name = f"{base}-{k}"
        names.append(name)
    return names


def printable(text: str) -> str:
    """A text as every terminal, page and file can have it: what is no Unicode, as in some old file names, becomes a question mark.

    >>> printable("caf\\udce9.jpg")
    'caf?.jpg'
    """
    return text.encode("utf-8", "replace").decode("utf-8")


def plain_json(value: Any) -> bytes:
    """JSON for a file, with null for a number that is not finite; a name that is no Unicode comes back as it was."""
    return json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace")


def check_video(kind: str) -> None:
    """Can such a film be made here? Asked before hours of work. Raises InputError for another kind and MissingExtra without ffmpeg."""
    if kind not in ("mp4", "gif"):
        raise InputError(f"A video is mp4 or gif; got {kind!r}.")
    if kind == "mp4":
        try:
            import imageio_ffmpeg  # noqa: F401
        except ImportError:
            raise missing_extra("An MP4 needs ffmpeg", "video", ", or ask for a gif") from None


def _drawn(name: str, draw: Callable[[], object], folder: Path) -> list[str]:
    """The name of the file, if it could be made. Raises OSError where the disk, not the drawing, is at fault."""
    try:
        draw()
    except OSError:
        raise
    except Exception as error:
        (folder / name).unlink(missing_ok=True)
        warnings.warn(f"{name} could not be made ({type(error).__name__}: {first_line(error)}): left out.", PreimageWarning, stacklevel=3)
        return []
    return [name]


def plot_energy(result: Result, path: Path) -> None:
    """The energy and its terms by iteration, the mean over the images with the range between them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    names = {"total": "total", "loss": "C·loss", "alpha-norm": "range (α-norm)", "tv-beta": "variation (TVβ)"}
    for key in ("total", *[k for k in result.trace if k != "total"]):
        values = result.trace[key]
        (line,) = axes.plot(values.mean(dim=1), label=names.get(key, key), linewidth=2.0 if key == "total" else 1.2)
        if values.shape[1] > 1:
            axes.fill_between(range(len(values)), values.amin(dim=1), values.amax(dim=1), alpha=0.12, color=line.get_color())
    lowest = min(v.min().item() for v in result.trace.values())
    if lowest > 0:
        axes.set_yscale("log")
    elif lowest < 0:
        axes.axhline(0, color="0.7", linewidth=0.8)
    axes.set(xlabel="iteration", ylabel="energy", title=f"{result.task}, {result.config.get('solver', '')}")
    axes.legend()
    axes.grid(alpha=0.25)
    figure.savefig(path, dpi=120)


def write_video(result: Result, path: Path, rate: int = 12) -> Path:
    """The frames as an MP4 (H.264, needs the extra `video`) or a GIF; several images side by side. `rate`: frames a second.

    Raises InputError if no frames were kept, MissingExtra without imageio and its ffmpeg.
    """
    import numpy as np

    if not result.frames:
        raise InputError(_NO_FRAMES)
    frames = [np.asarray(pictures.to_pil(pictures.mosaic(f)).convert("RGB")) for f in result.frames]
    if path.suffix == ".gif":
        import PIL.Image

        first, *rest = [PIL.Image.fromarray(f) for f in frames]
        first.save(path, save_all=True, append_images=rest, duration=1000 // rate, loop=0)
        return path
    check_video(path.suffix[1:])
    import imageio_ffmpeg

    height, width = frames[0].shape[0] // 2 * 2, frames[0].shape[1] // 2 * 2  # H.264 wants even sides
    writer = imageio_ffmpeg.write_frames(str(path), (width, height), fps=rate, macro_block_size=1, quality=8)
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame[:height, :width]))
    writer.close()
    return path


def data_uri(picture: PIL.Image.Image) -> str:
    """A picture inside a page, as PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def versions() -> Mapping[str, str]:
    """Of everything that a result depends on; `code` is a hash over the sources of this package."""
    import platform
    from importlib.metadata import version

    import torch

    from .. import __version__

    found = {name: version(name) for name in ("torchvision", "numpy", "pillow")}
    return {
        "preimage": __version__,
        **found,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "code": code_version(),
    }


@cache
def code_version() -> str:
    """Once a process: what runs is what was there when it began, and a study makes thousands of results."""
    import hashlib

    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for source in sorted(root.rglob("*.py")):
        digest.update(source.relative_to(root).as_posix().encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()[:16]
