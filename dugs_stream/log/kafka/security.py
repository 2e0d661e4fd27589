"""TLS and passwords of a connection: the `ssl_*` settings as one context, and secrets read from their files.

One context serves kafka-python's clients and our own handshake, so that both fail for the same reasons. (kafka-python
3.0.12 ignores `ssl_ciphers`, and asks a terminal for the password of a private key.)
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
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
    # Without a password function OpenSSL would ask the terminal for it, and a daemon would wait for ever.
    password = secret(settings, "ssl_password") or str
    problems: list[Problem] = []

    def load(setting: str, hint: str, load: Callable[..., object], *files: Path | None) -> None:
        named = [str(file) for file in files if file is not None]
        try:
            load(*named)
        except OSError as error:
            found = f"'{', '.join(named)}' cannot be used: {_said(error)}."
            problems.append(Problem(f"log.kafka.{setting}", found, hint))

    if settings.ssl_cafile is None:
        context.load_default_certs()
    else:
        hint = "Name a PEM file with the certificates of the authorities that signed the brokers'."
        load("ssl_cafile", hint, context.load_verify_locations, settings.ssl_cafile)
    if settings.ssl_crlfile is not None:
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        hint = "Name a PEM file with a revocation list."
        load("ssl_crlfile", hint, context.load_verify_locations, settings.ssl_crlfile)
    if settings.ssl_certfile is not None:
        hint = (
            "Name the certificate in PEM as ssl_certfile and its private key as ssl_keyfile; if the key is "
            "encrypted, give its password as ssl_password_file."
        )
        load_chain = partial(context.load_cert_chain, password=password)
        load("ssl_certfile", hint, load_chain, settings.ssl_certfile, settings.ssl_keyfile)
    if settings.ssl_ciphers is not None:
        try:
            context.set_ciphers(settings.ssl_ciphers)
        except ssl.SSLError:
            found = f"OpenSSL knows none of {settings.ssl_ciphers!r}."
            hint = (
                "`openssl ciphers -v` lists them; the suites of TLS 1.3 cannot be chosen and are always on."
            )
            problems.append(Problem("log.kafka.ssl_ciphers", found, hint))
    if problems:
        raise ConfigurationError(problems)
    return context


def _said(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM, or encrypted with another password").replace("_", " ").lower()
    return error.strerror or str(error)


def secret(settings: KafkaSettings, name: str) -> str | None:
    """A password, from the setting itself or from the first line of its file; None if there is none.

    Read anew each time, so that it may change.
    """
    given = getattr(settings, name)
    if given is not None:
        return str(given.get_secret_value())
    file = getattr(settings, f"{name}_file")
    return None if file is None else first_line(file, f"log.kafka.{name}_file")
