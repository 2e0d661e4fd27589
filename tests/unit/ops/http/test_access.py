"""Authentication over a real socket: no answer without the secret, but to the probes always."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from dugs_stream.errors import ConfigurationError
from dugs_stream.ops.http.access import OPEN_PATHS, authorization
from dugs_stream.ops.http.settings import AuthSettings
from tests.support.pages.server import event, page_server

TOKEN = "f3a1-token"
EVERY_PATH = [
    "/", "/live.js", "/cards.js", "/page.js", "/page.css", "/icon.svg", "/metrics", "/livez", "/readyz", "/api/status", "/api/uniques",
    "/api/uniques/0", "/api/gallery", "/api/gallery/0", "/api/labels", "/api/thumbnails/0", "/nothing/here",
]  # fmt: skip


def basic(user: str, password: str) -> str:
    """The header a browser sends."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


BEARER = authorization(AuthSettings(type="bearer", token=TOKEN))  # type: ignore[arg-type]  # read as a secret
BASIC = authorization(AuthSettings(type="basic", username="ops", password="pass:wörd"))  # type: ignore[arg-type]


def answers(expected: str | None, given: str | None) -> dict[str, httpx.Response]:
    """What each path answers."""
    headers = {} if given is None else {"authorization": given}
    with (
        page_server([event(0)], expected=expected) as source,
        httpx.Client(base_url=source.address, trust_env=False, headers=headers) as client,
    ):
        return {path: client.get(path) for path in EVERY_PATH}


WRONG = [
    None, "", "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Basic", "Basic !!!",
    basic("ops", ""), basic("", "pass:wörd"), basic("ops2", "pass:wörd"), "Bearer \u00e9",
]  # fmt: skip


@pytest.mark.parametrize("expected", [BEARER, BASIC])
def test_without_the_secret_only_probes_are_answered(expected: str) -> None:
    """Every other path is 401 with the scheme to use, missing ones too; nothing of a record or the secret leaks."""
    with (
        page_server([event(0)], expected=expected) as source,
        httpx.Client(base_url=source.address, trust_env=False) as client,
    ):
        for given in WRONG:
            headers = {} if given is None else {b"authorization": given.encode("latin-1", "replace")}
            for path in EVERY_PATH:
                answer = client.get(path, headers=headers)  # type: ignore[arg-type]  # bytes, as a client may send
                assert (answer.status_code == 401) == (path not in OPEN_PATHS), (path, given)
                if path not in OPEN_PATHS:
                    assert answer.headers["www-authenticate"].startswith(expected.partition(" ")[0]), (
                        path,
                        given,
                    )
                    assert "dugs.samples" not in answer.text
                    assert TOKEN not in answer.text + str(answer.headers)


@pytest.mark.parametrize(
    ("expected", "given"),
    [(BEARER, f"bearer  {TOKEN}"), (BEARER, BEARER), (BASIC, basic("ops", "pass:wörd")), (None, None)],
)
def test_with_the_secret_everything_is_answered(expected: str | None, given: str | None) -> None:
    """The scheme's name in any case, as its standard says; without authentication none is needed."""
    codes = {path: answer.status_code for path, answer in answers(expected, given).items()}

    assert codes.pop("/nothing/here") == codes.pop("/api/thumbnails/0") == 404
    assert set(codes.values()) == {200}


@pytest.mark.parametrize("expected", [None, BEARER])
def test_every_answer_carries_the_security_headers(expected: str | None) -> None:
    """Refusals and errors too: no sniffing, no framing, no referrer, and no script but the page's files."""
    for path, answer in answers(expected, None).items():
        assert answer.headers["x-content-type-options"] == "nosniff", path
        assert answer.headers["referrer-policy"] == "no-referrer", path
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy, path
        assert "frame-ancestors 'none'" in policy, path
        assert "unsafe" not in policy, path
        assert "server" not in answer.headers, path


def test_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    """It is the first line, as tools that mount secrets write it."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")

    assert authorization(AuthSettings(type="bearer", token_file=path)) == f"Bearer {TOKEN}"
    assert authorization(AuthSettings(type="basic", username="a", password_file=path)) == basic("a", TOKEN)


@pytest.mark.parametrize("content", [None, b"", b"\nhunter2", b"hunter2\xff", "hunter2\u00ef".encode()])
def test_file_without_a_secret_is_refused_by_its_key_and_never_quoted(
    tmp_path: Path, content: bytes | None
) -> None:
    """Missing, empty, not text, or not allowed in a header."""
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigurationError, match=r"^http\.auth\.token") as refused:
        authorization(AuthSettings(type="bearer", token_file=path))

    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({"type": "bearer"}, "needs token"),
        ({"type": "bearer", "token": ""}, "token is empty"),
        ({"type": "bearer", "token": "a", "token_file": "b"}, "not both"),
        ({"type": "basic", "password": "a"}, "needs username"),
        ({"type": "basic", "username": "a"}, "needs password"),
        ({"type": "basic", "username": "a:b", "password": "c"}, "colon"),
        ({"type": "basic", "username": "a", "password": "c", "token": "d"}, "token has no effect"),
        ({"token": "a"}, "token has no effect under type none"),
        ({"type": "digest"}, "type"),
    ],
)
def test_half_a_secret_is_refused(keys: dict[str, Any], complaint: str) -> None:
    """A mistake must not open a server that was meant to be closed; the value is not quoted."""
    with pytest.raises(ValidationError, match=complaint):
        AuthSettings.model_validate(keys)
