"""Exact and near repeats at known places."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dugs_stream.lab.text_demo.paragraphs import DOCSTRING, Paragraph
from dugs_stream.lab.text_demo.repeats import EDITS, EXACT, ORIGINAL, with_repeats

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]


def originals(count: int) -> list[Paragraph]:
    """Distinct texts of two sentences."""
    return [
        Paragraph(f"Number {n} says: {' '.join(WORDS[n % 5 :])}. Then, it ends.", DOCSTRING, f"{n}.py")
        for n in range(count)
    ]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 40), st.integers(0, 12), st.integers(0, 4), st.integers(0, 2**32 - 1))
def test_every_repeat_follows_an_original_that_no_other_repeats(
    count: int, exact: int, each_edit: int, seed: int
) -> None:
    """The originals keep their order; an exact repeat equals its original, a near one never does."""
    stream = with_repeats(originals(count), exact=exact, each_edit=each_edit, seed=seed)

    assert [each.text for each in stream if each.role == ORIGINAL] == [each.text for each in originals(count)]
    repeats = [(place, each) for place, each in enumerate(stream) if each.role != ORIGINAL]
    assert len({each.of for _, each in repeats}) == len(repeats)
    for place, each in repeats:
        original = stream[each.of]
        assert (original.role, original.of, original.source) == (ORIGINAL, each.of, each.source)
        assert each.of < place
        assert (each.text == original.text) == (each.role == EXACT)


def test_stream_holds_as_many_repeats_as_asked_for_and_is_the_same_each_time() -> None:
    """Per edit too."""
    stream = with_repeats(originals(60), exact=9, each_edit=3)

    assert Counter(each.role for each in stream) == {ORIGINAL: 60, EXACT: 9} | dict.fromkeys(EDITS, 3)
    assert stream == with_repeats(originals(60), exact=9, each_edit=3)
    assert stream != with_repeats(originals(60), exact=9, each_edit=3, seed=1)


@pytest.mark.parametrize(
    ("edit", "edited"),
    [
        ("capitals lost", "one, two three. four five!"),
        ("punctuation lost", "One two three Four five"),
        ("sentence moved", "Four five! One, two three."),
    ],
)
def test_edit_of_a_text(edit: str, edited: str) -> None:
    """Edits without a choice, letter by letter."""
    assert EDITS[edit]("One, two three. Four five!", np.random.default_rng(0)) == edited


@pytest.mark.parametrize(("edit", "words"), [("word dropped", -1), ("word doubled", 1)])
def test_edit_of_one_word(edit: str, words: int) -> None:
    """One word fewer, or one twice in a row; never the first or the last."""
    text = " ".join(WORDS)
    for seed in range(20):
        edited = EDITS[edit](text, np.random.default_rng(seed)).split()
        assert len(edited) == len(WORDS) + words
        assert (edited[0], edited[-1]) == (WORDS[0], WORDS[-1])
        assert set(edited) <= set(WORDS)
        assert sum(a == b for a, b in pairwise(edited)) == max(words, 0)
