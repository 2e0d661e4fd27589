"""Compatibility with kafka-python: workarounds, and every private attribute that this engine uses.

An upgrade of kafka-python touches this file alone. What is worked around was found in 3.0.12: waits without end,
calls without a deadline, passwords in DEBUG lines, and facts that no public name tells.
"""

from __future__ import annotations

import logging
import math
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import create_connection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

# Between two tries of a connection; as short as the clients' retry_backoff_ms, for the same reason.
_RETRY_SECONDS = 0.02
_AWAIT_READY_MS = 10_000.0
_READ_BYTES = 64 * 1024
# For the coordinator to accept partitions, or to call a transaction complete: markers take milliseconds.
_COORDINATOR_SECONDS = 20.0


def quiet_kafka_loggers() -> None:
    """Silence kafka-python below WARNING, because its DEBUG lines hold passwords. Called before any use of it.

    Repeated warnings are held back by the handler of the root logger (ops.logging).
    """
    logger = logging.getLogger("kafka")
    logger.setLevel(max(logger.level, logging.WARNING))
    # It warns of each task that took 0.1 s, which tells of a busy machine and nothing about the log.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)


def call_within(seconds: float, doing: str, call: Callable[[], Any]) -> Any:
    """`call()` in a thread of its own: its result or exception, or KafkaTimeoutError if it takes too long.

    For calls of kafka-python without a deadline of their own. One that was given up may still end later, so it must be
    harmless then, as an abort is. A commit itself has log.watchdog.
    """
    outcome: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:  # noqa: BLE001 (handed to the caller as it is)
            failure.append(error)

    thread = threading.Thread(target=run, name=f"dugs {doing}", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise KafkaTimeoutError(f"{doing} did not end within {seconds} s")
    if failure:
        raise failure[0]
    return outcome[0]


class _LargeReads:
    """Reads 64 KiB at once: 3.0.12 reads 4, which is a thousand calls for one answer to a fetch."""

    _sock: Any

    def _sock_recv(self) -> tuple[bytes, KafkaConnectionError | None]:
        received: list[bytes] = []
        error = None
        while error is None:
            try:
                data = self._sock.recv(_READ_BYTES)
            except (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except Exception as found:  # noqa: BLE001 (the connection is closed with it)
                error = KafkaConnectionError(found)
            else:
                if not data:
                    error = KafkaConnectionError("socket disconnected")
                received.append(data)
        return b"".join(received), error


class _PlainTransport(_LargeReads, KafkaTCPTransport):  # type: ignore[misc]  # kafka-python is untyped
    """A connection without TLS."""


class _Transport(_LargeReads, KafkaSSLTransport):  # type: ignore[misc]  # kafka-python is untyped
    """A TLS connection that is closed when its handshake fails or is given up; 3.0.12 leaves the socket open."""

    async def handshake(self) -> None:
        try:
            await super().handshake()
        except BaseException:  # also the end of the coroutine, when the client closes in the middle of it
            self.abort()
            raise


class _ConnectionManager(KafkaConnectionManager):  # type: ignore[misc]  # kafka-python is untyped
    """Knows when a connection was last lost, as opposed to closed in good order by either side.

    cut_off_at  since when none has been left and none came about; inf: not so
    """

    def __init__(self, net: Any, **configs: Any) -> None:
        super().__init__(net, **configs)
        self.lost_connection_at = -math.inf
        self.cut_off_at = math.inf

    def get_connection(self, node_id: Any, *arguments: Any, **keywords: Any) -> Any:
        is_new = node_id not in self._conns
        connection = super().get_connection(node_id, *arguments, **keywords)
        if is_new:
            connection.init_future.add_callback(self._note_success)
            connection.close_future.add_errback(self._note_loss)
        return connection

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        options, proxy = self.config["socket_options"], self.config["proxy_url"]
        plain = await create_connection(
            self._net, node.host, node.port, options, proxy_url=proxy, timeout_at=timeout_at
        )
        if not self.ssl_enabled:
            return _PlainTransport(self._net, plain, host=node.host)
        try:
            own = {key: value for key, value in self.config.items() if key.startswith("ssl_")}
            transport = _Transport(self._net, plain, host=node.host, **own)
            await transport.handshake()
        except Exception as error:
            plain.close()  # which has nothing left to close once TLS took it over
            raise KafkaConnectionError(f"Handshake failed: {error}") from error
        return transport

    def _note_success(self, _answer: object) -> None:
        self.cut_off_at = math.inf

    def _note_loss(self, _error: object) -> None:
        self.lost_connection_at = time.monotonic()
        if not any(connection.connected for connection in self._conns.values()):
            self.cut_off_at = min(self.cut_off_at, self.lost_connection_at)


class NetworkClient(KafkaNetClient):  # type: ignore[misc]  # kafka-python is untyped
    """kafka-python's network client without the wait that never ends.

    The trap (kafka-python 3.0.12): the sender calls `await_ready` for the coordinator of a transaction; if
    the connection is down at that moment, the error it raises loses the request, and `commit_transaction`
    waits for ever, even after the broker is back. Returning False makes the sender look the coordinator up
    again and retry.
    """

    def __init__(self, **configs: Any) -> None:
        net = NetworkSelector(**configs)
        super().__init__(net, _ConnectionManager(net, **configs))

    def await_ready(self, node_id: Any, timeout_ms: float = _AWAIT_READY_MS) -> bool:
        try:
            return bool(super().await_ready(node_id, timeout_ms=timeout_ms))
        except KafkaError:
            time.sleep(_RETRY_SECONDS)
            return False

    def stop(self) -> None:
        """Close connections and end the thread, which a client that failed to start leaves behind (3.0.12)."""
        self.close()
        self._net.stop()


def lost_connection_at(producer: Any) -> float:
    """When the producer last lost a connection, on the clock of time.monotonic; −inf if it never did."""
    at: float = producer._sender._client._manager.lost_connection_at  # noqa: SLF001
    return at


def cut_off_at(consumer: Any) -> float:
    """Since when the consumer has had no connection to any broker, on that clock; inf if it has one. Any thread may ask."""
    at: float = consumer._manager.cut_off_at  # noqa: SLF001
    return at


def poll_from_memory(consumer: Any) -> None:
    """Let `poll` of a group's consumer stay in its own thread as long as it has records and a coordinator.

    Otherwise (3.0.12) every call waits twice for the network thread: to be told that the coordinator is known, and that
    no fetch is due. On a busy machine such a turn takes as long as judging a record.
    """
    fetcher, coordinator = consumer._fetcher, consumer._coordinator  # noqa: SLF001
    send_fetches, ensure_ready = fetcher.send_fetches, coordinator.ensure_coordinator_ready

    def send_fetches_behind() -> Any:
        if not fetcher._next_partition_records:  # noqa: SLF001
            return send_fetches()
        return consumer._manager.call_soon(fetcher._send_fetches_async)  # noqa: SLF001

    def ensure_ready_at_once(timeout_ms: float | None = None) -> Any:
        known = coordinator.coordinator_id
        if known is not None and coordinator._client.connected(known):  # noqa: SLF001
            return True
        return ensure_ready(timeout_ms=timeout_ms)

    fetcher.send_fetches = send_fetches_behind
    coordinator.ensure_coordinator_ready = ensure_ready_at_once


def buffered_records(consumer: Any, at_most: int) -> Mapping[TopicPartition, Sequence[Any]]:
    """Up to so many records that the consumer has fetched and not handed out; never waits.

    Its own `poll` (3.0.12) asks its network thread at every call, which costs as much as unpacking ten records.
    """
    fetched, _is_partial = consumer._fetcher.fetched_records(at_most)  # noqa: SLF001
    return fetched  # type: ignore[no-any-return]


def fetch_ahead(consumer: Any) -> None:
    """If all that was fetched has been handed out, let the network thread ask for more, and do not wait for it."""
    fetcher = consumer._fetcher  # noqa: SLF001
    if not fetcher._next_partition_records and not fetcher._completed_fetches:  # noqa: SLF001
        consumer._manager.call_soon(fetcher._send_fetches_async)  # noqa: SLF001


def force_close(producer: Any) -> None:
    """End the sender's thread, which `close` leaves running if its flush times out (kafka-python 3.0.12)."""
    producer._sender.force_close()  # noqa: SLF001


def is_join_stuck(consumer: Any, *, assigned_nothing: bool) -> bool:
    """Whether the client waits for an assignment that will never come.

    The traps (kafka-python 3.0.12): it was seen to stand between two generations with no request under way
    and none due, unknown to the broker; and to settle, as the leader, for an assignment of no partition, made
    before it knew the topic's partitions and never made again (`assigned_nothing`).
    """
    coordinator = consumer._coordinator  # noqa: SLF001
    return not coordinator.rejoin_needed and (coordinator.rebalance_in_progress() or assigned_nothing)


def ask_to_add_partitions(producer: Any, partitions: Iterable[TopicPartition]) -> Any:
    """Ask the coordinator to make partitions part of the open transaction before anything is sent to them.

    In one request, whose result is awaited by `await_result`; None if they are part of it already. The coordinator
    agrees only once the transaction before is complete. kafka-python (3.0.12) offers this only as a part of sending.
    """
    manager = producer._transaction_manager  # noqa: SLF001
    with manager._lock:  # noqa: SLF001
        for partition in partitions:
            manager.maybe_add_partition_to_transaction(partition)
        if not manager.has_partitions_to_add():
            return None
        request = manager._add_partitions_to_transaction_handler()  # noqa: SLF001
        manager._enqueue_request(request)  # noqa: SLF001
    producer._sender.wakeup()  # noqa: SLF001
    return request.result


def put_offsets(producer: Any, offsets: Any, group: Any, seconds: float) -> None:
    """Offsets of a group, by its name or under a member's metadata, into the open transaction. Raises KafkaError.

    The producer's own method (3.0.12) waits without end, and a thread to give it up costs as much as the round trip. One
    that was given up may still happen, and is harmless: only a commit, which is never asked for then, gives it effect.
    """
    result = producer._transaction_manager.send_offsets_to_transaction(offsets, group)  # noqa: SLF001
    producer._sender.wakeup()  # noqa: SLF001
    if not result.wait(seconds * 1000):
        raise KafkaTimeoutError(f"putting offsets into the transaction did not end within {seconds:g} s")


def await_result(result: Any, doing: str) -> None:
    """Wait for a request of a transaction. Raises KafkaError if the coordinator does not agree in time."""
    if result is not None and not result.wait(_COORDINATOR_SECONDS * 1000):
        raise KafkaTimeoutError(f"{doing} was not answered within {_COORDINATOR_SECONDS:g} s")
