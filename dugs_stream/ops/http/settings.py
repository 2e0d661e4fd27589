"""Settings of HTTP: the YAML block `http.auth`, and the names of `http.allowed_hosts`.

Data only: a file that holds a secret is read by `ops.http.access`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, SecretStr, model_validator

from dugs_stream.setting_types import Block, ExpectedError

_KEYS_OF = {"none": (), "bearer": ("token",), "basic": ("username", "password")}
_EVERY_KEY = ("token", "token_file", "username", "password", "password_file")


# A name, an IPv4 or an IPv6 address; browsers send names in other scripts in this form (xn--…), too.
_HOST_NAME = re.compile(r"\*|[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)*|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f.]*")


def _host_name(text: str) -> str:
    if not _HOST_NAME.fullmatch(text):
        raise ExpectedError("a host name or address without scheme and port, such as dugs.example.org, or *")
    return text


HostName = Annotated[str, AfterValidator(_host_name)]
"""A name that a request may give as its Host; * is any."""


class AuthSettings(Block):
    """Authentication of every route but /livez and /readyz."""

    type: Literal["none", "bearer", "basic"] = "none"
    """none: no authentication; bearer: a token; basic: user and password, which browsers ask for."""
    token: SecretStr | None = None
    """Token for bearer; from the environment only."""
    token_file: Path | None = None
    """File that holds the token, read at the start."""
    username: str | None = None
    """User for basic."""
    password: SecretStr | None = None
    """Password for basic; from the environment only."""
    password_file: Path | None = None
    """File that holds the password, read at the start."""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        for key in ("token", "password"):
            if getattr(self, key) is not None and getattr(self, f"{key}_file") is not None:
                raise ValueError(f"give {key} or {key}_file, not both")
        needed = _KEYS_OF[self.type]
        for key in _EVERY_KEY:
            if getattr(self, key) is not None and key.removesuffix("_file") not in needed:
                raise ValueError(f"{key} has no effect under type {self.type}; change one of the two")
        for key in needed:
            if getattr(self, key) is None and getattr(self, f"{key}_file", None) is None:
                or_a_file = f" (or {key}_file)" if f"{key}_file" in _EVERY_KEY else ""
                raise ValueError(f"type {self.type} needs {key}{or_a_file}")
            given = getattr(self, key)
            if given is not None and not (
                given.get_secret_value() if isinstance(given, SecretStr) else given
            ):
                raise ValueError(f"{key} is empty")
        if self.username is not None and ":" in self.username:
            raise ValueError("username holds a colon, which basic authentication does not allow")
        return self
