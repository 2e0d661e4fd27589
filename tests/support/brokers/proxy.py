"""A loopback TCP proxy that forwards bytes untouched, and can be slow, cut what it carries, or go silent.

with Proxy() as proxy:
    proxy.target = broker_port
    proxy.delay_seconds = 0.1      each piece of data that much later, both ways
    proxy.cut()                    every connection reset, new ones welcome
    proxy.is_silent = True         connections stay up and nothing passes, as on a dropped route
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from typing import Self

_PIECE_BYTES = 65_536
# How often a silent connection looks whether the silence is over.
_LOOK_SECONDS = 0.01
_START_SECONDS = 10.0


class Proxy:
    """Listens from `with` on; runs in a thread of its own."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.target = 0
        self.delay_seconds = 0.0
        self.is_silent = False
        self.carried_bytes = 0
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
        try:
            await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))
        finally:
            self._writers -= {writer, far_writer}
            writer.transport.abort()
            far_writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_PIECE_BYTES):
                if self.delay_seconds:
                    await asyncio.sleep(self.delay_seconds)
                while self.is_silent:  # noqa: ASYNC110 (set from another thread, which an asyncio.Event must not be)
                    await asyncio.sleep(_LOOK_SECONDS)
                writer.write(piece)
                self.carried_bytes += len(piece)
                await writer.drain()
        writer.transport.abort()
