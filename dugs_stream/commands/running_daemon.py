"""What does the daemon that holds a state folder say of itself? Asked over HTTP, on the port it was configured to have.

Only the very process that holds the folder is believed: its process id must be the one beside the folder's lock.
Where the port asks for credentials they are sent, to the configured address and nowhere else.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError

from dugs_stream.errors import StateError

# On the same machine an answer takes milliseconds; a daemon under full load some hundred.
_ANSWER_SECONDS = 5.0
_PAGE = 1000
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 (asked, not bound)


@dataclass(frozen=True, slots=True)
class LiveDaemon:
    """A daemon's own words: uniques counted by its last trailer, their chained checksum, its place in the changelog."""

    address: str
    role: str
    uniques: int
    checksum: str
    changelog_position: int
    authorization: str | None = field(default=None, repr=False)

    def events(self) -> Iterator[dict[str, Any]]:
        """The events of those uniques, in order. Raises OSError where it does not answer any more."""
        for offset in range(0, self.uniques, _PAGE):
            limit = min(_PAGE, self.uniques - offset)
            yield from _ask(self.address, f"/api/uniques?offset={offset}&limit={limit}", self.authorization)[
                "items"
            ]


def ask_daemon(host: str, port: int, pid: int | None, authorization: str | None = None) -> LiveDaemon | None:
    """The daemon of this process id, if it is the one that answers at host:port and knows its state already.

    Raises StateError where it takes other credentials than `authorization`, the whole header.
    """
    host = _ANY_HOST.get(host, host)
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    try:
        facts = _ask(address, "/api/status", authorization)
        if pid is None or facts["pid"] != pid:
            return None
        return LiveDaemon(
            address,
            facts["role"],
            facts["uniques"],
            facts["checksum"],
            facts["changelog_position"],
            authorization,
        )
    except HTTPError as error:
        error.close()
        if error.code != HTTPStatus.UNAUTHORIZED:
            return None
        raise StateError(
            f"what answers at {address} takes other credentials than http.auth names here; run this with the daemon's "
            "own configuration and secrets"
        ) from error
    except (OSError, ValueError, KeyError, TypeError):
        return None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A daemon never redirects; whoever does shall not have its credentials."""

    def redirect_request(self, *_whatever: Any) -> None:
        return None


def _ask(address: str, path: str, authorization: str | None) -> dict[str, Any]:
    # No proxy: the daemon is on this machine, or named as directly reachable.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    headers = {} if authorization is None else {"Authorization": authorization}
    request = urllib.request.Request(f"{address}{path}", headers=headers)  # noqa: S310 (http, to our own port)
    with opener.open(request, timeout=_ANSWER_SECONDS) as response:
        answered: dict[str, Any] = json.load(response)
    return answered
