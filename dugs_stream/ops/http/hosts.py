"""Host names that the HTTP server answers to: those it is bound to, and those of `http.allowed_hosts`.

A page in an operator's browser can point its own name at this address (DNS rebinding) and would then read the list as
its own. The browser still sends that name as Host, so a foreign name is refused. Probes are answered under any name.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from dugs_stream.ops.http.access import OPEN_PATHS, SECURITY_HEADERS

ANY = "*"
"""In `http.allowed_hosts`: every name, for a server behind a proxy that checks them."""

_LONGEST_QUOTE = 100


class HostNames:
    """The names of a server bound to `bound`, a name or an address.

    Bound to loopback, it answers to every loopback address and to localhost; bound to all interfaces, to localhost, to
    this machine's name and to every address, since no name has to be resolved for an address.
    """

    def __init__(self, bound: str, told: Sequence[str] = ()) -> None:
        self._names = {_normal(name) for name in (bound, *told)}
        address = _address(bound)
        self._is_everywhere = address is not None and address.is_unspecified
        self._is_loopback = bound.lower() == "localhost" or (address is not None and address.is_loopback)
        if self._is_everywhere or self._is_loopback:
            self._names.add("localhost")
        if self._is_everywhere:
            self._names.add(_normal(socket.gethostname()))

    def __contains__(self, host: str) -> bool:
        """Whether a request with this Host header, port and all, is meant for the server."""
        name = _normal(host)
        address = _address(name)
        if name in self._names or ANY in self._names:
            return True
        return address is not None and (self._is_everywhere or (self._is_loopback and address.is_loopback))


def _normal(host: str) -> str:
    """Without port, brackets and a final dot, in small letters; of an address its usual form."""
    if host.startswith("["):
        name = host[1:].partition("]")[0]
    else:
        name = host if host.count(":") > 1 else host.partition(":")[0]
    address = _address(name)
    return name.lower().removesuffix(".") if address is None else str(address)


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(name)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


class HostMiddleware:
    """Answers 421 to a request that names another host; probes pass."""

    def __init__(self, app: ASGIApp, names: HostNames) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        given = Headers(scope=scope).getlist("host") if scope["type"] == "http" else []
        is_foreign = not given or any(host not in self._names for host in given)
        is_asked = scope["type"] == "http" and scope["path"] not in OPEN_PATHS
        answer = _refusal(given) if is_asked and is_foreign else self._app
        await answer(scope, receive, send)


def _refusal(given: Sequence[str]) -> JSONResponse:
    named = ", ".join(given)[:_LONGEST_QUOTE]
    error = f"this server does not answer to the host {named!r}; add the name to http.allowed_hosts if it is yours"
    headers = {**SECURITY_HEADERS, "cache-control": "no-store"}
    return JSONResponse({"error": error}, status_code=421, headers=headers)
