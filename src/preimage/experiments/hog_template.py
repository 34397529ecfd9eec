"""What a HOG detector looks for: the image that a linear template over HOG likes most (the paper's exp_hog_model_viz)."""

from __future__ import annotations

from torch import Tensor

from ..representations.template import HOGTemplate
from ..tasks import maximize
from ..tasks.result import MaximizationResult

ITERATIONS = 300


def hog_template(
    template: Tensor, *, C: float = 1.0, solver: str = "paper", iterations: int = ITERATIONS, seed: int = 0, progress: bool = True
) -> MaximizationResult:
    """Maximize C·⟨w, HOG(x)⟩ - R_α(x) - R_TVβ(x) over images of (h+2)·8 x (w+2)·8 pixels; the outer ring of cells does not count.

    template: w, (27 or 31, h, w) as `representations.template.load_template` gives it. C: the paper's is 1; a larger one makes the
    template count more against the regularizers. `MaximizationResult.activation` is ⟨w, HOG(x)⟩ at the image.

    >>> import torch
    >>> w = torch.zeros(27, 3, 3); w[0] = 1.0
    >>> bool(hog_template(w, iterations=20, progress=False).activation > 1)
    True
    """
    phi = HOGTemplate(template)
    return maximize(phi, 0, C=C, Z=1.0, canvas=phi.size, solver=solver, iterations=iterations, seed=seed, progress=progress)
