"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import watched


def _named(layer: str | None) -> str | None:
    """What --layer says. An empty name, as of a variable of the shell that is not set, would be the whole network."""
    if layer is not None and not layer.strip():
        raise typer.BadParameter("a layer has a name, and this one is empty. `preimage layers NET` lists the names.")
    return layer


Images = Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="PNG, JPEG, TIFF, WebP or BMP; one or several.", show_default=False)]
Net = Annotated[str, typer.Option("--net", metavar="NAME", help="A network, or one's own in any of the forms of `preimage networks`.")]
Weights = Annotated[
    str,
    typer.Option(metavar="FILE", help="'default', a file (.safetensors, .pt, a classic network's .mat), or 'none' for random weights."),
]
Space = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        help="The pixels it takes: imagenet:224, caffe:227, or size=224,channels=rgb,scale=1,mean=0.5,std=0.5.",
        show_default="the network's own",
    ),
]
InputSize = Annotated[
    str | None, typer.Option("--size", metavar="PIXELS", help="Another input size: 256, or 256x320.", show_default="the network's own")
]
Labels = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Names of its classes: one a line, .json, .mat, .onnx.", show_default="the network's own"),
]
Trust = Annotated[bool, typer.Option("--trust", help="Run a program (.pt2, TorchScript): it can do anything that you can.")]
LayerName = Annotated[str, typer.Option(metavar="NAME", help="A layer: see `preimage layers NET`.", callback=_named)]
LayerOrLast = Annotated[
    str | None, typer.Option(metavar="NAME", help="A layer: see `preimage layers NET`.", show_default="the last", callback=_named)
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the result; it must be new or empty.")]
StudySolver = Annotated[
    str, typer.Option("--solver", metavar="NAME", help="fast, paper, fourier-adam, adam, descent, lbfgs; or adam:rate=2.")
]
Solver = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="fast, paper, fourier-adam, adam, descent, lbfgs; or adam:rate=2.", show_default="fast"),
]
Recipe = Annotated[
    str | None, typer.Option(metavar="NAME|FILE", help="A method, all parts at once: see `preimage recipes`.", show_default=False)
]
Objective = Annotated[
    list[str] | None,
    typer.Option(metavar="SPEC", help="What is asked, as match:of=fire4, 0.5*activate:unit=3; repeat to add.", show_default="the task's"),
]
Transform = Annotated[
    list[str] | None,
    typer.Option(metavar="SPEC", help="What is shown at each step, as jitter:amount=8; repeat for several.", show_default="jitter"),
]
Parameterization = Annotated[
    str | None, typer.Option(metavar="SPEC", help="How the image is written, as pixels or fourier.", show_default="pixels")
]
Prior = Annotated[
    list[str] | None,
    typer.Option(metavar="SPEC", help="Regularizers, as tv-beta:beta=1; repeat for several, or none.", show_default="alpha-norm, tv-beta"),
]
Start = Annotated[
    str | None,
    typer.Option(
        metavar="noise|image|inverse|FILE",
        help="Begin with noise, the image, the layer's inverse, a file of either.",
        show_default="the task's",
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(metavar="NET", help="Another network that says where it puts each class, as efficientnet-lite0.", show_default=False),
]
Iterations = Annotated[int | None, typer.Option(metavar="N", help="Instead of the solver's own number.", show_default=False)]
Quality = Annotated[
    str | None,
    typer.Option(
        "--quality",
        metavar="draft|normal|best",
        help="How much work: a third of the evaluations that it takes by itself, these, or three times as many.",
        show_default="normal",
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", help="The same seed gives the same image.")]
Seeds = Annotated[
    str | None,
    typer.Option(metavar="0-7|0,3,9", help="An image for each of these seeds, the same as that of --seed alone.", show_default=False),
]
Device = Annotated[str | None, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1, mps.", show_default="cpu")]
Precision = Annotated[
    str,
    typer.Option(metavar="NAME", help="Of the network in the loop: float32, bfloat16, or auto, the faster of the two by a short trial."),
]
Compiled = Annotated[bool, typer.Option("--compile", help="Compile the network first, with CUDA graphs on a GPU: for long runs there.")]
MaxMemory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="As 4GB: compute as many images together as fit.", show_default="1 image, on a GPU all that fit"),
]
Jitter = Annotated[int | None, typer.Option(metavar="PIXELS", help="1 for none.", show_default="max(stride/4, 1)")]
Leak = Annotated[float, typer.Option(metavar="SLOPE", help="Slope of the ReLUs below zero; 0.05 revives dead units.")]
Mask = Annotated[
    str | None,
    typer.Option(metavar="WHICH", help="Features that count: central:5, group:1/2, channels:0-63,70.", show_default="all"),
]
Squash = Annotated[bool, typer.Option("--squash", help="Resize without keeping the aspect ratio, as the paper did.")]
Video = Annotated[str | None, typer.Option(metavar="mp4|gif", help="Also keep a film of the optimisation.", show_default=False)]
Every = Annotated[int, typer.Option(metavar="N", min=1, help="A frame of the film every N iterations.")]
KeepState = Annotated[
    bool,
    typer.Option("--keep-state", help="Keep the solver's state in the folder, so that `preimage again DIR --continue` goes on from it."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier result in the folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print the record as JSON, for machines, and no progress bar.")]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", callback=lambda quiet: quiet or not watched(), help="No progress bar; a file gets none anyway.")
]
Pictures = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...", help="Pictures, or folders of them; they are made grey.", show_default=False)
]
Length = Annotated[int, typer.Option("--iterations", metavar="N", help="Evaluations an image, in one stage at the full rate.")]
Size = Annotated[int | None, typer.Option(metavar="PIXELS", help="Cut to a square of this size.", show_default="the picture's own size")]

# of the commands that run many jobs in a store
StoreOut = Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="The store: a new folder, or one from an earlier run.")]
Layers = Annotated[str, typer.Option(metavar="A,B,...", help="Layers by name.", show_default="the network's own")]
RunDevice = Annotated[str, typer.Option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps.")]
RunPrecision = Annotated[str, typer.Option("--precision", metavar="NAME", help="Of the network in the loop: float32 or bfloat16.")]
Workers = Annotated[int | None, typer.Option(metavar="N", help="Processes that compute.", show_default="one a core")]
Threads = Annotated[int, typer.Option(metavar="N", help="Threads of each process.")]
Batch = Annotated[int | None, typer.Option(metavar="N", help="Jobs computed together.", show_default="1, or 16 on a GPU")]
Backend = Annotated[str, typer.Option(metavar="local|ray", help="Where to compute: on this machine, or on a Ray cluster.")]
Address = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Of the Ray cluster, or 'auto'.", show_default="RAY_ADDRESS, or a new one on this machine"),
]
Mirror = Annotated[
    str | None,
    typer.Option("--mirror", metavar="URL", help="Also copy each result there as it comes: s3://bucket/study.", show_default=False),
]
