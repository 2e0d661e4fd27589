"""A broker for the fault suite: with the log cleaner on, and a second door whose address a proxy of ours holds.

broker = FaultBroker(folder, proxy_port=proxy.port)
broker.address           for the test's own clients
broker.proxied_door      where the proxy forwards to; clients that come through it are told to come back to it
"""

from __future__ import annotations

from pathlib import Path

from tools.broker import Broker
from tools.ports import free_port

# The cleaner's smallest buffers, and no rest between rounds: compaction within seconds on a few hundred records.
_CLEANER = """\
log.cleaner.enable=true
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=4194304
log.cleaner.io.buffer.size=65536
log.cleaner.backoff.ms=200
log.retention.check.interval.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=500
"""


class FaultBroker(Broker):
    """See Broker; `proxy_port` is where clients of the second door find it."""

    def __init__(self, folder: Path, proxy_port: int) -> None:
        super().__init__(folder)
        self.proxied_door = free_port()
        self._proxy_port = proxy_port

    def _settings(self, data: Path) -> str:
        doors = (
            f"listeners=PLAINTEXT://127.0.0.1:{self.port},PROXIED://127.0.0.1:{self.proxied_door},"
            f"CONTROLLER://127.0.0.1:{self._controller_port}\n"
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.port},PROXIED://127.0.0.1:{self._proxy_port}\n"
            "inter.broker.listener.name=PLAINTEXT\n"
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
        )
        # Of a key that stands twice, the last line counts.
        return super()._settings(data) + doors + _CLEANER
