"""How much may kafka-python say? Nothing below WARNING, and the same sentence at most once a minute.

Its DEBUG prints passwords, and the bytes that hold them. Whoever touches kafka-python calls `calm_kafka_loggers`
first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter


class _Relay(logging.Handler):
    """Passes on what the kafka loggers say, the same sentence at most once a minute, nothing below WARNING."""

    # A minute: an operator still sees that it goes on, a night without a broker is 500 lines and not 100 000.
    QUIET_SECONDS = 60.0

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._last_said: dict[tuple[str, str], float] = {}
        self._held_back: Counter[tuple[str, str]] = Counter()
        self._guard = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        sentence = (record.name, str(record.msg))
        now = time.monotonic()
        with self._guard:
            if now - self._last_said.get(sentence, -self.QUIET_SECONDS) < self.QUIET_SECONDS:
                self._held_back[sentence] += 1
                return
            self._last_said[sentence] = now
            held_back = self._held_back.pop(sentence, 0)
        if held_back:
            record.held_back = held_back  # `ops.logs` shows it with the line
        relayed = logging.getLogger("dugs_stream.log.kafka.client")
        if relayed.isEnabledFor(record.levelno):
            relayed.handle(record)


def calm_kafka_loggers() -> None:
    """Take kafka-python's loggers in hand, once a process: no flood, and no DEBUG, which prints passwords."""
    logger = logging.getLogger("kafka")
    if any(isinstance(handler, _Relay) for handler in logger.handlers):
        return
    logger.setLevel(logging.WARNING)
    # It warns of each task that took 0.1 s, which says that the machine is busy and nothing of the log.
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)
    logger.propagate = False
    logger.addHandler(_Relay())
