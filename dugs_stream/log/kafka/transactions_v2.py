"""Transactions of version 2 (KIP-890) for kafka-python's producer, which speaks version 1 (3.0.12).

Where the cluster has finalised the feature `transaction.version` at 2 or above, a producer is turned into one that

- asks for no partition to be added beforehand: the broker adds them as it stores what is produced (Produce 12), and the
  group's offsets as it takes them (TxnOffsetCommit 5), which saves two round trips a transaction;
- takes over the epoch that the end of each transaction returns (EndTxn 5), and begins at sequence 0 under it: a request
  of an earlier transaction that arrives late carries an old epoch and is refused;
- asks the coordinator, beside other work, until the transaction before is complete, and sends nothing earlier.

Elsewhere version 1 stays. Either way an error that kafka-python would answer with a new epoch is fatal here: a producer
of this project is dropped after any error, and only the owner of the input may fence.

Uses private names of kafka-python, as log.kafka.compat does.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from kafka.errors import (
    BrokerResponseError,
    CoordinatorNotAvailableError,
    KafkaError,
    KafkaTimeoutError,
    NoError,
    NotCoordinatorError,
    ProducerFencedError,
    RetriableError,
    TransactionAbortableError,
    for_code,
)
from kafka.producer.sender import Sender
from kafka.producer.transaction_manager import (
    AddOffsetsToTxnHandler,
    EndTxnHandler,
    Priority,
    ProducerIdAndEpoch,
    TransactionalRequestResult,
    TransactionManager,
    TxnOffsetCommitHandler,
    TxnRequestHandler,
)
from kafka.protocol.admin import DescribeTransactionsRequest
from kafka.protocol.metadata import ApiVersionsRequest, CoordinatorType

FEATURE = "transaction.version"
_SECOND = 2
# The first versions whose meaning is that of transactions of version 2; later ones change other things (topic ids).
_PRODUCE, _OFFSETS, _END = 12, 5, 5
# ApiVersions tells features since version 3; the versions from 0 to 2 are for brokers before 2.4.
_TELLS_FEATURES = 3
# Markers take 1 to 7 ms on loopback: from one look to the next, the wait doubles between these.
_FIRST_LOOK_SECONDS, _SLOWEST_LOOK_SECONDS = 0.001, 0.02


def finalized_version(producer: Any, feature: str, seconds: float) -> int:
    """The level at which the cluster has finalised a feature; 0 if it does not know it. Raises KafkaError."""
    manager = producer._sender._client._manager  # noqa: SLF001
    if manager.broker_version_data.api_version(ApiVersionsRequest) < _TELLS_FEATURES:
        return 0
    request = ApiVersionsRequest(
        client_software_name=manager.config["client_software_name"],
        client_software_version=manager.config["client_software_version"],
        min_version=_TELLS_FEATURES,
    )
    answered = threading.Event()
    future = manager._net.call_soon_with_future(manager.send, request)  # noqa: SLF001
    future.add_both(lambda _outcome: answered.set())
    if not answered.wait(seconds):
        raise KafkaTimeoutError(f"the broker did not tell its features within {seconds:g} s")
    if future.failed():
        raise future.exception
    levels = {each.name: int(each.max_version_level) for each in future.value.finalized_features or ()}
    return levels.get(feature, 0)


def settle_version(producer: Any, seconds: float) -> None:
    """Let a new producer speak the version that the cluster has. Before its `init_transactions`."""
    manager = producer._transaction_manager  # noqa: SLF001
    # Their constructors are called deep inside the producer's; both classes add behaviour and need no constructor.
    manager.__class__ = _Manager
    producer._sender.__class__ = _Sender  # noqa: SLF001
    manager.speaks_second = finalized_version(producer, FEATURE, seconds) >= _SECOND


def speaks_second(producer: Any) -> bool:
    """Whether its next transaction is one of version 2."""
    return bool(getattr(producer._transaction_manager, "speaks_second", False))  # noqa: SLF001


def completion_of_last(producer: Any) -> Any:
    """The coordinator's answer that the last transaction is complete, to be awaited; None before the first."""
    return producer._transaction_manager.completion  # noqa: SLF001


def speak_first(producer: Any) -> None:
    """From its next transaction on, version 1: for one that must name its partitions without producing to them."""
    producer._transaction_manager.speaks_second = False  # noqa: SLF001


class _Manager(TransactionManager):  # type: ignore[misc]  # kafka-python is untyped
    """Transactions of either version.

    speaks_second  which it is
    completion     the coordinator's word that the last transaction is complete, under way or given
    """

    speaks_second = False
    completion: TransactionalRequestResult | None = None

    def _supports_epoch_bump(self) -> bool:
        """With False, kafka-python takes errors that call for a new epoch as fatal."""
        return False

    def maybe_add_partition_to_transaction(self, topic_partition: Any) -> None:
        if not self.speaks_second:
            super().maybe_add_partition_to_transaction(topic_partition)
            return
        with self._lock:
            self._fail_if_not_ready_for_send()
            self._partitions_in_transaction.add(topic_partition)
            self._transaction_started = True

    def look_for_completion(self) -> None:
        """Ask the coordinator about the transaction that has just ended."""
        handler = _CompletionHandler(self)
        self.completion = handler.result
        self._enqueue_request(handler)

    def _enqueue_request(self, request_handler: Any) -> None:
        """The one way by which kafka-python sends anything transactional."""
        if self.speaks_second:
            request_handler = self._of_second_version(request_handler)
        super()._enqueue_request(request_handler)

    def _of_second_version(self, handler: Any) -> Any:
        if type(handler) is EndTxnHandler:
            return _EndHandler(self, handler)
        if type(handler) is AddOffsetsToTxnHandler:
            self._transaction_started = True
            self._pending_txn_offset_commits.update(handler.offsets)
            return _OffsetsHandler(
                self, handler.group_metadata, self._pending_txn_offset_commits, handler.result
            )
        return handler


class _Sender(Sender):  # type: ignore[misc]  # kafka-python is untyped
    """Produces in the version of the transaction."""

    def _produce_request(self, *arguments: Any) -> Any:
        request = super()._produce_request(*arguments)
        return _in_version(request, _PRODUCE) if self._transaction_manager.speaks_second else request


class _OffsetsHandler(TxnOffsetCommitHandler):  # type: ignore[misc]  # kafka-python is untyped
    """Offsets into the transaction, which the broker makes a part of it by itself."""

    def _build_request(self) -> Any:
        return _in_version(super()._build_request(), _OFFSETS)

    def handle_response(self, response: Any) -> None:
        codes = (each.error_code for topic in response.topics for each in topic.partitions)
        if any(for_code(code) is TransactionAbortableError for code in codes):
            self.abortable_error(TransactionAbortableError())
        else:
            super().handle_response(response)


class _EndHandler(EndTxnHandler):  # type: ignore[misc]  # kafka-python is untyped
    """The end of a transaction, and the epoch of the next."""

    def __init__(self, manager: _Manager, first: EndTxnHandler) -> None:
        TxnRequestHandler.__init__(self, manager, first.result)
        self.request = _in_version(first.request, _END)

    def handle_response(self, response: Any) -> None:
        manager = self.transaction_manager
        error = for_code(response.error_code)
        if error is TransactionAbortableError:
            self.abortable_error(error())
            return
        if error is NoError:
            manager.set_producer_id_and_epoch(
                ProducerIdAndEpoch(response.producer_id, response.producer_epoch)
            )
            manager._sequence_numbers.clear()  # noqa: SLF001
            manager._last_acked_offset.clear()  # noqa: SLF001
            manager.look_for_completion()  # before the caller hears of the end and may begin the next
        super().handle_response(response)


class _CompletionHandler(TxnRequestHandler):  # type: ignore[misc]  # kafka-python is untyped
    """Asks until the coordinator calls the id's last transaction complete: its markers are written everywhere."""

    def __init__(self, manager: _Manager) -> None:
        super().__init__(manager)
        self.request = DescribeTransactionsRequest(transactional_ids=[self.transactional_id])
        self._look_seconds = _FIRST_LOOK_SECONDS

    @property
    def priority(self) -> Priority:
        return Priority.ADD_PARTITIONS_OR_OFFSETS

    @property
    def is_retry(self) -> bool:
        """Never, since kafka-python waits longer before a retry than this takes."""
        return False

    def handle_response(self, response: Any) -> None:
        (found,) = response.transaction_states
        error = for_code(found.error_code)
        if error is NoError and found.transaction_state.startswith("Prepare"):
            time.sleep(self._look_seconds)
            self._look_seconds = min(2 * self._look_seconds, _SLOWEST_LOOK_SECONDS)
            self.reenqueue()
        elif error is NoError and found.transaction_state.startswith("Complete"):
            is_ours = (found.producer_id, found.producer_epoch) == (self.producer_id, self.producer_epoch)
            if is_ours:
                self._result.done()
            else:
                self.fatal_error(ProducerFencedError())
        elif issubclass(error, RetriableError):
            if error in (CoordinatorNotAvailableError, NotCoordinatorError):
                self.transaction_manager._lookup_coordinator(  # noqa: SLF001
                    CoordinatorType.TRANSACTION, self.transactional_id
                )
            self.reenqueue()
        elif issubclass(error, BrokerResponseError) and error is not NoError:
            self.fatal_error(error())
        else:  # "Ongoing" or unknown: somebody else goes by this name
            self.fatal_error(
                KafkaError(f"the transaction after its end is {found.transaction_state!r} to the coordinator")
            )


def _in_version(request: Any, version: int) -> Any:
    """The same request, to be sent in this version or not at all."""
    request._min_version = request._max_version = version  # noqa: SLF001
    return request
