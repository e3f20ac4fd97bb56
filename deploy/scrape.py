"""What a running sink or inference server says over HTTP, for `headrace top`."""

from __future__ import annotations

import http.client
import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_S = 3.0
_MOST_BYTES = 8 << 20
_INFERENCE = "headrace_infer_"
_STATUS = {"streams", "producers", "problems", "warnings"}
# (name of a sample, its labels in order) → value
Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


@dataclass(frozen=True)
class Page:
    """One look at one address. status: of a sink. samples: of an inference server. Neither: trouble says why."""

    address: str
    taken: float = field(default_factory=time.monotonic)
    status: dict[str, Any] | None = None
    samples: Samples | None = None
    trouble: str = ""


def look(address: str) -> Page:
    """Ask a HOST:PORT; whatever goes wrong is in the answer."""
    try:
        return _look(address)
    except urllib.error.URLError as error:
        return Page(address, trouble=f"does not answer: {error.reason}")
    except (OSError, http.client.HTTPException) as error:
        return Page(address, trouble=f"does not answer: {error or type(error).__name__}")
    except ValueError as error:
        return Page(address, trouble=f"answers something else than Headrace does: {error}")


def _look(address: str) -> Page:
    try:
        status = json.loads(_get(address, "/status"))
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.NOT_FOUND:
            raise
    else:
        if not isinstance(status, dict) or not status.keys() >= _STATUS:
            raise ValueError(f"a /status without {', '.join(sorted(_STATUS))}")
        return Page(address, status=status)
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(_get(address, "/metrics"))
        for sample in family.samples
        if sample.name.startswith(_INFERENCE)
    }
    if not samples:
        raise ValueError(f"/metrics without anything that begins with {_INFERENCE}")
    return Page(address, samples=samples)


def _get(address: str, path: str) -> str:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=_TIMEOUT_S) as answer:
        body: bytes = answer.read(_MOST_BYTES + 1)
    if len(body) > _MOST_BYTES:
        raise ValueError(f"{path} is longer than {_MOST_BYTES >> 20} MiB")
    return body.decode()


def by_label(samples: Samples, name: str, label: str) -> dict[str, float]:
    """The samples of one metric by one of its labels, summed up over the others."""
    found: dict[str, float] = {}
    for (sample, labels), value in samples.items():
        if sample == name:
            key = dict(labels).get(label, "")
            found[key] = found.get(key, 0.0) + value
    return found


def total(samples: Samples, name: str) -> float:
    """Of all series of one metric."""
    return sum(value for (sample, _), value in samples.items() if sample == name)


def since(before: Samples | None, now: Samples) -> Samples:
    """What was added between two looks; all of it if there is only one, or the server began anew."""
    if before is None or any(now.get(key, 0.0) < value for key, value in before.items() if key[0].endswith("_total")):
        return now
    return {key: value - before.get(key, 0.0) for key, value in now.items()}


def quantile(share: float, samples: Samples, name: str) -> float:
    """Of a histogram, linear within its bucket as in Prometheus; NaN without observations."""
    buckets = sorted((float(le), count) for le, count in by_label(samples, f"{name}_bucket", "le").items())
    if not buckets or not buckets[-1][1]:
        return math.nan
    wanted, low, below = share * buckets[-1][1], 0.0, 0.0
    for high, count in buckets:
        if count >= wanted:
            if math.isinf(high):
                return low
            return low + (high - low) * (wanted - below) / (count - below) if count > below else high
        low, below = high, count
    return low
