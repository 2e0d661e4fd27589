"""Pictures through the daemon, the bad ones too, and models that are not as they should be."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from dugs_stream.app.logs import open_reader
from dugs_stream.errors import ModelError
from dugs_stream.records import Message, Record
from tests.support.daemons.deployment import Deployment
from tests.support.records.pictures import CLASSES, draw, png

MEBI = 2**20


def deployment_of_pictures(folder: Path, model: str = "small", **blocks: object) -> Deployment:
    """Grey pictures of 8 × 8 in three classes."""
    deployment = Deployment(
        folder,
        input={"codec": {"type": "image", "mode": "L"}, "classes": list(CLASSES)},
        model={"factory": f"tests.support.models.images:{model}"},
    )
    deployment.write(**blocks)  # type: ignore[arg-type]  # blocks are mappings
    return deployment


def record(value: bytes, shape: str = "disc", key: bytes | None = None) -> Message:
    """A record of a class."""
    return Message(key, value, (("label", shape.encode()),))


def good(count: int) -> list[Message]:
    """Pictures of all classes."""
    return [
        record(png(draw(CLASSES[place % 3], place)), CLASSES[place % 3], b"%d" % place)
        for place in range(count)
    ]


def dead_letters(deployment: Deployment) -> list[Record]:
    """The messages of the dead-letter topic as they lie there."""
    reader = open_reader(deployment.settings)
    letters = list(
        reader.read(deployment.settings.output.dead_letter_topic, follow=False, stop=lambda: False)
    )
    reader.close()
    return letters


def test_bad_pictures_are_dead_letters_and_the_stream_goes_on(tmp_path: Path) -> None:
    """Each with its reason and its very bytes, between pictures that are judged."""
    whole = png(draw("disc", 1))
    bad = {
        "undecodable": [b"", whole[: len(whole) // 2], whole[:40], whole[:-40], b"GIF89a", b"\xff" * 500],
        "wrong_shape": [
            png(draw("disc", 1, size=9)),
            png(draw("bar", 1, size=1)),
            png(draw("disc", 1, size=64)),
        ],
    }
    messages = good(12)
    for values in bad.values():
        messages[6:6] = [record(value) for value in values]
    deployment = deployment_of_pictures(tmp_path)
    deployment.send(messages)

    deployment.drain()

    deployment.check()
    letters = deployment.events("dead-letter")
    assert Counter(event["reason"] for event in letters) == {"undecodable": 5, "empty": 1, "wrong_shape": 3}
    sent = [message.value for message in messages if message.key is None]
    assert [letter.value for letter in dead_letters(deployment)] == sent


def test_record_of_fifty_megabytes_is_rejected_and_the_stream_goes_on(tmp_path: Path) -> None:
    """Its dead letter is cut to what the topic takes, and names length and SHA-256 of the whole."""
    value = b"\x89PNG" + bytes(50 * MEBI)
    deployment = deployment_of_pictures(tmp_path)
    deployment.send([*good(3), record(value, key=b"huge"), *good(3)])

    deployment.drain()

    assert [event["type"] for event in deployment.events()][3] == "rejected"
    assert len(deployment.events()) == 7
    (event,), (letter,) = deployment.events("dead-letter"), dead_letters(deployment)
    headers = dict(letter.headers)
    assert (event["reason"], event["source"]["key"], letter.key) == ("too_large", "huge", b"huge")
    assert headers["dugs_sha256"] == hashlib.sha256(value).hexdigest().encode()
    assert headers["dugs_original_bytes"] == str(len(value)).encode()
    assert headers["label"] == b"disc"
    assert letter.value is not None
    assert value.startswith(letter.value)
    assert MEBI // 2 < len(letter.value) < MEBI


def test_batch_norm_left_in_train_mode_judges_by_its_running_statistics(tmp_path: Path) -> None:
    """Company changes no verdict, and the statistics stay what they were."""
    deployment = deployment_of_pictures(tmp_path, "with_batch_norm", gradient={"layers": {"last": 3}})
    deployment.send(good(20))

    daemon = deployment.drain()

    deployment.check()
    names = list(daemon.loop.stages.projector.layer_names)
    assert names == ["1", "5", "7"]


@pytest.mark.parametrize(
    ("layers", "named"),
    [({"names": ["spare"], "last": None}, "spare"), ({"names": ["nosuch.*"], "last": None}, "nosuch")],
)
def test_chosen_layer_that_never_runs_is_refused_at_the_start(
    tmp_path: Path, layers: dict[str, object], named: str
) -> None:
    """It has no gradient; nothing is decided, nothing committed."""
    deployment = deployment_of_pictures(tmp_path, "one_idle", gradient={"layers": layers})
    deployment.send(good(3))

    with pytest.raises(ModelError, match=named):
        deployment.drain()

    assert deployment.events() == []


def test_layer_that_never_runs_and_was_not_chosen_hinders_nothing(tmp_path: Path) -> None:
    """The last two are counted among those that run."""
    deployment = deployment_of_pictures(tmp_path, "one_idle")
    deployment.send(good(6))

    daemon = deployment.drain()

    deployment.check()
    assert list(daemon.loop.stages.projector.layer_names) == ["inner.4", "inner.6"]
