"""The picture and the table of bags of visual words in docs/shallow.md: python docs/make_bags.py (some minutes of one processor)

Five photographs that scikit-image and matplotlib carry, each by what the twelve other free ones show. A pair of words is right where the
photograph has it too, on the same side, anywhere, and as often; chance is that of 100 random layouts of its words.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image

from preimage.inverses.photographs import free_photographs
from preimage.methods.kato2014 import Layouts, arrange, draw
from preimage.pixels.images import resize, to_grey
from preimage.pixels.reading import read_image

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "grace_hopper.jpg")
RANDOM = 100


def photograph(path: str | os.PathLike[str]) -> np.ndarray:
    """The middle square of a photograph, grey levels."""
    levels = to_grey(read_image(path))
    side = min(levels.shape)
    top, left = ((n - side) // 2 for n in levels.shape)
    return np.asarray(levels[top : top + side, left : left + side], np.float32)


def pairs(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pair beside each other, and every pair above each other, as one number each."""
    number = 10000 * words
    return (number[:, :-1] + words[:, 1:]).ravel(), (number[:-1] + words[1:]).ravel()


def right(words: np.ndarray, truth: np.ndarray) -> float:
    """The share of pairs that the truth has too, each as often as it is there."""
    both = [(Counter(own.tolist()), Counter(other.tolist())) for own, other in zip(pairs(words), pairs(truth), strict=True)]
    return sum((own & other).total() for own, other in both) / sum(other.total() for _, other in both)


def main() -> None:
    everything, rows = free_photographs(shown=True), []
    print("| photograph | kinds of words | pairs right | chance | words in place | chance | score: true, found, chance |\n|" + "---|" * 7)
    for name in PHOTOGRAPHS:
        own = next(p for p in everything if p.name == name)
        layouts = Layouts.learn([p for p in everything if p != own])
        levels = photograph(own)
        truth = layouts.words(levels)
        found = arrange(layouts.bag(truth), layouts)
        rng = np.random.default_rng(0)
        chance = [rng.permutation(truth.ravel()).reshape(truth.shape) for _ in range(RANDOM)]
        said = [Path(name).stem, str(len(np.unique(truth)))]
        said += [f"{100 * right(found, truth):.0f} %", f"{100 * np.mean([right(c, truth) for c in chance]):.0f} %"]
        said += [f"{100 * np.mean(found == truth):.1f} %", f"{100 * np.mean([c == truth for c in chance]):.1f} %"]
        said += [f"{layouts.score(truth):.0f}, {layouts.score(found):.0f}, {np.mean([layouts.score(c) for c in chance]):.0f}"]
        print(f"| {' | '.join(said)} |", flush=True)
        tiles = [resize(levels, layouts.size), *(draw(w, layouts)[0, 0].numpy() for w in (truth, found, chance[0]))]
        rows.append(np.concatenate([np.pad(np.asarray(t).round().clip(0, 255), 2, constant_values=255) for t in tiles], axis=1))
    sheet = PIL.Image.fromarray(np.concatenate(rows).astype(np.uint8))
    sheet = sheet.resize((2 * sheet.width, 2 * sheet.height), PIL.Image.Resampling.LANCZOS)
    sheet.save(Path(__file__).parent / "images" / "bags.jpg", quality=88)


if __name__ == "__main__":
    main()
