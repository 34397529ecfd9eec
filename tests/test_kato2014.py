"""Bags of visual words: the puzzle is solved where its pieces say how, and what is learned is what was counted."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import preimage
from preimage.errors import InputError
from preimage.methods import kato2014
from preimage.methods.kato2014 import Layouts, arrange, draw


def planted(side: int, clear: float) -> tuple[Layouts, np.ndarray]:
    """Words that occur once each, whose neighbours are `clear` standard deviations likelier than others, and no place known."""
    rng, count = np.random.default_rng(0), side * side
    truth = rng.permutation(count).reshape(side, side)
    right, down = rng.normal(size=(2, count, count))
    right[truth[:, :-1], truth[:, 1:]] += clear
    down[truth[:-1], truth[1:]] += clear
    nowhere = np.zeros((count, side, side))
    return Layouts(SimpleNamespace(words=count), (side, side), right, down, nowhere, np.zeros((count, 4, 4))), truth  # type: ignore[arg-type]


def random_layouts(words: int = 7, rows: int = 4, columns: int = 5) -> Layouts:
    rng = np.random.default_rng(1)
    right, down = rng.normal(size=(2, words, words))
    places = rng.normal(size=(words, rows, columns))
    return Layouts(SimpleNamespace(words=words), (rows, columns), right, down, places, np.zeros((words, 4, 4)))  # type: ignore[arg-type]


def test_a_puzzle_whose_pieces_fit_is_put_together_as_it_was() -> None:
    layouts, truth = planted(8, 3.0)
    assert np.array_equal(arrange(np.ones(64, int), layouts, steps=100), truth)


def test_what_an_exchange_gains_is_the_difference_of_two_scores() -> None:
    layouts = random_layouts()
    words = np.random.default_rng(2).integers(0, 7, (4, 5))
    gains = kato2014._gains(words, layouts, kato2014._neighbours(words.shape))
    for p in range(20):
        for q in range(20):
            other = words.copy().ravel()
            other[[p, q]] = other[[q, p]]
            assert gains[p, q] == pytest.approx(layouts.score(other.reshape(4, 5)) - layouts.score(words), abs=1e-9)


def test_an_arrangement_has_the_words_of_its_bag_and_a_longer_search_no_lower_score() -> None:
    layouts, words = random_layouts(), np.random.default_rng(3).integers(0, 7, (4, 5))
    bag = np.bincount(words.ravel(), minlength=7)
    found = [arrange(bag, layouts, steps=steps) for steps in (0, 20, 200)]
    assert all(np.array_equal(np.bincount(f.ravel(), minlength=7), bag) for f in found)
    scores = [layouts.score(f) for f in found]
    assert scores[0] <= scores[2] and scores[1] <= scores[2] and layouts.score(words) < scores[2]


def test_pairs_that_occur_more_than_by_chance_are_likely() -> None:
    first, second = np.array([0, 0, 0, 1]), np.array([1, 1, 1, 0])
    found = kato2014._beside(first, second, np.array([4.0, 4.0]))
    pseudo = kato2014.PSEUDO * 4 / 1000
    plain = np.log((np.array([[0, 3], [1, 0]]) + pseudo / 4) / ((4 + pseudo) / 4))
    np.testing.assert_allclose(found, plain, atol=1e-9)
    assert found[0, 1] > 0 > found[0, 0]


def test_what_photographs_show_is_learned_and_drawn() -> None:
    layouts = Layouts.learn(preimage.images.reference_images()[:1], grid=(4, 5), words=6, views=2)
    image = np.random.default_rng(0).integers(0, 255, (90, 100)).astype(float)
    words = layouts.words(image)
    assert words.shape == (4, 5) and layouts.bag(words).sum() == 20 and layouts.places.shape == (6, 4, 5)
    found = draw(arrange(layouts.bag(words), layouts, steps=10), layouts)
    assert found.shape == (1, 1, *layouts.size) and 0 <= found.min() < found.max() <= 255
    flat = draw(np.zeros((4, 5), int), layouts)
    side, step = layouts.patches.shape[1], 4
    assert flat[0, 0, :step, :step].numpy() == pytest.approx(layouts.patches[0, :step, :step], abs=1e-3)
    assert layouts.size == (side + 3 * step, side + 4 * step)


def test_wrong_bags_and_settings_are_named() -> None:
    layouts = random_layouts()
    with pytest.raises(InputError, match="20 words in all"):
        arrange(np.ones(7, int), layouts)
    with pytest.raises(InputError, match="give some"):
        Layouts.learn([])
