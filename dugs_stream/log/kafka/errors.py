"""Translation of kafka-python's errors: no exception of it leaves the Kafka engine.

A closed table: every exception class of kafka.errors has one counterpart in dugs_stream.errors, chosen by
what a caller or an operator does next. kafka-python is called inside `translating`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from kafka import errors as kafka_errors

from dugs_stream.errors import (
    ConfigurationError,
    DugsError,
    LogError,
    LogRefusedError,
    LogUnavailableError,
    OwnershipLostError,
    Problem,
    Refusal,
    TransactionAbortedError,
)

# Class of ours → names in kafka.errors; a name stands for its subclasses too, unless they have one of their own.
_NAMES: Mapping[type[DugsError], str] = {
    # RetriableError and all its kind: timeouts, lost connections, moving leaders and coordinators.
    LogUnavailableError: """
        RetriableError BrokerNotAvailableError StaleControllerEpochError StaleBrokerEpochError
        ReassignmentInProgressError NewLeaderElectedError BrokerIdNotRegisteredError UnknownBrokerIdError
        UnknownControllerIdError QuotaViolationError
    """,
    OwnershipLostError: """
        CommitFailedError IllegalGenerationError UnknownMemberIdError RebalanceInProgressError MemberIdRequiredError
        FencedInstanceIdError UnreleasedInstanceIdError FencedMemberEpochError StaleMemberEpochError
        ProducerFencedError InvalidProducerEpochError InvalidProducerIdMappingError UnknownProducerIdError
        TransactionCoordinatorFencedError FencedStateEpochError
    """,
    TransactionAbortedError: """
        TransactionAbortedError TransactionAbortableError InvalidTxnStateError OutOfOrderSequenceNumberError
        DuplicateSequenceNumberError
    """,
    # AuthorizationError and all its kind: topic, group, cluster, transactional id, delegation token.
    LogRefusedError: """
        AuthorizationError UnsupportedSaslMechanismError IllegalSaslStateError SaslAuthenticationFailedError
    """,
    ConfigurationError: """
        KafkaConfigurationError UnsupportedVersionError UnsupportedCodecError UnsupportedCompressionTypeError
        UnsupportedForMessageFormatError UnsupportedAssignorError UnrecognizedBrokerVersion SecurityDisabledError
        UnacceptableCredentialError InvalidTopicError TopicDeletionDisabledError InvalidGroupIdError
        InvalidSessionTimeoutError InvalidTransactionTimeoutError InconsistentGroupProtocolError
        GroupMaxSizeReachedError InvalidPartitionsError InvalidReplicationFactorError
        InvalidReplicationAssignmentError InvalidConfigurationError InvalidRequiredAcksError PolicyViolationError
        MessageSizeTooLargeError RecordListTooLargeError OffsetMetadataTooLargeError InvalidCommitOffsetSizeError
        InvalidTimestampError InvalidRecordError DelegationTokenAuthDisabledError DelegationTokenNotFoundError
        DelegationTokenOwnerMismatchError DelegationTokenRequestNotAllowedError DelegationTokenExpiredError
        InvalidPrincipalTypeError MismatchedEndpointTypeError UnsupportedEndpointTypeError
    """,
    # Misuse of the protocol, damage, or an answer to a request never sent here: the run ends, a person must look.
    LogError: """
        IllegalArgumentError IllegalStateError KafkaProtocolError NoOffsetForPartitionError LogTruncationError NoError
        UnknownError OffsetOutOfRangeError CorruptRecordError InvalidFetchRequestError TopicAlreadyExistsError
        InvalidRequestError OperationNotAttemptedError LogDirNotFoundError NonEmptyGroupError GroupIdNotFoundError
        NoReassignmentInProgressError GroupSubscribedToTopicError ResourceNotFoundError DuplicateResourceError
        InconsistentVoterSetError InvalidUpdateVersionError FeatureUpdateFailedError
        PrincipalDeserializationFailureError SnapshotNotFoundError PositionOutOfRangeError
        DuplicateBrokerRegistrationError InconsistentClusterIdError TransactionalIdNotFoundError
        IneligibleReplicaError OffsetMovedToTieredStorageError UnknownSubscriptionIdError TelemetryTooLargeError
        InvalidRegistrationError InvalidRecordStateError InvalidVoterKeyError DuplicateVoterError VoterNotFoundError
    """,
}

COUNTERPARTS: Mapping[type[Exception], type[DugsError]] = {
    getattr(kafka_errors, name): ours
    for ours, names in _NAMES.items()
    for name in names.split()
    if hasattr(kafka_errors, name)  # not every release has every class
}
"""The nearest named ancestor of an exception class decides; KafkaError itself tells nothing and is fatal."""


def counterpart(foreign: type[BaseException]) -> type[DugsError]:
    """The class of ours that stands for a class of kafka.errors."""
    for ancestor in foreign.__mro__:
        if ancestor in COUNTERPARTS:
            return COUNTERPARTS[ancestor]
    return LogError


_WAY_OUT: Mapping[type[DugsError], str] = {
    LogUnavailableError: "Check that the brokers run and can be reached from here; trying again is right.",
    OwnershipLostError: "Another member owns the input now, or this one was too slow; recovery finds out.",
    TransactionAbortedError: "Nothing of the batch is visible; it will be decided again.",
    LogError: "Start again: recovery continues from what is committed. If it happens again, look at the broker's log.",
}


def translated(error: Exception, doing: str) -> DugsError:
    """`error` as one of ours: what was being done, what kafka-python said, what to do next."""
    cause = _innermost(error)
    ours = counterpart(type(cause))
    said = str(cause) or type(cause).__name__
    if ours is ConfigurationError:
        return ConfigurationError(
            [Problem("log.kafka", f"while {doing}, Kafka refused: {said}", _hint(cause))]
        )
    found = f"While {doing}: {said}."
    if ours is not LogRefusedError:
        return ours(f"{found} {_WAY_OUT[ours]}")
    if isinstance(cause, kafka_errors.AuthorizationError):
        return LogRefusedError(
            Refusal.AUTHORIZATION,
            f"{found} `dugs check --deep` names each permission that is missing, and the command that grants it.",
        )
    hint = "Check log.kafka.sasl_mechanism, sasl_plain_username and its password."
    return LogRefusedError(Refusal.AUTHENTICATION, f"{found} {hint}")


def _innermost(error: Exception) -> Exception:
    """The first error, which later calls of a failed producer only wrap: it says what to do."""
    for argument in error.args:
        if isinstance(argument, kafka_errors.KafkaError):
            return _innermost(argument)
    return error


def _hint(error: Exception) -> str:
    if isinstance(error, kafka_errors.MessageSizeTooLargeError):
        return (
            "Raise max.message.bytes of the topic, or lower output.max_message_bytes or gradient.dimension."
        )
    if isinstance(error, kafka_errors.InvalidSessionTimeoutError):
        return "Bring log.kafka.session_timeout_ms between the broker's group.min and group.max.session.timeout.ms."
    return "Correct the setting or the cluster, then start again."


@contextmanager
def translating(doing: str) -> Iterator[None]:
    """Turn an exception of kafka-python into ours; `doing` completes the sentence "While …"."""
    try:
        yield
    except kafka_errors.KafkaError as error:
        raise translated(error, doing) from error
