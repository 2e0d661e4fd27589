"""`dugs retry`: dead letters go back to the input as they were, each once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dugs_stream.app.logs import open_redelivery, open_writer
from dugs_stream.commands import retry as retrying
from dugs_stream.errors import OwnershipLostError
from dugs_stream.log.embedded.redelivery import EmbeddedRedelivery
from dugs_stream.log.port import Marks
from dugs_stream.records import Message, Record
from tests.support.daemons.deployment import Deployment, npy_messages
from tests.support.terminals.commands import dugs

OWN = (("trace", b"\x00\xff"), ("trace", b"again"), ("dugs_note", b"a sender's own"))


def named_wrongly(count: int, name: str = "cat") -> list[Message]:
    """Good arrays under a label that the configuration does not know."""
    return [
        Message(f"{name}-{n}".encode(), each.value, (*OWN, ("label", name.encode())))
        for n, each in enumerate(npy_messages(count, seed=5))
    ]


@pytest.fixture
def poisoned(tmp_path: Path) -> Deployment:
    """Ten records decided, three whose label is unknown, two that are not arrays."""
    deployment = Deployment(tmp_path / "poisoned")
    junk = [Message(None, b"junk", (("label", b"1"),)), Message(b"k", None, (("label", b"1"),))]
    deployment.send([*npy_messages(10), *named_wrongly(3), *junk])
    deployment.drain()
    return deployment


def retried(deployment: Deployment) -> list[Record]:
    """What came back to the input."""
    return [each for each in deployment.inputs() if "dugs_retried_from" in dict(each.headers)]


def origins(deployment: Deployment) -> list[str]:
    """The ids of what came back, in order."""
    return [(dict(each.headers)["dugs_retried_from"] or b"").decode() for each in retried(deployment)]


def test_record_comes_back_as_it_was(poisoned: Deployment) -> None:
    """Bytes, key and headers in their order, nothing of ours but where it was before."""
    before = poisoned.inputs()

    ended = dugs("retry", "-c", poisoned.config, "--yes")

    assert (ended.code, ended.out) == (0, "")
    assert ended.err.splitlines()[0] == "to put back: 5 (3 label_unknown, 1 undecodable, 1 empty)"
    assert ended.err.splitlines()[-1] == "put 5 records back on dugs.samples"
    assert origins(poisoned) == [f"dugs.samples/0/{offset}" for offset in range(10, 15)]
    for old, new in zip(before[10:], retried(poisoned), strict=True):
        assert (new.key, new.value) == (old.key, old.value)
        assert new.headers[:-1] == old.headers


def test_letter_whose_bytes_may_be_damaged_goes_back_only_if_it_is_named(poisoned: Deployment) -> None:
    """Judged again, damage could pass for a sample."""
    place = (("dugs_topic", b"dugs.samples"), ("dugs_partition", b"0"), ("dugs_offset", b"3"))
    writer = open_writer(poisoned.settings)
    letter = Message(b"k", npy_messages(1)[0].value, (("dugs_reason", b"unreadable"), *place))
    writer.send(poisoned.settings.output.dead_letter_topic, letter)
    writer.close()

    unnamed = dugs("retry", "-c", poisoned.config, "--dry-run")
    named = dugs("retry", "-c", poisoned.config, "--reason", "unreadable", "--dry-run")

    assert unnamed.err.splitlines()[0] == "to put back: 5 (3 label_unknown, 1 undecodable, 1 empty)"
    assert named.err.splitlines()[0] == "to put back: 1 (1 unreadable)"


def test_fixed_configuration_decides_what_was_rejected(tmp_path: Path) -> None:
    """Poison, fix, retry, decide: each record has one verdict more, the letters stay, and the changelog agrees."""
    deployment = Deployment(tmp_path)
    elsewhere = [Message(each.key, each.value, (("class", b"2"),)) for each in npy_messages(6)]
    deployment.send(elsewhere)
    deployment.drain()
    deployment.write(input={"label": "header:class"})

    assert dugs("retry", "-c", deployment.config, "--yes").code == 0
    deployment.drain()

    verdicts = [event["type"] for event in deployment.events()]
    assert verdicts[:6] == ["rejected"] * 6
    assert len(verdicts) == 12
    assert set(verdicts[6:]) <= {"unique", "duplicate"}
    assert len(deployment.events("dead-letter")) == 6
    assert dugs("index", "verify", "-c", deployment.config).code == 0
    assert dugs("retry", "-c", deployment.config, "--yes").err == "nothing to retry\n"


def test_second_retry_offers_only_what_came_later(poisoned: Deployment) -> None:
    """What went back is remembered with it, so nothing goes back twice."""
    dugs("retry", "-c", poisoned.config, "--yes")
    again = dugs("retry", "-c", poisoned.config)
    poisoned.send(named_wrongly(1, "owl"))
    poisoned.drain()

    later = dugs("retry", "-c", poisoned.config, "--yes")

    assert (again.code, again.err) == (0, "nothing to retry\n")
    # The five were rejected again, under new ids, and wait with the new one.
    assert later.err.startswith("to put back: 6 ")
    assert origins(poisoned)[5:] == [f"dugs.samples/0/{offset}" for offset in (15, 16, 17, 18, 19, 20)]


def test_reasons_are_remembered_apart(poisoned: Deployment) -> None:
    """A retry of one reason leaves the others to a later one."""
    first = dugs("retry", "-c", poisoned.config, "--reason", "empty", "--yes")
    second = dugs("retry", "-c", poisoned.config, "--yes")

    assert first.err.startswith("to put back: 1 (1 empty)")
    assert second.err.startswith("to put back: 4 (3 label_unknown, 1 undecodable)")
    assert origins(poisoned) == [f"dugs.samples/0/{offset}" for offset in (14, 10, 11, 12, 13)]


def test_limit_leaves_the_rest_to_the_next(poisoned: Deployment) -> None:
    """In order, and none is passed over."""
    texts = [dugs("retry", "-c", poisoned.config, "--limit", "2", "--yes").err for _ in range(4)]

    assert [text.splitlines()[0].split(" (")[0] for text in texts] == [
        "to put back: 2", "to put back: 2", "to put back: 1", "nothing to retry",
    ]  # fmt: skip
    assert "3 more wait for the next retry (--limit)" in texts[0]
    assert origins(poisoned) == [f"dugs.samples/0/{offset}" for offset in range(10, 15)]


def test_since_leaves_older_ones_and_says_so(poisoned: Deployment) -> None:
    """By the time of the rejection; an offset brings them back."""
    in_a_while = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    none = dugs("retry", "-c", poisoned.config, "--since", in_a_while, "--yes")
    some = dugs("retry", "-c", poisoned.config, "--since", "2h", "--from-offset", "2", "--dry-run")

    assert none.err.splitlines() == [
        "nothing to retry",
        "5 older ones are left out (--since); --from-offset brings them back",
    ]
    assert some.err.startswith("to put back: 3 ")
    assert origins(poisoned) == []


def test_malformed_time_is_bad_usage(decided: Deployment) -> None:
    """Exit 2, and what a time looks like."""
    for since in ("yesterday", "2 weeks", "5", "-3h", "2026-13-01"):
        ended = dugs("retry", "-c", decided.config, f"--since={since}")

        assert ended.code == 2, since
        assert f"{since!r} is not a time; write 90m, 2h, 7d or 2026-11-24T10:15Z" in ended.err


def test_dry_run_and_no_change_nothing(poisoned: Deployment) -> None:
    """Neither the input nor the memory; without --yes it asks, and no is no."""
    dry = dugs("retry", "-c", poisoned.config, "--dry-run")
    declined = dugs("retry", "-c", poisoned.config, answer="n\n")

    assert dry.code == 0
    assert declined.code == 130
    assert "Put 5 records back on dugs.samples?" in declined.err
    assert dry.err.splitlines() == declined.err.splitlines()[:1]
    assert origins(poisoned) == []
    assert dugs("retry", "-c", poisoned.config, answer="y\n").code == 0
    assert len(origins(poisoned)) == 5


def test_letter_that_was_cut_stays_and_is_counted(tmp_path: Path) -> None:
    """Only its first bytes are there: half a record would be another record."""
    deployment = Deployment(tmp_path, output={"max_message_bytes": 40_000, "decisions_topic": None})
    deployment.send(
        [Message(b"large", b"x" * 60_000, (("label", b"1"),)), Message(b"small", b"x", (("label", b"1"),))]
    )
    deployment.drain()

    ended = dugs("retry", "-c", deployment.config, "--yes")

    assert "1 cannot go back" in ended.err
    assert [each.key for each in retried(deployment)] == [b"small"]
    assert dugs("retry", "-c", deployment.config, "--yes").err == "nothing to retry\n"


def test_newest_letter_of_a_record_goes_back_alone(poisoned: Deployment) -> None:
    """Rejected twice, it is two letters and still one record, even if the memory is ignored."""
    dugs("retry", "-c", poisoned.config, "--yes")
    poisoned.drain()

    ended = dugs("retry", "-c", poisoned.config, "--from-offset", "0", "--yes")

    assert ended.err.startswith("to put back: 5 ")
    assert "5 are left out: retried before and rejected again" in ended.err
    assert origins(poisoned)[5:] == [f"dugs.samples/0/{offset}" for offset in range(15, 20)]
    assert all(name != "dugs_retried_from" for each in retried(poisoned) for name, _ in each.headers[:-1])


def test_retry_that_is_cut_off_neither_loses_nor_doubles(
    poisoned: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records and memory are one transaction: what was delivered is remembered, and the next retry takes the rest."""
    monkeypatch.setattr(retrying, "_PORTION_RECORDS", 2)
    deliver = EmbeddedRedelivery.deliver
    calls: list[int] = []

    def fails_later(self: EmbeddedRedelivery, messages: Any, marks: Marks) -> None:
        calls.append(len(messages))
        if len(calls) == 2:
            raise KeyboardInterrupt
        deliver(self, messages, marks)

    monkeypatch.setattr(EmbeddedRedelivery, "deliver", fails_later)
    assert dugs("retry", "-c", poisoned.config, "--yes").code == 130
    assert len(origins(poisoned)) == 2
    monkeypatch.setattr(EmbeddedRedelivery, "deliver", deliver)

    assert dugs("retry", "-c", poisoned.config, "--yes").code == 0

    assert origins(poisoned) == [f"dugs.samples/0/{offset}" for offset in range(10, 15)]


def test_two_at_once_send_nothing_twice(poisoned: Deployment) -> None:
    """The second one is stopped before it sends."""
    selection = retrying.Selection()
    seen = retrying.look(poisoned.settings, selection)
    slow = open_redelivery(poisoned.settings)
    slow.claim()

    retrying.retry(poisoned.settings, selection, seen)

    with pytest.raises(OwnershipLostError, match="Another `dugs retry`"):
        slow.deliver([Message(b"k", b"v")], {0: {"empty": 1}})
    slow.close()
    assert retrying.retry(poisoned.settings, selection, seen).total == 0
    assert len(origins(poisoned)) == 5


def test_missing_topic_or_log_is_named(decided: Deployment) -> None:
    """Exit 2; nothing is made by looking for it."""
    for override in ("output.dead_letter_topic=none", "input.topic=none", "log.embedded.path=none.db"):
        ended = dugs("retry", "-c", decided.config, "--yes", "--set", override)

        assert ended.code == 2, override
        assert override.split("=")[1] in ended.err, override
        assert not Path("none.db").exists()
