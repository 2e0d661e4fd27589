"""Answers of the broker to transactions of version 2, and what they make of the producer's state."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from kafka import TopicPartition
from kafka.errors import (
    ConcurrentTransactionsError,
    InvalidProducerEpochError,
    KafkaError,
    NotCoordinatorError,
    ProducerFencedError,
    TransactionAbortableError,
    TransactionalIdAuthorizationFailedError,
)
from kafka.producer.transaction_manager import FindCoordinatorHandler, ProducerIdAndEpoch, TransactionState
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

from dugs_stream.log.kafka import transactions_v2
from dugs_stream.log.kafka.transactions_v2 import _Manager

PLACE = TopicPartition("unique", 0)


def manager_in_a_transaction() -> _Manager:
    manager = _Manager(transactional_id="dugs-test", api_version=(4, 0))
    manager.speaks_second = True
    manager._current_state = TransactionState.READY
    manager.set_producer_id_and_epoch(ProducerIdAndEpoch(7, 3))
    manager.begin_transaction()
    manager.maybe_add_partition_to_transaction(PLACE)
    manager.sequence_number(PLACE)
    manager.increment_sequence_number(PLACE, 5)
    return manager


def pending(manager: _Manager) -> list[str]:
    """The handlers that wait to be sent, in their order."""
    return [type(handler).__name__ for _priority, _number, handler in sorted(manager._pending_requests)]


def ended(error_code: int = 0) -> SimpleNamespace:
    return SimpleNamespace(error_code=error_code, producer_id=7, producer_epoch=4)


def described(state: str, epoch: int = 4, error_code: int = 0) -> SimpleNamespace:
    found = SimpleNamespace(
        error_code=error_code, transaction_state=state, producer_id=7, producer_epoch=epoch
    )
    return SimpleNamespace(transaction_states=[found])


def test_partitions_and_offsets_are_not_asked_for_beforehand() -> None:
    """One request puts the offsets there; partitions are part of the transaction with what is produced to them."""
    manager = manager_in_a_transaction()
    assert manager.is_send_to_partition_allowed(PLACE)
    assert pending(manager) == []

    manager.send_offsets_to_transaction(
        {TopicPartition("in", 0): OffsetAndMetadata(8, "")}, ConsumerGroupMetadata("g", 1, "m", None)
    )

    assert pending(manager) == ["_OffsetsHandler"]


def test_end_brings_the_next_epoch_and_the_question_whether_it_is_complete() -> None:
    """Sequences begin anew under the new epoch; the question is asked before the end is known to the caller."""
    manager = manager_in_a_transaction()
    result = manager.begin_commit()
    _, _, handler = manager._pending_requests.pop()
    assert (handler.request._min_version, handler.request._max_version) == (5, 5)

    handler.handle_response(ended())

    assert result.succeeded
    assert manager.producer_id_and_epoch == ProducerIdAndEpoch(7, 4)
    assert manager.sequence_number(PLACE) == 0
    assert pending(manager) == ["_CompletionHandler"]
    assert manager.completion is not None
    assert not manager.completion.is_done


def asked_for_completion() -> tuple[_Manager, transactions_v2._CompletionHandler]:
    manager = manager_in_a_transaction()
    manager.begin_commit()
    manager._pending_requests.pop()[2].handle_response(ended())
    return manager, manager._pending_requests.pop()[2]


def test_completion_is_asked_for_until_the_markers_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the coordinator only prepares, the question comes again, ever more slowly."""
    waits: list[float] = []
    monkeypatch.setattr(transactions_v2.time, "sleep", waits.append)
    manager, handler = asked_for_completion()

    for _ in range(7):
        handler.handle_response(described("PrepareCommit"))
        assert manager._pending_requests.pop()[2] is handler
        assert not handler.is_retry
    handler.handle_response(described("CompleteCommit"))

    assert handler.result.succeeded
    assert waits == [0.001, 0.002, 0.004, 0.008, 0.016, 0.02, 0.02]


def test_completion_moves_with_its_coordinator() -> None:
    """It is looked up anew, and asked again."""
    manager, handler = asked_for_completion()

    handler.handle_response(described("", error_code=NotCoordinatorError.errno))

    assert pending(manager) == [FindCoordinatorHandler.__name__, "_CompletionHandler"]
    assert not handler.result.is_done


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (described("CompleteCommit", epoch=5), ProducerFencedError),
        (described("Ongoing"), KafkaError),
        (
            described("", error_code=TransactionalIdAuthorizationFailedError.errno),
            TransactionalIdAuthorizationFailedError,
        ),
    ],
    ids=["another epoch", "another's transaction", "not allowed"],
)
def test_answer_that_is_not_about_our_transaction_ends_the_producer(
    answer: SimpleNamespace, error: type[KafkaError]
) -> None:
    """Somebody else goes by this name: nothing more is sent."""
    manager, handler = asked_for_completion()

    handler.handle_response(answer)

    assert manager.has_fatal_error()
    with pytest.raises(error):
        handler.result.wait(0)


def test_transaction_that_the_broker_wants_aborted_is_abortable() -> None:
    """Told in answer to its offsets or to its end, it leaves a producer that can abort."""
    for asks_for_end in (False, True):
        manager = manager_in_a_transaction()
        if asks_for_end:
            result = manager.begin_commit()
            answer = ended(TransactionAbortableError.errno)
        else:
            result = manager.send_offsets_to_transaction(
                {TopicPartition("in", 0): OffsetAndMetadata(8, "")}, ConsumerGroupMetadata("g", 1, "m", None)
            )
            partition = SimpleNamespace(error_code=TransactionAbortableError.errno)
            answer = SimpleNamespace(topics=[SimpleNamespace(partitions=[partition])])

        manager._pending_requests.pop()[2].handle_response(answer)

        assert manager.has_abortable_error()
        assert isinstance(result.exception, TransactionAbortableError)


def test_error_that_calls_for_a_new_epoch_is_fatal() -> None:
    """kafka-python would ask for one by itself; only the owner of the input may, on its way through recovery."""
    manager = manager_in_a_transaction()
    batch = SimpleNamespace(topic_partition=PLACE)

    assert manager.classify_batch_error(InvalidProducerEpochError(), batch) == manager.ERROR_CLASS_FATAL
    assert manager.classify_batch_error(ConcurrentTransactionsError(), batch) == manager.ERROR_CLASS_RETRIABLE
