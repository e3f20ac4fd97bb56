"""The original's summary of a collection, as numbers and as text."""

from __future__ import annotations

from collections import Counter
from typing import Any

MOST_FREQUENT = 5


class Summary:
    """Gathers the results of the environments, one after the other."""

    def __init__(self, hostname: str, shortest: bool, attributes: dict[str, Any]) -> None:
        """attributes: of one of the searches; they say how it was asked."""
        self.environments = self.before = self.kept = self.solved = 0
        self._hostname, self._shortest = hostname, shortest
        self._options: dict[str, Any] = attributes.get("options", {})
        self._seconds = 0.0
        self._times_ms: list[float] = []
        self._nodes: list[int] = []
        self._failures: Counter[str] = Counter()

    def add(self, results: dict[str, Any]) -> None:
        """One environment."""
        self.environments += 1
        self.before += results["episodes_before_filtering"]
        self.kept += results["episodes_collected"]
        self._seconds += results["processing_time"]
        for record in results["episode_results"]:
            self.solved += bool(record["solution_found"])
            self._times_ms += [record["search_time_ms"]] if record["search_time_ms"] else []
            self._nodes += [record["nodes_expanded"]] if record["nodes_expanded"] else []
            if not record["solution_found"]:
                self._failures[record["failure_name"] or record["stop_reason"] or "unknown"] += 1

    @property
    def _rate(self) -> float:
        return self.solved / self.kept * 100 if self.kept else 0

    @property
    def _filter_rate(self) -> float:
        return (self.before - self.kept) / self.before * 100 if self.before else 0

    def to_dict(self) -> dict[str, Any]:
        """The original's keys."""
        models = {kind: self._options.get(f"ml_{kind}_model") is not None for kind in ("object", "goal")}
        return {
            "collection_metadata": {
                "hostname": self._hostname,
                "algorithm": self._options.get("algorithm"),
                "total_duration_seconds": self._seconds,
                "execution_mode": "sequential",
                "ml_models_preloaded": {f"{kind}_model": used for kind, used in models.items()},
                "config": self._options,
            },
            "performance_stats": {
                "total_episodes": self.kept,
                "successful_episodes": self.solved,
                "success_rate": self._rate,
                "avg_search_time_ms": _mean(self._times_ms),
                "avg_nodes_expanded": _mean(self._nodes),
            },
            "filtering_stats": {
                "episodes_before_filtering": self.before,
                "episodes_filtered_out": self.before - self.kept,
                "filtering_enabled": self._shortest,
                "filter_rate": self._filter_rate,
            },
            "failure_analysis": {
                "failed_episodes": sum(self._failures.values()),
                "failure_breakdown": {
                    name: {"count": count, "percentage": count / self.kept * 100}
                    for name, count in self._failures.most_common()
                },
            },
        }

    def to_text(self) -> str:
        """For people."""
        stats = self.to_dict()["performance_stats"]
        lines = [
            "Sequential ML Data Collection Summary",
            "=" * 50,
            "",
            f"Algorithm: {self._options.get('algorithm')}",
            f"Search time of all together: {self._seconds / 60:.1f} minutes",
            f"Total episodes: {self.kept}",
            "",
            f"Success rate: {self._rate:.1f}%",
        ]
        if stats["avg_search_time_ms"] is not None:
            lines.append(f"Avg search time: {stats['avg_search_time_ms']:.1f}ms")
        if stats["avg_nodes_expanded"] is not None:
            lines.append(f"Avg nodes expanded: {stats['avg_nodes_expanded']:.1f}")
        lines += ["", "Filtering Statistics:", f"Filtering enabled: {self._shortest}"]
        if self._shortest:
            lines += [
                f"Episodes before filtering: {self.before}",
                f"Episodes filtered out: {self.before - self.kept}",
                f"Filter rate: {self._filter_rate:.1f}%",
            ]
        lines += ["", "Failure Analysis:", f"Failed episodes: {sum(self._failures.values())}"]
        lines += [
            f"  • {name}: {count} episodes ({count / self.kept * 100:.1f}%)"
            for name, count in self._failures.most_common(MOST_FREQUENT)
        ]
        return "\n".join(lines) + "\n"


def _mean(values: list[float] | list[int]) -> float | None:
    return sum(values) / len(values) if values else None
