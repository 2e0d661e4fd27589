"""How is kafka-python set up so that nothing waits for ever and no secret is printed?

Builds consumers, producers and admin clients from `KafkaSettings` with the deadlines of one table, a network
client whose one endless wait is cured, and a calm logger. Knows nothing of groups, topics or transactions.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from dugs_stream.errors import ConfigurationError, LogUnavailableError, Problem
from dugs_stream.log.kafka_errors import translating
from dugs_stream.log.kafka_network import PatientNetClient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dugs_stream.log.settings import KafkaSettings

__all__ = [
    "BOOTSTRAP_SECONDS",
    "LARGEST_REQUEST_BYTES",
    "REQUEST_SECONDS",
    "calm_kafka_loggers",
    "open_admin",
    "open_consumer",
    "open_producer",
    "reach_a_broker",
]

# The ladder of clocks, each above what it waits for and below what waits for it:
#   request 10 < delivery 20 < flush 25 < transaction timeout 30 < commit watchdog 45 (kafka_transaction).
# 10 s for one request: a thousand times the usual answer, so that only a stalled broker is given up on.
REQUEST_SECONDS = 10.0
# 10 s to find the cluster: a broker that restarts takes about 5 s, and the daemon asks again with backoff.
BOOTSTRAP_SECONDS = 10.0
# One look whether anybody listens; a SYN to a host in the same country is answered in 0.1 s.
PROBE_SECONDS = 3.0

# kafka-python waits this long between tries of a request; its 100 ms make init_transactions four times slower.
RETRY_BACKOFF_MS = 20
# Between tries of a connection; the default's 30 s would outlive every deadline above.
RECONNECT_BACKOFF_MAX_MS = 2_000
# New partitions of the input are noticed within this time.
METADATA_MAX_AGE_MS = 60_000

# The broker's own default ceiling for a request (socket.request.max.bytes, 100 MiB) less room for its frame.
LARGEST_REQUEST_BYTES = 100 * 1024 * 1024 - 64 * 1024
# The wire format's own limit: a record as large as its topic allows must reach the daemon, which rejects it.
LARGEST_RESPONSE_BYTES = 2**31 - 1

_KEYS_AS_THEY_ARE = (
    "security_protocol",
    "sasl_mechanism",
    "sasl_plain_username",
    "sasl_kerberos_service_name",
    "sasl_kerberos_domain_name",
    "ssl_ciphers",
    "ssl_check_hostname",
)
_PATH_KEYS = ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_crlfile")
_ADMIN_LACKS = frozenset({"ssl_ciphers"})


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
            "request_timeout_ms": int(REQUEST_SECONDS * 1000),
            "retry_backoff_ms": RETRY_BACKOFF_MS,
            # 50 ms and 4 MiB instead of 500 ms and 1 MiB: twice the records/s with several partitions.
            "fetch_max_wait_ms": 50,
            "max_partition_fetch_bytes": 4 * 1024 * 1024,
            "receive_message_max_bytes": LARGEST_RESPONSE_BYTES,
            **own,
        },
    )


def open_producer(settings: KafkaSettings, **own: Any) -> Any:
    """An idempotent producer that waits for all in-sync replicas and creates no topic by a slip of the pen."""
    return _open(
        KafkaProducer,
        settings,
        {
            "acks": "all",
            "enable_idempotence": True,
            "allow_auto_create_topics": False,
            "request_timeout_ms": int(REQUEST_SECONDS * 1000),
            "retry_backoff_ms": RETRY_BACKOFF_MS,
            "max_request_size": LARGEST_REQUEST_BYTES,
            **own,
        },
    )


def open_admin(settings: KafkaSettings) -> Any:
    """An admin client; close it soon, it is for looking and for making topics only."""
    return _open(
        KafkaAdminClient, settings, {"request_timeout_ms": int(REQUEST_SECONDS * 1000)}, _ADMIN_LACKS
    )


def _open(
    client_class: Callable[..., Any],
    settings: KafkaSettings,
    own: Mapping[str, Any],
    without: frozenset[str] = frozenset(),
) -> Any:
    """Build a client, or raise LogUnavailableError naming the servers; leaves no thread behind on failure."""
    calm_kafka_loggers()
    reach_a_broker(settings)
    shared = {key: value for key, value in _shared_settings(settings).items() if key not in without}
    networks: list[PatientNetClient] = []

    def make_network(**configs: Any) -> PatientNetClient:
        networks.append(PatientNetClient(**configs))
        return networks[-1]

    try:
        with translating(f"looking for the Kafka cluster at {_named(settings)}"):
            return client_class(**{**shared, **own, "kafka_client": make_network})
    except BaseException:
        # The constructors start a thread before they find out that nobody answers, and forget to end it:
        # a daemon that retries for a night would end with thousands.
        for network in networks:
            network.close()
            network._net.stop()  # noqa: SLF001 (there is no public way to end that thread)
        raise


def _shared_settings(settings: KafkaSettings) -> dict[str, Any]:
    """Keys that all three kinds of client take, secrets included: never print the result."""
    keys: dict[str, Any] = {
        "bootstrap_servers": list(settings.bootstrap_servers),
        "client_id": settings.client_id,
        "bootstrap_timeout_ms": int(BOOTSTRAP_SECONDS * 1000),
        "reconnect_backoff_max_ms": RECONNECT_BACKOFF_MAX_MS,
        "metadata_max_age_ms": METADATA_MAX_AGE_MS,
    }
    for name in _KEYS_AS_THEY_ARE:
        if (value := getattr(settings, name)) is not None:
            keys[name] = value
    for name in _PATH_KEYS:
        if (path := getattr(settings, name)) is not None:
            keys[name] = str(path)
    for name in ("sasl_plain_password", "ssl_password"):
        if (secret := _secret(settings, name)) is not None:
            keys[name] = secret
    return keys


def _secret(settings: KafkaSettings, name: str) -> str | None:
    """A password, from the setting itself or from the first line of its file."""
    given = getattr(settings, name)
    if given is not None:
        return str(given.get_secret_value())
    file = getattr(settings, f"{name}_file")
    if file is None:
        return None
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problem = Problem(f"log.kafka.{name}_file", f"cannot be read: {error}", "Name a file that holds it.")
        raise ConfigurationError([problem]) from error
    if not lines or not lines[0]:
        problem = Problem(
            f"log.kafka.{name}_file", f"{str(file)!r} is empty", "Put the secret on its first line."
        )
        raise ConfigurationError([problem])
    return str(lines[0])


def reach_a_broker(settings: KafkaSettings) -> None:
    """Raise at once where no server takes a connection, with what the operating system says of each.

    kafka-python would try for the whole bootstrap time, log every attempt, and tell no cause.
    """
    refusals = []
    for server in settings.bootstrap_servers:
        host, _, port = server.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS).close()
        except OSError as error:
            refusals.append(f"{server}: {error.strerror or error}")
        else:
            return
    raise LogUnavailableError(
        f"No Kafka broker can be reached ({'; '.join(refusals)}). Check log.kafka.bootstrap_servers, and that the "
        "broker runs; trying again is right."
    )


def _named(settings: KafkaSettings) -> str:
    return f"{', '.join(settings.bootstrap_servers)} ({settings.security_protocol})"


class _Relay(logging.Handler):
    """Passes on what the kafka loggers say, the same sentence at most once a minute, nothing below WARNING."""

    # A minute: an operator still sees that it goes on, a night without a broker is 500 lines and not 100 000.
    QUIET_SECONDS = 60.0

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._last_said: dict[tuple[str, str], float] = {}
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        sentence = (record.name, str(record.msg))
        now = time.monotonic()
        with self._guard:
            if now - self._last_said.get(sentence, -self.QUIET_SECONDS) < self.QUIET_SECONDS:
                return
            self._last_said[sentence] = now
        relayed = logging.getLogger("dugs_stream.log.kafka_client")
        if relayed.isEnabledFor(record.levelno):
            relayed.handle(record)


def calm_kafka_loggers() -> None:
    """Take kafka-python's loggers in hand, once a process: no flood, and no DEBUG, which prints passwords."""
    logger = logging.getLogger("kafka")
    if any(isinstance(handler, _Relay) for handler in logger.handlers):
        return
    logger.setLevel(logging.WARNING)
    # It warns of each task that took 0.1 s, which says that the machine is busy and nothing of the log.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(_Relay())
