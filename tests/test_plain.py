"""Settings as plain data and as text: nothing is lost on the way, and what cannot be read is refused in words."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preimage.energy.fourier import Fourier
from preimage.energy.parameterizations import PARAMETERIZATIONS
from preimage.energy.regularizers import REGULARIZERS, TVBeta
from preimage.energy.resampling import Affine, Crops
from preimage.energy.transforms import TRANSFORMS, Jitter
from preimage.energy.views import Compose, Noise
from preimage.errors import InputError, UnknownName
from preimage.plain import from_plain, is_plain, name_of, parse, spell, to_plain

shares = st.floats(0.01, 1.0)
crops = st.builds(lambda a, b, v: Crops(min(a, b), max(a, b), v), shares, shares, st.integers(1, 3))
affines = st.builds(Affine, degrees=st.floats(0, 180), flip=st.booleans(), padding=st.sampled_from(["border", "zeros"]))
noises = st.builds(Noise, st.floats(0, 1e6))
simple = st.one_of(noises, affines, st.builds(Jitter, st.integers(1, 9)))
nested = st.recursive(
    st.builds(lambda first, rest: Compose((first, *rest)), crops, st.lists(simple, max_size=3)),
    lambda inner: st.builds(lambda a, b: Compose((a, b)), inner, simple),
    max_leaves=3,
)


@given(st.one_of(crops, affines, noises, nested))
def test_a_transform_survives_json_and_text_however_it_is_nested(part):
    assert from_plain(json.loads(json.dumps(to_plain(part, TRANSFORMS))), TRANSFORMS) == part
    assert parse(spell(part, TRANSFORMS), TRANSFORMS) == part


@given(st.floats(1, 4), st.floats(1e-3, 1e6))
def test_numbers_survive_to_the_last_bit(beta, v):
    part = TVBeta(beta, v)
    assert from_plain(json.loads(json.dumps(to_plain(part, REGULARIZERS))), REGULARIZERS) == part
    assert parse(spell(part, REGULARIZERS), REGULARIZERS) == part


def test_a_nested_part_is_written_in_brackets_and_read_with_or_without_where_it_has_no_settings():
    part = Compose((Crops(low=0.4, high=0.8), Noise()))
    assert spell(part, TRANSFORMS) == "compose:parts=[crops:low=0.4,high=0.8]/noise"
    assert parse("compose:parts=crops/[noise]", TRANSFORMS) == Compose((Crops(), Noise()))
    assert parse("compose:parts=[compose:parts=[crops:low=0.7]/noise]/noise", TRANSFORMS) == Compose(
        (Compose((Crops(0.7), Noise())), Noise())
    )


def test_dashes_and_words_for_truth_are_read():
    assert parse("affine:flip=yes,scale=0.5/2", TRANSFORMS) == Affine(flip=True, scale=(0.5, 2.0))
    assert from_plain({"name": "fourier", "decay": 1}, PARAMETERIZATIONS) == Fourier(decay=1.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("crops:low", "name:key=value"),
        ("crops:size=3", "no setting 'size'. It has: border, high, low"),
        ("crops:low=much", "low of the transform 'crops' cannot be 'much'"),
        ("crops:low=0.9,high=0.5", "no larger than the second"),
        ("jitter:amount=2.5", "wanted int"),
        ("affine:flip=perhaps", "wanted bool"),
        ("compose:parts=[crops:low=0.4]/[noise:loud=1]", "no setting 'loud'"),
        ("compose:parts=crops:low=0.4,high=0.8", "no setting 'high'"),
    ],
)
def test_text_that_says_nothing_is_refused_with_what_was_wanted(text, words):
    with pytest.raises(InputError, match=words.replace(".", r"\.")):
        parse(text, TRANSFORMS)


def test_names_that_are_not_there_are_answered_with_near_ones():
    with pytest.raises(UnknownName, match="Did you mean 'crops'"):
        parse("crop", TRANSFORMS)
    with pytest.raises(UnknownName, match="transform"):
        parse("compose:parts=crops/nois", TRANSFORMS)
    with pytest.raises(UnknownName, match="parameterization"):
        from_plain({"name": "jitter"}, PARAMETERIZATIONS)


@pytest.mark.parametrize("data", [{}, {"name": 3}, [], "crops", {"low": 0.5}])
def test_data_without_a_name_is_refused(data):
    with pytest.raises(InputError, match="is given as"):
        from_plain(data, TRANSFORMS)


@pytest.mark.parametrize("value", [True, [1], {"a": 1}, 2.5, math.nan])
def test_a_value_of_another_type_is_refused(value):
    with pytest.raises(InputError):
        from_plain({"name": "jitter", "amount": value}, TRANSFORMS)


def test_a_class_that_is_not_registered_is_no_plain_data():
    @dataclass(frozen=True)
    class Own:
        level: float = 1.0

    assert not is_plain(Own(), TRANSFORMS)
    with pytest.raises(InputError, match="Own is no registered transform"):
        name_of(Own(), TRANSFORMS)
    with pytest.raises(InputError, match="Own is no registered transform"):
        to_plain(Own(), TRANSFORMS)
