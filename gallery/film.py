# %% [markdown]
"""A film of an inversion: the image while it is found.

One sees: `result/frames.gif`, noise that becomes a cat, and `result/energy.png`, the terms of the energy meanwhile.
`Monitor(frames=2)` keeps every second image.
For an .mp4 say `video="mp4"`, with pip install '.[video]'.
"""

# %%
from __future__ import annotations

from shared import arguments, show

import preimage

# %%
given = arguments(__doc__, name="film", size=128, iterations=60)
phi = preimage.load_network("squeezenet1_1", size=given.size).layer("fire3")
photograph = next(p for p in preimage.images.reference_images() if "chelsea" in p)
result = preimage.invert(phi, photograph, iterations=given.iterations, monitor=preimage.Monitor(frames=2), progress=False)
folder = result.save(given.out / "result", overwrite=True, video="gif")
print(f"{result}, {len(result.frames)} frames in {folder}")
show(folder / "frames.gif")
