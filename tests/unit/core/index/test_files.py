"""Sealed facts: what is believed, and what is not."""

from __future__ import annotations

import hashlib
import json

import pytest

from dugs_stream.core.index.files import seal, unseal

FACTS = {"rows": 3, "group": "größe"}


def test_sealed_facts_are_read_back() -> None:
    """Unseal gives what was sealed, and the same facts have the same bytes in any order of their keys."""
    assert unseal(seal(FACTS)) == FACTS
    assert seal(FACTS) == seal(dict(reversed(FACTS.items())))


def test_facts_sealed_in_ascii_are_believed() -> None:
    """Earlier versions wrote letters beyond ASCII as escapes: the bytes as written count, not how we would write them."""
    written = json.dumps(FACTS, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(written.encode()).hexdigest()

    assert unseal(f'{{"facts":{written},"sha256":"{digest}"}}'.encode()) == FACTS


def test_changed_or_torn_facts_are_refused() -> None:
    """No byte changed, no prefix, nothing added, nothing at all: each is a ValueError."""
    whole = seal(FACTS)
    changed = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]

    for content in [*changed, *(whole[:end] for end in range(len(whole))), whole + b" ", seal({})[:9] + b"}"]:
        with pytest.raises(ValueError, match="does not match the SHA-256"):
            unseal(content)
