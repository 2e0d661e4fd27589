"""Record headers as one column of bytes, and back: order, repeated names and None values survive."""

from __future__ import annotations

import struct

from dugs_stream.records import Headers

# A header is: length of the name, the name in UTF-8, length of the value or −1 for None, the value.
# "surrogatepass" lets through what a foreign client decoded with surrogates; it comes back as it was.
_LENGTH = struct.Struct("<i")
_NONE = -1


def pack_headers(headers: Headers) -> bytes | None:
    """Headers in their order as bytes, repeated names and None values included; None for no headers."""
    if not headers:
        return None
    parts: list[bytes] = []
    for name, value in headers:
        encoded = name.encode("utf-8", "surrogatepass")
        parts += (_LENGTH.pack(len(encoded)), encoded, _LENGTH.pack(_NONE if value is None else len(value)))
        if value is not None:
            parts.append(value)
    return b"".join(parts)


def unpack_headers(packed: bytes | None) -> Headers:
    """The inverse of `pack_headers`."""
    if packed is None:
        return ()
    headers: list[tuple[str, bytes | None]] = []
    at = 0
    while at < len(packed):
        name, at = _piece(packed, at)
        value, at = _piece(packed, at)
        headers.append(((name or b"").decode("utf-8", "surrogatepass"), value))
    return tuple(headers)


def _piece(packed: bytes, at: int) -> tuple[bytes | None, int]:
    """The length-prefixed bytes at `at`, and where the next ones begin."""
    (length,) = _LENGTH.unpack_from(packed, at)
    start = at + _LENGTH.size
    if length == _NONE:
        return None, start
    return packed[start : start + length], start + length
