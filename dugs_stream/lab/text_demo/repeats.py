"""A stream of paragraphs with exact and near repeats at known places.

A near repeat differs by one small edit, as copies in real collections do: capitals lost, punctuation lost, a word
dropped, a word doubled, a sentence moved. Each follows its original at some distance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dugs_stream.lab.text_demo.paragraphs import Paragraph

ORIGINAL, EXACT = "original", "exact"
_SENTENCE_END = re.compile(r"(?<=[.!?]) +(?=[A-Z])")
_PUNCTUATION = re.compile(r"[^\w\s]")


def _capitals_lost(text: str, _random: np.random.Generator) -> str:
    return text.lower()


def _punctuation_lost(text: str, _random: np.random.Generator) -> str:
    return " ".join(_PUNCTUATION.sub(" ", text).split())


def _word_dropped(text: str, random: np.random.Generator) -> str:
    words = text.split(" ")
    del words[_inside(words, random)]
    return " ".join(words)


def _word_doubled(text: str, random: np.random.Generator) -> str:
    words = text.split(" ")
    place = _inside(words, random)
    return " ".join([*words[:place], words[place], *words[place:]])


def _sentence_moved(text: str, random: np.random.Generator) -> str:
    """Another sentence first; a text of one sentence is returned as it is."""
    sentences = _SENTENCE_END.split(text)
    if len(sentences) > 1:
        sentences.insert(0, sentences.pop(int(random.integers(1, len(sentences)))))
    return " ".join(sentences)


def _inside(words: Sequence[str], random: np.random.Generator) -> int:
    """The place of a word other than the first and the last."""
    return int(random.integers(1, len(words) - 1))


EDITS: Mapping[str, Callable[[str, np.random.Generator], str]] = {
    "capitals lost": _capitals_lost,
    "punctuation lost": _punctuation_lost,
    "word dropped": _word_dropped,
    "word doubled": _word_doubled,
    "sentence moved": _sentence_moved,
}
"""Small edits of a text by name; each with a generator that chooses the place."""


@dataclass(frozen=True, slots=True)
class Streamed:
    """One text of the stream.

    role  `ORIGINAL`, `EXACT`, or the name of an edit of `EDITS`
    of    place in the stream of the original that it repeats; its own place for an original
    """

    text: str
    kind: str
    source: str
    role: str
    of: int


def with_repeats(
    originals: Sequence[Paragraph], *, exact: int, each_edit: int, seed: int = 0
) -> list[Streamed]:
    """The originals in their order, with repeats of randomly chosen ones between them, each after its original.

    exact      number of exact repeats
    each_edit  number of near repeats of each edit; fewer where too few originals can be edited so
    No original is repeated twice. The same originals and seed give the same stream.
    """
    random = np.random.default_rng(seed)
    free = list(random.permutation(len(originals)))
    repeats = [(int(free.pop()), EXACT, "") for _ in range(min(exact, len(free)))]
    repeats = [(chosen, role, originals[chosen].text) for chosen, role, _ in repeats]
    for name, edit in EDITS.items():
        edited = [(int(chosen), edit(originals[chosen].text, random)) for chosen in free]
        fitting = [(chosen, text) for chosen, text in edited if text != originals[chosen].text][:each_edit]
        repeats += [(chosen, name, text) for chosen, text in fitting]
        taken = {chosen for chosen, _ in fitting}
        free = [chosen for chosen in free if chosen not in taken]
    # An original stands at its index; a repeat at any later point, so that sorting puts it behind.
    places = [
        (float(random.uniform(chosen + 1, len(originals) + 1)), chosen, role, text)
        for chosen, role, text in repeats
    ]
    order = sorted(
        [(float(place), place, ORIGINAL, each.text) for place, each in enumerate(originals)] + places
    )
    place_of = {chosen: place for place, (_, chosen, role, _) in enumerate(order) if role == ORIGINAL}
    return [
        Streamed(text, originals[chosen].kind, originals[chosen].source, role, place_of[chosen])
        for _, chosen, role, text in order
    ]
