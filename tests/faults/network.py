"""The wire between daemon and broker: slow, cut, silent."""

from __future__ import annotations

import time
from functools import partial

from kafka.protocol.api_key import ApiKey

from tests.faults.table import KAFKA, fault
from tests.support.brokers.versions import transactions_of_version
from tests.support.daemons.fault_bench import SESSION_MS, Bench

_NO_WIRE = "the embedded log has no wire"


@fault(4, "wire delayed", (KAFKA,), _NO_WIRE, proxied=True, is_alone=True)
def delayed(bench: Bench) -> None:
    """Every answer comes late, and later still now and then."""
    bench.feed(40)
    daemon = bench.start()
    for _ in range(6):
        bench.proxy.delay_seconds = bench.random.uniform(0.0, 0.15)
        time.sleep(0.4)
    bench.proxy.heal()
    bench.finish(daemon)
    bench.check()


@fault(4, "wire cut", (KAFKA,), _NO_WIRE, proxied=True, is_alone=True)
def cut(bench: Bench) -> None:
    """All connections at once, again and again, wherever the daemon stands."""
    daemon = bench.start()
    for _ in range(6):
        bench.feed(8)
        time.sleep(bench.random.uniform(0.0, 0.8))
        bench.proxy.cut()
    bench.finish(daemon)
    bench.check()


@fault(4, "wire silent", (KAFKA,), _NO_WIRE, proxied=True, is_alone=True)
def silent(bench: Bench) -> None:
    """For two sessions: the group gives the input to nobody, and takes the daemon back."""
    bench.feed(30)
    daemon, go_on = bench.hold(bench.random.choice(["poll", "publish", "offsets", "commit"]), 2)
    bench.proxy.is_silent = True
    go_on()
    time.sleep(2 * SESSION_MS / 1000)
    bench.proxy.heal()
    bench.finish(daemon)
    bench.check()


_OF_VERSION_2 = (ApiKey.Produce, ApiKey.TxnOffsetCommit, ApiKey.EndTxn, ApiKey.InitProducerId)
_OF_VERSION_1 = (*_OF_VERSION_2, ApiKey.AddPartitionsToTxn, ApiKey.AddOffsetsToTxn)
_REQUESTS = {1: _OF_VERSION_1, 2: _OF_VERSION_2}


def _late(bench: Bench, request: ApiKey, version: int) -> None:
    """A request of the first transaction stays in the wire as its connection is lost, and arrives in the third.

    Where it would do harm: offsets after those of the third, which is the last; everything else before them, and the
    daemon never gets to its own commit.
    """
    is_offsets = request is ApiKey.TxnOffsetCommit
    with transactions_of_version(version, bench.broker.address):
        bench.feed(24)
        bench.proxy.hold_back(request.value)
        daemon, go_on = bench.hold("commit" if is_offsets else "offsets", 3)
        bench.count(request.name)
        bench.proxy.let_go()
        if is_offsets:
            go_on()
            bench.finish(daemon)
        else:
            daemon.kill()
            bench.drain()
    bench.check()


@fault(4, "late request of a transaction", (KAFKA,), _NO_WIRE, proxied=True, is_alone=True)
def late_request(bench: Bench) -> None:
    """Sent again meanwhile, and taken twice if the broker could be made to."""
    _late(bench, bench.random.choice(_OF_VERSION_2), 2)


@fault(4, "the same, by version 1", (KAFKA,), _NO_WIRE, proxied=True, is_alone=True)
def late_request_of_version_1(bench: Bench) -> None:
    """The broker takes it if it comes under the same epoch; the daemon begins nothing else under that one."""
    _late(bench, bench.random.choice(_OF_VERSION_1), 1)


for _version, _requests in _REQUESTS.items():
    for _request in _requests:
        fault(
            4,
            f"late {_request.name}, version {_version}",
            (KAFKA,),
            _NO_WIRE,
            is_long=True,
            proxied=True,
            is_alone=True,
        )(partial(_late, request=_request, version=_version))
