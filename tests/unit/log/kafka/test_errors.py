"""No exception of kafka-python gets past the door, and each means what a caller has to do."""

from __future__ import annotations

import inspect

import pytest
from kafka import errors as foreign

from dugs_stream.errors import (
    ConfigurationError,
    DugsError,
    LogError,
    LogRefusedError,
    LogUnavailableError,
    OwnershipLostError,
    Refusal,
    TransactionAbortedError,
)
from dugs_stream.log.kafka.errors import COUNTERPARTS, counterpart, translated, translating

# The roots of their tree: raised bare they say nothing, and nothing is what we assume.
ROOTS = {foreign.KafkaError, foreign.BrokerResponseError}
ALL = sorted(
    (
        thing
        for _name, thing in inspect.getmembers(foreign, inspect.isclass)
        if issubclass(thing, foreign.KafkaError) and thing not in ROOTS
    ),
    key=lambda thing: thing.__name__,
)


@pytest.mark.parametrize("error_class", ALL, ids=lambda error_class: error_class.__name__)
def test_every_exception_of_kafka_python_has_a_counterpart(error_class: type[Exception]) -> None:
    """A class that a release of kafka-python adds fails here until somebody decides what it means."""
    decided_by = [ancestor for ancestor in error_class.__mro__ if ancestor in COUNTERPARTS]

    assert decided_by, f"kafka.errors.{error_class.__name__} is in none of the groups of log/kafka_errors.py"
    assert issubclass(counterpart(error_class), DugsError)


def test_the_walk_sees_the_whole_tree() -> None:
    """The check above would pass on nothing if the members of kafka.errors were not found."""
    assert len(ALL) > 100


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (foreign.KafkaTimeoutError("Unable to bootstrap"), LogUnavailableError),
        (foreign.NodeNotReadyError(), LogUnavailableError),
        (foreign.NotCoordinatorError(), LogUnavailableError),
        (foreign.CommitFailedError(), OwnershipLostError),
        (foreign.ProducerFencedError(), OwnershipLostError),
        (foreign.InvalidProducerEpochError(), OwnershipLostError),
        (foreign.TransactionAbortableError(), TransactionAbortedError),
        (foreign.TopicAuthorizationFailedError({"dugs.samples"}), LogRefusedError),
        (foreign.SaslAuthenticationFailedError("invalid credentials"), LogRefusedError),
        (foreign.MessageSizeTooLargeError(), ConfigurationError),
        (foreign.UnsupportedCodecError("zstd"), ConfigurationError),
        (foreign.OffsetOutOfRangeError(), LogError),
        (foreign.KafkaError("something"), LogError),
        (foreign.for_code(9999)(), LogError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_mean_what_a_caller_has_to_do(error: Exception, ours: type[DugsError]) -> None:
    """Try again, come back through recovery, correct a setting, or stop: one of four."""
    assert type(translated(error, "testing")) is ours


def test_error_that_a_failed_producer_wraps_is_looked_into() -> None:
    """A later call only says that an earlier one failed; the earlier error is the one that counts."""
    wrapped = foreign.KafkaError("Cannot perform send", foreign.MessageSizeTooLargeError("at 2 MB"))

    ours = translated(wrapped, "publishing")

    assert isinstance(ours, ConfigurationError)
    assert "at 2 MB" in str(ours)
    assert "max_message_bytes" in str(ours)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (foreign.GroupAuthorizationFailedError("dugs"), Refusal.AUTHORIZATION),
        (foreign.TransactionalIdAuthorizationFailedError(), Refusal.AUTHORIZATION),
        (foreign.SaslAuthenticationFailedError("invalid credentials"), Refusal.AUTHENTICATION),
        (foreign.UnsupportedSaslMechanismError(), Refusal.AUTHENTICATION),
    ],
    ids=lambda value: type(value).__name__,
)
def test_refusal_says_at_which_door_and_where_to_look(error: Exception, cause: Refusal) -> None:
    """An operator reads what was tried, whether it is the password or a permission, and where to go on."""
    ours = translated(error, "taking part in group 'dugs'")

    assert isinstance(ours, LogRefusedError)
    assert ours.cause is cause
    assert "taking part in group 'dugs'" in str(ours)
    assert ("dugs check --deep" in str(ours)) == (cause is Refusal.AUTHORIZATION)


def test_translating_keeps_the_cause_and_lets_others_pass() -> None:
    """The foreign error stays reachable for a log of the stack; an error that is not Kafka's is not touched."""
    with pytest.raises(LogUnavailableError) as caught, translating("asking"):
        raise foreign.KafkaConnectionError("refused")
    with pytest.raises(KeyError), translating("asking"):
        raise KeyError("ours")

    assert isinstance(caught.value.__cause__, foreign.KafkaConnectionError)
