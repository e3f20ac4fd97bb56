"""What a running sink or inference server says over HTTP, for `headrace top`."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from protocol.metric_samples import Samples

_TIMEOUT_S = 3.0
_MOST_BYTES = 8 << 20
_INFERENCE = "headrace_infer_"
_STATUS = {"streams", "producers", "problems", "warnings"}


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
