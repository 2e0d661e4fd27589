"""A record becomes a tensor and a label, or the first reason why it cannot."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dugs_stream.errors import ConfigurationError
from dugs_stream.inputs.classes import read_classes
from dugs_stream.inputs.decoder import Decoder, Sample
from dugs_stream.inputs.settings import (
    CustomCodecSettings,
    ImageCodecSettings,
    JsonCodecSettings,
)
from dugs_stream.records import Reason, Rejection, Skip
from tests.support.records.decoding import decoder, npy, reason_of, sample


def test_record_becomes_tensor_label_and_name() -> None:
    """What a model needs, and what people read."""
    outcome = decoder().decode(sample(npy(1, 2)))

    assert isinstance(outcome, Sample)
    assert outcome.inputs.tolist() == [1, 2]
    assert outcome.label == (1, "dog")


def test_image_record_is_decoded() -> None:
    """The default codec behind the same door."""
    stream = io.BytesIO()
    Image.new("L", (4, 4)).save(stream, "PNG")

    outcome = (
        decoder(ImageCodecSettings(mode="L")).expecting((1, 4, 4), None).decode(sample(stream.getvalue()))
    )

    assert isinstance(outcome, Sample)
    assert outcome.inputs.shape == (1, 4, 4)


@pytest.mark.parametrize(
    ("value", "error"), [(None, "the record has no value (a tombstone?)"), (b"", "the value is empty")]
)
def test_record_without_value_is_empty(value: bytes | None, error: str) -> None:
    """A tombstone teaches nothing."""
    assert decoder().decode(sample(value)) == Rejection(Reason.EMPTY, error)


def test_record_of_50_mb_is_too_large_before_anything_reads_it() -> None:
    """The size is judged first: this codec would raise."""
    custom = decoder(CustomCodecSettings(type="json:loads"), max_record_bytes=16 * 2**20)

    assert custom.decode(sample(bytes(50_000_000))) == Rejection(
        Reason.TOO_LARGE,
        "the value is 50000000 bytes, at most 16777216 are read (input.max_record_bytes)",
    )


def test_record_of_exactly_the_limit_is_read() -> None:
    """The limit itself is allowed."""
    value = npy(1)

    assert isinstance(decoder(max_record_bytes=len(value)).decode(sample(value)), Sample)
    assert reason_of(decoder(max_record_bytes=len(value) - 1).decode(sample(value))) is Reason.TOO_LARGE


def test_fault_of_the_log_is_the_reason_whatever_else_is_wrong() -> None:
    """What the log could not read whole is not judged, even if its value could be."""
    faulty = replace(sample(npy(1)), fault="the name of a header is not UTF-8: b'\\xff'")

    assert decoder().decode(faulty) == Rejection(Reason.UNREADABLE, faulty.fault or "")


def test_label_is_judged_before_the_content() -> None:
    """Cheap checks go first."""
    assert reason_of(decoder().decode(sample(b"no array", headers=()))) is Reason.LABEL_MISSING
    assert reason_of(decoder().decode(sample(b"no array"))) is Reason.UNDECODABLE


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_number_that_is_not_finite_is_rejected(number: float) -> None:
    """NaN in one record would be NaN in its gradient."""
    assert decoder().decode(sample(npy(1, number, number))) == Rejection(
        Reason.NOT_FINITE, "2 of 3 numbers are NaN or infinite"
    )


def test_number_beyond_float32_is_rejected() -> None:
    """1e300 is finite in float64 and infinite where the model computes."""
    stream = io.BytesIO()
    np.save(stream, np.array([1e300]))

    assert reason_of(decoder().decode(sample(stream.getvalue()))) is Reason.NOT_FINITE
    json_decoder = decoder(JsonCodecSettings())
    assert reason_of(json_decoder.decode(sample(b"[1e300]"))) is Reason.NOT_FINITE
    assert reason_of(json_decoder.decode(sample(b"[1e999]"))) is Reason.NOT_FINITE


def test_any_shape_is_taken_until_one_is_expected() -> None:
    """The model, or the first record, says which shape it is; the decoder before that stays as it was."""
    before = decoder()
    after = before.expecting(torch.Size([2]), None)

    assert isinstance(before.decode(sample(npy(1, 2, 3))), Sample)
    assert after.decode(sample(npy(1, 2, 3))) == Rejection(
        Reason.WRONG_SHAPE, "the record is 3, the model takes 2"
    )
    assert isinstance(after.decode(sample(npy(1, 2))), Sample)


def test_json_record_carries_numbers_and_label() -> None:
    """Both come out of one document."""
    reader = decoder(JsonCodecSettings(field="x"), label="json:y").expecting((2,), None)

    outcome = reader.decode(sample(b'{"x": [1, 2], "y": "cat"}', headers=()))
    assert isinstance(outcome, Sample)
    assert (outcome.inputs.tolist(), outcome.label) == ([1, 2], (0, "cat"))
    assert reason_of(reader.decode(sample(b'{"x": [1, 2]}'))) is Reason.LABEL_MISSING
    assert reason_of(reader.decode(sample(b'{"x": [1], "y": 0}'))) is Reason.WRONG_SHAPE
    assert reason_of(reader.decode(sample(b"nonsense"))) is Reason.UNDECODABLE


def first_half(value: bytes) -> object:
    """A codec of the user's own: numbers as text, with every way to fail."""
    if value == b"array":
        return np.zeros(1)
    if value == b"pair":
        return [1.0], "cat"
    if value.startswith(b"pieces"):
        pieces = {"ids": torch.tensor([1, 2]), "weights": torch.tensor([0.5, float(value[6:] or 1)])}
        return (tuple(pieces.values()), "cat") if value.endswith(b"7") else pieces
    if value == b"grad":
        return torch.ones(1, requires_grad=True) * 2
    if value == b"long":
        raise KeyError("x" * 5000)
    return torch.tensor([float(part) for part in value.split()])


@pytest.fixture
def custom(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Decoder:
    """A decoder with a codec imported by its name."""
    (tmp_path / "my_codec.py").write_text("from typing import Any\nfunction: Any = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    import my_codec  # type: ignore[import-not-found]  # noqa: PLC0415 (written just above)

    monkeypatch.setattr(my_codec, "function", first_half)
    return decoder(CustomCodecSettings(type="my_codec:function"), max_record_bytes=10_000)


def test_function_of_the_user_reads_the_value(custom: Decoder) -> None:
    """Bytes in, tensor out, cut off from whatever made it."""
    outcome = custom.decode(sample(b"1 2.5"))

    assert isinstance(outcome, Sample)
    assert outcome.inputs.tolist() == [1, 2.5]
    grad = custom.decode(sample(b"grad"))
    assert isinstance(grad, Sample)
    assert not grad.inputs.requires_grad


def test_function_of_the_user_gives_several_tensors(custom: Decoder) -> None:
    """By name, or a tuple beside its label; each number has to be finite, and a known shape is one tensor's."""
    named, pair = custom.decode(sample(b"pieces")), custom.decode(sample(b"pieces7"))

    assert isinstance(named, Sample)
    assert isinstance(named.inputs, dict)
    assert [leaf.tolist() for leaf in named.inputs.values()] == [[1, 2], [0.5, 1]]
    assert isinstance(pair, Sample)
    assert isinstance(pair.inputs, tuple)
    assert ([leaf.tolist() for leaf in pair.inputs], pair.label) == ([[1, 2], [0.5, 7]], (0, "cat"))
    wrong = custom.decode(sample(b"piecesnan"))
    assert wrong == Rejection(Reason.NOT_FINITE, "weights: 1 of 2 numbers are NaN or infinite")
    refused = custom.expecting((2,), None).decode(sample(b"pieces"))
    assert isinstance(refused, Rejection)
    assert refused.reason is Reason.WRONG_SHAPE
    assert "ids (2,) (torch.int64), weights" in refused.error


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (b"1 x", "ValueError: could not convert string to float: b'x'"),
        (
            b"array",
            "the codec's function returned a ndarray, expected a sample (a torch.Tensor, or a mapping of",
        ),
        (b"pair", "the codec's function returned (a list, a label), expected a sample"),
        (b"long", "KeyError: 'xxx"),
    ],
)
def test_exception_of_the_users_function_is_undecodable(custom: Decoder, value: bytes, error: str) -> None:
    """Its class and message are the reason, cut to a length that a header can carry."""
    outcome = custom.decode(sample(value))

    assert isinstance(outcome, Rejection)
    assert outcome.reason is Reason.UNDECODABLE
    assert outcome.error.startswith(error)
    assert len(outcome.error) <= 300


def test_nan_from_the_users_function_is_not_finite(custom: Decoder) -> None:
    """The check is the same for every codec."""
    assert reason_of(custom.decode(sample(b"nan"))) is Reason.NOT_FINITE


def test_codec_that_cannot_be_imported_is_a_configuration_error() -> None:
    """It is wrong before any record comes."""
    with pytest.raises(ConfigurationError, match=r"^input\.codec: 'no_such_module_here:f' names the module"):
        decoder(CustomCodecSettings(type="no_such_module_here:f"))


def test_decoder_is_the_same_from_several_threads() -> None:
    """Fetching may run ahead in a thread of its own."""
    reader = decoder(JsonCodecSettings(), label="none")
    samples = [sample(json.dumps([number, number + 1]).encode()) for number in range(64)]

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(reader.decode, samples))

    assert [outcome.inputs.tolist() for outcome in outcomes if isinstance(outcome, Sample)] == [
        [number, number + 1] for number in range(64)
    ]


def test_classes_are_a_list_or_the_lines_of_a_file(tmp_path: Path) -> None:
    """Blank lines and spaces around names do not count."""
    path = tmp_path / "classes.txt"
    path.write_text("\ufeffcat\n\n  dog \r\nhaus katze\n", encoding="utf-8")

    assert read_classes(str(path)) == ("cat", "dog", "haus katze")
    assert read_classes(["a", "b"]) == ("a", "b")
    assert read_classes(None) is None


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "cannot be read: No such file or directory."),
        (b"\xff\xfe", "cannot be read: not UTF-8 (invalid start byte at byte 0)."),
        (b"\n \n", "names no class."),
        (b"a\nb\na\n", "names the class 'a' twice."),
    ],
)
def test_file_of_classes_that_cannot_be_used_is_refused(
    tmp_path: Path, content: bytes | None, error: str
) -> None:
    """The path, the fault and the way out."""
    path = tmp_path / "classes.txt"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigurationError) as caught:
        read_classes(str(path))
    assert str(caught.value) == (
        f"input.classes: the file {str(path)!r} {error} Give a UTF-8 file with one class name a line, in the order of "
        "the model's outputs."
    )


def test_lack_of_memory_in_an_image_is_not_the_records_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its size was held against the limits before."""
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "PNG")

    def no_room(*_arguments: object) -> Image.Image:
        raise MemoryError

    monkeypatch.setattr("dugs_stream.inputs.image._upright", no_room)
    with pytest.raises(MemoryError):
        decoder(ImageCodecSettings()).decode(sample(stream.getvalue()))


def own(label: str = "header:label", **changes: Any) -> Decoder:
    """A decoder with a codec that knows labels and deletes."""
    return decoder(
        CustomCodecSettings(type="tests.support.records.own_code:labelled"), label=label, **changes
    )


@pytest.mark.parametrize(
    ("label", "expected"), [("dog", (1, "dog")), (0, (0, "cat")), (None, (1, "dog")), ("1", (1, "dog"))]
)
def test_codec_of_ones_own_may_give_the_label(label: object, expected: tuple[int, str]) -> None:
    """Its label counts; None leaves it to `input.label`."""
    outcome = own().decode(sample(json.dumps({"x": [1, 2], "y": label}).encode()))

    assert isinstance(outcome, Sample)
    assert (outcome.inputs.tolist(), outcome.label) == ([1, 2], expected)


@pytest.mark.parametrize("label", [np.int64(1), torch.tensor(1), np.array(1, np.uint8), "dog", b"dog"])
def test_label_of_a_codec_may_be_a_number_of_numpy_or_torch(label: object) -> None:
    """As code that reads data sets has them."""
    assert own().labels.of(label, sample(b"")) == (1, "dog")


@pytest.mark.parametrize("label", [1.0, True, [1], "bird", np.float32(1), torch.tensor([1]), 2])
def test_label_of_a_codec_that_is_no_class_is_rejected(label: object) -> None:
    """As from anywhere else."""
    assert isinstance(own().labels.of(label, sample(b"")), Rejection)


def test_codec_of_ones_own_may_skip_a_record() -> None:
    """Before anything else is asked of it, a label included."""
    assert own().decode(sample(b'{"gone": true}', headers=())) == Skip()


def test_sample_without_any_label_is_missing_one() -> None:
    """Where the codec should give it, that is said."""
    value = b'{"x": [1, 2]}'

    assert own(label="none").decode(sample(value)) == Rejection(
        Reason.LABEL_MISSING,
        "the codec gave no label beside the sample, and the loss needs a label (input.label)",
    )
    assert reason_of(own().decode(sample(value, headers=()))) is Reason.LABEL_MISSING
    assert isinstance(own(label="none", label_is_required=False).decode(sample(value)), Sample)
