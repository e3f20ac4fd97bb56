"""The live display of a collection, drawn from the sink's /status."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from deploy.status_tables import producers_table, streams_table

_PLAIN_INTERVAL_S = 15.0


class CollectionDisplay:
    """Live on a terminal; otherwise one line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._began = time.monotonic()
        self._next_line = self._began

    def __enter__(self) -> CollectionDisplay:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def update(self, status: dict[str, Any], note: str = "") -> None:
        """Show a status."""
        if self._live:
            self._live.update(_draw(status, note, time.monotonic() - self._began))
        elif time.monotonic() >= self._next_line or note:
            if self._next_line == self._began and status.get("page"):
                self._console.print(Text(f"in a browser: {status['page']}"), soft_wrap=True)
            self._next_line = time.monotonic() + _PLAIN_INTERVAL_S
            for line in _lines(status, note, time.monotonic() - self._began):
                self._console.print(Text(line), soft_wrap=True)


def _draw(status: dict[str, Any], note: str, seconds: float) -> Group:
    programs = [Text(f"{row['name']}  {row['says']}", overflow="ellipsis", no_wrap=True) for row in _programs(status)]
    problems = [Text(problem, "red") for problem in status["problems"]]
    problems += [Text(warning, "yellow") for warning in status["warnings"]]
    ending = [Text(note, "yellow")] if note else []
    where = f", in a browser at {status['page']}" if status.get("page") else ""
    title = Text.assemble((f"collecting for {seconds:.0f} s", "bold"), where)
    streams, producers = streams_table(status), producers_table(status)
    return Group(title, streams, Text(), producers, *programs, *problems, *ending)


def _lines(status: dict[str, Any], note: str, seconds: float) -> list[str]:
    lines = [
        f"{seconds:5.0f} s  {name}: {totals['successes']}/{totals['goal_successes'] or '-'} successes, "
        f"{totals['episodes'] - totals['successes']} failed, {totals['episodes_per_hour']:.0f} episodes/h, "
        f"{totals['mb_per_s']:.1f} MB/s; " + ", ".join(f"{p['state'] or 'starting'}" for p in status["producers"])
        for name, totals in status["streams"].items()
    ] or [f"{seconds:5.0f} s  the producers start"]
    lines += [f"{seconds:5.0f} s  {row['name']}: {row['says']}" for row in _programs(status)]
    return [*lines, *status["problems"], *status["warnings"], *([note] if note else [])]


def _programs(status: dict[str, Any]) -> list[dict[str, str]]:
    """Of server and trainers, those that have said something."""
    return [row for row in status.get("programs", ()) if row["says"]]
