"""Labels from a record: where they stand, what they may be, and each way they can be wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dugs_stream.inputs.labels import Label, Labels
from dugs_stream.inputs.settings import parse_label_place
from dugs_stream.records import Headers, Reason, Record, Rejection


def sample(key: bytes | None = None, headers: Headers = ()) -> Record:
    """A record with this key and these headers."""
    return Record(key, b"value", headers, topic="in", partition=0, offset=0)


def labels(
    place: str = "header:label", classes: tuple[str, ...] | None = None, *, is_required: bool = True
) -> Labels:
    """The reader of one configuration."""
    return Labels(parse_label_place(place), classes, is_required)


def read_header(value: bytes | None, classes: tuple[str, ...] | None = None) -> Label | Rejection | None:
    """The label of a record whose header has this value."""
    return labels(classes=classes).read(sample(headers=(("label", value),)))


def test_label_stands_in_a_header_the_key_or_a_field() -> None:
    """Each place gives the same label."""
    assert labels("header:label").read(sample(headers=(("other", b"1"), ("label", b"3")))) == Label(3, None)
    assert labels("key").read(sample(key=b"3")) == Label(3, None)
    assert labels("json:y").read(sample(), {"y": 3}) == Label(3, None)
    assert labels("json:y").read(sample(), {"y": "3"}) == Label(3, None)
    assert labels("none").read(sample(key=b"3")) is None


def test_last_of_repeated_headers_counts() -> None:
    """As Kafka's own clients read them."""
    assert labels().read(sample(headers=(("label", b"1"), ("label", b"2")))) == Label(2, None)


@pytest.mark.parametrize(
    ("value", "label"), [(b"cat", 0), (b"dog", 1), (b"1", 1), (b" dog\n", 1), (b"+1", 1), (b"00", 0)]
)
def test_name_of_the_classes_goes_first_and_a_number_second(value: bytes, label: int) -> None:
    """Both ways to say a class are understood, spaces around them or not."""
    assert read_header(value, ("cat", "dog")) == Label(label, ("cat", "dog")[label])


def test_name_that_is_a_digit_is_a_name() -> None:
    """With classes ["7", "3"] the label 7 is class 0, in bytes and in JSON."""
    assert read_header(b"7", ("7", "3")) == Label(0, "7")
    assert labels("json:y", ("7", "3")).read(sample(), {"y": 3}) == Label(1, "3")


@pytest.mark.parametrize(
    ("place", "record", "document", "error"),
    [
        ("header:label", sample(), None, "no header 'label' with a value, and the loss needs a label (input.label)"),
        ("header:label", sample(headers=(("label", None),)), None, "no header 'label' with a value"),
        ("header:label", sample(headers=(("label", b""),)), None, "no header 'label' with a value"),
        ("header:label", sample(headers=(("Label", b"1"),)), None, "no header 'label' with a value"),
        ("key", sample(key=None), None, "the record has no key"),
        ("key", sample(key=b""), None, "the record has no key"),
        ("json:y", sample(), {}, "no field 'y' with a value"),
        ("json:y", sample(), {"y": None}, "no field 'y' with a value"),
        ("json:y", sample(), [1, 2], "no field 'y' with a value"),
    ],
)  # fmt: skip
def test_absent_label_is_missing_only_where_the_loss_needs_one(
    place: str, record: Record, document: Any, error: str
) -> None:
    """No header, a header without value, no key: missing, or no label."""
    rejection = labels(place).read(record, document)

    assert isinstance(rejection, Rejection)
    assert rejection.reason is Reason.LABEL_MISSING
    assert rejection.error.startswith(error)
    assert labels(place, is_required=False).read(record, document) is None


@pytest.mark.parametrize("is_required", [True, False])
@pytest.mark.parametrize(
    "value", [b"bird", b"1.0", b"\xff\xfe", b"0x1", "１".encode(), b"1 2", b"-", b"x" * 10_000]
)
def test_label_that_is_no_class_is_unknown(value: bytes, *, is_required: bool) -> None:
    """A label that is there and wrong is rejected, whether it is needed or not; the quote stays short."""
    reader = labels(classes=("cat", "dog"), is_required=is_required)

    rejection = reader.read(sample(headers=(("label", value),)))

    assert isinstance(rejection, Rejection)
    assert rejection.reason is Reason.LABEL_UNKNOWN
    assert rejection.error.endswith("expected a name of input.classes or its number")
    assert len(rejection.error) < 200


@pytest.mark.parametrize("value", [1.0, True, [1], {"a": 1}])
def test_json_label_that_is_neither_text_nor_whole_is_unknown(value: object) -> None:
    """A class is a name or a whole number."""
    rejection = labels("json:y").read(sample(), {"y": value})

    assert rejection == Rejection(
        Reason.LABEL_UNKNOWN, f"label {value!r}, expected a class number (input.classes gives them names)"
    )


@pytest.mark.parametrize(
    ("value", "classes", "error"),
    [
        (b"-1", None, "label -1, expected a class number of 0 or more"),
        (b"-1", ("cat", "dog"), "label -1, expected 0 to 1"),
        (b"2", ("cat", "dog"), "label 2, expected 0 to 1"),
        (b"1000000000", ("cat", "dog"), "label 1000000000, expected 0 to 1"),
        (b"9" * 19, None, f"label {'9' * 19}, expected a class number of 0 or more"),
        (b"9" * 100_000, None, f"label {'9' * 40}, expected a class number of 0 or more"),
    ],
)
def test_number_that_no_class_has_is_out_of_range(
    value: bytes, classes: tuple[str, ...] | None, error: str
) -> None:
    """Negative, beyond the classes where they are known, and what no integer of the device holds."""
    assert read_header(value, classes) == Rejection(Reason.LABEL_OUT_OF_RANGE, error)


@pytest.mark.parametrize(
    ("value", "classes", "number"),
    [(b"4", None, 4), (b"4", tuple("abcdef"), 4), (b"e", tuple("abcdef"), 4), (b"1000000000", None, 10**9)],
)
def test_range_is_that_of_the_model_once_its_classes_are_known(
    value: bytes, classes: tuple[str, ...] | None, number: int
) -> None:
    """A number or a name beyond the model's outputs is refused, however many names there are."""
    reader = replace(labels(classes=classes), outputs=4)

    found = reader.read(sample(headers=(("label", value),)))

    assert found == Rejection(Reason.LABEL_OUT_OF_RANGE, f"label {number}, expected 0 to 3")
    assert isinstance(reader.read(sample(headers=(("label", b"3"),))), Label)


def test_name_of_a_label_is_its_class() -> None:
    """Only where classes have names, and only for a class there is."""
    reader = labels(classes=("cat", "dog"))

    assert [reader.name(label) for label in (0, 1, 2, -1, None)] == ["cat", "dog", None, None, None]
    assert labels().name(0) is None
