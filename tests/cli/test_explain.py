"""`dugs explain`: one decision with its nearest unique, or why there is none to show."""

from __future__ import annotations

from pathlib import Path

from dugs_stream.records import Message
from tests.support.daemons.deployment import Deployment, npy_messages
from tests.support.terminals.commands import dugs


def test_event_of_a_record_is_found_with_its_nearest_unique(decided: Deployment) -> None:
    """Whole, as it was published, with its place on the topic; the nearest is the unique's own event."""
    topics = {"unique": "dugs.unique", "duplicate": "dugs.decisions", "rejected": "dugs.dead-letter"}
    for verdict, topic in topics.items():
        event = [each for each in decided.events() if each["type"] == verdict][-1]

        ended = dugs("explain", event["id"], "-c", decided.config, "--json")

        (found,) = ended.lines
        assert (ended.code, ended.err) == (0, ""), verdict
        assert found["event"] == event
        assert found["found_at"].rsplit("/", 2)[0] == topic
        nearest = event["nearest"] and decided.events("unique")[event["nearest"]["sequence"]]
        assert found["nearest"] == nearest


def test_explanation_for_people_says_verdict_distance_and_nearest(decided: Deployment) -> None:
    """Similarity against τ and how far off, the nearest unique's place, norm, label, model and where it lies."""
    event = next(each for each in decided.events() if each["type"] == "duplicate")

    ended = dugs("explain", event["id"], "-c", decided.config)

    assert ended.code == 0
    assert ended.out.startswith(f"{event['id']} is a duplicate\n")
    words = " ".join(ended.out.split())
    for said in (
        f"{event['similarity']:.4f} to the nearest unique, {event['similarity'] - event['threshold']:.4f} above τ = 0.5",
        f"#{event['nearest']['sequence']} {event['nearest']['id']}",
        f"gradient norm {event['gradient_norm']:.4g}",
        event["label_name"],
        event["model"]["name"],
        "found at dugs.decisions/0/",
    ):
        assert said in words, said


def test_event_in_a_header_is_found(tmp_path: Path) -> None:
    """Under payload: original too, where the value is the record's own."""
    deployment = Deployment(tmp_path, output={"payload": "original", "decisions_topic": None})
    deployment.send(npy_messages(12))
    deployment.drain()
    event = deployment.events("unique")[-1]

    (found,) = dugs("explain", event["id"], "-c", deployment.config, "--json").lines

    assert found["event"] == event
    assert found["nearest"]["id"] == event["nearest"]["id"]


def test_key_that_is_another_records_id_does_not_stand_in_for_it(tmp_path: Path) -> None:
    """An event that merely names the id is passed over."""
    deployment = Deployment(tmp_path, selection={"threshold": 1.0})
    first, *rest = npy_messages(5)
    deployment.send([Message(b"dugs.samples/0/3", first.value, first.headers), *rest])
    deployment.drain()

    (found,) = dugs("explain", "0/3", "-c", deployment.config, "--json").lines

    assert found["event"]["id"] == "dugs.samples/0/3"


def test_key_of_a_record_cannot_write_on_the_terminal(tmp_path: Path) -> None:
    """Neither a colour, nor a line, nor a title."""
    deployment = Deployment(tmp_path)
    message = npy_messages(1)[0]
    deployment.send([Message(b"k\n\x1b]0;title\x07 is unique", message.value, message.headers)])
    deployment.drain()

    ended = dugs("explain", "0/0", "-c", deployment.config)

    assert all(line.isprintable() for line in ended.out.splitlines())
    assert r"k\n\x1b]0;title\x07 is unique" in ended.out


def test_malformed_id_is_bad_usage(decided: Deployment) -> None:
    """Exit 2, and the form of an id."""
    for name in ("17", "dugs.samples/0", "a/b/c", "dugs.samples/0/-1", "", "0/1/2/3"):
        ended = dugs("explain", "-c", decided.config, "--", name)

        assert (ended.code, ended.out) == (2, ""), name
        assert f"{name!r} is not an id: write topic/partition/offset" in ended.err


def test_record_that_does_not_exist_is_told_why(decided: Deployment) -> None:
    """Exit 1, the topics that were searched, and what the id means."""
    for name, why in (
        ("0/26", "There is no such record yet: dugs.samples/0 ends at 26."),
        ("1/0", "The partitions of 'dugs.samples' are 0 to 0."),
        ("other/0/1", "'other' is not the input topic of this configuration, which is 'dugs.samples'."),
    ):
        ended = dugs("explain", name, "-c", decided.config)

        assert (ended.code, ended.out) == (1, ""), name
        assert "dugs.unique, dugs.dead-letter, dugs.decisions" in ended.err
        assert why in ended.err


def test_record_that_waits_is_not_decided_yet(tmp_path: Path) -> None:
    """Before the first commit, and behind the group's offset."""
    deployment = Deployment(tmp_path)
    deployment.send(npy_messages(5))
    before = dugs("explain", "0/2", "-c", deployment.config)
    deployment.drain()
    deployment.send(npy_messages(3, seed=1))

    after = dugs("explain", "0/7", "-c", deployment.config)

    assert "Not decided yet: group 'dugs' has committed nothing of dugs.samples/0" in before.err
    assert "Not decided yet: group 'dugs' is at 5 of dugs.samples/0, 2 records before it." in after.err
    assert (before.code, after.code) == (1, 1)


def test_duplicate_without_a_decisions_topic_says_what_to_switch_on(decided: Deployment) -> None:
    """Its verdict was taken and not kept."""
    event = next(each for each in decided.events() if each["type"] == "duplicate")

    ended = dugs("explain", event["id"], "-c", decided.config, "--set", "output.decisions_topic=null")

    assert ended.code == 1
    assert "output.decisions_topic" in ended.err
    assert "on dugs.unique, dugs.dead-letter." in ended.err


def test_event_that_was_not_kept_is_told_why(tmp_path: Path) -> None:
    """A decisions topic that was named later does not hold what was decided before."""
    deployment = Deployment(tmp_path, output={"decisions_topic": None})
    deployment.send(npy_messages(30))
    deployment.drain()
    uniques = {event["source"]["offset"] for event in deployment.events("unique")}
    deployment.write(output={"decisions_topic": "dugs.decisions"})
    deployment.prepare()

    ended = dugs("explain", f"0/{next(n for n in range(30) if n not in uniques)}", "-c", deployment.config)

    assert ended.code == 1
    assert "It was decided, and its event is gone" in ended.err


def test_topic_that_is_missing_is_named(decided: Deployment) -> None:
    """Exit 2: a look at the wrong topics would explain nothing."""
    ended = dugs("explain", "0/1", "-c", decided.config, "--set", "output.topic=nosuch")

    assert ended.code == 2
    assert "'nosuch'" in ended.err
