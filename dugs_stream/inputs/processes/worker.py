"""Process that runs a user's codec: `python -m dugs_stream.inputs.processes.worker FD REFERENCE SECONDS`.

It reads requests from the socket FD and answers each, until the socket ends because its owner has left or died. What
the codec prints goes to stderr. A record that takes longer than SECONDS and some more ends the process even if the
codec holds the interpreter's lock and nobody is left to kill it.
"""

from __future__ import annotations

import atexit
import os
import signal
import socket
import sys
import threading
from contextlib import suppress

from dugs_stream.core.gradients.memory import is_out_of_memory
from dugs_stream.inputs.codec import undecodable
from dugs_stream.inputs.custom import CustomCodec
from dugs_stream.inputs.processes.messages import LENGTH_BYTES, READY, framed, reply_of
from dugs_stream.inputs.settings import CustomCodecSettings

GRACE_SECONDS = 5.0
"""Beyond the time that a record has: the owner, if it lives, is to be the one who ends the process."""


def main(arguments: list[str]) -> None:
    """Answer requests until there are no more."""
    fd, reference, seconds = int(arguments[0]), arguments[1], float(arguments[2])
    # A terminal's Ctrl-C and a service's stop go to all processes of it: the owner says when to leave.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.dup2(2, 1)
    owner_has_left = threading.Event()
    # Registered before the codec is imported, so that it comes behind what the codec registers.
    atexit.register(lambda: _end_what_was_started() if owner_has_left.is_set() else None)
    with socket.socket(fileno=fd) as owner:
        codec = CustomCodec.from_settings(CustomCodecSettings(type=reference))
        owner.sendall(framed(READY))
        with suppress(OSError):  # somebody else writes into the connection: the owner will say so
            _answer(owner, codec, seconds)
            owner_has_left.set()


def _answer(owner: socket.socket, codec: CustomCodec, seconds: float) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):
        while (value := receive(owner)) is not None:
            signal.setitimer(signal.ITIMER_REAL, seconds + GRACE_SECONDS)
            reply = _reply(codec, bytes(value))
            signal.setitimer(signal.ITIMER_REAL, 0)
            owner.sendall(framed(reply))


def _end_what_was_started() -> None:
    """Programs that the codec runs, which nobody else would end if the owner was killed; this process is in their group."""
    sys.stderr.flush()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)


def _reply(codec: CustomCodec, value: bytes) -> bytes:
    try:
        return reply_of(codec.decode(value, None))
    except Exception as error:  # noqa: BLE001 (tensors that are sparse or quantised refuse in many ways)
        told = f"{type(error).__name__}: {error}"
        if is_out_of_memory(error):
            return reply_of(MemoryError(told))
        return reply_of(undecodable(f"what the codec returned cannot leave its process: {told}"))


_MOST_BYTES = 1 << 32
"""Of a message; a codec that writes into any descriptor it finds may pass off anything as a length."""


def receive(connection: socket.socket) -> bytearray | None:
    """The next message; None if the other side has left."""
    prefix = _exactly(connection, LENGTH_BYTES)
    if prefix is None:
        return None
    length = int.from_bytes(prefix, "little")
    if length > _MOST_BYTES:
        raise ConnectionError(f"a message of {length} bytes: somebody else writes into the connection")
    return _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytearray | None:
    message = bytearray(count)
    view = memoryview(message)
    while view:
        received = connection.recv_into(view)
        if not received:
            return None
        view = view[received:]
    return message


if __name__ == "__main__":
    main(sys.argv[1:])
