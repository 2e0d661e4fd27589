"""A cluster whose finalised `transaction.version` is changed under way, as an operator does with kafka-features.sh."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from kafka import KafkaAdminClient
from kafka.admin import UpdateFeatureType

from dugs_stream.log.kafka.transactions_v2 import FEATURE
from tests.support.waiting import wait_until

_ANSWER_SECONDS = 20.0


@contextmanager
def transactions_of_version(level: int, address: str) -> Iterator[None]:
    """So for the length of the block; a producer asks once, as it starts."""
    with closing(KafkaAdminClient(bootstrap_servers=address)) as admin:
        before = _level(admin)
        _finalise(admin, level)
        try:
            yield
        finally:
            _finalise(admin, before)


def _finalise(admin: KafkaAdminClient, level: int) -> None:
    found = _level(admin)
    if found == level:
        return
    kind = UpdateFeatureType.UPGRADE if level > found else UpdateFeatureType.SAFE_DOWNGRADE
    assert admin.update_features({FEATURE: (kind, level)}) == {FEATURE: "OK"}
    wait_until(lambda: _level(admin) == level, _ANSWER_SECONDS, f"{FEATURE} {level}")


def _level(admin: KafkaAdminClient) -> int:
    return int(admin.describe_features()[FEATURE].get("finalized", (0, 0))[1])
