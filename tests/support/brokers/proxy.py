"""A loopback TCP proxy before a Kafka broker that forwards bytes untouched, and can be slow, cut what it carries, or go silent.

with Proxy() as proxy:
    proxy.target = broker_port
    proxy.delay_seconds = 0.1      each piece of data that much later, both ways
    proxy.cut()                    every connection reset, new ones welcome
    proxy.is_silent = True         connections stay up and nothing passes, as on a dropped route
    proxy.hold_back(26)            the next request of this kind (its API key) stays in the wire, and its connection is
                                   reset, so that the client sends it again on another one
    proxy.let_go()                 it arrives after all
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Self

_PIECE_BYTES = 65_536
# How often a silent connection looks whether the silence is over.
_LOOK_SECONDS = 0.01
_START_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _HeldBack:
    """A request on its way, and the far end of its connection."""

    frame: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class Proxy:
    """Listens from `with` on; runs in a thread of its own."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.target = 0
        self.delay_seconds = 0.0
        self.is_silent = False
        self.carried_bytes = 0
        self._wanted: int | None = None
        self._to_pass = 0
        self._held_back: _HeldBack | None = None
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(_START_SECONDS)
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_SECONDS)

    def cut(self) -> None:
        """Reset every connection, so that both ends hear of it at once."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(self._cut, done)
        assert done.wait(_START_SECONDS)

    def heal(self) -> None:
        """Be a plain wire again."""
        self.delay_seconds, self.is_silent = 0.0, False
        self._wanted = None

    def hold_back(self, api_key: int, passed: int = 0) -> None:
        """Let the next request of this kind be late, once so many others have passed."""
        self._held_back, self._wanted, self._to_pass = None, api_key, passed

    @property
    def holds_back(self) -> bool:
        """Whether there was one, and it was not let go yet."""
        return self._held_back is not None

    def let_go(self) -> None:
        """Let the late request arrive; returns when the broker has answered it or closed the connection."""
        held, self._held_back = self._held_back, None
        assert held is not None, "nothing was held back"
        asyncio.run_coroutine_threadsafe(_deliver(held), self._loop).result(_START_SECONDS)

    def _cut(self, done: threading.Event) -> None:
        for writer in list(self._writers):
            plug = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        done.set()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._welcome, sock=self._listening, limit=_PIECE_BYTES)
        )
        self._ready.set()
        self._loop.run_forever()
        server.close()
        self._cut(threading.Event())
        pending = asyncio.all_tasks(self._loop)
        for task in pending:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
        self._loop.close()

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, far_writer}
        answers = asyncio.ensure_future(self._carry(far_reader, writer))
        try:
            frame = await self._carry_requests(reader, far_writer)
            if frame is None:
                await answers
            else:
                answers.cancel()
                self._held_back = _HeldBack(frame, far_reader, far_writer)
        finally:
            self._writers -= {writer, far_writer}
            writer.transport.abort()
            if self._held_back is None or self._held_back.writer is not far_writer:
                far_writer.transport.abort()

    async def _carry_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        """Until the connection ends (None), or there is a request to hold back."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                size = await reader.readexactly(4)
                frame = size + await reader.readexactly(int.from_bytes(size, "big"))
                if int.from_bytes(frame[4:6], "big") == self._wanted:
                    if not self._to_pass:
                        self._wanted = None
                        return frame
                    self._to_pass -= 1
                await self._pass(frame, writer)
        writer.transport.abort()
        return None

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_PIECE_BYTES):
                await self._pass(piece, writer)
        writer.transport.abort()

    async def _pass(self, piece: bytes, writer: asyncio.StreamWriter) -> None:
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        while self.is_silent:  # noqa: ASYNC110 (set from another thread, which an asyncio.Event must not be)
            await asyncio.sleep(_LOOK_SECONDS)
        writer.write(piece)
        self.carried_bytes += len(piece)
        await writer.drain()


async def _deliver(held: _HeldBack) -> None:
    """Send it, and read answers until the one with its correlation id."""
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        held.writer.write(held.frame)
        await held.writer.drain()
        answered = b""
        while answered != held.frame[8:12]:
            size = await held.reader.readexactly(4)
            answered = (await held.reader.readexactly(int.from_bytes(size, "big")))[:4]
    held.writer.transport.abort()
