"""A reader that follows a dataset while it is written, and notes how long each episode took to become visible."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from protocol.dataset_view import DatasetView
from protocol.errors import HeadraceError
from protocol.messages import Outcome

POLL_S = 0.02


@dataclass
class Seen:
    """What the reader saw. visible_ms: for each episode, from the producer's End to the moment it could be read."""

    episodes: int = 0
    successes: int = 0
    steps: int = 0
    frames: int = 0
    visible_ms: list[float] = field(default_factory=list)


class Follower:
    """Reads in a thread of its own: polls, checks every checksum of each new episode, counts.

    Make it before the collection begins, so that what is there already is not taken for new; start it with a sink.
    """

    def __init__(self, root: Path) -> None:
        self.seen = Seen()
        self._root = root
        self._stop = threading.Event()
        self._error: HeadraceError | None = None
        self._known = _rows(root)
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> Seen:
        """Read what is left, and return what was seen. Raises CorruptionError if an episode was not whole."""
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self.seen

    def _run(self) -> None:
        try:
            with DatasetView(self._root) as view:
                last_round = False
                while not last_round:
                    last_round = self._stop.is_set()
                    self._read_new(view)
                    self._stop.wait(POLL_S)
        except HeadraceError as error:
            self._error = error

    def _read_new(self, view: DatasetView) -> None:
        for episode in view.new_episodes():
            now = time.time_ns()
            if (episode.shard.layout.path, episode.number) in self._known:
                continue
            seen = self.seen
            seen.visible_ms.append((now - int(episode.row["ended_ns"])) / 1e6)
            seen.episodes += 1
            seen.successes += episode.outcome is Outcome.SUCCESS
            if episode.outcome is not Outcome.VOID:
                episode.check()
                seen.steps += episode.steps
                seen.frames += episode.steps * len(episode.shard.spec.cameras)


def _rows(root: Path) -> set[tuple[Path, int]]:
    """What was committed before: it is not new."""
    if not root.exists():
        return set()
    with DatasetView(root) as view:
        return {(episode.shard.layout.path, episode.number) for episode in view.new_episodes()}
