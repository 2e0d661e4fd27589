"""kafka-python's network client under us: no wait without end, and a lost connection is remembered."""

from __future__ import annotations

import math
import time
from typing import Any

from kafka.errors import KafkaError
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

# Between two looks whether a connection is there; the retry of kafka_client, for the same reason.
_LOOK_AGAIN_SECONDS = 0.02
_AWAIT_READY_MS = 10_000.0


class _WatchfulManager(KafkaConnectionManager):  # type: ignore[misc]  # kafka-python is untyped
    """Knows when a connection was last lost, as opposed to closed by either side in good order."""

    def __init__(self, net: Any, **configs: Any) -> None:
        super().__init__(net, **configs)
        self.lost_connection_at = -math.inf

    def get_connection(self, node_id: Any, *arguments: Any, **keywords: Any) -> Any:
        is_new = node_id not in self._conns
        connection = super().get_connection(node_id, *arguments, **keywords)
        if is_new:
            connection.close_future.add_errback(self._note_loss)
        return connection

    def _note_loss(self, _error: object) -> None:
        self.lost_connection_at = time.monotonic()


class PatientNetClient(KafkaNetClient):  # type: ignore[misc]  # kafka-python is untyped
    """kafka-python's network client without the wait that never ends.

    The trap (kafka-python 3.0.12): the sender calls `await_ready` for the coordinator of a transaction; when
    the connection is down at that moment, the error it raises loses the request, and `commit_transaction`
    waits for ever, even after the broker is back. Returning False makes the sender look the coordinator up
    again and retry.
    """

    def __init__(self, **configs: Any) -> None:
        net = NetworkSelector(**configs)
        super().__init__(net, _WatchfulManager(net, **configs))

    def await_ready(self, node_id: Any, timeout_ms: float = _AWAIT_READY_MS) -> bool:
        try:
            return bool(super().await_ready(node_id, timeout_ms=timeout_ms))
        except KafkaError:
            time.sleep(_LOOK_AGAIN_SECONDS)
            return False


def lost_connection_at(producer: Any) -> float:
    """When the producer last lost a connection, on the clock of time.monotonic; −inf where it never did."""
    at: float = producer._sender._client._manager.lost_connection_at  # noqa: SLF001 (it shows its network to nobody)
    return at
