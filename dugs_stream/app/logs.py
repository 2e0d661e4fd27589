"""The log of the settings: its engine is chosen here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator

from dugs_stream.config import Settings
from dugs_stream.errors import Finding
from dugs_stream.log.port import Log, LogEngine, LogReader, LogRedelivery, LogWriter, TopicNames


def topic_names(settings: Settings) -> TopicNames:
    """The topics and the group of this deployment."""
    return TopicNames(
        input=settings.input.topic,
        group=settings.input.group,
        unique=settings.output.topic,
        changelog=settings.output.changelog_topic,
        dead_letter=settings.output.dead_letter_topic,
        decisions=settings.output.decisions_topic,
    )


def _engine(settings: Settings) -> LogEngine:
    if settings.log.engine == "kafka":
        from dugs_stream.log.kafka.engine import KafkaEngine  # noqa: PLC0415 (kafka-python only if it is used)

        return KafkaEngine(
            settings.log.kafka,
            topic_names(settings),
            settings.output.max_message_bytes,
            settings.input.max_record_bytes,
        )
    from dugs_stream.log.embedded.engine import EmbeddedEngine  # noqa: PLC0415 (one engine at a time)

    return EmbeddedEngine(settings.log.embedded, topic_names(settings))


def open_log(settings: Settings) -> Log:
    """The log the daemon owns its input on; nothing is reached before `prepare`."""
    return _engine(settings).log()


def prepare_input(settings: Settings) -> None:
    """Make the input topic if it is missing and may be made."""
    _engine(settings).prepare_input()


def open_writer(settings: Settings) -> LogWriter:
    """Puts records onto the input topic."""
    return _engine(settings).writer()


def open_reader(settings: Settings) -> LogReader:
    """Reads committed records without a group."""
    return _engine(settings).reader()


def open_redelivery(settings: Settings) -> LogRedelivery:
    """Puts dead letters back on the input; its marks are kept under the group's name followed by `-retry`."""
    names = topic_names(settings)
    return _engine(settings).redelivery(names.dead_letter, names.input, f"{names.group}-retry")


def check_log(settings: Settings) -> Iterator[Finding]:
    """What the engine finds when the log is tried; missing topics are made, if allowed."""
    return _engine(settings).check()
