"""One deployment of the daemon for a test: a folder, a configuration, records of known identity, and its outputs.

deployment = Deployment(tmp_path, threshold=0.5)
deployment.send(records(100))
deployment.drain()
deployment.check()
"""

from __future__ import annotations

import io
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from dugs_stream.app.daemon import open_daemon
from dugs_stream.app.engine import build_engine
from dugs_stream.app.logs import open_log, open_reader, open_writer
from dugs_stream.commands.index import replayed
from dugs_stream.commands.tail import events
from dugs_stream.commands.verify import verify
from dugs_stream.config import Settings, load_settings
from dugs_stream.daemon.daemon import Daemon
from dugs_stream.log.port import TopicNames
from dugs_stream.pipeline.project import RecordProjector
from dugs_stream.pipeline.projected import Projected
from dugs_stream.records import Message, Record
from tests.support.daemons.fork_server import start_forked
from tests.support.models.small import WIDTH
from tests.support.oracles.sequential import check_decisions


def as_npy(values: NDArray[Any]) -> bytes:
    """An array as the npy codec reads it."""
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def npy_message(values: NDArray[Any], label: str = "0", key: bytes | None = None) -> Message:
    """A record with its label in the header."""
    return Message(key, as_npy(values), (("label", label.encode()),))


def npy_messages(count: int, seed: int = 0) -> list[Message]:
    """Random records of four classes, the same for the same seed."""
    generator = np.random.default_rng(seed)
    return [
        npy_message(
            generator.normal(size=WIDTH).astype(np.float32),
            str(generator.integers(4)),
            f"record-{seed}-{number}".encode(),
        )
        for number in range(count)
    ]


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute as the processes of this module do: the number of threads changes a vector's last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def on_kafka(address: str) -> dict[str, Mapping[str, Any]]:
    """The blocks that put a deployment on a real broker, with topics and a group of its own."""
    name = uuid.uuid4().hex[:8]
    topics = ("topic", "decisions_topic", "dead_letter_topic", "changelog_topic")
    return {
        "log": {
            "engine": "kafka",
            "kafka": {"bootstrap_servers": [address], "session_timeout_ms": 3000},
        },
        "input": {"topic": f"samples-{name}", "group": f"group-{name}"},
        "output": {topic: f"{topic.replace('_', '-')}-{name}" for topic in topics},
    }


def on_topics(address: str, names: TopicNames) -> dict[str, Mapping[str, Any]]:
    """The same with topics and a group that a test of the engine itself uses."""
    return {
        "log": {
            "engine": "kafka",
            "kafka": {"bootstrap_servers": [address], "session_timeout_ms": 6000},
        },
        "input": {"topic": names.input, "group": names.group},
        "output": {
            "topic": names.unique,
            "decisions_topic": f"decisions-{names.group}",
            "dead_letter_topic": names.dead_letter,
            "changelog_topic": names.changelog,
        },
    }


class Deployment:
    """A configuration and what runs by it. Overrides are merged into the blocks: selection={"threshold": 0.5}."""

    def __init__(self, folder: Path, **blocks: Mapping[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "dugs.yaml"
        self.write(
            log={"engine": "embedded", "embedded": {"path": str(folder / "log.db")}},
            input={"codec": "npy", "batch": {"records": 16, "wait_ms": 50}},
            output={"decisions_topic": "dugs.decisions"},
            model={"factory": "tests.support.models.small:tiny"},
            gradient={"dimension": 64, "tile": 8},
            selection={"threshold": 0.5},
            state={"dir": str(folder / "state")},
            http={"port": 0},
        )
        self.write(**blocks)

    def write(self, **blocks: Mapping[str, Any]) -> None:
        """Merge blocks into the configuration file."""
        document = yaml.safe_load(self.config.read_text()) if self.config.exists() else {}
        for name, block in blocks.items():
            document[name] = {**document.get(name, {}), **block}
        self.config.write_text(yaml.safe_dump(document))

    @property
    def settings(self) -> Settings:
        """The settings as the daemon would load them."""
        return load_settings(self.config, environ={})

    def prepare(self) -> None:
        """Make the topics, as the daemon's start would."""
        log = open_log(self.settings)
        log.prepare()
        log.close()

    def send(self, messages: Sequence[Message]) -> None:
        """Put records onto the input topic and wait until they are stored."""
        self.prepare()
        writer = open_writer(self.settings)
        for message in messages:
            writer.send(self.settings.input.topic, message)
        writer.close()

    def drain(self, **keywords: Any) -> Daemon:
        """Run the daemon in this process until the input's end is decided."""
        with one_thread(), open_daemon(self.settings, **keywords) as daemon:
            daemon.run(drain=True)
        return daemon

    def run_drained(self) -> None:
        """`dugs run --drain` as a process, which must end with 0."""
        process = start_forked("run", "--drain", "-c", self.config, stderr=subprocess.PIPE)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors

    def events(self, topic: str = "decisions") -> list[Mapping[str, Any]]:
        """The events of a topic, from its beginning."""
        return list(events(self.settings, topic))

    def inputs(self) -> list[Record]:
        """Every record on the input topic."""
        reader = open_reader(self.settings)
        samples = list(reader.read(self.settings.input.topic, follow=False, stop=lambda: False))
        reader.close()
        return samples

    def check(self) -> None:
        """Hold everything published against the plain sequential algorithm over the input."""
        decisions, uniques, samples = self.events(), self.events("unique"), self.inputs()
        vectors = self._vectors(build_engine(self.settings).projector, samples)
        check_decisions(decisions, vectors, self.settings.selection.threshold, [s.id for s in samples])
        assert uniques == [event for event in decisions if event["type"] == "unique"]
        assert [event["sequence"] for event in uniques] == list(range(len(uniques)))
        rejected = [event["id"] for event in decisions if event["type"] == "rejected"]
        assert [event["id"] for event in self.events("dead-letter")] == rejected
        changelog = replayed(self.settings)
        assert list(changelog.events) == uniques
        for event, vector in zip(changelog.events, changelog.vectors, strict=True):
            assert np.array_equal(vector, vectors[event["id"]]), event["id"]
        verification = verify(self.settings)
        assert verification.is_equal, str(verification)

    @staticmethod
    def _vectors(projector: RecordProjector, samples: Sequence[Record]) -> dict[str, NDArray[np.float32]]:
        """The projected gradient of each record that can be judged, all against an empty index."""
        with one_thread():
            projected = projector.project(projector.decoded(samples))
        return {
            record.id: projected.projection.vectors[outcome.row]
            for record, outcome in zip(projected.records, projected.outcomes, strict=True)
            if isinstance(outcome, Projected)
        }
