"""Compatibility with kafka-python: workarounds, and every private attribute that this engine uses.

An upgrade of kafka-python touches this file alone. What is worked around was found in 3.0.12: waits without end,
calls without a deadline, passwords in DEBUG lines, and facts that no public name tells.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import create_connection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport

# Between two tries of a connection; as short as the clients' retry_backoff_ms, for the same reason.
_RETRY_SECONDS = 0.02
_AWAIT_READY_MS = 10_000.0
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
    harmless then: offsets put into a transaction and an abort are, because only a commit, which is never asked for
    afterwards, gives them effect. A commit itself has log.watchdog.
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


class _Transport(KafkaSSLTransport):  # type: ignore[misc]  # kafka-python is untyped
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
        if not self.ssl_enabled:
            return await super()._build_transport(node, timeout_at=timeout_at)
        options, proxy = self.config["socket_options"], self.config["proxy_url"]
        plain = await create_connection(
            self._net, node.host, node.port, options, proxy_url=proxy, timeout_at=timeout_at
        )
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


def await_result(result: Any, doing: str) -> None:
    """Wait for a request of a transaction. Raises KafkaError if the coordinator does not agree in time."""
    if result is not None and not result.wait(_COORDINATOR_SECONDS * 1000):
        raise KafkaTimeoutError(f"{doing} was not answered within {_COORDINATOR_SECONDS:g} s")
