"""Writes the list of docs/recipes.md from the recipes themselves: `python docs/make_recipes.py`.

With stores of `preimage compare`, of several classes or photographs each, also all pictures of a method beside each other, as
docs/images/methods-TASK.jpg: `python docs/make_recipes.py classes/ photos/`.
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


def draw(store: Path, out: Path, across: int, side: int) -> None:
    """Draw the pictures of a store, all of a method together, with its name."""
    found: dict[str, list[Path]] = {}
    for record in sorted(
        Store.open(store, create=False).records(status="done"), key=lambda r: [str(r.config.get(k)) for k in ("image", "unit")]
    ):
        found.setdefault(str(record.config["recipe"]), []).append(record.picture)
    shown = [name for name in recipes() if name in found]
    tiles = max(map(len, found.values()))
    width, rows = tiles * (side + 2) + 6, -(-len(shown) // across)
    sheet = PIL.Image.new("RGB", (across * width, rows * (side + 28)), "white")
    pen = PIL.ImageDraw.Draw(sheet)
    for k, name in enumerate(shown):
        left, top = k % across * width, k // across * (side + 28)
        for n, picture in enumerate(found[name]):
            image = PIL.Image.open(picture).convert("RGB").resize((side, side), PIL.Image.Resampling.LANCZOS)
            sheet.paste(image, (left + n * (side + 2), top))
        pen.text((left + 2, top + side + 3), name, fill="black", font=PIL.ImageFont.load_default(15))
    sheet.save(out, quality=88)


if __name__ == "__main__":
    images = PAGE.parent / "images"
    for each in sys.argv[1:]:
        task = str(Store.open(Path(each), create=False).records(status="done")[0].config["task"])
        draw(Path(each), images / f"methods-{task}.jpg", across=3 if task == "maximize" else 5, side=104)
    PAGE.write_text(page(), encoding="utf-8")
