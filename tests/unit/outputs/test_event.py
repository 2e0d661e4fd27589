"""An event has the contract's names and values, in valid JSON, for any record."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import jsonschema

from dugs_stream.outputs.event import KEY_BYTES_LIMIT, build_event, event_schema
from dugs_stream.records import Decision, Reason, Record, Rejection, SequenceNumber, Verdict
from tests.support.records.judgements import MODEL, judgement_of, rejected

LONG_KEY = b"k" * (KEY_BYTES_LIMIT + 1)
RECORD = Record(b"img-7", b"\x89PNG", (), 1_795_515_300_123, topic="dugs.samples", partition=2, offset=1041)


def test_event_of_a_unique_is_the_contract_s_example() -> None:
    """Every name and value of the documented example, in its order, and nothing else."""
    assert json.dumps(build_event(judgement_of(RECORD), MODEL)) == json.dumps(
        {
            "id": "dugs.samples/2/1041",
            "type": "unique",
            "time": "2026-11-24T10:15:00.123Z",
            "source": {
                "topic": "dugs.samples",
                "partition": 2,
                "offset": 1041,
                "key": "img-7",
                "timestamp": 1795515300123,
            },
            "sequence": 17,
            "similarity": 0.2113,
            "threshold": 0.3,
            "nearest": {"sequence": 3, "id": "dugs.samples/0/12"},
            "gradient_norm": 1.73,
            "label": 7,
            "label_source": "given",
            "model": {"name": "alexnet", "fingerprint": "sha256:5f2c"},
        }
    )


def test_event_of_the_first_unique_has_no_nearest() -> None:
    """The first unique has nothing before it: nearest and similarity are null."""
    first = build_event(
        judgement_of(RECORD, Decision(Verdict.UNIQUE, sequence=SequenceNumber(0), gradient_norm=1.0)), MODEL
    )

    assert (first["sequence"], first["nearest"], first["similarity"]) == (0, None, None)


def test_event_of_a_rejected_record_says_why() -> None:
    """A rejected record has its reason and error, and null for all that was not computed."""
    found = build_event(rejected(RECORD, "cannot identify image file"), MODEL)

    assert (found["reason"], found["error"]) == ("undecodable", "cannot identify image file")
    for name in ("sequence", "similarity", "nearest", "gradient_norm", "label", "label_source"):
        assert found[name] is None


def test_event_leaves_out_what_does_not_apply() -> None:
    """Optional names without a meaning are absent, not null."""
    assert not build_event(judgement_of(RECORD), MODEL).keys() & {
        "similarity_bound",
        "label_name",
        "reason",
        "error",
    }


def test_event_has_bound_and_label_name_if_they_are_set() -> None:
    """With explain: bound and with classes the event carries similarity_bound and label_name."""
    decision = Decision(Verdict.UNIQUE, sequence=SequenceNumber(1), gradient_norm=1.0, similarity_bound=0.25)
    found = build_event(replace(judgement_of(RECORD, decision), label_name="seven"), MODEL)

    assert (found["similarity_bound"], found["label_name"]) == (0.25, "seven")


def test_event_names_every_kind_of_key() -> None:
    """UTF-8 keys are text, others base64, long ones their SHA-256; no key is null."""
    kinds: list[tuple[bytes | None, dict[str, str | None]]] = [
        (None, {"key": None}),
        (b"", {"key": ""}),
        ("ключ".encode(), {"key": "ключ"}),
        (b"\xff\x00", {"key": None, "key_base64": "/wA="}),
        (LONG_KEY, {"key": None, "key_sha256": hashlib.sha256(LONG_KEY).hexdigest()}),
    ]
    for key, expected in kinds:
        source = build_event(judgement_of(replace(RECORD, key=key)), MODEL)["source"]
        assert {name: value for name, value in source.items() if name.startswith("key")} == expected


def test_event_never_holds_a_number_that_json_lacks() -> None:
    """A norm or similarity that is not finite is null."""
    for number in (float("nan"), float("inf"), float("-inf")):
        decision = Decision(
            Verdict.NO_GRADIENT, similarity=number, gradient_norm=number, similarity_bound=number
        )
        found = build_event(judgement_of(RECORD, decision), MODEL)

        assert (found["gradient_norm"], found["similarity"]) == (None, None)
        assert "similarity_bound" not in found


def test_event_cuts_a_long_error() -> None:
    """An error text that quotes a whole record does not travel whole."""
    found = build_event(rejected(RECORD, "x" * 100_000), MODEL)

    assert len(found["error"]) == 1000
    assert found["error"].endswith("…")


def test_event_replaces_half_a_surrogate_pair() -> None:
    """Text from odd file names becomes valid Unicode, so that strict readers take the event."""
    found = build_event(rejected(RECORD, "caf\udce9.png"), MODEL)

    assert found["error"] == "caf?.png"


def test_event_time_has_exact_milliseconds() -> None:
    """Time is UTC with three digits of milliseconds, unrounded."""
    times = {
        0: "1970-01-01T00:00:00.000Z",
        1_000_000_000_999: "2001-09-09T01:46:40.999Z",
        1_795_515_300_007: "2026-11-24T10:15:00.007Z",
    }
    judged = judgement_of(RECORD)

    assert {ms: build_event(replace(judged, time_ms=ms), MODEL)["time"] for ms in times} == times


def test_schema_refuses_an_event_that_breaks_the_contract() -> None:
    """A unique without number, an unknown type, a duplicate with a number: each is invalid."""
    good = build_event(judgement_of(RECORD), MODEL)
    broken: list[dict[str, object]] = [
        {"sequence": None},
        {"type": "novel"},
        {"type": "duplicate"},
        {"time": "2026-11-24 10:15"},
        {"nearest": {"sequence": 3}},
        {"source": {"topic": "t"}},
        {"gradient_norm": -1.0},
        {"label": "seven"},
        {"label_source": "guessed"},
    ]
    validator = jsonschema.Draft202012Validator(event_schema())

    assert validator.is_valid(good)
    assert [change for change in broken if validator.is_valid({**good, **change})] == []


def test_schema_wants_a_reason_for_a_rejection() -> None:
    """A rejected event without reason or error is invalid."""
    good = build_event(rejected(RECORD), MODEL)
    validator = jsonschema.Draft202012Validator(event_schema())

    assert validator.is_valid(good)
    for missing in ("reason", "error"):
        assert not validator.is_valid({name: fact for name, fact in good.items() if name != missing}), missing


def test_schema_knows_every_name_an_event_can_have() -> None:
    """What `event` writes and what the schema names are the same."""
    everything = replace(
        judgement_of(
            replace(RECORD, key=b"\xff"),
            Decision(
                Verdict.REJECTED,
                similarity_bound=0.1,
                rejection=Rejection(Reason.EMPTY, "empty"),
            ),
        ),
        label_name="seven",
        value=0.25,
        value_target="sha256:5f2c",
        value_series="topic:wanted half_life=4 records=20 mean=raw",
    )
    schema = event_schema()

    assert set(schema["properties"]) == set(build_event(everything, MODEL))
    assert set(schema["$defs"]["Source"]["properties"]) == {
        *build_event(everything, MODEL)["source"],
        "key_sha256",
    }


def test_target_that_moves_and_is_not_there_yet_gives_nulls() -> None:
    """The keys say that values will come; without a target there are none."""
    awaited = build_event(replace(judgement_of(RECORD), value_series="topic:wanted"), MODEL)
    plain = build_event(judgement_of(RECORD), MODEL)

    assert [awaited[name] for name in ("value", "value_target", "value_series")] == [
        None,
        None,
        "topic:wanted",
    ]
    assert jsonschema.Draft202012Validator(event_schema()).is_valid(awaited)
    assert not any(name.startswith("value") for name in plain)
