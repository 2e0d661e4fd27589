"""Another process on the deployment under test: a sender, or an owner that is killed in mid-transaction.

python -m tests.port.child ENGINE DESCRIPTION write TAG COUNT
python -m tests.port.child ENGINE DESCRIPTION stage OUTPUT…     says "staged" and waits to be killed
"""

from __future__ import annotations

import sys

from dugs_stream.log.port import Outgoing
from dugs_stream.ops.logging.configure import configure_logs
from dugs_stream.records import Message
from tests.port.engines import Engine, engine_from
from tests.port.owning import own, poll


def _write(engine: Engine, tag: str, count: int) -> None:
    """`count` messages keyed by the tag, flushed in small portions so that processes interleave."""
    writer = engine.writer()
    for index in range(count):
        writer.send(engine.topics.input, Message(tag.encode(), f"{tag}-{index}".encode()))
        if index % 10 == 9:
            writer.flush()
    writer.close()


def _stage(engine: Engine) -> None:
    """Everything of a transaction but its commit, then wait for the end of stdin, which does not come."""
    log = own(engine)
    polled = poll(log, 1)
    with log.transaction(polled) as transaction:
        flushed = transaction.publish(
            [
                Outgoing(engine.topics.unique, Message(None, b"of the killed")),
                Outgoing(engine.topics.changelog, Message(b"row", b"of the killed")),
            ]
        )
        transaction.stage_offsets(flushed, polled.next_offsets)
        sys.stdout.write("staged\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    configure_logs("warning", "console")  # what is read from this process is its own words alone
    name, description, action, *arguments = sys.argv[1:]
    opened = engine_from(name, description)
    if action == "write":
        _write(opened, arguments[0], int(arguments[1]))
        opened.close()
    else:
        _stage(opened)
