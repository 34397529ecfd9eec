"""Writes the list of docs/recipes.md from the recipes themselves: `python docs/make_recipes.py`.

With a store of `preimage compare`, also its pictures as docs/images/recipes.jpg: `python docs/make_recipes.py frogs/`.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from preimage.energy.objectives import OBJECTIVES
from preimage.energy.parameterizations import PARAMETERIZATIONS
from preimage.energy.regularizers import REGULARIZERS
from preimage.energy.transforms import TRANSFORMS
from preimage.methods.recipe import TASKS, Parts, Recipe, recipes
from preimage.plain import spell
from preimage.solvers.run import SOLVERS
from preimage.studies.store import Store

PAGE = Path(__file__).with_name("recipes.md")
MARK = "<!-- from here on by docs/make_recipes.py -->\n"


def page() -> str:
    """Return the page with its list made anew."""
    head = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    return head + MARK + "".join(entry(recipe) for recipe in recipes().values())


def entry(recipe: Recipe) -> str:
    """Return a recipe as a part of the page."""
    lines = [f"\n## {recipe.name}\n", f"{recipe.sentence} *{recipe.source}.*\n"]
    lines += [f"Differs from the original: {recipe.differs}\n"] if recipe.differs else []
    lines += [f"- `{task}`: {constants(getattr(recipe, task))}" for task in TASKS if getattr(recipe, task) is not None]
    return "\n".join(lines) + "\n"


def constants(parts: Parts) -> str:
    """Return all that the parts decide, as it is written on the command line."""
    asked = " + ".join(f"`{spell(o, OBJECTIVES)}`" for o in parts.objective) or "the task's own"
    shown = "the paper's jitter" if parts.transform is None else f"`{spell(parts.transform, TRANSFORMS)}`"
    priors = ", ".join(f"`{spell(r, REGULARIZERS)}`" for r in parts.regularizers.values()) or "none"
    solver = parts.solver if isinstance(parts.solver, str) else spell(parts.solver, SOLVERS)
    stages = " + ".join(f"{s.iterations}" + (f" at {s.rate:g} of the rate" if s.rate != 1 else "") for s in parts.stages or ())
    said = [f"C = {parts.C:g}", f"asked {asked}", f"written `{spell(parts.parameterization, PARAMETERIZATIONS)}`", f"shown {shown}"]
    said += [f"priors {priors}", "no bound" if math.isinf(parts.bound) else f"bound {parts.bound:g}"]
    said += [f"solver `{solver}`", f"iterations {stages or 'by the solver'}", f"from {parts.start}"]
    if parts.closed_slope:
        said.append(f"slope {parts.closed_slope:g} at closed ReLUs")
    if parts.pool_share:
        said.append(f"{parts.pool_share:.0%} of the gradient at max pooling spread over its window")
    return "; ".join(said) + "."


def draw(store: Path, out: Path, across: int = 6, side: int = 190) -> None:
    """Draw the pictures of a store, method by method, with their names."""
    found = {str(r.config["recipe"]): r for r in Store.open(store, create=False).records(status="done")}
    shown = [found[name] for name in recipes() if name in found]
    rows = -(-len(shown) // across)
    sheet = PIL.Image.new("RGB", (across * (side + 8), rows * (side + 28)), "white")
    pen = PIL.ImageDraw.Draw(sheet)
    for k, record in enumerate(shown):
        left, top = k % across * (side + 8), k // across * (side + 28)
        sheet.paste(PIL.Image.open(record.picture).convert("RGB").resize((side, side), PIL.Image.Resampling.LANCZOS), (left, top))
        pen.text((left + 2, top + side + 3), str(record.config["recipe"]), fill="black", font=PIL.ImageFont.load_default(15))
    sheet.save(out, quality=88)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        draw(Path(sys.argv[1]), PAGE.parent / "images" / "recipes.jpg")
    PAGE.write_text(page(), encoding="utf-8")
