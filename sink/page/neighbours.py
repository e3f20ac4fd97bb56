"""What the programs of a collection say of themselves: the sink's /status, an inference server's /metrics."""

from __future__ import annotations

import http.client
import json
import math
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from protocol.metric_samples import Samples, by_label, quantile, since, total

_TIMEOUT_S = 2.0
_MOST_BYTES = 16 << 20
_INFER = "headrace_infer_"
_STATUS = ("streams", "producers", "problems", "warnings")
# Rows of /status that are passed on: what a person can look at.
_MOST_PRODUCERS = 500


@dataclass(frozen=True)
class Answer:
    """What came back over HTTP."""

    status: int
    kind: str
    body: bytes


def fetch(address: str, path: str) -> Answer:
    """GET from HOST:PORT, never through a proxy. Raises OSError, HTTPException or ValueError with a reason."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{address}{path}", timeout=_TIMEOUT_S) as reply:
            return _answer(reply, path)
    except urllib.error.HTTPError as error:
        with error:
            return _answer(error, path)


def _answer(reply: Any, path: str) -> Answer:
    body: bytes = reply.read(_MOST_BYTES + 1)
    if len(body) > _MOST_BYTES:
        raise ValueError(f"{path} is longer than {_MOST_BYTES >> 20} MiB")
    return Answer(int(reply.status), str(reply.headers.get("Content-Type", "text/plain")), body)


def trouble(error: Exception) -> str:
    """In a few words."""
    if isinstance(error, urllib.error.URLError):
        return f"does not answer: {error.reason}"
    if isinstance(error, OSError | http.client.HTTPException):
        return f"does not answer: {error or type(error).__name__}"
    return f"answers something else than Headrace does: {error}"


def sink_status(address: str) -> dict[str, Any]:
    """The sink's /status, or {"trouble": why there is none}."""
    try:
        status = json.loads(fetch(address, "/status").body)
        missing = [key for key in _STATUS if not isinstance(status, dict) or key not in status]
        if missing:
            raise ValueError(f"a /status without {', '.join(missing)}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return {"trouble": trouble(error)}
    status["producers_in_all"] = len(status["producers"])
    status["producers"] = status["producers"][:_MOST_PRODUCERS]
    return dict(status)


class InferenceWatch:
    """One inference server; rates are since the last look."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._before: tuple[float, Samples] | None = None

    def look(self) -> dict[str, Any]:
        """What it does, or {"trouble": why that is not known}."""
        try:
            samples = _samples(fetch(self.address, "/metrics").body.decode())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._before = None
            return {"address": self.address, "trouble": trouble(error)}
        now, before = time.monotonic(), self._before
        self._before = now, samples
        seconds = now - before[0] if before is not None else math.nan
        return {"address": self.address, **_summary(samples, before[1] if before else None, seconds)}


def _samples(text: str) -> Samples:
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith(_INFER)
    }
    if not found:
        raise ValueError(f"/metrics without anything that begins with {_INFER}")
    return found


def _summary(samples: Samples, before: Samples | None, seconds: float) -> dict[str, Any]:
    new = since(before, samples)
    if not total(new, f"{_INFER}batch_items_count"):
        new = samples  # nothing was asked meanwhile: what it was over all
    outcomes = by_label(since(before, samples), f"{_INFER}queries_total", "outcome")
    batches = total(new, f"{_INFER}batch_items_count")
    quantiles = {
        f"{what}_ms_p{round(100 * share)}": _known(1000 * quantile(share, new, f"{_INFER}{what}_seconds"))
        for what in ("queue", "model")
        for share in (0.5, 0.99)
    }
    return {
        "waiting": total(samples, f"{_INFER}queue_items"),
        "queries_per_s": None if math.isnan(seconds) else sum(outcomes.values()) / max(seconds, 1e-3),
        "outcomes": {name: count for name, count in outcomes.items() if count},
        "batch_items": total(new, f"{_INFER}batch_items_sum") / batches if batches else None,
        **quantiles,
        "models": {
            labels["model"]: labels["version"]
            for (name, pairs), value in samples.items()
            if name == f"{_INFER}model_info" and value and {"model", "version"} <= (labels := dict(pairs)).keys()
        },
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) or math.isinf(value) else value
