"""The producers' own display: one row a worker, and totals. Live on a terminal, otherwise a line now and then."""

from __future__ import annotations

import time

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from producers.supervisor import Supervisor, Worker

_PLAIN_INTERVAL_S = 10.0


class ProducerDisplay:
    """Shows a supervisor's workers; used with `with`, then `update` as often as one likes."""

    def __init__(self, supervisor: Supervisor, title: str, console: Console, live: bool) -> None:
        """live: only if the console is a terminal."""
        self._supervisor, self._title, self._console = supervisor, title, console
        self._live = Live(console=console, refresh_per_second=4) if live and console.is_terminal else None
        self._began = time.monotonic()
        self._next_line = self._began + _PLAIN_INTERVAL_S

    def __enter__(self) -> ProducerDisplay:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.update(self._table())
            self._live.stop()

    def update(self) -> None:
        """Show the present state."""
        if self._live:
            self._live.update(self._table())
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _PLAIN_INTERVAL_S
            self._console.print(Text(self._totals()), soft_wrap=True)

    def _totals(self) -> str:
        workers = self._supervisor.workers
        episodes = sum(worker.stats.episodes for worker in workers)
        successes = sum(worker.stats.successes for worker in workers)
        megabytes = sum(worker.stats.frame_bytes for worker in workers) / 1e6
        seconds = time.monotonic() - self._began
        return (
            f"{self._title}: {episodes} episodes, {successes} successes, {successes / seconds * 3600:.0f} per hour, "
            f"{megabytes:.0f} MB of frames, {sum(worker.restarts for worker in workers)} restarts, {seconds:.0f} s"
        )

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for name in ("worker", "state", "episodes", "successes", "simulate", "render", "encode", "wait", "restarts"):
            table.add_column(name, justify="left" if name in ("worker", "state") else "right")
        for worker in self._supervisor.workers:
            table.add_row(*_row(worker))
        ending = Text("stopping: what is whole is committed first (again to end at once)", "yellow")
        totals = Text(self._totals(), "bold")
        return Group(totals, table, ending) if self._supervisor.stopping else Group(totals, table)


def _row(worker: Worker) -> list[str]:
    stats = worker.stats
    times = (stats.simulate_s, stats.render_s, stats.encode_s, stats.wait_s)
    return [
        worker.job.name,
        worker.state,
        str(stats.episodes),
        str(stats.successes),
        *(f"{seconds:.1f} s" for seconds in times),
        str(worker.restarts),
    ]

