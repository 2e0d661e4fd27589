"""Copies of records, made and caught; and records whose label is suspect."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from dugs_stream.config.settings import Settings
from dugs_stream.lab.evaluate.copies import copiers_of
from dugs_stream.lab.evaluate.duplicates import copies_caught
from dugs_stream.lab.evaluate.streams import pool_and_held_out
from dugs_stream.lab.evaluate.suspects import suspects_among
from dugs_stream.lab.evaluate.views import Kind
from tests.support.records.pictures import draw, png
from tests.unit.lab.evaluate.made_views import made_views, with_copies

GENERATOR = np.random.default_rng(0)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_near_copies_of_a_picture_are_other_bytes_of_the_same_size(mode: str) -> None:
    """Of every mode; what is not a picture has none."""
    value = png(draw("disc", 3, size=20).convert(mode))
    for name, copier in copiers_of(Settings.model_validate({"input": {"codec": "image"}})).items():
        made = copier(value, GENERATOR)
        assert made is not None
        assert (made == value) == (name == "exact")
        assert Image.open(io.BytesIO(made)).size == (20, 20)
        assert name == "exact" or copier(b"nothing", GENERATOR) is None


def test_near_copies_of_a_text_lose_a_word_or_capitals() -> None:
    """Where there is one to lose; another codec has exact copies alone."""
    folder = {"type": "text", "tokenizer": "nosuch"}
    copiers = copiers_of(
        Settings.model_validate({"input": {"codec": folder}, "gradient": {"loss": "causal_lm"}})
    )

    assert len((copiers["word dropped"](b"One two three", GENERATOR) or b"").split()) == 2
    assert copiers["word dropped"](b"One two", GENERATOR) is None
    assert copiers["lower case"]("Ärger".encode(), GENERATOR) == "ärger".encode()
    assert copiers["lower case"](b"plain", GENERATOR) is None
    assert list(copiers_of(Settings.model_validate({"input": {"codec": "npy"}}))) == ["exact"]


def test_exact_copies_are_always_caught_and_near_ones_by_their_nearness() -> None:
    """At the proposed τ about 1 % of the distinct records are rejected, at a low one most of them."""
    views = made_views(records=200, classes=4)
    pool, _ = pool_and_held_out(views)
    for noise, least, most in ((1e-4, 1.0, 1.0), (3.0, 0.0, 0.3)):
        ((proposed, configured),) = copies_caught(with_copies(views, noise), pool, 0.1, 0)
        assert proposed.caught["exact"] == configured.caught["exact"] == 1.0
        assert least <= (proposed.caught["near"] or 0.0) <= most
        assert proposed.false_rejects <= 0.0101
        assert configured.false_rejects > 0.9
        assert proposed.copies == {"exact": 10, "near": 10}
    assert list(copies_caught(views, pool, 0.1, 0)) == []


def test_wrong_labels_are_suspect_and_right_ones_are_not() -> None:
    """The model is sure of the right class, and the record lies there; without logits nothing can be said."""
    views = made_views(records=200)
    rows = np.arange(len(views.labels))

    found = suspects_among(views, rows)
    assert found is not None
    assert found[views.kind == Kind.WRONG_LABEL].all()
    assert not found[views.kind == Kind.RECORD].any()
    assert suspects_among(made_views(logits=False), np.arange(10)) is None
    assert suspects_among(made_views(labelled=False), np.arange(10)) is None
