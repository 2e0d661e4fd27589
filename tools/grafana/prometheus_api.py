"""Client of the Prometheus HTTP API, and a dashboard's variables filled in as Grafana would."""

from __future__ import annotations

import math
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

# Made once: reading the machine's certificates takes longer than any query.
_TLS = ssl.create_default_context()


@dataclass(frozen=True, slots=True)
class Series:
    """One line: its labels, and values over time (NaN left out)."""

    labels: Mapping[str, str]
    times: tuple[float, ...]
    values: tuple[float, ...]


def filled_in(expr: str, *, rate_interval: str, span: str, instance: str = ".*", topic: str = ".*") -> str:
    """The query with the dashboard's variables replaced; an unknown one would be a syntax error at Prometheus."""
    variables = {
        "$__rate_interval": rate_interval,
        "$__range": span,
        "$instance": instance,
        "$topic": topic,
    }
    for name, value in variables.items():
        expr = expr.replace(name, value)
    return expr


class Prometheus:
    """A Prometheus at `address`. Raises ValueError with its message for a query that it refuses."""

    def __init__(self, address: str) -> None:
        self.address = address

    def now(self, expr: str) -> list[Series]:
        """The value of every series at this moment."""
        result = self._ask("query", {"query": expr})["result"]
        return _series([(each["metric"], [each["value"]]) for each in result])

    def over(self, expr: str, seconds: float, step: float) -> list[Series]:
        """The values of every series over the last seconds, one every `step`."""
        now = time.time()
        parameters = {"query": expr, "start": str(now - seconds), "end": str(now), "step": str(step)}
        result = self._ask("query_range", parameters)["result"]
        return _series([(each["metric"], each["values"]) for each in result])

    def ask(self, path: str) -> Any:
        """Any other resource of the API: targets, rules."""
        answer = httpx.get(f"{self.address}/api/v1/{path}", trust_env=False, verify=_TLS, timeout=30)
        return answer.json()["data"]

    def _ask(self, what: str, parameters: Mapping[str, str]) -> Any:
        answer = httpx.post(
            f"{self.address}/api/v1/{what}", data=dict(parameters), trust_env=False, verify=_TLS, timeout=30
        )
        document = answer.json()
        if document["status"] != "success":
            raise ValueError(f"{document['error']}: {parameters['query']}")
        data = document["data"]
        # A scalar comes as a pair of time and value.
        return (
            {"result": [{"metric": {}, "value": data["result"]}]} if data["resultType"] == "scalar" else data
        )


def _series(found: list[tuple[Mapping[str, str], list[Any]]]) -> list[Series]:
    series = []
    for labels, pairs in found:
        finite = [(float(at), float(value)) for at, value in pairs if math.isfinite(float(value))]
        if finite:
            times, values = zip(*finite, strict=True)
            series.append(Series(labels, times, values))
    return series
