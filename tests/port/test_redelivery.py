"""What putting records back on the input promises, on every engine."""

from __future__ import annotations

import pytest

from dugs_stream.errors import ConfigurationError, LogError, OwnershipLostError
from dugs_stream.records import Message
from tests.port.engines import Engine
from tests.port.owning import messages, own, poll, read_all, read_count, send


def prepared(engine: Engine) -> None:
    """The topics exist, and nobody owns them."""
    log = engine.make_log()
    log.prepare()
    log.close()


def test_nothing_is_remembered_before_the_first(engine: Engine) -> None:
    """Looking changes nothing, and claiming remembers nothing."""
    prepared(engine)

    assert engine.redelivery().marks() == {}
    assert engine.redelivery().claim() == {}
    assert engine.redelivery().marks() == {}


def test_records_and_marks_are_there_together(engine: Engine) -> None:
    """Keys, values and headers as given, in order; the marks are what the next one finds."""
    prepared(engine)
    sent = [
        Message(b"k", b"one", (("a", b"1"), ("a", b"2"))),
        Message(None, b"two"),
        Message(b"k", b"\x00three"),
    ]
    redelivery = engine.redelivery()
    redelivery.claim()

    redelivery.deliver(sent[:2], {0: {"empty": 3, "wrong_shape": 7}})
    redelivery.deliver(sent[2:], {0: {"empty": 9, "wrong_shape": 7}})

    found = read_count(engine, engine.topics.input, 3)
    assert [(each.key, each.value, each.headers) for each in found] == [
        (message.key, message.value, message.headers) for message in sent
    ]
    assert engine.redelivery().marks() == {0: {"empty": 9, "wrong_shape": 7}}


def test_marks_move_without_records(engine: Engine) -> None:
    """What cannot go back is passed over once."""
    prepared(engine)
    redelivery = engine.redelivery()
    redelivery.claim()

    redelivery.deliver([], {0: {"empty": 4}})

    assert engine.redelivery().claim() == {0: {"empty": 4}}
    assert read_all(engine, engine.topics.input) == []


def test_owner_polls_what_was_delivered(engine: Engine) -> None:
    """A daemon that runs meanwhile sees the records as any others."""
    log = own(engine)
    send(engine, messages(2))
    redelivery = engine.redelivery()
    redelivery.claim()
    redelivery.deliver(messages(2, "back"), {0: {"empty": 1}})

    assert [each.value for each in poll(log, 4).records] == [b"value-0", b"value-1", b"back-0", b"back-1"]
    assert log.committed_offsets() == {}


def test_earlier_one_cannot_deliver_after_a_later_one(engine: Engine) -> None:
    """Two people retry at once: whoever claimed first has nothing of it visible, and is told."""
    prepared(engine)
    earlier, later = engine.redelivery(), engine.redelivery()
    earlier.claim()
    later.claim()
    later.deliver([Message(b"k", b"later")], {0: {"empty": 1}})

    with pytest.raises(LogError):
        earlier.deliver([Message(b"k", b"earlier")], {0: {"empty": 1}})

    assert [each.value for each in read_count(engine, engine.topics.input, 1)] == [b"later"]
    assert engine.redelivery().marks() == {0: {"empty": 1}}


def test_record_that_is_refused_takes_all_of_it_along(engine: Engine) -> None:
    """Neither the good record before it nor the mark is there; the next one begins where this one did."""
    if engine.name == "embedded":
        refused = Message(b"k", b"v", (("h", 5),))  # type: ignore[arg-type]
    else:
        refused = Message(b"k", b"x" * (20 * 1024 * 1024))
    prepared(engine)
    redelivery = engine.redelivery()
    redelivery.claim()

    with pytest.raises((LogError, ConfigurationError, TypeError)):
        redelivery.deliver([Message(b"k", b"good"), refused], {0: {"empty": 1}})
    redelivery.close()

    again = engine.redelivery()
    assert again.claim() == {}
    again.deliver([Message(b"k", b"good")], {0: {"empty": 1}})
    assert [each.value for each in read_count(engine, engine.topics.input, 1)] == [b"good"]


def test_delivering_needs_a_claim_that_holds(engine: Engine) -> None:
    """Without one, what another one remembered is not overwritten."""
    prepared(engine)
    first = engine.redelivery()
    first.claim()
    first.deliver([Message(b"k", b"v")], {0: {"empty": 5}})

    with pytest.raises(OwnershipLostError):
        engine.redelivery().deliver([Message(b"k", b"v")], {0: {"empty": 1}})

    assert engine.redelivery().marks() == {0: {"empty": 5}}


def test_topics_that_are_missing_are_refused_by_name(engine: Engine) -> None:
    """A ConfigurationError, and nothing is made."""
    with pytest.raises(ConfigurationError):
        engine.redelivery().marks()


def test_reader_begins_where_it_is_told(wide_engine: Engine) -> None:
    """Per partition; one that is not named begins at its beginning, and the bounds say what there is."""
    prepared(wide_engine)
    send(wide_engine, [Message(f"key-{i}".encode(), str(i).encode()) for i in range(60)])
    every = read_count(wide_engine, wide_engine.topics.input, 60)
    reader = wide_engine.reader()

    beginnings, ends = reader.bounds(wide_engine.topics.input)
    start = {0: ends[0] - 2, 1: ends[1] + 5}
    found = list(reader.read(wide_engine.topics.input, follow=False, stop=lambda: False, start=start))

    assert beginnings == {0: 0, 1: 0, 2: 0}
    assert sum(ends.values()) == 60
    assert found == [
        each for each in every if each.partition == 2 or (each.partition == 0 and each.offset >= ends[0] - 2)
    ]


def test_bounds_of_an_unknown_topic_are_refused_by_name(engine: Engine) -> None:
    """As reading it is."""
    prepared(engine)

    with pytest.raises(ConfigurationError, match="nowhere"):
        engine.reader().bounds("nowhere")
