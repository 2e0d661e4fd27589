"""Topic names that no other test uses, for either engine."""

from __future__ import annotations

import uuid

from dugs_stream.log.port import TopicNames


def fresh_topics() -> TopicNames:
    """Names no other test uses; a log that is used again gathers topics and never mixes them."""
    unique = uuid.uuid4().hex[:8]
    return TopicNames(
        input=f"samples-{unique}",
        group=f"group-{unique}",
        unique=f"unique-{unique}",
        changelog=f"changelog-{unique}",
        dead_letter=f"dead-letter-{unique}",
        decisions=f"decisions-{unique}",
    )
