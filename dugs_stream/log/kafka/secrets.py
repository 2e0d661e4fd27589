"""Which passwords does a connection need, and where do they stand? Read anew each time, so that they may change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dugs_stream.references import first_line

if TYPE_CHECKING:
    from dugs_stream.log.settings import KafkaSettings


def secret(settings: KafkaSettings, name: str) -> str | None:
    """A password, from the setting itself or from the first line of its file; None where there is none."""
    given = getattr(settings, name)
    if given is not None:
        return str(given.get_secret_value())
    file = getattr(settings, f"{name}_file")
    return None if file is None else first_line(file, f"log.kafka.{name}_file")
