# %% [markdown]
"""A model of your own: a network for handwritten digits, trained here, then inverted and asked what it looks for.

One sees: `inversion.png`, a digit and what comes back of it from the first and the second convolution and from the ten class
scores; the scores keep no shape that a person would read. `classes.png`, the images that excite the scores of 0 to 9 most: strokes
where that digit has them, and where no other has.

The only thing that must be said about a model is what pixels it takes (`PixelSpace`). Needs scikit-learn, for its 1797 digits:
pip install '.[shallow]'
"""

# %%
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from shared import arguments, show, side_by_side
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import preimage
from preimage.pixels.images import mosaic, write_png

MEAN, STD = 0.31, 0.38  # of the digits' pixels


# %%
def digits(size: int) -> tuple[np.ndarray, Tensor]:
    """The 1797 digits of scikit-learn, white on black, uint8 (N, size, size), and their labels (N,)."""
    data: Any = load_digits()
    levels = torch.from_numpy(data.images).float()[:, None] * (255 / 16)
    large = nn.functional.interpolate(levels, (size, size), mode="bilinear", align_corners=False)
    return large[:, 0].round().byte().numpy(), torch.from_numpy(data.target)


def trained(images: np.ndarray, labels: Tensor, passes: int = 5) -> nn.Sequential:
    """Two convolutions and a linear layer, some seconds of Adam."""
    torch.manual_seed(0)
    features = [nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
    model = nn.Sequential(*features, nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, 10))
    x = (torch.from_numpy(images)[:, None] / 255 - MEAN) / STD
    adam = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(passes):
        for chosen in torch.randperm(len(x)).split(64):
            adam.zero_grad()
            cross_entropy(model(x[chosen]), labels[chosen]).backward()
            adam.step()
    with torch.no_grad():
        print(f"trained: {(model(x).argmax(dim=1) == labels).float().mean().item():.1%} of the training digits are right")
    return model


# %%
given = arguments(__doc__, name="own_model", size=32, iterations=200)
images, labels = digits(given.size)
space = preimage.PixelSpace(given.size, "grey", scale=1.0, mean=MEAN, std=STD)
model = trained(images, labels)

# %%
digit = images[labels.tolist().index(3)]
layers = [preimage.Layer(model, name, space=space) for name in ("1", "4", "8")]
found = [preimage.invert(phi, digit, iterations=given.iterations, progress=False) for phi in layers]
side_by_side(given.out / "inversion.png", [torch.from_numpy(digit).float()[None], *(r.images[0] for r in found)])
for phi, result in zip(layers, found, strict=True):
    print(f"{phi}: error {result.error.item():.1%}")

# %%
classes = preimage.maximize(layers[-1], list(range(10)), iterations=given.iterations, progress=False)
write_png(given.out / "classes.png", mosaic(classes.images))
show(given.out / "classes.png")
