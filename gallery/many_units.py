# %% [markdown]
"""Several units at once: what 16 channels of a layer look for, in one call.

One sees: `units.png`, 16 small images, each no larger than what its unit can see (1.1 receptive fields): strokes, corners and
spots of colour at the centre of a canvas that stays grey where the unit sees nothing. A list of units is one batch, but each image
depends on its own unit and seed alone: unit 7 comes out the same here as by itself. (A tuple is one unit at a place: (channel, row,
column).)
"""

# %%
from __future__ import annotations

from shared import arguments, show

import preimage
from preimage.pixels.images import mosaic, write_png

# %%
given = arguments(__doc__, name="many_units", size=96, iterations=150)
phi = preimage.load_network("squeezenet1_1", size=given.size).layer("fire4")
result = preimage.maximize(phi, list(range(16)), canvas="receptive-field", iterations=given.iterations, progress=False)
write_png(given.out / "units.png", mosaic(result.images))
show(given.out / "units.png")
result.save(given.out / "result", overwrite=True)
print(result)
