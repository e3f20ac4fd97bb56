"""LiveDataset: batches of a dataset that may still be growing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from protocol.errors import ConfigurationError, DatasetError
from trainer.live import resume
from trainer.live.catalogue import Catalogue, Snapshot
from trainer.live.options import Follow, Limit, Loading, Order, Sample, Selection
from trainer.live.plan import Plan, PlanConfig, Request, Sign
from trainer.live.ranks import Ranks
from trainer.live.reader import Batch, Read, ReaderConfig, ReadOrder, pinned
from trainer.live.schema import Schema
from trainer.live.statistics import RunningStatistics, Statistics, column_blocks
from trainer.live.workers import Workers, ahead

log = logging.getLogger("headrace.trainer")

# Corrupt samples that are named in the log; the others are counted.
_MAX_NAMED = 20


class LiveDataset(IterableDataset[Batch]):
    """Batches of (state, images, action chunk) from one or several dataset directories, also while they are written.

    Iterating gives the rest of one epoch, `batches()` goes on over their borders. Each batch is a `Batch`, see there.
    The sequence is a function of the options and of what was committed when; `state_dict()` is where it stands after
    the last batch that was handed over. Not for use by several threads. Ranks must have the same options.
    """

    def __init__(
        self,
        roots: Path | str | Sequence[Path | str],
        sample: Sample | None = None,
        *,
        selection: Selection | None = None,
        order: Order | None = None,
        limit: Limit | None = None,
        follow: Follow | bool = False,
        loading: Loading | None = None,
    ) -> None:
        """follow: wait while there is nothing to sample, instead of raising DatasetError.

        Raises DatasetError if a root is no directory (unless follow), ConfigurationError if options contradict.
        """
        self._sample, self._selection = sample or Sample(), selection or Selection()
        self._order, self._loading = order or Order(), loading or Loading()
        following = (follow or None) if isinstance(follow, Follow) else (Follow() if follow else None)
        paths = [roots] if isinstance(roots, (str, Path)) else list(roots)
        self._catalogue = Catalogue([Path(path) for path in paths], self._sample, self._selection, bool(following))
        config = PlanConfig(
            self._order, limit or Limit(), following, self._loading.batch_size, self._loading.drop_last
        )  # fmt: skip
        self._workers: Workers | None = None
        try:
            self._plan = Plan(self._catalogue, config, Ranks(self._order))
        except BaseException:
            self.close()
            raise
        self._handed_over = self._plan.mark
        self._options = resume.describe(self._order, self._selection)
        self._running: dict[str, RunningStatistics] = {}
        self._summed: Snapshot = {}
        self.skipped = 0

    def __enter__(self) -> LiveDataset:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers and close all files."""
        if self._workers is not None:
            self._workers.close()
            self._workers = None
        self._catalogue.close()

    # --- batches --------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the current epoch."""
        return self._run(steps=None, epochs=1)

    def batches(self, steps: int | None = None) -> Iterator[Batch]:
        """`steps` batches, over the borders of epochs; None: without end."""
        return self._run(steps, epochs=None)

    def _run(self, steps: int | None, epochs: int | None) -> Iterator[Batch]:
        if get_worker_info() is not None:
            raise ConfigurationError(
                "a DataLoader with num_workers would give every batch once a worker; use DataLoader(data, "
                "batch_size=None) with LiveDataset(..., loading=Loading(workers=N, processes=True))"
            )
        self._rewind()
        if steps == 0 or self._plan.begin(may_wait=True) == "stop":
            return
        if self._workers is None:
            self._workers = Workers(self._loading, self._reader_config(), self._catalogue.shard_at)
        workers, lead = self._workers, self._loading.workers * self._loading.prefetch
        # What comes from another process is not page-locked here, and that process should not open the GPU.
        pin = self._loading.pin_memory and self._loading.processes and torch.cuda.is_available()
        asked = 0

        def following(may_wait: bool) -> Request | Sign:
            # Never asks for more than will be handed over: all ranks must ask equally often.
            nonlocal asked
            found: Request | Sign = "stop" if asked == steps else self._plan.next(may_wait)
            asked += isinstance(found, Request)
            return found

        def over(sign: Sign) -> bool:
            return sign == "stop" or epochs is not None

        for found in ahead(following, lambda request: workers.begin(self._read_order(request)), lead, over):
            if isinstance(found, tuple):
                self._handed_over = found[0].mark
                self._count_corrupt(found[1])
                batch = found[1].batch
                yield pinned(batch) if pin else batch
            elif found == "epoch":
                old = self._handed_over
                self._handed_over = replace(old, epoch=old.epoch + 1, taken=0, blocks=())

    def _rewind(self) -> None:
        """Forget what was planned ahead and not handed over."""
        if self._plan.mark != self._handed_over:
            self._plan.restore(self._handed_over)

    def _read_order(self, request: Request) -> ReadOrder:
        shards, shard = np.unique(request.episodes["shard"], return_inverse=True)
        sources = np.array([self._catalogue.source_of[number] for number in shards], np.int64)
        names = ("row", "first_step", "steps", "index")
        row, first, steps, index = (request.episodes[name].astype(np.int64) for name in names)
        return ReadOrder(
            paths=tuple(self._catalogue.shards[number].layout.path for number in shards),
            shard=shard.reshape(-1),
            row=row,
            first=first,
            steps=steps,
            step=np.ascontiguousarray(request.steps),
            index=index,
            source=sources[shard.reshape(-1)],
        )

    def _reader_config(self) -> ReaderConfig:
        schema = self._catalogue.check.schema
        assert schema is not None, "a plan that has begun has seen episodes"
        loading = self._loading
        pin = loading.pin_memory and not loading.processes
        return ReaderConfig(self._sample, schema, loading.batch_size, loading.on_corrupt, pin)

    def _count_corrupt(self, result: Read) -> None:
        for place in result.corrupt:
            self.skipped += 1
            if self.skipped <= _MAX_NAMED:
                log.warning("left out: %s", place)

    # --- where it stands ------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Where the sequence stands after the last batch handed over, as JSON can hold it; for all ranks the same."""
        return resume.to_state(self._handed_over, self._options)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on at the sample after. Batch size, workers and ranks may be others than before.

        Raises ConfigurationError if it is no state, or of other options; DatasetError if the dataset has less.
        """
        mark = resume.from_state(state, self._options)
        self._plan.restore(mark)
        self._handed_over = mark

    @property
    def epoch(self) -> int:
        """Of the next batch."""
        return self._handed_over.epoch

    @property
    def waiting(self) -> str:
        """What it waits for at this moment, as a sentence; "" if it does not."""
        return self._plan.waiting

    @property
    def waited_s(self) -> float:
        """How long it has waited for data in all [s]."""
        return self._plan.waited_s

    # --- what there is --------------------------------------------------------------------------------------------

    def refresh(self) -> int:
        """Look for new commits now; returns how many chosen episodes came. They join as the mode says."""
        return self._catalogue.refresh()

    @property
    def episodes(self) -> int:
        """Chosen episodes in the snapshot that is sampled now; 0 if there is nothing yet."""
        self._look_once()
        return self._plan.available()[0]

    @property
    def samples(self) -> int:
        """Samples in the snapshot that is sampled now, on all ranks; 0 if there is nothing yet."""
        self._look_once()
        return self._plan.available()[1]

    @property
    def sources(self) -> list[tuple[Path, str]]:
        """(dataset directory, stream) of the number `source` in a batch."""
        return list(self._catalogue.sources)

    def __len__(self) -> int:
        """Batches in an epoch of this snapshot, for this rank."""
        whole, rest = divmod(self.samples, self._plan.at_once)
        return whole + (rest >= self._plan.least and rest > 0)

    def schema(self) -> Schema:
        """Dimensions and cameras of batches. Waits for the first episode, or raises DatasetError."""
        self._begin()
        return self._reader_config().schema

    def statistics(self) -> dict[str, Statistics]:
        """Of `qpos` and `action` over all steps of the chosen episodes of this snapshot. Only new ones are read."""
        self._begin()
        schema, seen = self._reader_config().schema, self._plan.mark.seen or {}
        if any(seen.get(key, 0) < rows for key, rows in self._summed.items()):  # an older state was loaded
            self._running.clear()
        if not self._running:
            self._summed = {}
            widths = {"qpos": schema.state_dim, "action": schema.action_dim}
            self._running = {name: RunningStatistics(width) for name, width in widths.items()}
        change = self._catalogue.between(self._summed, seen)
        if len(change.gone):  # sums know no way back
            self._running, self._summed = {}, {}
            return self.statistics()
        for name, columns in (("qpos", self._sample.states), ("action", (self._sample.action,))):
            for block in column_blocks(self._catalogue.shards, change.come, columns):
                self._running[name].add(block)
        self._summed = seen
        return {name: running.result() for name, running in self._running.items()}

    def _look_once(self) -> None:
        if self._plan.mark.seen is None:
            self._plan.look()
            self._handed_over = self._plan.mark

    def _begin(self) -> None:
        """Wait for the first snapshot."""
        if self._plan.mark.seen is None or self._catalogue.check.schema is None:
            if self._plan.begin(may_wait=True) == "stop":
                raise DatasetError(f"stopped before there was any data: {self._catalogue.explain()}")
            self._handed_over = self._plan.mark
