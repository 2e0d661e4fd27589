"""Events: the JSON object for one judged record, and its JSON Schema.

Numbers are finite or null, text is valid Unicode, and an event never grows beyond `EVENT_BYTES_LIMIT`: the
parts that a sender controls are bounded (a long key is replaced by its SHA-256, an error text is cut).

A key that is UTF-8 is text in `source.key`. Any other key is null there and whole in `source.key_base64`; one
longer than `KEY_BYTES_LIMIT` is null there, and `source.key_sha256` is its digest.
"""

from __future__ import annotations

import base64
import hashlib
import math
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from dugs_stream.records import JudgedRecord, ModelIdentity, Verdict

# A key is a name: a kilobyte holds any path or URL in use. JSON escapes may make six bytes of one.
KEY_BYTES_LIMIT = 1024
# Enough for a sentence; a library may quote the whole record in its error.
_ERROR_CHARACTERS_LIMIT = 1000
# The sum of the bounds, with topic names of Kafka's 249 characters, class and model names of some hundred. The
# smallest limit of a topic counts on it.
EVENT_BYTES_LIMIT = 16 * 1024

Offset = Annotated[int, Field(ge=0)]
# Rows of float32 have unit norm up to rounding, so a cosine may exceed 1 by that much.
Cosine = Annotated[float, Field(ge=-1.001, le=1.001)]


class Source(TypedDict):
    """The place of the judged record."""

    topic: str
    partition: Offset
    offset: Offset
    key: Annotated[str | None, Field(description="the record's key if it is UTF-8; null without one")]
    key_base64: NotRequired[Annotated[str, Field(description="a key that is not UTF-8")]]
    key_sha256: NotRequired[Annotated[str, Field(description=f"a key over {KEY_BYTES_LIMIT} bytes")]]
    timestamp: Annotated[int | None, Field(description="the record's own, in milliseconds since 1970")]


class Nearest(TypedDict):
    """The unique of highest similarity; under explain: decision one that is similar enough."""

    sequence: Offset
    id: str | None


class Model(TypedDict):
    """The model behind the verdict."""

    name: str
    fingerprint: str


class Event(TypedDict):
    """The verdict on one record, and what explains it."""

    id: Annotated[str, Field(description="topic/partition/offset of the record")]
    type: Literal["unique", "duplicate", "no_gradient", "rejected", "skipped"]
    time: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")]
    source: Source
    sequence: Annotated[Offset | None, Field(description="counts uniques from 0; null for other verdicts")]
    similarity: Annotated[Cosine | None, Field(description="cosine to the unique under nearest")]
    similarity_bound: NotRequired[
        Annotated[float, Field(description="upper bound, under explain: bound or decision")]
    ]
    threshold: float
    nearest: Nearest | None
    gradient_norm: Annotated[float, Field(ge=0)] | None
    value: NotRequired[
        Annotated[
            Cosine | None,
            Field(description="cosine with the target's mean gradient; there with a value.target"),
        ]
    ]
    value_target: NotRequired[
        Annotated[
            str | None,
            Field(
                description="SHA-256 of that target, or of its state if it moves; values of two targets cannot be compared, "
                "and those of two states of one roughly; null while there is none"
            ),
        ]
    ]
    value_series: NotRequired[
        Annotated[
            str, Field(description="of a target that moves (value.half_life): a name for all its states")
        ]
    ]
    label: int | None
    label_name: NotRequired[str]
    label_source: Literal["given", "predicted"] | None
    model: Model
    reason: NotRequired[Annotated[str, Field(description="why a record was rejected; of a closed set")]]
    error: NotRequired[Annotated[str, Field(description="the same as a sentence for people")]]


def build_event(judged: JudgedRecord, model: ModelIdentity) -> dict[str, Any]:
    """The event of a judged record, ready for JSON."""
    record, decision = judged.record, judged.decision
    facts: dict[str, Any] = {
        "id": _text(record.id),
        "type": decision.verdict.value,
        "time": _iso(judged.time_ms),
        "source": {
            "topic": _text(record.topic),
            "partition": int(record.partition),
            "offset": int(record.offset),
            **_key(record.key),
            "timestamp": None if record.timestamp_ms is None else int(record.timestamp_ms),
        },
        "sequence": None if decision.sequence is None else int(decision.sequence),
        "similarity": _finite(decision.similarity),
        "threshold": float(judged.threshold),
        "nearest": None,
        "gradient_norm": _finite(decision.gradient_norm),
        "label": None if judged.label is None else int(judged.label),
        "label_source": None if judged.label_source is None else judged.label_source.value,
        "model": {"name": _text(model.name), "fingerprint": _text(model.fingerprint)},
    }
    if decision.nearest is not None:
        nearest_id = judged.nearest_id and _text(judged.nearest_id)
        facts["nearest"] = {"sequence": int(decision.nearest), "id": nearest_id}
    if (bound := _finite(decision.similarity_bound)) is not None:
        facts["similarity_bound"] = bound
    if judged.value_target is not None or judged.value_series is not None:
        facts |= {"value": _finite(judged.value), "value_target": judged.value_target}
    if judged.value_series is not None:
        facts["value_series"] = judged.value_series
    if judged.label_name is not None:
        facts["label_name"] = _text(judged.label_name)
    if decision.verdict is Verdict.REJECTED and decision.rejection is not None:
        error = decision.rejection.error
        if len(error) > _ERROR_CHARACTERS_LIMIT:
            error = error[: _ERROR_CHARACTERS_LIMIT - 1] + "…"
        facts |= {"reason": decision.rejection.reason.value, "error": _text(error)}
    return facts


def event_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of an event; open, so that a later release may add names."""
    schema = TypeAdapter(Event).json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "allOf": [
            _when("unique", {"sequence": {"type": "integer"}}, required=[]),
            _when("rejected", {"gradient_norm": {"type": "null"}}, required=["reason", "error"]),
            {
                "if": {"properties": {"type": {"const": "unique"}}},
                "else": {"properties": {"sequence": {"type": "null"}}},
            },
        ],
    }


def _when(verdict: str, properties: dict[str, Any], *, required: list[str]) -> dict[str, Any]:
    return {
        "if": {"properties": {"type": {"const": verdict}}},
        "then": {"properties": properties, "required": required},
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


@lru_cache(maxsize=4)  # the records of a micro-batch have one time
def _iso(time_ms: int) -> str:
    """UTC with exact milliseconds: no float on the way."""
    seconds, milliseconds = divmod(time_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"


def _finite(number: float | None) -> float | None:
    return float(number) if number is not None and math.isfinite(number) else None


def _text(text: str) -> str:
    """The text as valid Unicode: half a surrogate pair, which file names may hold, becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
