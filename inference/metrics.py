"""What the server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from serving.connections import ConnectionMetrics

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """One registry a server, so that two servers in one process (tests) do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.queries = self._counter("queries", "Queries by what became of them", ["outcome"])
        self.batches = self._counter("batches", "Batches by why they did not wait longer", ["fired"])
        self.retried = self._counter("retried_items", "Items that were tried alone after their batch had failed", [])
        self.unwanted = self._counter("unwanted_results", "Results that came after the deadline or a cancellation", [])
        self.cancelled = self._counter("cancelled", "Queries that were under way when they were cancelled", [])
        self.abandoned = self._counter("abandoned", "Queries that were under way when their client went", [])
        self.unreachable = self._counter("unreachable", "Answers to clients that were gone or do not read", [])
        self.unreadable = self._counter("unreadable", "Messages without a number, so without an answer", [])
        self.loads = self._counter("model_loads", "Versions of models that were tried", ["result"])
        self.rejected = self._counter("rejected", "Connections and messages that the keys do not allow", ["reason"])
        self.guard = ConnectionMetrics(
            open=self._gauge("connections", "Open connections of planners", []),
            cut=self._counter("connections_cut", "Connections that were cut off", ["reason"]),
            late=self._counter("guard_late", "Times that nobody watched the connections for 50 ms or more", []),
        )
        self.queue_items = self._gauge("queue_items", "Queries that wait", [])
        self.queue_bytes = self._gauge("queue_bytes", "Bytes of queries that wait", [])
        self.model_info = self._gauge("model_info", "1 for the version that is served", ["model", "kind", "version"])
        self.batch_items = self._histogram("batch_items", "Queries of a batch", _ITEMS)
        self.queue_seconds = self._histogram("queue_seconds", "From arrival to the start of the batch", _SECONDS)
        self.model_seconds = self._histogram("model_seconds", "Duration of a batch", _SECONDS)

    def _counter(self, name: str, text: str, labels: list[str]) -> Counter:
        return Counter(f"headrace_infer_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: list[str]) -> Gauge:
        return Gauge(f"headrace_infer_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"headrace_infer_{name}", text, buckets=buckets, registry=self.registry)
