"""What does an event say, and in which shape? A judgement as JSON-safe facts, and the schema they keep to.

Numbers are finite or null, text is valid Unicode, and an event never grows beyond `EVENT_BYTES_LIMIT`: the
parts that a sender controls are bounded (a long key is named by its SHA-256, an error text is cut).

A key that is UTF-8 is text in `source.key`. Any other key is null there and whole in `source.key_base64`; one
longer than `KEY_BYTES_LIMIT` is null and stands as `source.key_sha256`: the record itself has it.
"""

from __future__ import annotations

import base64
import hashlib
import math
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from dugs_stream.records import JudgedRecord, ModelIdentity, Record, Rejection, Verdict

# A key is a name: a kilobyte holds any path or URL in use. JSON escapes may make six bytes of one.
KEY_BYTES_LIMIT = 1024
# A sentence for people, not a dump of the record that caused it.
_ERROR_CHARACTERS_LIMIT = 1000
# What the bounds add up to, with topic names of Kafka's 249 characters, class and model names of some hundred;
# what goes with an event (a vector, a dead letter's headers) reckons with it.
EVENT_BYTES_LIMIT = 16 * 1024

Offset = Annotated[int, Field(ge=0)]
# Rows of float32 are unit to within its rounding, so a cosine may pass 1 by that much.
Cosine = Annotated[float, Field(ge=-1.001, le=1.001)]


class Source(TypedDict):
    """Where the judged record lies."""

    topic: str
    partition: Offset
    offset: Offset
    key: Annotated[str | None, Field(description="the record's key where it is UTF-8; null without one")]
    key_base64: NotRequired[Annotated[str, Field(description="a key that is not UTF-8")]]
    key_sha256: NotRequired[Annotated[str, Field(description=f"a key over {KEY_BYTES_LIMIT} bytes")]]
    timestamp: Annotated[int | None, Field(description="the record's own, in milliseconds since 1970")]


class Nearest(TypedDict):
    """The unique of highest similarity."""

    sequence: Offset
    id: str | None


class Model(TypedDict):
    """The model the verdict was made by."""

    name: str
    fingerprint: str


class Event(TypedDict):
    """The verdict on one record, and what explains it."""

    id: Annotated[str, Field(description="topic/partition/offset of the record")]
    type: Literal["unique", "duplicate", "no_gradient", "rejected"]
    time: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")]
    source: Source
    sequence: Annotated[Offset | None, Field(description="counts uniques from 0; null for other verdicts")]
    similarity: Annotated[Cosine | None, Field(description="cosine to the nearest unique")]
    similarity_bound: NotRequired[Annotated[float, Field(description="upper bound, under explain: bound")]]
    threshold: float
    nearest: Nearest | None
    gradient_norm: Annotated[float, Field(ge=0)] | None
    label: int | None
    label_name: NotRequired[str]
    label_source: Literal["given", "predicted"] | None
    model: Model
    reason: NotRequired[Annotated[str, Field(description="why a record was rejected; of a closed set")]]
    error: NotRequired[Annotated[str, Field(description="the same as a sentence for people")]]


def build_event(judgement: JudgedRecord, model: ModelIdentity) -> dict[str, Any]:
    """The judgement as an event of the contract, ready for JSON."""
    decision = judgement.decision
    facts: dict[str, Any] = {
        "id": _text(judgement.record.id),
        "type": decision.verdict.value,
        "time": _iso(judgement.time_ms),
        "source": _source(judgement.record),
        "sequence": None if decision.sequence is None else int(decision.sequence),
        "similarity": _finite(decision.similarity),
        "threshold": float(judgement.threshold),
        "nearest": _nearest(judgement),
        "gradient_norm": _finite(decision.gradient_norm),
        "label": None if judgement.label is None else int(judgement.label),
        "label_source": None if judgement.label_source is None else judgement.label_source.value,
        "model": {"name": _text(model.name), "fingerprint": _text(model.fingerprint)},
    }
    if (bound := _finite(decision.similarity_bound)) is not None:
        facts["similarity_bound"] = bound
    if judgement.label_name is not None:
        facts["label_name"] = _text(judgement.label_name)
    if decision.verdict is Verdict.REJECTED and decision.rejection is not None:
        facts |= _rejection(decision.rejection)
    return facts


def event_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of an event; open, so that a later release may add facts."""
    schema = TypeAdapter(Event).json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "allOf": [
            _where("unique", {"sequence": {"type": "integer"}}, required=[]),
            _where("rejected", {"gradient_norm": {"type": "null"}}, required=["reason", "error"]),
            {
                "if": {"properties": {"type": {"const": "unique"}}},
                "else": {"properties": {"sequence": {"type": "null"}}},
            },
        ],
    }


def _where(verdict: str, properties: dict[str, Any], *, required: list[str]) -> dict[str, Any]:
    return {
        "if": {"properties": {"type": {"const": verdict}}},
        "then": {"properties": properties, "required": required},
    }


def _source(sample: Record) -> dict[str, Any]:
    return {
        "topic": _text(sample.topic),
        "partition": int(sample.partition),
        "offset": int(sample.offset),
        **_key(sample.key),
        "timestamp": None if sample.timestamp_ms is None else int(sample.timestamp_ms),
    }


def _key(key: bytes | None) -> dict[str, Any]:
    if key is None:
        return {"key": None}
    if len(key) > KEY_BYTES_LIMIT:
        return {"key": None, "key_sha256": hashlib.sha256(key).hexdigest()}
    try:
        return {"key": key.decode()}
    except UnicodeDecodeError:
        return {"key": None, "key_base64": base64.b64encode(key).decode()}


def _nearest(judgement: JudgedRecord) -> dict[str, Any] | None:
    if judgement.decision.nearest is None:
        return None
    nearest_id = judgement.nearest_id
    return {
        "sequence": int(judgement.decision.nearest),
        "id": None if nearest_id is None else _text(nearest_id),
    }


def _rejection(rejection: Rejection) -> dict[str, Any]:
    error = rejection.error
    if len(error) > _ERROR_CHARACTERS_LIMIT:
        error = error[: _ERROR_CHARACTERS_LIMIT - 1] + "…"
    return {"reason": rejection.reason.value, "error": _text(error)}


def _iso(time_ms: int) -> str:
    """UTC with milliseconds, without a detour over floats."""
    seconds, milliseconds = divmod(time_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"


def _finite(number: float | None) -> float | None:
    return float(number) if number is not None and math.isfinite(number) else None


def _text(text: str) -> str:
    """The text as valid Unicode: half a surrogate pair, as odd file names have it, becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
