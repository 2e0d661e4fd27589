"""`dugs tail`: the events of an output topic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

from dugs_stream.app.logs import open_reader, topic_names
from dugs_stream.config import Settings
from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.log.port import Stop
from dugs_stream.outputs.messages import read_event


def events(
    settings: Settings, topic: str, *, follow: bool = False, stop: Stop = lambda: False
) -> Iterator[Mapping[str, Any]]:
    """The events of unique, decisions or dead-letter from the topic's beginning; with `follow` until `stop` says so.

    Raises ConfigurationError if the topic is not configured or does not exist.
    """
    names = topic_names(settings)
    chosen = {"unique": names.unique, "decisions": names.decisions, "dead-letter": names.dead_letter}[topic]
    if chosen is None:
        hint = "Name one to keep every verdict."
        raise ConfigurationError(
            [Problem("output.decisions_topic", "no decisions topic is configured.", hint)]
        )
    with closing(open_reader(settings)) as reader:
        for record in reader.read(chosen, follow=follow, stop=stop):
            yield read_event(record)
