"""Labels from a record: where they stand, what they may be, and each way they can be wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dugs_stream.inputs.json_path import at_path
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


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"meta": {"label": "dog"}}, "dog"),
        ({"meta.label": "cat", "meta": {"label": "dog"}}, "cat"),
        ({"meta": [{"label": "dog"}]}, None),
        ({"meta": {"label": None}}, None),
        ({"meta": "label"}, None),
        ({"metadata": {"label": "dog"}}, None),
        ([{"meta": {"label": "dog"}}], None),
        (None, None),
    ],
)
def test_field_of_a_label_is_a_path(document: Any, found: str | None) -> None:
    """Dots step into objects; a field of just that name goes first, as it always did."""
    label = labels("json:meta.label", ("cat", "dog"), is_required=False).read(sample(), document)

    assert label == (None if found is None else Label(("cat", "dog").index(found), found))


def test_path_steps_into_arrays_by_number() -> None:
    """Of several annotations, one."""
    document = {"labels": [{"name": "cat"}, {"name": "dog"}]}

    assert at_path(document, "labels.1.name") == "dog"
    assert [
        at_path(document, path)
        for path in ("labels.2.name", "labels.-1.name", "labels.²", "labels.1.name.x", "")
    ] == [None] * 5


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("caf\u00e9", "cafe\u0301"),
        ("cafe\u0301", "caf\u00e9"),
        ("\u212b", "\u00c5"),
        ("\ud55c", "\u1112\u1161\u11ab"),
    ],
)
def test_names_are_compared_as_people_read_them(written: str, name: str) -> None:
    """One letter in two code points, as macOS writes file names, is the letter."""
    assert read_header(written.encode(), ("cat", name)) == Label(1, name)
    assert labels("json:y", ("cat", name)).read(sample(), {"y": written}) == Label(1, name)


def test_names_that_differ_in_code_points_alone_stay_two_classes() -> None:
    """What is written exactly so goes first; and what only looks similar is another name."""
    both = ("cafe\u0301", "caf\u00e9")

    assert [read_header(name.encode(), both) for name in both] == [Label(0, both[0]), Label(1, both[1])]
    assert isinstance(read_header("m\u00b2".encode(), ("m2",)), Rejection)


@pytest.mark.parametrize(
    ("value", "shown", "cause"),
    [
        (b"\xa1\x03dog", r"b'\xa1\x03dog'", "AMQP-encoded, as Azure Event Hubs writes headers: 'dog' with a type in front"),
        (b"\xb1\x00\x00\x00\x03dog", r"b'\xb1\x00\x00\x00\x03dog'", "AMQP-encoded, as Azure Event Hubs writes headers: 'dog'"),
        (b"T\x01", r"b'T\x01'", "AMQP-encoded, as Azure Event Hubs writes headers: 1 with"),
        (b"q\x00\x00\x00\x01", r"b'q\x00\x00\x00\x01'", "AMQP-encoded, as Azure Event Hubs writes headers: 1 with"),
        (b"\x00\x00\x00\x01", r"b'\x00\x00\x00\x01'", "1 as a binary number of 4 bytes, as Java's serializers write it"),
        ("dog".encode("utf-16"), r"b'\xff\xfed\x00o\x00g\x00'", "'dog' in UTF-16; send it as UTF-8"),
        ("dog!".encode("utf-16-le"), r"b'd\x00o\x00g\x00!\x00'", "'dog!' in UTF-16; send it as UTF-8"),
        (b"\xac\xed\x00\x05t\x00\x03dog", r"b'\xac\xed\x00\x05t", "a serialised Java object; send it as plain text"),
        (b'"dog"', "'\"dog\"'", "'dog' within quotes of JSON; send the text alone"),
    ],
)  # fmt: skip
def test_binary_header_is_shown_with_its_likely_cause(value: bytes, shown: str, cause: str) -> None:
    """The bytes as they are, the value behind them, and what to do about it."""
    rejection = read_header(value, ("cat", "dog"))

    assert isinstance(rejection, Rejection)
    assert rejection.reason is Reason.LABEL_UNKNOWN
    assert rejection.error.startswith(f"label {shown}")
    assert f"({cause}" in rejection.error
    assert rejection.error.endswith("), expected a name of input.classes or its number")


@pytest.mark.parametrize(
    "value",
    [b"bird", b"D", b"p7", b"a\n", b"\xff" * 8, b"hund", b"abcdefgh", b"\xff\xfe", b"\xa1\x09dog", b"\x00"],
)
def test_label_that_looks_like_nothing_known_has_no_cause(value: bytes) -> None:
    """No guess is better than a wrong one: these are plain texts, or bytes of no known form."""
    rejection = read_header(value, ("cat", "dog"))

    assert isinstance(rejection, Rejection)
    assert "(" not in rejection.error


def test_rejection_with_a_long_text_behind_an_encoding_stays_short() -> None:
    """It travels in a header."""
    rejection = read_header(b"\xb1" + (100_000).to_bytes(4, "big") + b"x" * 100_000, ("cat", "dog"))

    assert isinstance(rejection, Rejection)
    assert len(rejection.error) < 400


@pytest.mark.parametrize(
    ("topic", "key", "label", "hint"),
    [
        (
            "files",
            b"cat/images/1.png",
            b"images",
            "the folder 'cat' of its key is a class: input.class_folder: 1",
        ),
        (
            "in",
            b"train/cat/images/1.png",
            b"images",
            "the folder 'cat' of its key is a class: input.class_folder: -2",
        ),
        ("files", b"cat/images/1.png", b"other", None),
        ("files", b"x/images/1.png", b"images", "input.class_folder can name another folder of its key"),
        ("files", b"images/1.png", b"images", None),
        ("files", None, b"images", None),
    ],
)
def test_folder_that_is_no_class_hints_at_the_one_that_is(
    topic: str, key: bytes | None, label: bytes, hint: str | None
) -> None:
    """Where the label is a folder of the key, and another folder of it is a class."""
    record = Record(key, b"value", (("label", label),), topic=topic, partition=0, offset=0)

    rejection = labels(classes=("cat", "dog")).read(record)

    assert isinstance(rejection, Rejection)
    assert (hint is None) == ("(" not in rejection.error)
    assert hint is None or f"({hint})" in rejection.error


def test_file_without_a_class_is_told_which_folder_would_be_it() -> None:
    """Files that lie in the named folder itself have none."""
    record = Record(b"1.png", b"value", topic="files", partition=0, offset=0)

    rejection = labels().read(record)

    assert isinstance(rejection, Rejection)
    assert (
        "below the one that was named (input.class_folder), and a row's the field of that name"
        in rejection.error
    )


def test_path_of_a_file_as_label_names_the_header() -> None:
    """The key is a label of records that a producer made; of files it is the path."""
    record = Record(b"cat/1.png", b"value", topic="files", partition=0, offset=0)

    rejection = labels("key", ("cat", "dog")).read(record)

    assert isinstance(rejection, Rejection)
    assert "input.label: header:label reads its folder's name" in rejection.error


@pytest.mark.parametrize("classes", [None, ("cat", "1", "\u00e9")])
def test_label_that_was_read_before_is_read_alike(classes: tuple[str, ...] | None) -> None:
    """The class of the same bytes is looked up once; what is wrong is told each time with its own record."""
    reader = labels(classes=classes)
    for value in (b"cat", b" 1 ", b"1", b"0", "e\u0301".encode(), b"-1", b"7", b"\xff") * 2:
        record = sample(headers=(("label", value),))
        assert reader.read(record) == labels(classes=classes).read(record)
    assert replace(reader, outputs=1).read(sample(headers=(("label", b"1"),))) == Rejection(
        Reason.LABEL_OUT_OF_RANGE, "label 1, expected 0 to 0"
    )


def test_labels_that_are_kept_are_bounded() -> None:
    """A stream whose labels are all different fills no memory, and goes on."""
    reader = labels()

    for number in range(5000):
        assert reader.read(sample(headers=(("label", b"%d" % number),))) == Label(number, None)

    assert len(reader._read_before) <= 4096
