"""A stream that rejects everything from its start is a fault of the settings: the daemon stops and says which."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dugs_stream.app.daemon import open_daemon
from dugs_stream.daemon.daemon import linger_after_refusal
from dugs_stream.errors import StreamRejectedError
from dugs_stream.records import Message
from tests.support.daemons.deployment import Deployment, as_npy, npy_messages
from tests.support.models.small import WIDTH
from tests.support.terminals.commands import dugs


def bytes_in(value: bytes) -> Any:
    """A codec of a user's that forgets to make numbers of bytes."""
    import torch  # noqa: PLC0415 (as users write it)

    return torch.frombuffer(bytearray(value[-WIDTH:]), dtype=torch.uint8)


BEGINNINGS: dict[str, tuple[dict[str, Any], str, str]] = {
    "uint8 into a float model": (
        {"input": {"codec": "tests.daemon.test_rejected_streams:bytes_in"}},
        "model_error",
        "input.codec",
    ),
    "another codec": ({"input": {"codec": "json"}}, "undecodable", "input.codec"),
    "another label": ({"input": {"codec": "npy", "label": "header:class"}}, "label_missing", "input.label"),
    "another shape": ({"model": {"kwargs": {"width": 8}}}, "wrong_shape", "model.input_shape"),
}


@pytest.mark.parametrize(("blocks", "reason", "place"), BEGINNINGS.values(), ids=BEGINNINGS.keys())
def test_stream_that_is_rejected_as_a_whole_stops_the_daemon(
    tmp_path: Path, blocks: dict[str, Any], reason: str, place: str
) -> None:
    """Nothing of it is committed; once the setting is right, every record is decided."""
    deployment = Deployment(tmp_path, **blocks)
    deployment.send(npy_messages(40))

    with pytest.raises(StreamRejectedError, match=reason) as refused:
        deployment.drain()

    assert place in str(refused.value)
    assert deployment.events() == deployment.events("dead-letter") == []
    deployment.write(
        **Deployment(tmp_path / "right").settings.model_dump(mode="json", include={"input", "model"})
    )
    deployment.drain()
    deployment.check()


def test_operator_who_insists_gets_dead_letters(tmp_path: Path) -> None:
    """All of them, as for any bad record."""
    deployment = Deployment(tmp_path, input={"codec": "json", "may_reject_all": True})
    deployment.send(npy_messages(40))

    deployment.drain()

    assert len(deployment.events("dead-letter")) == 40


def test_slow_topic_whose_first_records_are_bad_goes_on(tmp_path: Path) -> None:
    """And once a record was accepted, also a later process never stops for that."""
    bad = [Message(b"bad", as_npy(np.full(WIDTH, np.nan, np.float32)), (("label", b"1"),))]
    deployment = Deployment(tmp_path)
    deployment.send([*bad * 20, *npy_messages(5)])
    deployment.drain()
    deployment.send(bad * 50)

    deployment.drain()

    deployment.check()
    assert len(deployment.events("dead-letter")) == 70


def test_command_ends_with_one_and_says_where_to_look(tmp_path: Path) -> None:
    """The reason on stderr, no traceback."""
    deployment = Deployment(tmp_path, input={"codec": "json"})
    deployment.send(npy_messages(40))

    ended = dugs("run", "--drain", "-c", deployment.config)

    assert ended.code == 1
    assert "input.may_reject_all: true" in ended.err
    assert "Traceback" not in ended.err


def test_refusal_is_shown_by_metric_and_readiness(tmp_path: Path) -> None:
    """Between two restarts nothing else could be scraped."""
    with open_daemon(Deployment(tmp_path).settings) as daemon:
        linger_after_refusal(daemon, StreamRejectedError("all of them"), seconds=0)

        assert daemon.metrics.registry.get_sample_value("dugs_refused", {"reason": "all_rejected"}) == 1
        assert daemon.status.missing["input"] == "all of them"


def test_accuracy_of_the_model_over_the_first_labels_is_shown(tmp_path: Path) -> None:
    """In the status; the wrong order of a list of classes shows nowhere else."""
    deployment = Deployment(tmp_path)
    deployment.send(npy_messages(40))

    daemon = deployment.drain()

    assert daemon.status.as_facts()["accuracy"]["records"] == 40


def test_larger_batch_is_polled_again_although_others_are_in_flight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart the list has uniques, so batches are polled ahead while the first is rejected for the model's failure.

    None of them may be committed before enough were seen to tell a broken device from bad records.
    """
    small = {"codec": "npy", "batch": {"records": 8, "wait_ms": 50}}
    deployment = Deployment(
        tmp_path, input=small, model={"factory": "tests.support.models.small:breaks_on_large"}
    )
    deployment.send(npy_messages(8))
    deployment.drain()
    deployment.send(npy_messages(60, seed=1))
    in_flight: list[int] = []

    with open_daemon(deployment.settings) as daemon:
        seek = daemon.log.seek

        def seek_noting(next_offsets: Mapping[int, int]) -> None:
            in_flight.append(discarded)
            seek(next_offsets)

        monkeypatch.setattr(daemon.log, "seek", seek_noting)
        daemon.loop.stages.projector.spec.model.register_forward_pre_hook(fails)
        discard, discarded = daemon.loop._queue.discard, 0

        def discard_noting(while_waiting: Callable[[], None]) -> None:
            nonlocal discarded
            discarded = len(daemon.loop.in_flight)
            discard(while_waiting)

        monkeypatch.setattr(daemon.loop._queue, "discard", discard_noting)
        with pytest.raises(StreamRejectedError, match="model_error"):
            daemon.run(drain=True)

    assert max(in_flight) >= 1
    assert len(deployment.events()) == 8
    deployment.drain()
    deployment.check()


def fails(_model: object, _given: object) -> None:
    """As a device that is gone."""
    raise RuntimeError("the device is gone")
