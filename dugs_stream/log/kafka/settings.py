"""Settings of the Kafka engine: the YAML block `log.kafka`.

Data only: nothing is opened, created or read here. The keys are a closed list under kafka-python's own names; those
that exactly-once depends on are not in it (`KEYS_OWNED_BY_EXACTLY_ONCE` says which and why).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from dugs_stream.setting_types import Block

KEYS_OWNED_BY_EXACTLY_ONCE: Mapping[str, str] = MappingProxyType(
    {
        "acks": "every message must be confirmed by all in-sync replicas",
        "auto_offset_reset": "positions come from the changelog's trailer, or from input.start",
        "enable_auto_commit": "offsets are committed inside the transaction",
        "enable_idempotence": "a transaction needs it",
        "group_id": "it is input.group",
        "group_instance_id": "a static member would never hand ownership back",
        "isolation_level": "only committed records may be read",
        "max_in_flight_requests_per_connection": "order within a topic depends on it",
        "partition_assignment_strategy": "one member owns every partition",
        "retries": "a delivery is retried until its deadline, then the transaction is aborted",
        "transaction_timeout_ms": "it is chosen to fit the deadlines of the commit",
        "transactional_id": "it is derived from the group and the changelog topic",
    }
)
"""kafka-python keys that no configuration may set, each with the reason: a wrong value would lose or double records."""


class KafkaSettings(Block):
    """How to reach a Kafka cluster, under kafka-python's names."""

    bootstrap_servers: tuple[str, ...] = Field(default=("localhost:9092",), min_length=1)
    """Some of the cluster's brokers, each host:port; one that answers is enough."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Whether connections are encrypted (SSL) and authenticated (SASL)."""
    create_topics: bool = True
    """Make missing topics with the right settings; false: they are refused by name."""
    replication_factor: int = Field(default=-1, ge=-1)
    """Copies of topics made here; -1 is the cluster's default."""
    input_partitions: int = Field(default=1, ge=1)
    """Partitions of an input topic made here; one keeps the whole input in one order."""
    # 10 s: three missed heartbeats and a pause of the machine; the broker refuses less than 6 s by default.
    session_timeout_ms: int = Field(default=10_000, ge=1_000)
    """How long a silent owner keeps the input before another takes over."""
    client_id: str = Field(default="dugs", min_length=1)
    """The name that the brokers' logs and quotas know this client by."""

    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI"] | None = None
    """How to authenticate under a SASL protocol."""
    sasl_plain_username: str | None = None
    """The user for PLAIN and SCRAM."""
    sasl_plain_password: SecretStr | None = None
    """The user's password; only from the environment."""
    sasl_plain_password_file: Path | None = None
    """A file that holds the password, read when connecting."""
    sasl_kerberos_service_name: str | None = None
    """The brokers' service name for GSSAPI."""
    sasl_kerberos_domain_name: str | None = None
    """The brokers' domain for GSSAPI."""

    ssl_cafile: Path | None = None
    """Certificates of the authorities that are trusted, in PEM; null trusts the system's."""
    ssl_certfile: Path | None = None
    """This client's own certificate, in PEM."""
    ssl_keyfile: Path | None = None
    """The certificate's private key, in PEM."""
    ssl_crlfile: Path | None = None
    """Certificates that are no longer trusted, in PEM."""
    ssl_password: SecretStr | None = None
    """The private key's password; only from the environment."""
    ssl_password_file: Path | None = None
    """A file that holds the private key's password, read when connecting."""
    ssl_ciphers: str | None = None
    """OpenSSL's list of ciphers; null is Python's default."""
    ssl_check_hostname: bool = True
    """Whether a broker's certificate must name its host."""

    @field_validator("bootstrap_servers", mode="before")
    @classmethod
    def _split_a_string(cls, servers: Any) -> Any:
        """Accept "a:9092,b:9092", as an environment variable gives it."""
        if isinstance(servers, str):
            return tuple(part.strip() for part in servers.split(",") if part.strip())
        return servers

    @field_validator("bootstrap_servers")
    @classmethod
    def _are_host_and_port(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for server in servers:
            host, _, port = server.rpartition(":")
            if not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65535:  # noqa: PLR2004 (the last TCP port)
                raise ValueError(f"{server!r} is not host:port; write for example localhost:9092")
        return servers

    @field_validator("replication_factor")
    @classmethod
    def _is_a_factor(cls, factor: int) -> int:
        if factor == 0:
            raise ValueError("0 copies cannot be kept; write -1 for the cluster's default, or 1 and above")
        return factor

    @model_validator(mode="after")
    def _security_is_complete(self) -> Self:
        uses_sasl = self.security_protocol.startswith("SASL")
        if uses_sasl and self.sasl_mechanism is None:
            raise ValueError(f"security_protocol {self.security_protocol} needs sasl_mechanism")
        if not uses_sasl and self.sasl_mechanism is not None:
            raise ValueError(
                f"sasl_mechanism {self.sasl_mechanism} has no effect under security_protocol "
                f"{self.security_protocol}; write SASL_PLAINTEXT or SASL_SSL"
            )
        if self.sasl_plain_password is not None and self.sasl_plain_password_file is not None:
            raise ValueError("give sasl_plain_password or sasl_plain_password_file, not both")
        if self.ssl_password is not None and self.ssl_password_file is not None:
            raise ValueError("give ssl_password or ssl_password_file, not both")
        needs_password = uses_sasl and self.sasl_mechanism != "GSSAPI"
        has_password = self.sasl_plain_password is not None or self.sasl_plain_password_file is not None
        if needs_password and (self.sasl_plain_username is None or not has_password):
            raise ValueError(
                f"sasl_mechanism {self.sasl_mechanism} needs sasl_plain_username and sasl_plain_password "
                "(or sasl_plain_password_file)"
            )
        return self
