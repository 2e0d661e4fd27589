"""HTTP client for the daemon that holds a state folder.

Only the process that holds the folder is believed: its process id must be the one beside the folder's lock.
Credentials are sent to the configured address and nowhere else.
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
    """What a daemon reports: the uniques that its last trailer counts, their chained checksum, its changelog position.

    index  what its index holds and how it answers, since its first look at that; None before
    """

    address: str
    role: str
    uniques: int
    checksum: str
    changelog_position: int
    authorization: str | None = field(default=None, repr=False)
    index: dict[str, Any] | None = None

    def events(self) -> Iterator[dict[str, Any]]:
        """The events of those uniques, in order. Raises OSError if it no longer answers."""
        for offset in range(0, self.uniques, _PAGE):
            path = f"/api/uniques?offset={offset}&limit={min(_PAGE, self.uniques - offset)}"
            yield from _ask(self.address, path, self.authorization)["items"]


def ask_daemon(host: str, port: int, pid: int | None, authorization: str | None = None) -> LiveDaemon | None:
    """The daemon with this process id, if it answers at host:port and has loaded its state; else None.

    `authorization` is the whole header. Raises StateError if the daemon takes other credentials.
    """
    host = _ANY_HOST.get(host, host)
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    try:
        facts = _ask(address, "/api/status", authorization)
        if pid is None or facts["pid"] != pid:
            return None
        role, position = facts["role"], facts["changelog_position"]
        return LiveDaemon(
            address, role, facts["uniques"], facts["checksum"], position, authorization, facts.get("index")
        )
    except HTTPError as error:
        error.close()
        if error.code != HTTPStatus.UNAUTHORIZED:
            return None
        raise StateError(
            f"the daemon at {address} refuses the credentials of http.auth in this configuration; use the daemon's own "
            "configuration and secrets"
        ) from error
    except (OSError, ValueError, KeyError, TypeError):
        return None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A daemon never redirects; another server must not get its credentials."""

    def redirect_request(self, *_arguments: Any) -> None:
        return None


def _ask(address: str, path: str, authorization: str | None) -> dict[str, Any]:
    # No proxy: the daemon is on this machine, or named as directly reachable.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    headers = {} if authorization is None else {"Authorization": authorization}
    request = urllib.request.Request(f"{address}{path}", headers=headers)  # noqa: S310 (http, to our own port)
    with opener.open(request, timeout=_ANSWER_SECONDS) as response:
        answered: dict[str, Any] = json.load(response)
    return answered
