"""What the cluster must allow: the table of docs/security.md is enough, and each line of it is needed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from dugs_stream.errors import LogRefusedError, Refusal
from dugs_stream.log.kafka.permissions import (
    Permission,
    daemon_permissions,
    find_missing,
    settings_permissions,
)
from dugs_stream.log.kafka.transaction import transactional_id
from dugs_stream.log.port import TopicNames
from tests.secured.conftest import SecuredDeployment
from tests.support.brokers.secured import Grant, SecuredBroker
from tests.support.daemons.deployment import npy_messages
from tests.support.daemons.fork_server import ROOT
from tests.support.daemons.in_thread import has_role, running_in_thread
from tests.support.daemons.instances import Instance
from tests.support.terminals.commands import dugs
from tests.support.waiting import wait_until

pytestmark = pytest.mark.broker

ROW = re.compile(r"^\| (READ|WRITE) \| (topic|group|transactional-id) \| (.+?) \| .+ \|$", re.MULTILINE)


def documented(topics: TopicNames) -> list[Grant]:
    """The table of the daemon's permissions in docs/security.md, for one deployment."""
    names = {
        "`input.topic`": topics.input,
        "`output.topic`": topics.unique,
        "`output.dead_letter_topic`": topics.dead_letter,
        "`output.decisions_topic`": topics.decisions or "",
        "`output.changelog_topic`": topics.changelog,
        "`input.group`": topics.group,
        "`dugs-` + group + `-` + 16 digits": transactional_id(topics),
    }
    rows = ROW.findall((ROOT / "docs" / "security.md").read_text())
    return [Grant(kind, names[name], operation.lower()) for operation, kind, name in rows]


def grants(permissions: Sequence[Permission]) -> list[Grant]:
    return [Grant(str(each.resource), each.name, each.operation.lower()) for each in permissions]


TOPICS = TopicNames("in", "group", "unique", "changelog", "dead", "decisions")
COUNT = len(daemon_permissions(TOPICS))


def test_documented_permissions_are_the_ones_that_the_daemon_asks_for() -> None:
    """One list: what an operator reads and what a start looks for are the same, in the same order."""
    assert documented(TOPICS) == grants(daemon_permissions(TOPICS))
    assert COUNT == 8


def test_daemon_lives_dies_and_comes_back_with_the_documented_permissions_and_no_more(
    deployment: SecuredDeployment,
) -> None:
    """Kill -9 in the middle, a second life to the end: everything decided once, and the changelog replayed."""
    deployment.broker.allow("dugs", documented(deployment.topics))
    deployment.administrator.send(npy_messages(40))
    instance = Instance(deployment.user, "first")
    instance.start()
    try:
        instance.wait_for_decided(40)
        deployment.administrator.send(npy_messages(30, seed=1))
        instance.wait_for_decided(48)
    finally:
        instance.kill()
    assert "topic.unseen" in instance.log, "DESCRIBE_CONFIGS is not among them, and is missed by a warning"

    deployment.user.drain()

    assert len(deployment.administrator.events()) == 70
    deployment.administrator.check()


@pytest.mark.parametrize("number", range(COUNT))
def test_start_without_one_permission_names_it_in_one_line(
    deployment: SecuredDeployment, number: int
) -> None:
    """Which operation, on what, for whom, and the command that grants it; a run that ends by itself fails with it."""
    permissions = daemon_permissions(deployment.topics)
    left_out = permissions[number]
    deployment.broker.allow(
        "dugs", [each for each in documented(deployment.topics) if each not in grants([left_out])]
    )

    assert find_missing(deployment.user.settings.log.kafka, permissions) == (left_out,)
    with pytest.raises(LogRefusedError) as told:
        deployment.user.drain()

    line = str(told.value)
    assert told.value.cause is Refusal.AUTHORIZATION
    assert "\n" not in line
    assert f"does not allow user 'dugs' {left_out}." in line
    assert left_out.granting(deployment.user.settings.log.kafka) in line


def test_everything_that_is_missing_is_named_at_once(deployment: SecuredDeployment) -> None:
    """An administrator is asked once and not eight times."""
    with pytest.raises(LogRefusedError) as told:
        deployment.user.drain()

    for permission in daemon_permissions(deployment.topics):
        assert str(permission) in str(told.value)


def test_deep_check_has_a_row_for_each_permission_and_the_command_that_grants_it(
    deployment: SecuredDeployment,
) -> None:
    """What is allowed passes; exit 1 while anything is missing, 0 and a note on unseen settings afterwards."""
    first, *rest = daemon_permissions(deployment.topics)
    deployment.broker.allow("dugs", grants(rest))
    command = ("check", "-c", deployment.user.config, "--deep")

    without = dugs(*command, environ={"COLUMNS": "400"})
    deployment.broker.allow("dugs", grants([first]))
    with_all = dugs(*command, environ={"COLUMNS": "400"})

    (failed,) = [line for line in without.out.splitlines() if "FAILED" in line]
    assert (without.code, with_all.code) == (1, 0), with_all.out
    assert str(first) in failed
    assert first.granting(deployment.user.settings.log.kafka) in failed
    assert all(str(each) in without.out for each in rest)
    notes = [line for line in with_all.out.splitlines() if "note" in line]
    assert ["DESCRIBE_CONFIGS on topic" in note for note in notes].count(True) == 1, notes
    for step in ("TCP", "TLS", "SASL", "cluster", "topics"):
        assert f"log (kafka) {step} " in with_all.out


def test_looking_for_permissions_disturbs_no_owner(deployment: SecuredDeployment) -> None:
    """The daemon goes on in the same generation, with its transactional id unfenced, while others look."""
    deployment.broker.allow("dugs", documented(deployment.topics))
    with running_in_thread(deployment.user.settings) as daemon:
        wait_until(lambda: has_role(daemon, "owner"), 30, "the daemon to own the input")
        for round_number in range(3):
            assert (
                find_missing(deployment.user.settings.log.kafka, daemon_permissions(deployment.topics)) == ()
            )
            deployment.administrator.send(npy_messages(10, seed=round_number))
            wait_until(
                lambda wanted=10 * round_number + 10: sum(daemon.next_offsets.values()) >= wanted,
                30,
                "the records to be decided",
            )
        recoveries = [
            sample.value
            for metric in daemon.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == "dugs_recoveries_total"
        ]
        assert sum(recoveries) == 1


def test_topics_are_made_with_the_permission_to_and_checked_with_that_to_see(
    tmp_path: Path, secured: SecuredBroker
) -> None:
    """create_topics: true needs CREATE on each; without it the line says CREATE's refusal, and nothing is half made."""
    deployment = SecuredDeployment(tmp_path, secured)
    deployment.configure(create_topics=True)
    topics = settings_permissions(deployment.topics)
    secured.allow("dugs", documented(deployment.topics))
    with pytest.raises(LogRefusedError, match="looking at the topics"):
        deployment.user.drain()

    secured.allow("dugs", [Grant("topic", each.name, "create") for each in topics])
    secured.allow("dugs", grants(topics))
    deployment.user.drain()

    assert find_missing(deployment.user.settings.log.kafka, topics) == ()
    assert deployment.administrator.events() == []


def test_sender_needs_to_write_to_the_input_and_nothing_else(
    deployment: SecuredDeployment, tmp_path: Path
) -> None:
    """`dugs send` as a user who sees no other topic; without the permission it says so in one line."""
    (tmp_path / "one.npy").write_bytes(npy_messages(1)[0].value or b"")
    as_sender = ("--set", "log.kafka.sasl_plain_username=sender", "-c", deployment.user.config)

    refused = dugs("send", *as_sender, tmp_path / "one.npy")
    deployment.broker.allow("sender", [Grant("topic", deployment.topics.input, "write")])
    sent = dugs("send", *as_sender, tmp_path / "one.npy")

    assert refused.code == 1
    assert refused.err.count("\n") == 1
    assert deployment.topics.input in refused.err
    assert sent.code == 0
    assert sent.err.startswith(f"sent 1 record to {deployment.topics.input}\n")


def test_subscriber_needs_to_read_the_topic_and_no_group(deployment: SecuredDeployment) -> None:
    """`dugs tail` as a user of its own; without the permission it says so in one line."""
    deployment.administrator.send(npy_messages(5))
    deployment.administrator.drain()
    as_reader = ("--set", "log.kafka.sasl_plain_username=reader", "-c", deployment.user.config)

    refused = dugs("tail", *as_reader)
    deployment.broker.allow("reader", [Grant("topic", deployment.topics.unique, "read")])
    read = dugs("tail", *as_reader)

    assert (refused.code, refused.out) == (1, "")
    assert refused.err.count("\n") == 1
    assert deployment.topics.unique in refused.err
    assert read.lines == [dict(event) for event in deployment.administrator.events("unique")]
