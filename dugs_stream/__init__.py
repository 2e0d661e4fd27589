"""Gradient uniqueness: the records of a stream that teach your model something new, as a library and a daemon."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dugs_stream.core.deduplicator import Deduplicator
    from dugs_stream.core.index.unique_index import UniqueIndex
    from dugs_stream.core.projector import Projection
    from dugs_stream.errors import (
        ChangelogError,
        ConfigurationError,
        DamagedRowsError,
        DugsError,
        LabelError,
        LogError,
        LogRefusedError,
        LogUnavailableError,
        ModelError,
        OffsetsDisagreeError,
        OutcomeUnknownError,
        OwnershipLostError,
        Problem,
        Refusal,
        SampleError,
        StateError,
        StreamRejectedError,
        TransactionAbortedError,
    )
    from dugs_stream.records import Decision, Verdict

    __version__: str

__all__ = [
    "ChangelogError",
    "ConfigurationError",
    "DamagedRowsError",
    "Decision",
    "Deduplicator",
    "DugsError",
    "LabelError",
    "LogError",
    "LogRefusedError",
    "LogUnavailableError",
    "ModelError",
    "OffsetsDisagreeError",
    "OutcomeUnknownError",
    "OwnershipLostError",
    "Problem",
    "Projection",
    "Refusal",
    "SampleError",
    "StateError",
    "StreamRejectedError",
    "TransactionAbortedError",
    "UniqueIndex",
    "Verdict",
    "__version__",
]

# Imported when first asked for: torch takes two seconds, and `dugs --help` needs none of it.
_HOMES = {
    "Decision": "dugs_stream.records",
    "Deduplicator": "dugs_stream.core.deduplicator",
    "Projection": "dugs_stream.core.deduplicator",
    "UniqueIndex": "dugs_stream.core.index.unique_index",
    "Verdict": "dugs_stream.records",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("dugs-stream")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "dugs_stream.errors")), name)


def __dir__() -> list[str]:
    return __all__
