"""TLS and passwords of a connection: the `ssl_*` settings as one context, and secrets read from their files.

One context serves kafka-python's clients and our own handshake, so that both fail for the same reasons. (kafka-python
3.0.12 ignores `ssl_ciphers`, and asks a terminal for the password of a private key.)
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.log.kafka.settings import KafkaSettings
from dugs_stream.references import first_line


def uses_tls(settings: KafkaSettings) -> bool:
    """Whether connections are encrypted."""
    return settings.security_protocol in {"SSL", "SASL_SSL"}


def tls_context(settings: KafkaSettings) -> ssl.SSLContext:
    """TLS 1.2 or newer, the broker's certificate always verified. Raises ConfigurationError with every problem."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = settings.ssl_check_hostname
    password = secret(settings, "ssl_password")
    problems = [
        *_trust(context, settings.ssl_cafile),
        *_revocations(context, settings.ssl_crlfile),
        *_own_certificate(context, settings, password),
        *_ciphers(context, settings.ssl_ciphers),
    ]
    if problems:
        raise ConfigurationError(problems)
    return context


def _trust(context: ssl.SSLContext, file: Path | None) -> Iterator[Problem]:
    if file is None:
        context.load_default_certs()
        return
    try:
        context.load_verify_locations(str(file))
    except OSError as error:
        hint = "Name a PEM file with the certificates of the authorities that signed the brokers'."
        yield Problem("log.kafka.ssl_cafile", _found(file, error), hint)


def _revocations(context: ssl.SSLContext, file: Path | None) -> Iterator[Problem]:
    if file is None:
        return
    try:
        context.load_verify_locations(str(file))
    except OSError as error:
        yield Problem("log.kafka.ssl_crlfile", _found(file, error), "Name a PEM file with a revocation list.")
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


def _own_certificate(
    context: ssl.SSLContext, settings: KafkaSettings, password: str | None
) -> Iterator[Problem]:
    certificate, key = settings.ssl_certfile, settings.ssl_keyfile
    if certificate is None:
        return
    try:
        # Without a password function OpenSSL would ask the terminal for it, and a daemon would wait for ever.
        context.load_cert_chain(str(certificate), None if key is None else str(key), password or _no_password)
    except OSError as error:
        named = certificate if key is None else f"{certificate}, {key}"
        hint = (
            "Name the certificate in PEM as ssl_certfile and its private key as ssl_keyfile; if the key is "
            "encrypted, give its password as ssl_password_file."
        )
        yield Problem("log.kafka.ssl_certfile", _found(named, error), hint)


def _no_password() -> str:
    return ""


def _ciphers(context: ssl.SSLContext, ciphers: str | None) -> Iterator[Problem]:
    if ciphers is None:
        return
    try:
        context.set_ciphers(ciphers)
    except ssl.SSLError:
        hint = "`openssl ciphers -v` lists them; the suites of TLS 1.3 cannot be chosen and are always on."
        yield Problem("log.kafka.ssl_ciphers", f"OpenSSL knows none of {ciphers!r}.", hint)


def _found(file: Path | str, error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        said = (error.reason or "not PEM, or encrypted with another password").replace("_", " ").lower()
    else:
        said = error.strerror or str(error)
    return f"'{file}' cannot be used: {said}."


def secret(settings: KafkaSettings, name: str) -> str | None:
    """A password, from the setting itself or from the first line of its file; None if there is none.

    Read anew each time, so that it may change.
    """
    given = getattr(settings, name)
    if given is not None:
        return str(given.get_secret_value())
    file = getattr(settings, f"{name}_file")
    return None if file is None else first_line(file, f"log.kafka.{name}_file")
