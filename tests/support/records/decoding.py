"""Records for a decoder, decoders for them, and what came of one."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from dugs_stream.inputs.decoder import Decoder, Sample, build_decoder
from dugs_stream.inputs.settings import NpyCodecSettings
from dugs_stream.records import Headers, Reason, Record, Rejection, Skip

LABELLED: Headers = (("label", b"1"),)


def npy(*numbers: float) -> bytes:
    """A .npy value."""
    stream = io.BytesIO()
    np.save(stream, np.array(numbers, np.float32))
    return stream.getvalue()


def sample(value: bytes | None, headers: Headers = LABELLED) -> Record:
    """A record with this value."""
    return Record(None, value, headers, topic="in", partition=0, offset=0)


def decoder(codec: Any = None, **changes: Any) -> Decoder:
    """A decoder of .npy values with labels in a header, but for the changes."""
    options: dict[str, Any] = {
        "label": "header:label", "classes": ("cat", "dog"), "label_is_required": True, "max_record_bytes": 1000,
    }  # fmt: skip
    return build_decoder(codec or NpyCodecSettings(), **{**options, **changes})


def reason_of(outcome: Sample | Skip | Rejection) -> Reason:
    """Why the record was rejected."""
    assert isinstance(outcome, Rejection)
    return outcome.reason
