"""An image from its bag of visual words, which says how many there are of each and not where: Kato, Harada, CVPR 2014.

Source: H. Kato, T. Harada, Image reconstruction from bag-of-visual-words, CVPR 2014 (longer: arXiv:1505.05190). Words of dense SIFT
are laid on a grid so that what is beside each other and where each stands is as likely as possible, by what photographs show; then each is
drawn.

What differs: both likelihoods are logarithms over chance, from random views of a few photographs in place of a large collection, and those
of few cases are drawn to chance. The search is ours: layouts that grow from one word, as puzzles are put together, and after that the best
exchange of two words again and again, also downhill (Glover's taboo search). A word is drawn by the photographs' patch whose
descriptor is nearest to the word's; where patches overlap their weighted mean is taken.

This is no recipe: it is a puzzle of whole numbers, and no energy of a network is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, whole
from ..pixels.images import ImageLike, resize, to_grey
from ..pixels.reading import read_image
from ..representations.dsift import DenseSIFT
from ..representations.vocabulary import Vocabulary, learn_vocabulary

PSEUDO = 5.0  # cases for each word's place, and a thousandth as many for each pair, that are as chance has it


@dataclass(frozen=True)
class Layouts:
    """What photographs say about the words of a vocabulary: which are beside which, where they stand, what they look like.

    vocabulary : `Vocabulary` of K words; grid : rows and columns of an image's words
    right, down : (K, K), the logarithm of how often the second word is right of (below) the first, over chance
    places : (K, rows, columns), the logarithm of how often a word stands at a place, over chance
    patches : (K, side, side), grey levels
    """

    vocabulary: Vocabulary
    grid: tuple[int, int]
    right: np.ndarray
    down: np.ndarray
    places: np.ndarray
    patches: np.ndarray

    @staticmethod
    def learn(
        photographs: Sequence[ImageLike | os.PathLike[str]],
        grid: tuple[int, int] = (12, 12),
        words: int = 100,
        bin: int = 4,
        step: int = 4,
        views: int = 40,
        seed: int = 0,
    ) -> Layouts:
        """Return what photographs say.

        Parameters
        ----------
        photographs : paths or PIL images
            The image to find should be none of them.
        grid : (rows, columns), default (12, 12)
            Words of an image.
        words : int, default 100
            K. The original has up to thousands, from as many more photographs.
        bin : int, default 4
            Side of a bin of the descriptors, which stand 2·bin pixels apart.
        views : int, default 40
            Random crops of each photograph, of half to all of its short side, half of them mirrored.
        seed : int
            Of the vocabulary and of the crops.

        Raises
        ------
        InputError : where there are fewer descriptors than words; MissingExtra : without scikit-learn
        """
        rows, columns = (whole("grid", n, 2) for n in grid)
        sift = DenseSIFT(whole("bin", bin, 1), whole("step", step, 1))
        read = [to_grey(p if isinstance(p, np.ndarray) else read_image(p)) for p in photographs]
        images = [_view(p, _size(sift, (rows, columns)), rng) for p, rng in _draws(read, whole("views", views, 1), seed)]
        pictures = [_picture(i) for i in images]
        vocabulary = learn_vocabulary(pictures, words, sift=sift, size=None, seed=seed, progress=False)
        found = [_words(i, sift, vocabulary) for i in images]
        laid = np.stack([w for w, _ in found])
        counts = np.bincount(laid.ravel(), minlength=words).astype(float)
        right = _beside(laid[:, :, :-1], laid[:, :, 1:], counts)
        down = _beside(laid[:, :-1], laid[:, 1:], counts)
        at = np.zeros((words, rows, columns))
        for r in range(rows):
            for c in range(columns):
                at[:, r, c] = np.bincount(laid[:, r, c], minlength=words)
        places = np.log((at + PSEUDO / (rows * columns)) * (rows * columns) / (counts + PSEUDO)[:, None, None])
        return Layouts(vocabulary, (rows, columns), right, down, places, _typical(images, found, sift, words))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images, in pixels."""
        return _size(self.vocabulary.sift(), self.grid)

    def words(self, image: np.ndarray) -> np.ndarray:
        """Return the words (rows, columns) of an image, levels (H, W[, C]) brought to `size`."""
        return _words(resize(to_grey(np.asarray(image, np.float32)), self.size), self.vocabulary.sift(), self.vocabulary)[0]

    def bag(self, words: np.ndarray) -> np.ndarray:
        """Return how many there are of each word, (K,)."""
        return np.bincount(words.ravel(), minlength=self.vocabulary.words)

    def score(self, words: np.ndarray) -> float:
        """Return how likely a layout (rows, columns) is, a sum of logarithms over chance."""
        r, c = np.indices(words.shape)
        beside = self.right[words[:, :-1], words[:, 1:]].sum() + self.down[words[:-1], words[1:]].sum()
        return float(beside + self.places[words, r, c].sum())


def arrange(bag: np.ndarray, layouts: Layouts, starts: int = 4, steps: int = 600, seed: int = 0) -> np.ndarray:
    """Return a likely layout of a bag of words.

    Parameters
    ----------
    bag : (K,) whole numbers
        How many there are of each word, as many in all as the grid has places.
    layouts : Layouts
        What is likely.
    starts : int, default 4
        Layouts to begin with: the likeliest by the places alone, and others that grow from one word each.
    steps : int, default 600
        Exchanges from each of them, also downhill; 0 to stop where none is better.
    seed : int, default 0

    Returns
    -------
    (rows, columns) words
        The likeliest layout that was seen.

    Raises
    ------
    InputError
        For a bag of another number of words, and wrong settings.
    """
    rows, columns = layouts.grid
    bag = np.asarray(bag)
    if bag.shape != (layouts.vocabulary.words,) or bag.sum() != rows * columns or (bag < 0).any():
        raise InputError(f"A bag has {layouts.vocabulary.words} counts, {rows * columns} words in all; got {bag.shape} and {bag.sum()}.")
    rng = np.random.default_rng(seed)
    all_words = np.repeat(np.arange(len(bag)), bag)
    first = [_by_places(all_words, layouts).reshape(rows, columns)]
    first += [_grown(bag, layouts, rng) for _ in range(whole("starts", starts, 1) - 1)]
    ends = [_exchanged(words, layouts, whole("steps", steps, 0), rng) for words in first]
    return max(ends, key=layouts.score)


def draw(words: np.ndarray, layouts: Layouts) -> Tensor:
    """Return the image of a layout, (1, 1, H, W) in grey levels 0–255."""
    height, width = layouts.size
    side, step = layouts.patches.shape[1], layouts.vocabulary.sift().step
    tent = 1 - np.abs(np.linspace(-1, 1, side + 2)[1:-1])
    window = tent[:, None] * tent
    sums, weights = np.zeros((height, width)), np.zeros((height, width))
    for r, c in np.ndindex(words.shape):
        part = (slice(r * step, r * step + side), slice(c * step, c * step + side))
        sums[part] += window * layouts.patches[words[r, c]]
        weights[part] += window
    return torch.from_numpy(sums / weights).float().clamp(0, 255)[None, None]


def _by_places(words: np.ndarray, layouts: Layouts) -> np.ndarray:
    from scipy.optimize import linear_sum_assignment

    where = linear_sum_assignment(layouts.places[words].reshape(len(words), -1), maximize=True)[1]
    found = np.empty_like(words)
    found[where] = words
    return found


def _grown(bag: np.ndarray, layouts: Layouts, rng: np.random.Generator) -> np.ndarray:
    """A layout that grows from one word, each time by the word that fits its neighbours best, in a box of the grid's size."""
    rows, columns = layouts.grid
    left, laid = bag.copy(), np.full((2 * rows + 1, 2 * columns + 1), -1)  # with an empty edge
    fits = np.zeros((*laid.shape, len(bag)))  # of each word at each place, by the neighbours that are there

    def put(r: int, c: int, word: int) -> None:
        laid[r, c] = word
        left[word] -= 1
        fits[r, c + 1] += layouts.right[word]
        fits[r, c - 1] += layouts.right[:, word]
        fits[r + 1, c] += layouts.down[word]
        fits[r - 1, c] += layouts.down[:, word]

    put(rows, columns, int(rng.choice(len(bag), p=bag / bag.sum())))
    for _ in range(rows * columns - 1):
        filled = laid >= 0
        there_r, there_c = np.nonzero(filled)
        free = np.zeros_like(filled)
        free[1:-1, 1:-1] = filled[:-2, 1:-1] | filled[2:, 1:-1] | filled[1:-1, :-2] | filled[1:-1, 2:]
        free &= ~filled
        free[: max(there_r.max() - rows + 1, 1)] = free[min(there_r.min() + rows, 2 * rows) :] = False
        free[:, : max(there_c.max() - columns + 1, 1)] = free[:, min(there_c.min() + columns, 2 * columns) :] = False
        r, c = np.nonzero(free)
        worth = np.where(left > 0, fits[r, c], -np.inf)
        best, word = np.unravel_index(int(worth.argmax()), worth.shape)
        put(int(r[best]), int(c[best]), int(word))
    there_r, there_c = np.nonzero(laid >= 0)
    return laid[there_r.min() : there_r.max() + 1, there_c.min() : there_c.max() + 1]


def _exchanged(words: np.ndarray, layouts: Layouts, steps: int, rng: np.random.Generator) -> np.ndarray:
    """The best layout of a taboo search: always the best exchange of two words, but of none that a word has just left its place by."""
    words = words.copy()
    near = _neighbours(words.shape)
    flat, count = words.reshape(-1), words.size
    best: np.ndarray = words.copy()
    score = layouts.score(words)
    highest, until, own = score, np.zeros((count, len(layouts.right)), int), np.arange(count)
    for step in range(10**6 if steps == 0 else steps):
        gains = _gains(words, layouts, near)
        gains[flat[:, None] == flat[None]] = -np.inf
        taboo = (until[own[:, None], flat[None]] > step) & (until[own[None], flat[:, None]] > step)
        gains[taboo & (score + gains <= highest + 1e-9)] = -np.inf
        p, q = np.unravel_index(int(gains.argmax()), gains.shape)
        if not np.isfinite(gains[p, q]) or (steps == 0 and gains[p, q] < 1e-9):
            break
        until[p, flat[p]], until[q, flat[q]] = step + rng.integers(count // 8 + 2, count // 3 + 3, 2)
        score += gains[p, q]
        flat[[p, q]] = flat[[q, p]]
        if score > highest + 1e-9:
            best, highest = words.copy(), score
    return best


def _neighbours(shape: tuple[int, ...]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of flat places, first with second: left with right, and above with below."""
    number = np.arange(shape[0] * shape[1]).reshape(shape)
    return [(number[:, :-1].ravel(), number[:, 1:].ravel()), (number[:-1].ravel(), number[1:].ravel())]


def _gains(words: np.ndarray, layouts: Layouts, near: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """What exchanging the words of every two places adds to the score, (places, places)."""
    flat = words.ravel()
    at = layouts.places.reshape(len(layouts.places), -1)[flat].T.copy()  # (place, whose word): what that word would be worth there
    for score, (first, second) in zip((layouts.right, layouts.down), near, strict=True):
        at[first] += score[flat[None], flat[second][:, None]]
        at[second] += score[flat[first][:, None], flat[None]]
    own = np.diag(at)
    gains: np.ndarray = at + at.T - own[:, None] - own[None]
    for score, (first, second) in zip((layouts.right, layouts.down), near, strict=True):
        a, b = flat[first], flat[second]  # two that touch would be beside themselves in the sums above
        right_way = score[b, a] + score[a, b] - score[a, a] - score[b, b]
        gains[first, second] += right_way
        gains[second, first] += right_way
    return gains


def _beside(first: np.ndarray, second: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The logarithm of how often pairs occur, over chance."""
    found = np.zeros((len(counts), len(counts)))
    np.add.at(found, (first.ravel(), second.ravel()), 1.0)
    chance = np.outer(counts, counts) / counts.sum() ** 2
    pseudo = PSEUDO * len(counts) ** 2 / 1000
    likely: np.ndarray = np.log((found + pseudo * chance + 1e-12) / ((found.sum() + pseudo) * chance + 1e-12))
    return likely


def _size(sift: DenseSIFT, grid: tuple[int, int]) -> tuple[int, int]:
    edge = int(sift.receptive_field or 0)
    return edge + (grid[0] - 1) * int(sift.step), edge + (grid[1] - 1) * int(sift.step)


def _draws(photographs: Sequence[np.ndarray], views: int, seed: int) -> list[tuple[np.ndarray, np.random.Generator]]:
    if not len(photographs):
        raise InputError("Layouts are learned from photographs: give some.")
    return [(p, np.random.default_rng([seed, k, v])) for k, p in enumerate(photographs) for v in range(views)]


def _view(levels: np.ndarray, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    share = rng.uniform(0.5, 1.0) * min(n / m for n, m in zip(levels.shape, size, strict=True))
    height, width = (max(1, int(share * m)) for m in size)
    top, left = (int(rng.integers(0, n - m + 1)) for n, m in zip(levels.shape, (height, width), strict=True))
    found = resize(np.asarray(levels[top : top + height, left : left + width], np.float32), size)
    return found[:, ::-1].copy() if rng.random() < 0.5 else found


def _picture(levels: np.ndarray) -> ImageLike:
    import PIL.Image

    return PIL.Image.fromarray(levels.round().clip(0, 255).astype(np.uint8))


def _words(levels: np.ndarray, sift: DenseSIFT, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """The words of an image, (rows, columns), and how far the descriptors are from them."""
    with torch.no_grad():
        found = sift(torch.from_numpy(np.array(levels, np.float32))[None, None] - sift.space.mean_colour)[0]
    near = torch.cdist(found.flatten(1).T.contiguous(), vocabulary.centres).min(dim=1)
    shape = (found.shape[1], found.shape[2])
    return near.indices.reshape(shape).numpy(), near.values.reshape(shape).numpy()


def _typical(images: list[np.ndarray], found: list[tuple[np.ndarray, np.ndarray]], sift: DenseSIFT, words: int) -> np.ndarray:
    """The patch whose descriptor is nearest to each word; of a word that no view has, the mean level."""
    side, step = int(sift.receptive_field or 0), int(sift.step)
    patches, least = np.full((words, side, side), float(np.mean(images))), np.full(words, np.inf)
    for levels, (laid, far) in zip(images, found, strict=True):
        for r, c in np.ndindex(laid.shape):
            if far[r, c] < least[laid[r, c]]:
                least[laid[r, c]] = far[r, c]
                patches[laid[r, c]] = levels[r * step : r * step + side, c * step : c * step + side]
    return patches
