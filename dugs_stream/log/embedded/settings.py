"""Settings of the embedded engine: the YAML block `log.embedded`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from dugs_stream.setting_types import Block


class EmbeddedSettings(Block):
    """The log in one SQLite file: no broker, one daemon, any number of writers and readers."""

    path: Path = Path("dugs-data/log.db")
    """The file; it and its folder are made where they are missing."""
    # A week: long enough to look at last weekend's rejected records, short enough for a laptop's disk.
    keep_decided_hours: float = Field(default=168.0, ge=0.0, allow_inf_nan=False)
    """Decided input older than this is pruned, 0 at once; the changelog and the outputs never are."""
