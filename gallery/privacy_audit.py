# %% [markdown]
"""A privacy audit: how much of a photograph comes back from the features that one means to share.

One sees: a table on the terminal and `audit/audit.html`, a page with every reconstruction beside its photograph. Each row is a
layer and what was released of it (all, or 2 bits a number); PSNR and SSIM say how alike the pictures are, "found by" how often
a photograph is picked out by its reconstruction. Read every number against the last rows, which are guesses made without features.
What is recovered is a lower bound on what leaks: a high number proves a leak, a low one proves nothing.
"""

# %%
from __future__ import annotations

from shared import arguments

import preimage

# %%
given = arguments(__doc__, name="privacy_audit", size=227, iterations=50)
found = preimage.audit(
    "squeezenet1_1",
    preimage.images.reference_images(),
    layers=["fire2", "fire9"],
    C=100.0,
    release=["bits:2"],
    threat=preimage.Threat(["smoothness"]),  # the quickest attack; without this line also those that learn from photographs
    iterations=given.iterations,
    size=str(given.size),
    lpips=None,
    workers=1,
    progress=False,
)
print(found.text())
print(f"Open {found.save(given.out / 'audit')}")
