"""At which door does a broker turn us away? One connection of our own, step by step: TCP, TLS, SASL, cluster.

kafka-python tries a refused connection again until its time is up, and then says only that there was none. So
whoever opens a client visits a broker first, under the same settings, and hears the cause. A visit also asks
the few questions that kafka-python has no words for (kafka_permissions). It changes nothing.
"""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

from kafka.errors import KafkaError, UnsupportedSaslMechanismError, for_code
from kafka.net.sasl import get_sasl_mechanism
from kafka.protocol.broker_version_data import BrokerVersionData
from kafka.protocol.metadata import ApiVersionsRequest, MetadataRequest
from kafka.protocol.parser import KafkaProtocol
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslHandshakeRequest

from dugs_stream.errors import LogRefusedError, LogUnavailableError, Refusal
from dugs_stream.log.kafka.loggers import calm_kafka_loggers
from dugs_stream.log.kafka.secrets import secret
from dugs_stream.log.kafka.security import tls_context, uses_tls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dugs_stream.log.settings import KafkaSettings

# A SYN to a host in the same country is answered in 0.1 s.
CONNECT_SECONDS = 3.0
# All that follows, some six round trips: as long as one request of kafka-python may take (kafka_client).
STEPS_SECONDS = 10.0
# An answer about a handful of topics is a few kilobytes; whatever announces more is not a broker speaking.
_LARGEST_ANSWER_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 65_536
# The record type of a TLS alert and the version's first byte: what a TLS port says to one who speaks plainly.
_TLS_ALERT = b"\x15\x03"
_HOSTNAME_MISMATCH, _EXPIRED = 62, 10


def host_and_port(server: str) -> tuple[str, int]:
    """The two parts of host:port, the brackets of an IPv6 address taken off."""
    host, _, port = server.rpartition(":")
    return host.strip("[]"), int(port)


def described_user(settings: KafkaSettings) -> str:
    """Whom the cluster knows this client as, for messages."""
    if settings.security_protocol.startswith("SASL"):
        return (
            f"user {settings.sasl_plain_username!r}" if settings.sasl_plain_username else "the Kerberos user"
        )
    return "the client certificate's user" if settings.ssl_certfile else "the anonymous user"


def visit_any(settings: KafkaSettings) -> Handshake:
    """A visit that has arrived at the first server that lets this client in; close it.

    Raises LogRefusedError where a server answers and refuses, LogUnavailableError where nobody answers, each with
    the step at which every server stopped it.
    """
    failures: list[LogUnavailableError] = []
    for server in settings.bootstrap_servers:
        visit = Handshake(settings, server)
        try:
            visit.arrive()
        except LogUnavailableError as error:
            visit.close()
            failures.append(error)
        except BaseException:
            visit.close()
            raise
        else:
            return visit
    refused = next((each for each in failures if isinstance(each, LogRefusedError)), None)
    if refused is not None:
        others = "; ".join(dict.fromkeys(str(each) for each in failures if each is not refused))
        raise LogRefusedError(refused.cause, f"{refused}{f' ({others})' if others else ''}") from refused
    raise LogUnavailableError(
        f"No Kafka broker can be reached ({'; '.join(map(str, failures))}). Check log.kafka.bootstrap_servers, and that "
        "the broker runs; trying again is right."
    )


class Handshake:
    """One connection to one broker. Call the steps in order; each says what it found, or raises why not.

    with Visit(settings, "broker:9093") as visit:
        for step in visit.steps: step()
    """

    def __init__(self, settings: KafkaSettings, server: str) -> None:
        calm_kafka_loggers()
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
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
        return [*steps, ("cluster", self.look_around)]

    def arrive(self) -> None:
        """All steps at once. Raises LogUnavailableError or LogRefusedError."""
        for _name, step in self.steps:
            step()

    # -- the steps ---------------------------------------------------------------------------------------

    def connect(self) -> str:
        """TCP."""
        try:
            self._socket = socket.create_connection(host_and_port(self.server), timeout=CONNECT_SECONDS)
        except OSError as error:
            raise LogUnavailableError(f"{self.server}: {error.strerror or error}") from error
        self._ends_at = time.monotonic() + STEPS_SECONDS
        return f"{self.server} takes connections"

    def encrypt(self) -> str:
        """TLS, with the certificate verified."""
        host, _port = host_and_port(self.server)
        context = tls_context(self._settings)
        with self._telling_tls():
            self._socket = context.wrap_socket(self._plug(), server_hostname=host.rstrip("."))
        names = self._socket.getpeercert() or {}
        until = f", the broker's certificate valid until {names['notAfter']}" if "notAfter" in names else ""
        return f"{self._socket.version()}{until}"

    def authenticate(self) -> str:
        """SASL."""
        mechanism = str(self._settings.sasl_mechanism)
        self._learn_versions()  # as every client begins, and the first thing that a strange listener answers badly
        answer = self.ask(SaslHandshakeRequest(mechanism=mechanism, version=1))
        if answer.error_code == UnsupportedSaslMechanismError.errno:
            offered = ", ".join(answer.mechanisms) or "none"
            raise self._refused(
                Refusal.AUTHENTICATION,
                f"does not offer sasl_mechanism {mechanism} (but {offered})",
                "Set log.kafka.sasl_mechanism to one that it offers.",
            )
        if answer.error_code:
            raise self._refused(
                Refusal.AUTHENTICATION,
                f"takes no SASL here ({for_code(answer.error_code).__name__})",
                "Compare log.kafka.security_protocol with listener.security.protocol.map of the broker.",
            )
        self._exchange_tokens(mechanism)
        return f"{mechanism} as {described_user(self._settings)}"

    def look_around(self) -> str:
        """The first request that only those let in get answered: which brokers there are."""
        answer = self.ask(MetadataRequest(topics=[], allow_auto_topic_creation=False))
        self.brokers = tuple(f"{each.host}:{each.port}" for each in answer.brokers)
        return f"cluster {answer.cluster_id} with {len(self.brokers)} broker(s)"

    # -- asking ------------------------------------------------------------------------------------------

    def ask(self, request: Any) -> Any:
        """The broker's answer to one request of kafka-python's."""
        if request.API_VERSION is None:
            request.API_VERSION = self._learn_versions().api_version(request)
        self._parser.send_request(request)
        with self._telling_tls():
            self._plug().sendall(self._parser.send_bytes())
            return self._answer()

    def _answer(self) -> Any:
        while True:
            piece = self._plug().recv(_PIECE_BYTES)
            if not piece:
                raise self._hung_up()
            if not self._has_answered and piece.startswith(_TLS_ALERT) and not uses_tls(self._settings):
                raise self._refused(
                    Refusal.TLS, "speaks TLS", "Set log.kafka.security_protocol to SSL or SASL_SSL."
                )
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
        """Which requests this broker takes, in which versions."""
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
        """Run the mechanism's exchange as kafka-python's connection does. What it raises may quote no secret."""
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
        except Exception as error:  # noqa: BLE001 (any class at all: no Kerberos library, a broker with no proof of itself)
            said = f"{type(error).__name__}: {error}"
        if said:
            raise self._not_authenticated(said)

    def _not_authenticated(self, said: str) -> LogRefusedError:
        return self._refused(
            Refusal.AUTHENTICATION,
            f"did not authenticate {described_user(self._settings)} ({said})",
            "Check log.kafka.sasl_plain_username, its password and sasl_mechanism, and that the cluster knows the user.",
        )

    # -- why not -----------------------------------------------------------------------------------------

    def _plug(self) -> socket.socket:
        """The socket, with what is left of the time; TimeoutError where nothing is."""
        left = self._ends_at - time.monotonic()
        if self._socket is None or left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        return self._socket

    def _hung_up(self) -> LogUnavailableError:
        """A broker that is going down does the same, so this is no refusal; but it may be one without a word."""
        protocol = self._settings.security_protocol
        when = "after its first answer" if self._has_answered else "at the first word"
        return LogUnavailableError(
            f"{self.server} took the connection and closed it {when}. Where the broker runs well, its listener speaks "
            f"another security_protocol than {protocol}: compare listener.security.protocol.map there"
        )

    @contextmanager
    def _telling_tls(self) -> Iterator[None]:
        """Turn what the socket raises into our words. With TLS 1.3 a client's certificate is refused at the first read."""
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            raise self._untrusted(error) from error
        except TimeoutError as error:
            raise LogUnavailableError(
                f"{self.server} takes connections and did not answer within {STEPS_SECONDS:g} s"
            ) from error
        except ssl.SSLEOFError as error:
            raise self._hung_up() from error
        except ssl.SSLError as error:
            raise self._handshake_failed(error) from error
        except ConnectionError as error:
            raise self._hung_up() from error

    def _untrusted(self, error: ssl.SSLCertVerificationError) -> LogRefusedError:
        said = error.verify_message or str(error)
        if error.verify_code == _HOSTNAME_MISMATCH or "mismatch" in said:
            return self._refused(
                Refusal.TLS,
                f"shows a certificate of another name ({said.rstrip('.')})",
                "Name the broker as its certificate does in log.kafka.bootstrap_servers and in its "
                "advertised.listeners, or have the certificate issued for this name too.",
            )
        if error.verify_code == _EXPIRED:
            return self._refused(
                Refusal.TLS,
                f"shows a certificate that is not trusted ({said})",
                "Have the broker's certificate renewed.",
            )
        file = self._settings.ssl_cafile
        trusted = "the system's authorities" if file is None else f"the authorities in {file}"
        return self._refused(
            Refusal.TLS,
            f"shows a certificate that none of {trusted} signed ({said})",
            "Name the authority that signed it as log.kafka.ssl_cafile.",
        )

    def _handshake_failed(self, error: ssl.SSLError) -> LogRefusedError:
        reason = str(error.reason or error).replace("_", " ").lower()
        if "certificate" in reason and "alert" in reason:
            return self._refused(
                Refusal.TLS,
                f"does not take this client's certificate ({reason})",
                "Name one that its authority signed as log.kafka.ssl_certfile and ssl_keyfile.",
            )
        return self._refused(
            Refusal.TLS,
            f"could not agree on TLS ({reason})",
            "Check that this port speaks TLS, and log.kafka.security_protocol and ssl_ciphers.",
        )

    def _refused(self, cause: Refusal, found: str, hint: str) -> LogRefusedError:
        return LogRefusedError(cause, f"{self.server} {found}. {hint}")
