"""A store on its own, fed with counted episodes: what the writer thread does, one step at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from protocol.messages import End
from protocol.orders import Attempt
from protocol.spec import StreamSpec
from sink.disk import Disk
from sink.stream_store import NotReadyError, StreamStore
from tests.fakes import CountedEpisode, counted_episode, counting_spec

SHARD_BYTES = 256 * 1024


class Bench:
    """One StreamStore. `with` closes it as the sink does; `abandon` leaves it as a kill would."""

    def __init__(
        self,
        root: Path,
        spec: StreamSpec | None = None,
        shard_bytes: int = SHARD_BYTES,
        disk: Disk | None = None,
        pool: Executor | None = None,
        uuid: str = "bench",
    ) -> None:
        self.spec = spec or counting_spec()
        self._pool = pool or ThreadPoolExecutor(1)
        self._attempts = 0
        try:
            folder = root / self.spec.name
            self.store = StreamStore(folder, self.spec, shard_bytes, uuid, disk or Disk(), self._pool)
        except BaseException:
            self._pool.shutdown()
            raise

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.store.close()
        self._pool.shutdown()

    def begin(self, index: int) -> tuple[Attempt, CountedEpisode]:
        """A new attempt at an index."""
        self._attempts += 1
        attempt = Attempt(self._attempts, self.spec.name, index, 1, "bench")
        return attempt, counted_episode(self.spec, index)

    def frames(self, attempt: Attempt, frames: Sequence[bytes]) -> None:
        """Append frames, waiting for the next shard where one is needed."""
        self._when_ready(lambda: self.store.append(attempt, frames))

    def end(self, attempt: Attempt, end: End, payload: Sequence[bytes], documents: Iterable[bytes] = ()) -> None:
        """Finish an attempt."""
        for name, document in zip(end.documents, documents, strict=False):
            self.store.keep_document(name, document)
        self._when_ready(lambda: self.store.finish(attempt, end, payload))

    def put(self, *indices: int, commit: bool = True, **changes: Any) -> None:
        """Whole episodes, in one commit."""
        for index in indices:
            attempt, made = self.begin(index)
            for step in made.messages():
                self.frames(attempt, step)
            self.end(attempt, made.end(**changes), made.payload(), made.documents.values())
        if commit:
            self.store.commit()

    def abandon(self) -> None:
        """Stop as if the process had been killed: nothing is committed, sealed or removed."""
        self._pool.shutdown()
        for shard in (*self.store._full, self.store.active):
            shard.close()

    def _when_ready(self, action: Callable[[], None]) -> None:
        while True:
            try:
                action()
            except NotReadyError:
                assert self.store.preparing is not None
                self.store.preparing.exception(timeout=30)
                continue
            return
