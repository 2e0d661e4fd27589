"""Handshake with a broker on a connection of our own, step by step: TCP, TLS, SASL, cluster.

The trap (kafka-python 3.0.12): it retries a refused connection until its time is up, and then says only that there
was none. So every client is preceded by a handshake under the same settings, which tells the cause. It also sends the
few requests that kafka-python has no method for (log.kafka.permissions). It changes nothing.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from kafka.errors import KafkaError, UnsupportedSaslMechanismError, for_code
from kafka.net.sasl import get_sasl_mechanism
from kafka.protocol.broker_version_data import BrokerVersionData
from kafka.protocol.metadata import ApiVersionsRequest, MetadataRequest
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

from dugs_stream.errors import LogRefusedError, LogUnavailableError, Refusal
from dugs_stream.log.kafka.compat import quiet_kafka_loggers
from dugs_stream.log.kafka.security import secret, tls_context, uses_tls
from dugs_stream.log.kafka.settings import KafkaSettings

# A SYN to a host in the same country is answered in 0.1 s.
CONNECT_SECONDS = 3.0
# All that follows, some six round trips: as long as one request of kafka-python may take.
STEPS_SECONDS = 10.0
# An answer about a handful of topics is a few kilobytes; a peer that announces more is not a broker.
_LARGEST_ANSWER_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 65_536
# The record type of a TLS alert and the version's first byte: how a TLS port answers an unencrypted client.
_TLS_ALERT = b"\x15\x03"
_HOSTNAME_MISMATCH, _EXPIRED = 62, 10


def host_and_port(server: str) -> tuple[str, int]:
    """The two parts of host:port, without the brackets of an IPv6 address."""
    host, _, port = server.rpartition(":")
    return host.strip("[]"), int(port)


def described_user(settings: KafkaSettings) -> str:
    """The user that the cluster takes this client for, for messages."""
    if settings.security_protocol.startswith("SASL"):
        return (
            f"user {settings.sasl_plain_username!r}" if settings.sasl_plain_username else "the Kerberos user"
        )
    return "the client certificate's user" if settings.ssl_certfile else "the anonymous user"


def shake_hands_with_any(settings: KafkaSettings) -> Handshake:
    """A finished handshake with the first server that lets this client in, to be closed by the caller.

    Raises LogRefusedError if a server answers and refuses, LogUnavailableError if none answers, each with
    the step at which every server stopped it.
    """
    failures: list[LogUnavailableError] = []
    for server in settings.bootstrap_servers:
        try:
            return Handshake(settings, server).run()
        except LogUnavailableError as error:
            failures.append(error)
    refused = next((each for each in failures if isinstance(each, LogRefusedError)), None)
    if refused is not None:
        others = "; ".join(dict.fromkeys(str(each) for each in failures if each is not refused))
        raise LogRefusedError(refused.cause, f"{refused}{f' ({others})' if others else ''}") from refused
    raise LogUnavailableError(
        f"No Kafka broker can be reached ({'; '.join(map(str, failures))}). Check log.kafka.bootstrap_servers, and that "
        "the broker runs; trying again is right."
    )


class Handshake:
    """One connection to one broker. Call the steps in order; each returns what it found, or raises why it failed.

    with closing(Handshake(settings, "broker:9093")) as handshake:
        for name, step in handshake.steps: step()
    """

    def __init__(self, settings: KafkaSettings, server: str) -> None:
        quiet_kafka_loggers()
        self.server = server
        self.brokers: tuple[str, ...] = ()
        self._settings = settings
        self._socket: socket.socket | None = None
        self._versions: BrokerVersionData | None = None
        self._ends_at = 0.0
        self._has_answered = False
        self._parser = KafkaProtocol(
            client_id=settings.client_id, ident=server, receive_message_max_bytes=_LARGEST_ANSWER_BYTES
        )

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    @property
    def steps(self) -> Sequence[tuple[str, Callable[[], str]]]:
        """The steps that these settings ask for, each with its name."""
        steps = [("TCP", self.connect)]
        if uses_tls(self._settings):
            steps.append(("TLS", self.encrypt))
        if self._settings.sasl_mechanism is not None:
            steps.append(("SASL", self.authenticate))
        return [*steps, ("cluster", self.find_brokers)]

    def run(self) -> Self:
        """All steps in order. Raises LogUnavailableError or LogRefusedError, with the connection closed."""
        try:
            for _name, step in self.steps:
                step()
        except BaseException:
            self.close()
            raise
        return self

    def connect(self) -> str:
        try:
            self._socket = socket.create_connection(host_and_port(self.server), timeout=CONNECT_SECONDS)
        except OSError as error:
            raise LogUnavailableError(f"{self.server}: {error.strerror or error}") from error
        self._ends_at = time.monotonic() + STEPS_SECONDS
        return f"{self.server} takes connections"

    def encrypt(self) -> str:
        host, _port = host_and_port(self.server)
        context = tls_context(self._settings)
        with self._translating():
            self._socket = context.wrap_socket(self._live_socket(), server_hostname=host.rstrip("."))
        names = self._socket.getpeercert() or {}
        until = f", the broker's certificate valid until {names['notAfter']}" if "notAfter" in names else ""
        return f"{self._socket.version()}{until}"

    def authenticate(self) -> str:
        mechanism = str(self._settings.sasl_mechanism)
        self._learn_versions()  # as every client begins: a listener that is not Kafka's fails here
        answer = self.ask(SaslHandshakeRequest(mechanism=mechanism, version=1))
        if answer.error_code == UnsupportedSaslMechanismError.errno:
            found = (
                f"does not offer sasl_mechanism {mechanism} (but {', '.join(answer.mechanisms) or 'none'})"
            )
            hint = "Set log.kafka.sasl_mechanism to one that it offers."
            raise self._refused(Refusal.AUTHENTICATION, found, hint)
        if answer.error_code:
            found = f"does not take SASL here ({for_code(answer.error_code).__name__})"
            hint = "Compare log.kafka.security_protocol with listener.security.protocol.map of the broker."
            raise self._refused(Refusal.AUTHENTICATION, found, hint)
        self._exchange_tokens(mechanism)
        return f"{mechanism} as {described_user(self._settings)}"

    def find_brokers(self) -> str:
        """The cluster's brokers: the first request that is answered to authenticated clients only."""
        answer = self.ask(MetadataRequest(topics=[], allow_auto_topic_creation=False))
        self.brokers = tuple(f"{each.host}:{each.port}" for each in answer.brokers)
        return f"cluster {answer.cluster_id} with {len(self.brokers)} broker(s)"

    def ask(self, request: Any) -> Any:
        """The broker's answer to one of kafka-python's requests."""
        if request.API_VERSION is None:
            request.API_VERSION = self._learn_versions().api_version(request)
        self._parser.send_request(request)
        with self._translating():
            self._live_socket().sendall(self._parser.send_bytes())
            return self._answer()

    def _answer(self) -> Any:
        while True:
            piece = self._live_socket().recv(_PIECE_BYTES)
            if not piece:
                raise self._closed_early()
            if not self._has_answered and piece.startswith(_TLS_ALERT) and not uses_tls(self._settings):
                hint = "Set log.kafka.security_protocol to SSL or SASL_SSL."
                raise self._refused(Refusal.TLS, "speaks TLS", hint)
            self._has_answered = True
            try:
                answers = self._parser.receive_bytes(piece)
            except KafkaError as error:
                raise LogUnavailableError(
                    f"{self.server} does not answer as a Kafka broker does: {error}"
                ) from error
            if answers:
                return answers[0][1]

    def _learn_versions(self) -> BrokerVersionData:
        """The requests that this broker takes, and their versions."""
        if self._versions is None:
            answer = self.ask(ApiVersionsRequest(version=0))
            if answer.error_code:
                raise LogUnavailableError(
                    f"{self.server}: ApiVersions: {for_code(answer.error_code).__name__}"
                )
            self._versions = BrokerVersionData(
                api_versions={each.api_key: (each.min_version, each.max_version) for each in answer.api_keys}
            )
        return self._versions

    def _exchange_tokens(self, name: str) -> None:
        """Run the mechanism's exchange as kafka-python's connection does. Its errors must quote no secret."""
        host, _port = host_and_port(self.server)
        settings = self._settings
        keys = {
            "sasl_mechanism": name,
            "security_protocol": settings.security_protocol,
            "sasl_plain_username": settings.sasl_plain_username,
            "sasl_plain_password": secret(settings, "sasl_plain_password"),
            "sasl_kerberos_service_name": settings.sasl_kerberos_service_name or "kafka",
            "sasl_kerberos_domain_name": settings.sasl_kerberos_domain_name,
        }
        said = ""
        try:
            mechanism = get_sasl_mechanism(name)(host=host, **keys)
            while not mechanism.is_done() and not said:
                answer = self.ask(SaslAuthenticateRequest(mechanism.auth_bytes(), version=1))
                if answer.error_code:
                    said = answer.error_message or for_code(answer.error_code).__name__
                else:
                    mechanism.receive(answer.auth_bytes)
        except LogUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 (of any class: no Kerberos library, a broker that cannot prove itself)
            said = f"{type(error).__name__}: {error}"
        if said:
            found = f"did not authenticate {described_user(settings)} ({said})"
            hint = "Check log.kafka.sasl_plain_username, its password and sasl_mechanism, and that the cluster knows the user."
            raise self._refused(Refusal.AUTHENTICATION, found, hint)

    def _live_socket(self) -> socket.socket:
        """The socket, with the rest of the time as its timeout; TimeoutError if there is none left."""
        left = self._ends_at - time.monotonic()
        if self._socket is None or left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        return self._socket

    def _closed_early(self) -> LogUnavailableError:
        """A broker that shuts down does the same, so this is not a refusal; but it may be one without a message."""
        protocol = self._settings.security_protocol
        when = "after its first answer" if self._has_answered else "before its first answer"
        return LogUnavailableError(
            f"{self.server} accepted the connection and closed it {when}. If the broker runs well, its listener uses "
            f"another security_protocol than {protocol}: compare listener.security.protocol.map there"
        )

    @contextmanager
    def _translating(self) -> Iterator[None]:
        """Turn the socket's errors into ours. With TLS 1.3 a client's certificate is refused at the first read."""
        try:
            yield
        except TimeoutError as error:
            raise LogUnavailableError(
                f"{self.server} takes connections and did not answer within {STEPS_SECONDS:g} s"
            ) from error
        except (ssl.SSLEOFError, ConnectionError) as error:
            raise self._closed_early() from error
        except ssl.SSLError as error:
            raise self._refused(Refusal.TLS, *self._why_not_encrypted(error)) from error

    def _why_not_encrypted(self, error: ssl.SSLError) -> tuple[str, str]:
        """What was found, and what to do about it."""
        if isinstance(error, ssl.SSLCertVerificationError):
            said = error.verify_message or str(error)
            if error.verify_code == _HOSTNAME_MISMATCH or "mismatch" in said:
                hint = (
                    "Use the certificate's name in log.kafka.bootstrap_servers and in the broker's "
                    "advertised.listeners, or have the certificate issued for this name too."
                )
                return f"shows a certificate for another name ({said.rstrip('.')})", hint
            if error.verify_code == _EXPIRED:
                found = f"shows a certificate that is not trusted ({said})"
                return found, "Have the broker's certificate renewed."
            file = self._settings.ssl_cafile
            trusted = "the system's authorities" if file is None else f"the authorities in {file}"
            found = f"shows a certificate that none of {trusted} signed ({said})"
            return found, "Name the authority that signed it as log.kafka.ssl_cafile."
        reason = str(error.reason or error).replace("_", " ").lower()
        if "certificate" in reason and "alert" in reason:
            found = f"does not take this client's certificate ({reason})"
            return found, "Name one that its authority signed as log.kafka.ssl_certfile and ssl_keyfile."
        found = f"could not agree on TLS ({reason})"
        return found, "Check that this port speaks TLS, and log.kafka.security_protocol and ssl_ciphers."

    def _refused(self, cause: Refusal, found: str, hint: str) -> LogRefusedError:
        return LogRefusedError(cause, f"{self.server} {found}. {hint}")
