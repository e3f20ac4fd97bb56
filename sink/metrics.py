"""What the sink counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from serving.connections import ConnectionMetrics

_SECONDS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """One registry a sink, so that two sinks in one process (tests) do not mix."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.episodes = self._counter("episodes", "Committed episodes and records", ["stream", "outcome"])
        self.frames = self._counter("frames", "JPEG frames written", ["stream"])
        self.steps = self._counter("steps", "Committed steps", ["stream"])
        self.bytes = self._counter("payload_bytes", "Payload bytes written", ["stream"])
        self.refused = self._counter("refused", "Refusals sent to producers", ["code"])
        self.rejected = self._counter("rejected", "Connections and messages that the keys do not allow", ["reason"])
        self.messages = self._counter("messages", "Messages received", ["type"])
        self.unreachable = self._counter("unreachable", "Messages to producers that were gone", [])
        self.guard = ConnectionMetrics(
            open=self._gauge("connections", "Open connections of producers", []),
            cut=self._counter("connections_cut", "Connections that were cut off", ["reason"]),
            late=self._counter("guard_late", "Times that nobody watched the connections for 50 ms or more", []),
        )
        self.producers = self._gauge("producers", "Producers with an open session", [])
        self.leases = self._gauge("leases", "Indices leased out", ["stream"])
        self.in_flight = self._gauge("in_flight_bytes", "Payload bytes in memory", [])
        self.credit = self._gauge("credit_bytes", "Bound of the payload bytes in memory", [])
        self.disk_free = self._gauge("disk_free_bytes", "Free bytes of the file system", [])
        self.stalled = self._gauge("stalled", "1 while the stream waits for disk space", ["stream"])
        self.commit_seconds = Histogram(
            "headrace_sink_commit_seconds", "Duration of a group commit", buckets=_SECONDS, registry=self.registry
        )
        self.ack_seconds = Histogram(
            "headrace_sink_ack_seconds", "From End received to durable", buckets=_SECONDS, registry=self.registry
        )

        self.roll_seconds = Histogram(
            "headrace_sink_roll_seconds", "How long a new shard held up", buckets=_SECONDS, registry=self.registry
        )

    def _counter(self, name: str, text: str, labels: list[str]) -> Counter:
        return Counter(f"headrace_sink_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, labels: list[str]) -> Gauge:
        return Gauge(f"headrace_sink_{name}", text, labels, registry=self.registry)
