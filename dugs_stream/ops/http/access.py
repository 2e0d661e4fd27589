"""HTTP authentication, and the security headers of every answer.

`AuthMiddleware` wraps the application: probes pass, every other request must carry the secret if one is
configured, and each answer carries the headers that keep a page from being framed, sniffed or traced.
Secrets are compared in constant time and never logged.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dugs_stream.errors import ConfigurationError, Problem
from dugs_stream.ops.http.settings import AuthSettings
from dugs_stream.references import first_line

OPEN_PATHS = frozenset({"/livez", "/readyz"})
"""Answered without a secret: probes have none, and these answers hold nothing of a record."""

_REALM = "dugs-stream"
# The policy of an answer unless its route sets another: data is readable, and never runs.
_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": _NOTHING,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


def authorization(settings: AuthSettings) -> str | None:
    """The expected Authorization header; None without authentication.

    Raises ConfigurationError if the secret's file cannot be read or is empty.
    """
    if settings.type == "bearer":
        return f"Bearer {_secret(settings.token, settings.token_file, 'http.auth.token')}"
    if settings.type == "basic":
        password = _secret(settings.password, settings.password_file, "http.auth.password")
        return "Basic " + base64.b64encode(f"{settings.username}:{password}".encode()).decode("ascii")
    return None


def _secret(given: SecretStr | None, file: Path | None, key: str) -> str:
    """The value, or the first line of the file that holds it."""
    if given is not None:
        secret = given.get_secret_value()
        if not secret.isascii() and key.endswith("token"):
            hint = "Use letters, digits and -._~+/= only."
            _refuse(key, "holds characters that are not allowed in a header.", hint)
        return secret
    if file is None:
        _refuse(key, "is not given.", "Set it in the environment, or name a file that holds it.")
    return _secret(SecretStr(first_line(file, f"{key}_file")), None, key)


def _refuse(place: str, message: str, hint: str) -> NoReturn:
    raise ConfigurationError([Problem(place, message, hint)]) from None


class AuthMiddleware:
    """Requires `expected`, the whole Authorization header, and adds the security headers to every answer."""

    def __init__(self, app: ASGIApp, expected: str | None = None) -> None:
        self._app = app
        self._scheme, _, secret = (expected or "").partition(" ")
        self._secret = secret.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 401."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        admitted = scope["path"] in OPEN_PATHS or self._admits(Headers(scope=scope).get("authorization", ""))
        answer = self._app if admitted else self._refusal()
        await answer(scope, receive, send_with_headers)

    def _admits(self, given: str) -> bool:
        if not self._scheme:
            return True
        scheme, _, secret = given.partition(" ")
        # Compared under any scheme, so that timing reveals neither.
        is_secret = hmac.compare_digest(secret.strip().encode(), self._secret)
        return is_secret and scheme.lower() == self._scheme.lower()

    def _refusal(self) -> JSONResponse:
        encoding = ', charset="UTF-8"' if self._scheme == "Basic" else ""
        challenge = f'{self._scheme} realm="{_REALM}"{encoding}'
        return JSONResponse(
            {"error": f"http.auth requires {self._scheme.lower()} credentials"},
            status_code=401,
            headers={"www-authenticate": challenge, "cache-control": "no-store"},
        )
