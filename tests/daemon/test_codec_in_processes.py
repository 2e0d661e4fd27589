"""A deployment whose codec runs in a process: one record that ends it, and verdicts as without."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from dugs_stream.app.daemon import open_daemon
from dugs_stream.daemon.signals import Stopping
from dugs_stream.records import Message
from tests.support.daemons.deployment import Deployment
from tests.support.daemons.forked_codecs import forked_codecs
from tests.support.waiting import wait_until

CODEC = "tests.support.records.process_codecs:obey"


def told(deployment: Deployment, values: list[str]) -> list[Mapping[str, Any]]:
    """The events of a stream of these values, without what differs from run to run."""
    deployment.send([Message(None, value.encode(), (("label", b"1"),), 1_000) for value in values])
    deployment.drain()
    return [{name: part for name, part in event.items() if name != "time"} for event in deployment.events()]


def test_record_that_ends_the_codecs_process_is_rejected_and_the_others_are_judged(tmp_path: Path) -> None:
    """As if it were not there: the others' events are those of a codec in threads, to the last bit."""
    good = [f"row {number % 7 + 1}" for number in range(40)]
    processes = {"codec": CODEC, "decode": {"processes": 1, "timeout_seconds": 60.0}}
    expected = told(Deployment(tmp_path / "threads", input={"codec": CODEC}), [*good, "raise x"])

    with forked_codecs():
        found = told(Deployment(tmp_path / "processes", input=processes), [*good, "leave"])

    assert found[:-1] == expected[:-1]
    assert (found[-1]["type"], expected[-1]["type"]) == ("rejected", "rejected")
    assert {event["type"] for event in found[:-1]} == {"unique", "duplicate"}


def test_stop_while_a_codec_hangs_does_not_wait_for_its_timeout(tmp_path: Path) -> None:
    """Nor for the grace of a micro-batch that is computed: its process is killed, and the next run decides the record."""
    mark, stopping = tmp_path / "mark", Stopping(grace_seconds=3600)
    decode = {"processes": 1, "timeout_seconds": 3600}
    deployment = Deployment(tmp_path / "stopped", input={"codec": CODEC, "decode": decode})
    deployment.send([Message(b"hangs", f"hang-once {mark}".encode(), (("label", b"1"),))])

    def stop_while_it_hangs() -> None:
        wait_until(mark.exists, 120, "the codec has begun")
        stopping.request()

    stopper = threading.Thread(target=stop_while_it_hangs)
    stopper.start()
    began = monotonic()
    with open_daemon(deployment.settings, stopping=stopping) as daemon:
        daemon.run()
    stopper.join()

    assert monotonic() - began < 600
    assert deployment.events() == []
    deployment.write(input={"decode": {}})  # the mark is there: it does not hang again
    deployment.drain()
    assert [event["source"]["key"] for event in deployment.events()] == ["hangs"]
