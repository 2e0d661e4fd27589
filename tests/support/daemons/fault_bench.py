"""One deployment under faults: records of known identity go in, daemons run and are killed, and an oracle checks what came out.

bench = Bench(folder, setup, engine, seed)
bench.feed(40)
bench.start(die_at=("commit", 2)).wait(30)
bench.drain()
bench.check()
"""

from __future__ import annotations

import hashlib
import json
import random
import signal
import sqlite3
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from kafka import KafkaAdminClient
from kafka.admin import MemberToRemove
from numpy.typing import NDArray

from dugs_stream.app.engine import build_engine
from dugs_stream.records import Message, Record, Rejection
from tests.support.brokers.fault_broker import FaultBroker
from tests.support.brokers.kafka_admin import KafkaAdmin
from tests.support.brokers.proxy import Proxy
from tests.support.daemons.deployment import Deployment, as_npy, npy_message, one_thread
from tests.support.daemons.faulty_daemon import DaemonOptions
from tests.support.daemons.fork_server import ForkedDaemon
from tests.support.models.small import WIDTH
from tests.support.oracles.faults import Expected, Names, check_deployment, check_state_folder
from tests.support.oracles.log_contents import (
    LogContents,
    LoggedRecord,
    contents_of_embedded,
    contents_of_kafka,
    is_read_to_its_end,
)
from tests.support.waiting import wait_until

# A drained run takes a second; a broker that comes back, a session that runs out and a busy machine come on top.
DRAINED_SECONDS = 150.0
# The test broker takes one this short, and a killed owner holds the group up for no longer.
SESSION_MS = 1_500

# A look reads topics and costs as much as a daemon's whole commit; what is waited for takes seconds.
_LOOK_EVERY_SECONDS = 0.25

POISON_SHARE = 0.12


@dataclass
class FaultSetup:
    """Where faults are played: on Kafka the broker, and the proxy before its second listener."""

    broker: FaultBroker | None = None
    proxy: Proxy | None = None
    vectors: dict[str, NDArray[np.float32] | None] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


def mixed_records(generator: random.Random, start: int, count: int) -> list[Message]:
    """Records that carry their number as key, and among them every kind of poison, at random places."""
    numbers = np.random.default_rng(generator.randrange(2**32))
    records = []
    for number in range(start, start + count):
        good = npy_message(
            numbers.normal(size=WIDTH).astype(np.float32), str(number % 4), f"record-{number}".encode()
        )
        records.append(_poison(generator, number) if generator.random() < POISON_SHARE else good)
    return records


def _poison(generator: random.Random, number: int) -> Message:
    zeros, key = np.zeros(WIDTH, np.float32), f"poison-{number}".encode()
    return generator.choice(
        [
            Message(key, b"not an array", (("label", b"1"),)),
            Message(key, b"", (("label", b"1"),)),
            Message(key, as_npy(np.full(WIDTH, np.nan, np.float32)), (("label", b"1"),)),
            Message(key, as_npy(np.zeros(WIDTH + 1, np.float32)), (("label", b"1"),)),
            Message(key, as_npy(zeros), (("label", b"77"),)),
            Message(key, as_npy(zeros)),
        ]
    )


class Bench:
    """See the module. `kafka` runs it on the broker of `setup`, through its proxy where `proxied`."""

    def __init__(
        self,
        folder: Path,
        setup: FaultSetup,
        engine: str,
        seed: int,
        *,
        proxied: bool = False,
        partitions: int = 1,
        **blocks: Mapping[str, Any],
    ) -> None:
        self.setup = setup
        self.engine = engine
        self.random = random.Random(seed)
        self.expected_lost: frozenset[str] = frozenset()
        self.thresholds: tuple[float, ...] = (0.5,)
        self.is_compacted = False
        self.rounds = 1
        self.counts: Counter[str] = Counter()
        self.started = 0
        self._daemons: list[ForkedDaemon] = []
        self.fed = 0
        self._remembered: dict[str, list[LoggedRecord]] = {}
        self._made_anew: set[str] = set()
        unique = uuid.uuid4().hex[:8]
        self.group = f"group-{unique}"
        self.names = Names(
            *(f"{name}-{unique}" for name in ("in", "unique", "decisions", "dead", "changelog"))
        )
        self.deployment = Deployment(folder)
        self.deployment.write(
            input={"topic": self.names.input, "group": self.group, "batch": {"records": 8, "wait_ms": 20}},
            output={
                "topic": self.names.unique,
                "decisions_topic": self.names.decisions,
                "dead_letter_topic": self.names.dead_letter,
                "changelog_topic": self.names.changelog,
            },
        )
        if engine == "kafka":
            self.deployment.write(log=self._kafka(proxied, partitions))
        self.deployment.write(**blocks)

    def _kafka(self, proxied: bool, partitions: int) -> Mapping[str, Any]:
        broker, proxy = self.setup.broker, self.setup.proxy
        assert broker is not None
        assert proxy is not None
        address = f"127.0.0.1:{proxy.port}" if proxied else broker.address
        return {
            "engine": "kafka",
            "kafka": {
                "bootstrap_servers": [address],
                "session_timeout_ms": SESSION_MS,
                "input_partitions": partitions,
            },
        }

    # -- what goes in ----------------------------------------------------------------------------------

    @property
    def folder(self) -> Path:
        """Where configuration, state and the daemons' outputs lie."""
        return self.deployment.folder

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.folder / "state"

    @property
    def broker(self) -> FaultBroker:
        """The broker, on Kafka."""
        assert self.setup.broker is not None
        return self.setup.broker

    @property
    def proxy(self) -> Proxy:
        """The proxy before its second door."""
        assert self.setup.proxy is not None
        return self.setup.proxy

    @cached_property
    def kafka(self) -> KafkaAdmin:
        """Hands of a stranger on the cluster."""
        return KafkaAdmin(self.broker.address, self.group)

    def second_config(self) -> str:
        """The configuration of a second instance: everything alike but its state folder."""
        second = self.folder / "second.yaml"
        second.write_text(self.deployment.config.read_text().replace(str(self.state), f"{self.state}-second"))
        return str(second)

    def feed(self, count: int) -> None:
        """Put the next records onto the input, poison among them."""
        self.deployment.send(mixed_records(self.random, self.fed, count))
        self.fed += count

    # -- daemons ---------------------------------------------------------------------------------------

    def start(self, **options: Any) -> ForkedDaemon:
        """A daemon begins to live; see `DaemonOptions` for what may befall it."""
        self.started += 1
        log = self.folder / f"daemon-{self.started:04d}.txt"
        options = {"config": str(self.deployment.config), "log": str(log), **options}
        daemon = ForkedDaemon(DaemonOptions(**options))
        self._daemons.append(daemon)
        return daemon

    @property
    def alive(self) -> list[ForkedDaemon]:
        """Those that live now."""
        return [daemon for daemon in self._daemons if daemon.is_alive]

    def kill_all(self) -> None:
        """Kill those that still run."""
        for daemon in self._daemons:
            daemon.kill()

    def drain(self, **options: Any) -> ForkedDaemon:
        """A daemon that is left alone decides what there is, and ends well."""
        daemon = self.start(drain=True, **options)
        status = daemon.wait(DRAINED_SECONDS)
        assert status == 0, f"a daemon left alone ended with {status}:\n{daemon.output[-3000:]}"
        return daemon

    def refused(self, *words: str, **options: Any) -> ForkedDaemon:
        """A daemon must refuse to start, with these words in what it says."""
        daemon = self.start(drain=True, **options)
        status = daemon.wait(DRAINED_SECONDS)
        assert status > 0, f"a daemon that should refuse ended with {status}:\n{daemon.output[-3000:]}"
        _require_words(daemon, words)
        return daemon

    def hold(self, step: str, nth: int = 1, **options: Any) -> tuple[ForkedDaemon, Callable[[], None]]:
        """A daemon that waits at a step, and what lets it go on."""
        gate = self.folder / f"gate-{self.started}"
        daemon = self.start(hold_at=(step, nth), gate=str(gate), **options)
        reached = Path(f"{gate}.reached")
        wait_until(lambda: reached.exists() or not daemon.is_alive, DRAINED_SECONDS)
        assert reached.exists(), daemon.output[-3000:]
        return daemon, gate.touch

    def finish(
        self, daemon: ForkedDaemon, *, ends_with: Sequence[int] = (0, 70), then_drain: bool = True
    ) -> None:
        """Let a daemon decide what there is and stop it; one that left by itself (70) has a successor."""
        wait_until(
            lambda: not daemon.is_alive or self._is_all_decided(),
            DRAINED_SECONDS,
            daemon.options.log,
            _LOOK_EVERY_SECONDS,
        )
        daemon.send_signal(signal.SIGTERM)
        status = daemon.wait(DRAINED_SECONDS)
        assert status in ends_with, f"ended with {status}:\n{daemon.output[-3000:]}"
        if then_drain:
            self.drain()

    def _is_all_decided(self) -> bool:
        if self.engine == "kafka":
            return is_read_to_its_end(self.broker.address, self.group, self.names.input)
        seen = self.contents()
        return dict(seen.committed) == dict(seen.ends)

    def decided_records(self) -> list[LoggedRecord]:
        """The input records that are decided, as far as they are known."""
        names = {json.loads(r.value or b"{}")["id"] for r in self.contents().records[self.names.decisions]}
        return [record for record in self._remembered[self.names.input] if record.id in names]

    def count(self, what: str) -> None:
        """Note what a round was, for the table."""
        self.counts[what] += 1

    # -- what somebody else does -----------------------------------------------------------------------

    def forget_offsets(self) -> None:
        """The group's offsets are gone, as if they had expired."""
        if self.engine == "kafka":
            self.kafka.forget_offsets()
        else:
            self._alter("DELETE FROM offsets")

    def move_offset(self, offset: int) -> None:
        """Somebody sets the group's offset of partition 0."""
        if self.engine == "kafka":
            self.kafka.move_offset(self.names.input, offset)
        else:
            self._alter("UPDATE offsets SET next_offset = ?", offset)

    def _alter(self, statement: str, *values: int) -> None:
        with closing(sqlite3.connect(self.folder / "log.db", isolation_level=None)) as connection:
            connection.execute(statement, values)

    def depose(self) -> None:
        """Put every member out of the group."""
        admin = KafkaAdminClient(bootstrap_servers=self.broker.address)
        try:
            group = admin.describe_groups([self.group])[self.group]
            members = [MemberToRemove(member_id=member["member_id"]) for member in group["members"]]
            if members:
                admin.remove_group_members(self.group, members)
        finally:
            admin.close()

    def wait_until_decided(self, count: int, seconds: float = DRAINED_SECONDS) -> None:
        """Until so many decisions are committed."""
        wait_until(
            lambda: len(self.contents().records[self.names.decisions]) >= count,
            seconds,
            f"{count} decisions",
            _LOOK_EVERY_SECONDS,
        )

    # -- what came out ---------------------------------------------------------------------------------

    def contents(self) -> LogContents:
        """Everything committed, as a stranger sees it."""
        if self.engine == "embedded":
            return contents_of_embedded(self.folder / "log.db", self.group, self.names.input)
        return contents_of_kafka(self.broker.address, self.group, self.names.all, self.names.input)

    def remember(self, topic: str, *, is_made_anew: bool = False) -> None:
        """Keep what lies on a topic now, since it is about to be deleted, or the topic with it."""
        self._remembered[topic] = list(self.contents().records[topic])
        if is_made_anew:
            self._made_anew.add(topic)

    def check(self, *, is_complete: bool = True) -> int:
        """The oracle: everything decided, once, and as the sequential algorithm does; returns the uniques."""
        seen = self._with_remembered(self.contents())
        inputs = {record.id: record for record in seen.records[self.names.input]}
        assert len(inputs) == self.fed, f"{self.fed} records were sent, {len(inputs)} are known"
        expected = Expected(inputs, self.expected_lost, self.thresholds, self.is_compacted)
        uniques = check_deployment(seen, self.names, self._vectors(list(inputs.values())), expected)
        check_state_folder(self.state, seen.records[self.names.changelog], is_complete=is_complete)
        return uniques

    def _with_remembered(self, seen: LogContents) -> LogContents:
        """The topics as they would be if nothing of them had been deleted."""
        whole = dict(seen.records)
        for topic, before in self._remembered.items():
            places = set() if topic in self._made_anew else {(r.partition, r.offset) for r in before}
            whole[topic] = [*before, *(r for r in whole[topic] if (r.partition, r.offset) not in places)]
        return replace(seen, records=whole)

    def _vectors(self, records: Sequence[LoggedRecord]) -> dict[str, NDArray[np.float32]]:
        """The engine's own projection of each record that can be judged, computed once for all deployments."""
        known, contents = self.setup.vectors, {record.id: _content(record) for record in records}
        new = [record for record in records if contents[record.id] not in known]
        with self.setup.lock:
            self._project(new, contents)
        found = {name: known[content] for name, content in contents.items()}
        return {name: vector for name, vector in found.items() if vector is not None}

    def _project(self, new: Sequence[LoggedRecord], contents: Mapping[str, str]) -> None:
        if new:
            projector = build_engine(self.deployment.settings).projector
            samples = [
                Record(r.key, r.value, r.headers, topic=r.topic, partition=r.partition, offset=r.offset)
                for r in new
            ]
            with one_thread():
                projected = projector.project(projector.decoded(samples))
            for record, outcome in zip(projected.records, projected.outcomes, strict=True):
                is_rejected = isinstance(outcome, Rejection)
                vector = None if is_rejected else projected.projection.vectors[outcome.row]
                self.setup.vectors[contents[record.id]] = vector


def _content(record: LoggedRecord) -> str:
    return hashlib.sha256(repr((record.value, record.headers)).encode()).hexdigest()


def _require_words(daemon: ForkedDaemon, words: Sequence[str]) -> None:
    output = " ".join(daemon.output.split())
    for word in words:
        assert word in output, f"expected {word!r} in:\n{daemon.output[-3000:]}"
