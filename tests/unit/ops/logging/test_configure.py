"""One event a line, in both formats, for any value and any logger."""

from __future__ import annotations

import json
import logging
import socket
import threading
import warnings
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
import structlog
from prometheus_client import CollectorRegistry

from dugs_stream.errors import StateError
from dugs_stream.ops.http.server import HttpServer, build_http
from dugs_stream.ops.logging.configure import configure_logs, crashes_logged
from dugs_stream.ops.status import Status
from tests.support.terminals.commands import logging_of_its_own

HOSTILE = "k\n2026-01-01T00:00:00Z [error    ] daemon.failed\r\x1b[2J\x9b31m\u2028\u202e\x00"


class Sink:
    """Keeps what is written, and how often it was flushed."""

    def __init__(self) -> None:
        self.text = ""
        self.flushed = 0

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        self.flushed += 1

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.removesuffix("\n").split("\n") if line]


@pytest.fixture
def sink() -> Iterator[Sink]:
    """Receives the lines; the logging of this process is restored afterwards."""
    with logging_of_its_own():
        yield Sink()


def configure(level: str, style: Any, sink: Sink) -> None:
    """As the daemon does, and without pytest's handlers: they cannot take what is wrong on purpose."""
    configure_logs(level, style, sink)
    root = logging.getLogger()
    root.handlers[:] = [each for each in root.handlers if type(each).__module__ == configure_logs.__module__]


def log() -> Any:
    return structlog.get_logger("dugs")


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def circular() -> list[Any]:
    inner: list[Any] = []
    inner.append(inner)
    return inner


@pytest.mark.parametrize(
    "value",
    [
        HOSTILE,
        float("nan"),
        float("-inf"),
        "\ud800",
        b"\x00\xff",
        circular(),
        {("a", 1): {2: HOSTILE}},
        object(),
        None,
    ],
    ids=lambda value: type(value).__name__,
)
def test_json_line_parses_for_any_value(sink: Sink, value: object) -> None:
    """One line, one object, with the event under its name."""
    configure("info", "json", sink)

    log().info("batch.committed", key=value, **{HOSTILE: 1})

    (event,) = sink.events
    assert len(sink.lines) == 1
    assert (event["event"], event["level"], event["logger"]) == ("batch.committed", "info", "dugs")
    assert "key" in event


@pytest.mark.parametrize("style", ["json", "console"])
def test_value_that_cannot_be_written_is_described_instead(sink: Sink, style: Any) -> None:
    """Logging never raises."""
    configure("info", style, sink)

    log().info("batch.committed", key=Unprintable())

    assert len(sink.lines) == 1
    assert "log.unwritable" in sink.text


def test_console_line_is_one_line_of_visible_characters(sink: Sink) -> None:
    """A key with line breaks, terminal controls or text directions can neither fake a line nor move the cursor."""
    configure("info", "console", sink)

    log().info(HOSTILE, key=HOSTILE, nested={"a": [HOSTILE]}, **{HOSTILE: HOSTILE})

    assert sink.text.endswith("\n")
    assert sink.text[:-1].isprintable()
    assert r"\n2026-01-01" in sink.text
    assert r"\x1b[2J" in sink.text


def test_console_value_of_several_words_is_quoted(sink: Sink) -> None:
    """So that a value cannot look like further fields."""
    configure("info", "console", sink)

    log().info("tail.read", key='a exit_code=0 "b')

    assert 'key="a exit_code=0 \\"b"' in sink.text


def boom(secret: str) -> None:
    raise ValueError(f"went wrong\n{HOSTILE} after {len(secret)}")


def test_json_traceback_is_a_field_without_the_variables(sink: Sink) -> None:
    """Place and reason, on the one line; without the frames' variables."""
    configure("info", "json", sink)

    try:
        boom("hunter" + "2")
    except ValueError:
        log().error("batch.failed", exc_info=True)

    (event,) = sink.events
    assert "in boom" in event["exception"]
    assert "ValueError: went wrong" in event["exception"]
    assert "hunter2" not in sink.text


def test_console_traceback_stands_under_its_line_with_a_margin(sink: Sink) -> None:
    """Each of its lines differs from a log line, for any error text."""
    configure("info", "console", sink)

    try:
        boom("")
    except ValueError:
        log().error("batch.failed", exc_info=True)

    first, *below = sink.text[:-1].split("\n")
    assert "batch.failed" in first
    assert len(below) > 3
    assert all(line.startswith("    | ") and line.isprintable() for line in below)


@pytest.mark.parametrize("name", ["kafka.conn", "asyncio", "some.library"])
def test_library_logs_in_the_same_format_under_one_event(sink: Sink, name: str) -> None:
    """Its message is a field, its logger another."""
    configure("info", "json", sink)

    logging.getLogger(name).warning("lost %s\nof %d", "node", 3)

    (event,) = sink.events
    assert (event["event"], event["logger"], event["message"]) == ("library.message", name, "lost node\nof 3")


def test_librarys_wrong_arguments_are_a_line_too(sink: Sink) -> None:
    """No traceback of the logging module between the lines."""
    configure("info", "json", sink)

    logging.getLogger("some.library").warning("%d records", "many")

    (event,) = sink.events
    assert (event["event"], event["of"]) == ("log.unwritable", "%d records")


def test_python_warning_is_a_line(sink: Sink) -> None:
    """PyTorch's advice does not break the JSON lines."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure("info", "json", sink)
        warnings.warn("the operator is slow", UserWarning, stacklevel=1)
        logging.captureWarnings(False)

    (event,) = sink.events
    assert event["event"] == "python.warning"
    assert "UserWarning: the operator is slow" in event["message"]


@pytest.mark.parametrize(("level", "said"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_level_is_the_least_severe_that_is_written(sink: Sink, level: str, said: int) -> None:
    """The rest is not even rendered."""
    configure(level, "json", sink)

    for name in ("debug", "info", "warning", "error"):
        getattr(log(), name)(f"a.{name}")

    assert len(sink.events) == said


def test_kafkas_debug_is_dropped_since_it_holds_the_password(sink: Sink) -> None:
    """At every level of ours."""
    configure("debug", "json", sink)

    logging.getLogger("kafka.admin").debug("Starting with %s", {"sasl_plain_password": "hunter2"})

    assert sink.text == ""


def test_closed_sink_stops_nothing(sink: Sink) -> None:
    """With stderr closed the daemon continues."""

    class Gone(Sink):
        def write(self, text: str) -> None:
            raise BrokenPipeError

    configure("info", "json", Gone())

    log().info("batch.committed")


def test_probes_answer_while_nobody_reads_the_log(sink: Sink) -> None:
    """A thread that logs waits for a stopped terminal; a port scanner's request must not make the server wait with it."""
    freed, waiting = threading.Event(), threading.Event()

    class Stopped(Sink):
        def write(self, text: str) -> None:
            waiting.set()
            freed.wait(60)

    configure("info", "json", Stopped())
    app = build_http(CollectorRegistry(), Status(), lambda _offset, _limit: (0, []))
    with HttpServer(app, "127.0.0.1", 0) as server:
        logger = threading.Thread(target=lambda: log().info("batch.committed"), daemon=True)
        logger.start()
        try:
            assert waiting.wait(10)
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as scanner:
                scanner.sendall(b"\x16\x03\x01\r\n\r\n")
                assert b"400" in scanner.recv(100)
            # Not httpx: it logs each request, and would wait for the terminal itself.
            client = HTTPConnection("127.0.0.1", server.port, timeout=10)
            client.request("GET", "/livez")
            assert client.getresponse().status == 200
            client.close()
        finally:
            freed.set()
            logger.join(10)


# -- repeats -----------------------------------------------------------------------------------------------


def test_kafka_logger_is_limited_like_every_other(sink: Sink) -> None:
    """Its records reach the one handler by propagation: by level and by repetition, whatever level it set itself."""
    logger = logging.getLogger("kafka.coordinator")
    configure("error", "json", sink)
    logging.getLogger("kafka").setLevel(logging.WARNING)
    for attempt in range(5):
        logger.warning("lost %s", attempt)
        logger.error("Bootstrap attempt failed (backoff %s secs)", attempt)

    (event,) = sink.events
    assert (event["event"], event["logger"], event["level"]) == (
        "library.message",
        "kafka.coordinator",
        "error",
    )


def test_lines_held_back_to_the_end_are_reported_at_the_end(sink: Sink) -> None:
    """No line disappears without a number."""
    configure("info", "json", sink)
    for _ in range(8):
        log().warning("snapshot.failed")

    for handler in logging.getLogger().handlers:
        handler.close()

    assert [event["event"] for event in sink.events] == ["snapshot.failed", "log.repeated"]
    assert (sink.events[1]["of"], sink.events[1]["held_back"]) == ("snapshot.failed", 7)


# -- crashes --------------------------------------------------------------------------------------------


def test_error_that_ends_the_daemon_is_an_event_in_json(sink: Sink) -> None:
    """With the exit code, never held back, and flushed."""
    configure("error", "json", sink)
    for _ in range(2):
        with pytest.raises(StateError), crashes_logged("json"):
            raise StateError("the folder is in use")

    assert [event["event"] for event in sink.events] == ["daemon.failed"] * 2
    assert (sink.events[0]["error"], sink.events[0]["exit_code"]) == ("the folder is in use", 1)
    assert sink.flushed == 2


def test_crash_is_an_event_with_its_traceback_in_json(sink: Sink) -> None:
    """A bug of ours is one line as well."""
    configure("info", "json", sink)
    with pytest.raises(ZeroDivisionError), crashes_logged("json"):
        _ = 1 / 0

    (event,) = sink.events
    assert (event["event"], event["level"]) == ("daemon.crashed", "critical")
    assert "ZeroDivisionError" in event["exception"]


def test_console_leaves_the_error_to_the_command(sink: Sink) -> None:
    """It prints the error for people; twice would be noise."""
    configure("info", "console", sink)
    with pytest.raises(StateError), crashes_logged("console"):
        raise StateError("the folder is in use")

    assert sink.text == ""


def test_thread_that_dies_is_an_event(sink: Sink) -> None:
    """The HTTP server's thread, say: its traceback is a field and not a page of stderr."""
    configure("info", "json", sink)
    with crashes_logged("json"):
        thread = threading.Thread(target=lambda: 1 / 0, name="http")
        thread.start()
        thread.join()

    (event,) = sink.events
    assert (event["event"], event["kind"]) == ("thread.crashed", "http")
    assert "ZeroDivisionError" in event["exception"]
