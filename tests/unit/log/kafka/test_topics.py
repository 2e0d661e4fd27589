"""What a cluster's answer says about a topic."""

from __future__ import annotations

from typing import Any

import pytest

from dugs_stream.log.kafka.topics import _described


class Answering:
    """An admin client whose cluster answers this about its one topic."""

    def __init__(self, **facts: Any) -> None:
        self._facts = facts

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        """The answer, in kafka-python's form."""
        (name,) = names
        return [{"name": name, "error_code": 0, "partitions": [{"partition_index": 0}], **self._facts}]


@pytest.mark.parametrize(
    ("facts", "known"),
    [
        ({}, ""),
        ({"topic_id": "00000000-0000-0000-0000-000000000000"}, ""),
        ({"topic_id": "f4a0a5a4-2a6f-4c5e-9f5c-2f1f0b1d2c3d"}, "f4a0a5a4-2a6f-4c5e-9f5c-2f1f0b1d2c3d"),
    ],
)
def test_id_of_a_topic_is_empty_unless_the_cluster_knows_one(facts: dict[str, Any], known: str) -> None:
    """Left out, or all zeros, it is that of no topic."""
    assert _described(Answering(**facts), ["samples"])["samples"].topic_id == known
