"""The server's numbers, for Prometheus: `GET /metrics`.

    baiwen_requests_total{route="/v1/chat/completions",status="200"} 41.0
    baiwen_first_token_seconds_bucket{le="0.1",...} 38.0
    baiwen_engine_blocks_used 12.0

Counters and histograms are kept here, in a registry of the server's own; the gauges are read from
the engine when they are asked for.
"""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """What is counted while the server runs."""

    def __init__(self, stats: Callable[[], Mapping[str, float]]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Engine(stats))
        self.requests = Counter(
            "baiwen_requests", "Requests answered", ["route", "status"], registry=self.registry
        )
        self.dropped = Counter(
            "baiwen_dropped", "Answers that nobody waited for", ["reason"], registry=self.registry
        )
        self.tokens = Counter("baiwen_tokens", "Tokens served", ["kind"], registry=self.registry)
        self.first = self._histogram("first_token", "From a request to its first token")
        self.between = self._histogram("between_tokens", "From one token of an answer to the next")
        self.whole = self._histogram("request", "From a request to its last token")

    def page(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self.registry)

    def _histogram(self, name: str, told: str) -> Histogram:
        return Histogram(f"baiwen_{name}_seconds", told, buckets=_SECONDS, registry=self.registry)


class _Engine(Collector):
    """The engine's own numbers at this moment."""

    def __init__(self, stats: Callable[[], Mapping[str, float]]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One gauge a number."""
        for name, value in self._stats().items():
            yield GaugeMetricFamily(f"baiwen_engine_{name}", name.replace("_", " "), value)
