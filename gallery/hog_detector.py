# %% [markdown]
"""What a HOG detector looks for: the image that its template scores highest.

One sees: `detector.png`, a window of a photograph, and the image that the detector made from it likes best. The template is the
window's HOG less the mean cell of three photographs, the simplest detector that can be made of one example. Outlines come back;
brightness does not, as a gradient histogram does not know it, and what the template wants less of than usual stays flat.
A template of your own is a .npy file, read with `preimage.representations.template.load_template`.
"""

# %%
from __future__ import annotations

import torch
from shared import arguments, side_by_side
from torch import Tensor

import preimage
from preimage.experiments.hog_template import hog_template
from preimage.representations.template import HOGTemplate


# %%
def exemplar(windows: Tensor, chosen: int) -> Tensor:
    """(31, h, w): HOG of one window (B, 1, H, W) less the mean cell of all; the outer ring of cells is left out."""
    features = preimage.HOG(texture=True)(windows)[:, :, 1:-1, 1:-1]
    template: Tensor = features[chosen] - features.mean(dim=(0, 2, 3))[:, None, None]
    return template


# %%
given = arguments(__doc__, name="hog_detector", size=128, iterations=300)
space = preimage.PixelSpace(given.size, "grey", mean=128.0)
photographs = torch.cat([space.encode(path) for path in preimage.images.reference_images()])
template = exemplar(photographs, chosen=0)
result = hog_template(template, C=2.0, iterations=given.iterations, progress=False)

# %%
detector = HOGTemplate(template)
scores = [detector(x).item() for x in photographs.split(1)] + [result.activation.item()]
print("scores of the three photographs, and of the image found:", ", ".join(f"{score:.3g}" for score in scores))
side_by_side(given.out / "detector.png", [space.decode(photographs)[0], result.images[0]])
result.save(given.out / "result", overwrite=True)
