"""The picture that `headrace top` shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from deploy.scrape import Page
from deploy.status_tables import producers_table, shown, streams_table
from protocol.metric_samples import Samples, by_label, quantile, since, total

_INFER = "headrace_infer_"


def view(pages: Sequence[Page], before: Mapping[str, Page]) -> Group:
    """All addresses, one below the other. before: the last look at each, for rates."""
    parts: list[RenderableType] = []
    for page in pages:
        if page.status is not None:
            parts += _sink(page)
        elif page.samples is not None:
            parts += _server(page, page.samples, before.get(page.address))
        else:
            parts.append(Text.assemble((page.address, "bold"), " ", shown(page.trouble).plain, style="red"))
        parts.append(Text())
    return Group(*parts[:-1])


def _sink(page: Page) -> Iterator[RenderableType]:
    status = page.status
    assert status is not None
    credit = status.get("credit_bytes") or math.inf
    yield Text.assemble(
        (page.address, "bold"),
        f"  sink, up for {_duration(status.get('uptime_s', 0.0))}, {len(status['producers'])} producers, ",
        f"{status.get('disk_free_bytes', 0) / 1e9:.1f} GB of disk left, ",
        f"{status.get('in_flight_bytes', 0) / credit:.0%} of the memory for payload used",
    )
    yield from (Text(shown(problem).plain, "red") for problem in status["problems"])
    yield from (Text(shown(warning).plain, "yellow") for warning in status["warnings"])
    if status["streams"]:
        yield streams_table(status)
    if status["producers"]:
        yield producers_table(status)


def _server(page: Page, samples: Samples, before: Page | None) -> Iterator[RenderableType]:
    seconds = page.taken - before.taken if before is not None else math.nan
    new = since(before.samples if before is not None else None, samples)
    versions = {
        labels["model"]: labels["version"]
        for (name, pairs), value in samples.items()
        if name == f"{_INFER}model_info" and value and (labels := dict(pairs))
    }
    served = ", ".join(f"{model} {version}" for model, version in sorted(versions.items())) or "nothing"
    waiting = total(samples, f"{_INFER}queue_items")
    yield Text.assemble((page.address, "bold"), f"  inference server, serves {shown(served).plain}; {waiting:.0f} wait")
    table = Table(box=None, pad_edge=False)
    for name in ("queries", "a batch", "queue, half", "99 %", "model, half", "99 %"):
        table.add_column(name)
    counts = {outcome: count for outcome, count in by_label(new, f"{_INFER}queries_total", "outcome").items() if count}
    each = "/s" if before is not None else ""
    queries = [f"{count / (seconds if each else 1):.0f}{each} {outcome}" for outcome, count in sorted(counts.items())]
    batches = total(new, f"{_INFER}batch_items_count")
    mean = f"{total(new, f'{_INFER}batch_items_sum') / batches:.1f}" if batches else "-"
    times = [
        _milliseconds(quantile(share, new, f"{_INFER}{what}_seconds"))
        for what in ("queue", "model")
        for share in (0.5, 0.99)
    ]
    table.add_row(shown(", ".join(queries) or "none"), mean, *times)
    yield table


def _milliseconds(seconds: float) -> str:
    return "-" if math.isnan(seconds) else f"{1000 * seconds:.1f} ms"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
