"""Text codecs of the tests, and what they gave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dugs_stream.inputs.settings import TextCodecSettings
from dugs_stream.inputs.text.codec import TextCodec, TokenLimits, Tokens
from dugs_stream.records import Rejection


def codec(folder: Path, limits: TokenLimits = TokenLimits(), **given_settings: Any) -> TextCodec:  # noqa: B008 (a tuple)
    return TextCodec.from_settings(TextCodecSettings(tokenizer=folder, **given_settings), limits)


def tokens(found: Tokens | Rejection) -> Tokens:
    assert isinstance(found, Tokens), found
    return found


def rejection(found: Tokens | Rejection) -> Rejection:
    assert isinstance(found, Rejection), found
    return found
