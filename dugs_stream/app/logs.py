"""The log of the settings: the daemon's own, and readers and writers beside it; one engine or the other."""

from __future__ import annotations

import structlog

from dugs_stream.config import Settings
from dugs_stream.log.embedded.log import EmbeddedLog
from dugs_stream.log.embedded.reader import EmbeddedReader
from dugs_stream.log.embedded.redelivery import EmbeddedRedelivery
from dugs_stream.log.embedded.writer import EmbeddedWriter
from dugs_stream.log.kafka.log import KafkaLog
from dugs_stream.log.kafka.reader import KafkaReader
from dugs_stream.log.kafka.redelivery import KafkaRedelivery
from dugs_stream.log.kafka.topics import prepare_input_topic
from dugs_stream.log.kafka.writer import KafkaWriter
from dugs_stream.log.port import Log, LogReader, LogRedelivery, LogWriter, TopicNames

_log = structlog.get_logger("dugs")


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


def open_log(settings: Settings) -> Log:
    """The log the daemon owns its input on; nothing is reached before `prepare`."""
    if settings.log.engine == "kafka":
        return KafkaLog(
            settings.log.kafka,
            topic_names(settings),
            settings.output.max_message_bytes,
            settings.input.max_record_bytes,
        )
    return EmbeddedLog(settings.log.embedded, topic_names(settings))


def prepare_input(settings: Settings) -> None:
    """Make the input topic where it is missing and may be made; a writer's user need see no other on a cluster."""
    if settings.log.engine == "kafka":
        prepare_input_topic(settings.log.kafka, topic_names(settings), settings.input.max_record_bytes)
    else:
        log = EmbeddedLog(settings.log.embedded, topic_names(settings))
        log.prepare()
        log.close()


def open_writer(settings: Settings) -> LogWriter:
    """Puts records onto the input topic."""
    if settings.log.engine == "kafka":
        return KafkaWriter(settings.log.kafka)
    return EmbeddedWriter(settings.log.embedded)


def open_reader(settings: Settings) -> LogReader:
    """Reads committed records without a group."""
    return (
        KafkaReader(settings.log.kafka)
        if settings.log.engine == "kafka"
        else EmbeddedReader(settings.log.embedded)
    )


def open_redelivery(settings: Settings) -> LogRedelivery:
    """Puts dead letters back on the input; it remembers under the group's name with `-retry` behind it."""
    names = topic_names(settings)
    places = (names.dead_letter, names.input, f"{names.group}-retry")
    if settings.log.engine == "kafka":
        return KafkaRedelivery(settings.log.kafka, *places)
    return EmbeddedRedelivery(settings.log.embedded, *places)
