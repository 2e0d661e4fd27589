"""Clients of kafka-python: consumers, producers and admin clients that wait for nothing without end.

Built from `KafkaSettings` with the deadlines of one record and the network client of log.kafka.compat. A handshake
with a broker comes first, because it tells the cause of a refusal. Knows nothing of groups, topics or transactions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from dugs_stream.log.kafka.compat import NetworkClient, quiet_kafka_loggers
from dugs_stream.log.kafka.deadlines import DEADLINES, ms
from dugs_stream.log.kafka.errors import translating
from dugs_stream.log.kafka.handshake import shake_hands_with_any
from dugs_stream.log.kafka.security import secret, tls_context, uses_tls
from dugs_stream.log.kafka.settings import KafkaSettings

# 10 s to find the cluster: a broker that restarts takes about 5 s, and the daemon asks again with backoff.
BOOTSTRAP_SECONDS = 10.0
# kafka-python waits this long between tries of a request; its 100 ms make init_transactions four times slower.
RETRY_BACKOFF_MS = 20
# Between tries of a connection; the default's 30 s would outlive every deadline.
RECONNECT_BACKOFF_MAX_MS = 2_000
# New partitions of the input are noticed within this time.
METADATA_MAX_AGE_MS = 60_000

# The broker's own default ceiling for a request (socket.request.max.bytes, 100 MiB) less room for its frame.
LARGEST_REQUEST_BYTES = 100 * 1024 * 1024 - 64 * 1024
# The wire format's own limit: a record as large as its topic allows must reach the daemon, which rejects it.
LARGEST_RESPONSE_BYTES = 2**31 - 1

_KEYS_AS_THEY_ARE = {
    "security_protocol",
    "sasl_mechanism",
    "sasl_plain_username",
    "sasl_kerberos_service_name",
    "sasl_kerberos_domain_name",
}


def open_consumer(settings: KafkaSettings, **own: Any) -> Any:
    """A consumer that reads only committed records, commits nothing by itself and chooses no position.

    auto_offset_reset is "none": a position that is gone must be an error that recovery sees, never a silent
    jump.
    """
    return _open(
        KafkaConsumer,
        settings,
        {
            "enable_auto_commit": False,
            "isolation_level": "read_committed",
            "auto_offset_reset": "none",
            "allow_auto_create_topics": False,
            "retry_backoff_ms": RETRY_BACKOFF_MS,
            # 50 ms and 4 MiB instead of 500 ms and 1 MiB: twice the records/s with several partitions.
            "fetch_max_wait_ms": 50,
            "max_partition_fetch_bytes": 4 * 1024 * 1024,
            "receive_message_max_bytes": LARGEST_RESPONSE_BYTES,
            **own,
        },
    )


@contextmanager
def consumer_of(settings: KafkaSettings, group: str | None, **own: Any) -> Iterator[Any]:
    """A consumer that asks for a group's offsets without joining it, or reads in no group; closed at the end."""
    consumer = open_consumer(settings, group_id=group, **own)
    try:
        yield consumer
    finally:
        consumer.close(autocommit=False)


def open_producer(settings: KafkaSettings, **own: Any) -> Any:
    """An idempotent producer that waits for all in-sync replicas and creates no topic by a misspelt name."""
    return _open(
        KafkaProducer,
        settings,
        {
            "acks": "all",
            "enable_idempotence": True,
            "allow_auto_create_topics": False,
            "retry_backoff_ms": RETRY_BACKOFF_MS,
            "max_request_size": LARGEST_REQUEST_BYTES,
            **own,
        },
    )


def open_admin(settings: KafkaSettings) -> Any:
    """An admin client, for looking at topics and making them; to be closed soon."""
    return _open(KafkaAdminClient, settings, {})


def _open(client_class: Callable[..., Any], settings: KafkaSettings, own: Mapping[str, Any]) -> Any:
    """Build a client, or raise LogUnavailableError naming the servers; leaves no thread behind on failure."""
    quiet_kafka_loggers()
    # kafka-python would try for the whole bootstrap time, log every attempt, and tell no cause.
    reach_a_broker(settings)
    shared = _shared_settings(settings)
    networks: list[NetworkClient] = []

    def make_network(**configs: Any) -> NetworkClient:
        networks.append(NetworkClient(**configs))
        return networks[-1]

    servers = f"{', '.join(settings.bootstrap_servers)} ({settings.security_protocol})"
    try:
        with translating(f"looking for the Kafka cluster at {servers}"):
            return client_class(**{**shared, **own, "kafka_client": make_network})
    except BaseException:
        # The trap (kafka-python 3.0.12): the constructors start a thread before they find that no broker answers, and
        # do not end it; a daemon that retries for a night would end with thousands.
        for network in networks:
            network.stop()
        raise


def _shared_settings(settings: KafkaSettings) -> dict[str, Any]:
    """Keys that all three kinds of client take, secrets included: never print the result."""
    keys: dict[str, Any] = {
        "bootstrap_servers": list(settings.bootstrap_servers),
        "client_id": settings.client_id,
        "bootstrap_timeout_ms": ms(BOOTSTRAP_SECONDS),
        "request_timeout_ms": ms(DEADLINES.request_seconds),
        "reconnect_backoff_max_ms": RECONNECT_BACKOFF_MAX_MS,
        "metadata_max_age_ms": METADATA_MAX_AGE_MS,
        **settings.model_dump(include=_KEYS_AS_THEY_ARE, exclude_none=True),
    }
    if uses_tls(settings):
        keys["ssl_context"] = tls_context(settings)
    if (password := secret(settings, "sasl_plain_password")) is not None:
        keys["sasl_plain_password"] = password
    return keys


def reach_a_broker(settings: KafkaSettings) -> None:
    """Raise at once if no server lets this client in, with the step at which each of them stops it."""
    shake_hands_with_any(settings).close()
