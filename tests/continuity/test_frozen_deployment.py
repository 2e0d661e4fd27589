"""A deployment that older code wrote: its answers are the same, and what it goes on to decide is the same.

`data/` holds a log, a state folder and what the code of that day said of them and made of the records it had not yet
decided (see `freeze.py`). What is read from the frozen files is held bit for bit. What is computed anew from pixels
may differ in its last bits on another processor: similarities, norms and vectors are held to 1e-5, and the records
were chosen so that no verdict lies within 1e-4 of a threshold.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from tests.continuity.frozen import DATA, EXPLAINED, RUNS_ON, TOPICS, Record, records_of, undump
from tests.support.terminals.commands import Ended, dugs

TOLERANCE = 1e-5
NO_ROWS = "0" * 64
MEASURED = ("similarity", "gradient_norm")
# Of a dead letter's facts the sentence for people is the one that a later release may word better.
WORDED = ("error", "dugs_error")
# Trailers of later versions tell the code of the factory too. What was frozen does not, and goes on all the same.
SINCE = ("code",)
ANSWERS: Mapping[str, Any] = json.loads((DATA / "answers.json").read_text())
CONTINUED: Mapping[str, Any] = json.loads((DATA / "continued" / "answers.json").read_text())


def numbers_in(lines: Sequence[str]) -> list[list[str]]:
    """The numbers of each line: what `retry` counts is held, its wording is free to change."""
    return [re.findall(r"\d+", line) for line in lines]


def copy_into(folder: Path) -> Path:
    """What is needed to go on, where it may be changed."""
    for name in RUNS_ON:
        path = DATA / name
        (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / name)
    return folder


def ask(*arguments: str | Path, code: int = 0) -> Ended:
    """A command on the configuration in this folder."""
    ended = dugs(*arguments, "-c", "dugs.yaml")
    assert ended.code == code, ended.err
    return ended


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The frozen deployment. Look, and change nothing."""
    return copy_into(tmp_path_factory.mktemp("frozen"))


@pytest.fixture
def here(frozen: Path) -> Iterator[Path]:
    """The same as the working directory."""
    with contextlib.chdir(frozen):
        yield frozen


def replay_all(folder: Path) -> None:
    """No state folder: everything comes from the changelog."""
    shutil.rmtree(folder / "state")


def replay_some(folder: Path) -> None:
    """A state folder as old as the first run: the changelog has the rest."""
    shutil.rmtree(folder / "state")
    (folder / "state-early").rename(folder / "state")


def replay_nothing(folder: Path) -> None:
    """The state folder as it was left."""


@pytest.fixture(
    scope="module", params=[replay_nothing, replay_some, replay_all], ids=lambda way: way.__name__
)
def continued(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The deployment after this code went on with it, from each kind of state folder."""
    folder = copy_into(tmp_path_factory.mktemp("continued"))
    request.param(folder)
    with contextlib.chdir(folder):
        # Older code polled one micro-batch after the other, and each has a trailer: polled ahead there are more of them.
        ask("run", "--drain", "--quiet", "--set", "input.prefetch=0")
    return folder


# -- what is compared --------------------------------------------------------------------------------------


def old_and_new(folder: Path, topic: str) -> tuple[list[Record], list[Record]]:
    """The records of a topic that were there when it was frozen, and those behind them."""
    before = len(records_of(DATA / "log.db", topic))
    records = records_of(folder / "log.db", topic)
    return records[:before], records[before:]


def decoded(content: bytes | None) -> Any:
    """JSON as what it says, in the canonical form that is written; any other bytes as they are."""
    if content is None or not content.startswith(b"{"):
        return content
    facts = json.loads(content)
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert text.encode() == content, "not canonical"
    return facts


def measured(facts: Any) -> list[float]:
    """The numbers of an event that were computed, None where it has none."""
    if not isinstance(facts, dict) or "type" not in facts:
        return []
    return [np.nan if facts[name] is None else facts[name] for name in MEASURED]


def fixed(facts: Any) -> Any:
    """The rest of it, without what is of the moment: the time of the decision, and words for people."""
    if not isinstance(facts, dict):
        return facts
    varying = {"time", "checksum", *WORDED, *MEASURED, *SINCE}
    assert facts.get("error") != ""
    return {name: fact for name, fact in facts.items() if name not in varying}


def assert_same(found: Sequence[Record], expected: Sequence[Record]) -> None:
    """Record by record: place, key, value and headers, in this order of headers; the timestamps are the clock's."""
    assert [record.offset for record in found] == [record.offset for record in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.key == other.key
        assert_same_bytes(one.value, other.value, is_vector=(one.key or b"").startswith(b"unique/"))
        assert [name for name, _ in one.headers] == [name for name, _ in other.headers]
        for (name, value), (_, wanted) in zip(one.headers, other.headers, strict=True):
            if name not in WORDED:
                assert_same_bytes(value, wanted, is_vector=False)


def assert_same_bytes(found: bytes | None, expected: bytes | None, *, is_vector: bool) -> None:
    """Equal, but for the last bits of what was computed anew."""
    if is_vector:
        one, other = (np.frombuffer(content or b"", "<f4") for content in (found, expected))
        assert len(one) == len(other)
        np.testing.assert_allclose(one, other, rtol=0, atol=TOLERANCE)
        return
    one, other = decoded(found), decoded(expected)
    assert fixed(one) == fixed(other)
    np.testing.assert_allclose(measured(one), measured(other), rtol=TOLERANCE, atol=TOLERANCE)


def checksums(changelog: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """At each trailer the checksum it tells, and the chain over the rows so far, computed by this file's own code."""
    link = NO_ROWS
    for record in changelog:
        if record.key == b"trailer":
            yield json.loads(record.value or b"")["checksum"], link
            continue
        ((_, event),) = record.headers
        number = int((record.key or b"").removeprefix(b"unique/"))
        prefix = bytes.fromhex(link) + struct.pack("<qQ", number, len(event or b""))
        link = hashlib.sha256(prefix + (event or b"") + (record.value or b"")).hexdigest()


# -- the frozen answers ------------------------------------------------------------------------------------


def test_verify_holds_the_old_state_equal_to_the_old_changelog(here: Path) -> None:
    """Every row on disk that older code wrote is read, and is the changelog's."""
    assert ask("index", "verify").out == ANSWERS["verify"]


def test_info_of_the_old_state_is_the_old_one(here: Path) -> None:
    """Fingerprint, checksum, offsets and counts are read from the old snapshot."""
    (facts,) = ask("index", "info").lines
    assert {name: facts[name] for name in ANSWERS["info"]} == ANSWERS["info"]  # newer facts stand beside them


def test_export_of_the_old_changelog_is_the_old_one_to_the_byte(here: Path, tmp_path: Path) -> None:
    """Vectors bit for bit, events to the letter."""
    ask("index", "export", "-o", tmp_path)

    for name in ("vectors.npy", "uniques.jsonl"):
        assert (tmp_path / name).read_bytes() == (DATA / "exported" / name).read_bytes()


@pytest.mark.parametrize(
    ("topic", "verdicts"),
    [
        ("unique", {"unique"}),
        ("decisions", {"unique", "duplicate", "no_gradient", "rejected"}),
        ("dead-letter", {"rejected"}),
    ],
)
def test_tail_of_an_old_topic_tells_the_old_events(here: Path, topic: str, verdicts: set[str]) -> None:
    """Each event as it was, the very numbers included, in whichever form it travels."""
    expected = [event for event in ANSWERS["decisions"] if event["type"] in verdicts]

    assert {event["type"] for event in expected} == verdicts
    assert ask("tail", "--topic", topic).lines == expected


@pytest.mark.parametrize("record", EXPLAINED)
def test_explanation_of_an_old_id_is_the_old_one(here: Path, record: str) -> None:
    """The event, where it lies, and its nearest unique's."""
    assert ask("explain", record, "--json").lines == [ANSWERS["explained"][record]]


def test_old_dead_letters_would_go_back_as_before(here: Path) -> None:
    """By reason, and the cut one is told apart."""
    assert numbers_in(ask("retry", "--dry-run").err.splitlines()) == numbers_in(ANSWERS["retry"])


# -- going on ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", TOPICS)
def test_what_was_published_stays_as_it_was(continued: Path, topic: str) -> None:
    """Going on appends; no byte of what older code published changes, and no input is forgotten."""
    before, _ = old_and_new(continued, topic)

    assert before == records_of(DATA / "log.db", topic)
    assert records_of(continued / "log.db", "dugs.samples") == records_of(DATA / "log.db", "dugs.samples")


@pytest.mark.parametrize("topic", TOPICS)
def test_going_on_publishes_what_older_code_would_have(continued: Path, topic: str) -> None:
    """Verdicts, sequences, nearest, ids, labels, reasons, headers, vectors and trailers, record for record."""
    expected = undump(DATA / "continued" / f"{topic}.json")
    _, after = old_and_new(continued, topic)

    assert expected
    assert_same(after, expected)


def test_going_on_adopts_the_code_of_the_factory(continued: Path) -> None:
    """The old trailers do not tell it, the new ones do."""
    before, after = (
        [json.loads(record.value or b"").get("code") for record in records if record.key == b"trailer"]
        for records in old_and_new(continued, "dugs.changelog")
    )

    assert set(before) == {None}
    assert [list(code) for code in after] == [["model.factory"]] * len(after)


def test_checksums_of_old_and_new_trailers_are_the_chain_over_all_rows(continued: Path) -> None:
    """One chain runs through old rows and new; by the documented sum, computed here by other code.

    The new links hold events with the time of this run, so that they are not the frozen ones; those are held to
    the same sum.
    """
    told = list(checksums(records_of(continued / "log.db", "dugs.changelog")))

    assert len(told) > 5
    assert all(checksum == link for checksum, link in told)
    assert told[-1][0] != ANSWERS["info"]["snapshot"]["checksum"]
    before = undump(DATA / "changelog.json")
    frozen = list(checksums(before + undump(DATA / "continued" / "dugs.changelog.json")))
    assert all(checksum == link for checksum, link in frozen)
    assert frozen[-1][0] == CONTINUED["info"]["snapshot"]["checksum"]


def test_state_after_going_on_is_that_of_older_code(continued: Path) -> None:
    """The new snapshot tells the same facts, and disk and changelog are equal."""
    with contextlib.chdir(continued):
        assert ask("index", "verify").out.startswith(
            f"equal: {CONTINUED['info']['snapshot']['uniques']} rows"
        )
        (info,) = ask("index", "info").lines
        retried = ask("retry", "--dry-run").err.splitlines()

    expected = dict(CONTINUED["info"]["snapshot"])
    last = list(checksums(records_of(continued / "log.db", "dugs.changelog")))[-1][0]
    assert info["snapshot"] == {**expected, "checksum": last}
    assert info["damaged"] == []
    assert not list(continued.glob("state/*.damaged"))
    assert numbers_in(retried) == numbers_in(CONTINUED["retry"])


def test_events_keep_to_the_old_schema(continued: Path) -> None:
    """Whoever reads events by the schema of that day reads those of today."""
    validator = Draft202012Validator(json.loads((DATA / "event-schema.json").read_text()))

    for record in records_of(continued / "log.db", "dugs.decisions"):
        validator.validate(json.loads(record.value or b""))


def test_comparison_sees_what_it_must() -> None:
    """Another number, another field's name, another order of headers and another vector are each a difference."""
    records = undump(DATA / "continued" / "dugs.decisions.json")
    row = undump(DATA / "continued" / "dugs.changelog.json")[0]
    like = next(record for record in records if b'"type":"duplicate"' in (record.value or b""))
    event = json.loads(like.value or b"")
    renamed = {("distance" if name == "similarity" else name): fact for name, fact in event.items()}
    moved = {**event, "similarity": event["similarity"] - 1e-4}
    turned = np.frombuffer(row.value or b"", "<f4")[::-1].tobytes()

    assert_same(records, records)
    for one, other in [
        (like, like._replace(value=canonical({**event, "sequence": 0}))),
        (like, like._replace(value=canonical(moved))),
        (like._replace(value=canonical(renamed)), like),
        (like, like._replace(headers=like.headers[::-1])),
        (row, row._replace(value=turned)),
    ]:
        with pytest.raises((AssertionError, KeyError)):
            assert_same([one], [other])


def canonical(facts: Mapping[str, Any]) -> bytes:
    """As it would be written."""
    return json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
