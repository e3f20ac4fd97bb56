"""What a user of LiveDataset chooses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from protocol.errors import ConfigurationError
from protocol.shard_view import EpisodeView

Mode = Literal["frozen", "growing", "newest_first"]
Part = Literal["training", "validation", "all"]
Per = Literal["step", "episode"]
ImageType = Literal["uint8", "float32"]
OnCorrupt = Literal["stop", "skip"]


def _one_of(name: str, value: object, kind: object) -> None:
    if value not in get_args(kind):
        raise ConfigurationError(f"{name}: expected one of {', '.join(get_args(kind))}, found {value!r}")


def _at_least(name: str, value: float, least: float) -> None:
    if not value >= least:
        raise ConfigurationError(f"{name}: expected at least {least:g}, found {value!r}")


@dataclass(frozen=True)
class Sample:
    """What is read for one step t of an episode.

    states: columns at t, each flattened, joined to float32[D].
    action: the column whose steps t … t + chunk_size - 1 make float32[chunk_size, A].
    cameras: whose frame at t; None: all of the stream; (): none.
    image_size: (height, width) [pixels]; None: as stored. The aspect is not kept.
    image_dtype: uint8 is 0 to 255, float32 is 0 to 1.
    """

    states: tuple[str, ...] = ("observations/qpos",)
    action: str = "action"
    cameras: tuple[str, ...] | None = None
    chunk_size: int = 90
    image_size: tuple[int, int] | None = None
    image_dtype: ImageType = "uint8"

    def __post_init__(self) -> None:
        _at_least("chunk_size", self.chunk_size, 1)
        _one_of("image_dtype", self.image_dtype, ImageType)
        for names in (self.states, self.cameras or ()):
            if isinstance(names, str) or len(set(names)) != len(names):
                raise ConfigurationError(f"expected a tuple of different names, found {names!r}")
        if self.image_size is not None and (len(self.image_size) != 2 or min(self.image_size) < 1):
            raise ConfigurationError(f"image_size: expected (height, width) in pixels, found {self.image_size!r}")


@dataclass(frozen=True)
class Selection:
    """Which episodes count. VOID records never do, they have no steps.

    streams: their names; (): all. success: True or False: only such; None: both.
    attributes: values that an episode's attributes must equal. where: a function that says yes; it must be pure.
    part: one side of the split. validation_share: about this share of the episodes, 0 to 1, is for validation. The
    split is by hash, so an episode stays on its side for ever. split_by: an attribute whose value decides, so that
    all episodes of an environment, say, are on one side; None: stream and index decide. include_discarded: also those
    that `headrace flag` discarded.
    """

    streams: tuple[str, ...] = ()
    success: bool | None = True
    attributes: Mapping[str, object] = field(default_factory=dict)
    where: Callable[[EpisodeView], bool] | None = None
    part: Part = "training"
    validation_share: float = 0.0
    split_by: str | None = None
    include_discarded: bool = False

    def __post_init__(self) -> None:
        _one_of("part", self.part, Part)
        if isinstance(self.streams, str):
            raise ConfigurationError(f"streams: expected a tuple of names, found {self.streams!r}")
        if not 0 <= self.validation_share < 1:
            raise ConfigurationError(f"validation_share: expected 0 to below 1, found {self.validation_share!r}")
        if self.part == "validation" and self.validation_share == 0:
            raise ConfigurationError("part='validation' of validation_share=0 is nothing; give a validation_share")


@dataclass(frozen=True)
class Order:
    """In which order samples come: a function of seed, epoch and snapshot; within an epoch each comes once.

    mode: frozen: the snapshot of the first batch is all there ever is. growing: new episodes are mixed among what is
    left of the epoch (until it has doubled; later ones join the next). newest_first: new episodes come next.
    per: step: every step of every episode is a sample; episode: each episode is one, at a random step.
    rank, world_size: this process and how many there are; None: those of torch.distributed, else 0 and 1.
    refresh_every: batches between two looks at the dataset.
    """

    mode: Mode = "growing"
    seed: int = 0
    per: Per = "step"
    rank: int | None = None
    world_size: int | None = None
    refresh_every: int = 1

    def __post_init__(self) -> None:
        _one_of("mode", self.mode, Mode)
        _one_of("per", self.per, Per)
        _at_least("refresh_every", self.refresh_every, 1)
        _at_least("seed", self.seed, 0)
        if (self.rank is None) != (self.world_size is None):
            raise ConfigurationError(f"give rank and world_size, or neither; found {self.rank} and {self.world_size}")
        if self.rank is not None and self.world_size is not None and not 0 <= self.rank < self.world_size:
            raise ConfigurationError(f"rank: expected 0 to {self.world_size - 1}, found {self.rank}")


@dataclass(frozen=True)
class Limit:
    """How far sampling may run ahead of collection, as in Reverb. Collection is never held up.

    Samples wait until there are min_episodes and min_samples, and then as long as
    sampled > samples_per_insert × (inserted - min_samples) + error_buffer. An insert is one sample that became
    available; all ranks count together, and discarded episodes not at all. error_buffer None: twice the least that
    cannot block for ever.
    """

    samples_per_insert: float = math.inf
    min_episodes: int = 1
    min_samples: int = 1
    error_buffer: float | None = None

    def __post_init__(self) -> None:
        _at_least("min_episodes", self.min_episodes, 1)
        _at_least("min_samples", self.min_samples, 1)
        if not self.samples_per_insert > 0:
            raise ConfigurationError(f"samples_per_insert: expected above 0, found {self.samples_per_insert!r}")

    def buffer(self, at_once: int, mode: Mode, follow: bool) -> float:
        """The error buffer to use; raises ConfigurationError if it could block for ever.

        at_once: samples of one batch on all ranks.
        """
        if math.isinf(self.samples_per_insert):
            return math.inf
        if mode == "frozen" or not follow:
            why = "mode='frozen' takes no new episodes" if mode == "frozen" else "follow=False does not wait for any"
            raise ConfigurationError(f"samples_per_insert={self.samples_per_insert:g} would block for ever: {why}")
        least = max(at_once, self.samples_per_insert)
        if self.error_buffer is not None and self.error_buffer < least:
            raise ConfigurationError(
                f"error_buffer={self.error_buffer:g} could block for ever: expected at least {least:g}, the larger of "
                f"one batch on all ranks ({at_once}) and samples_per_insert ({self.samples_per_insert:g})"
            )
        return 2 * least if self.error_buffer is None else self.error_buffer


@dataclass(frozen=True)
class Follow:
    """How to wait for data. stop: asked while waiting; True ends the iteration. timeout_s: raise DatasetError then."""

    stop: Callable[[], bool] | None = None
    poll_s: float = 0.2
    notice_s: float = 60.0
    timeout_s: float = math.inf


@dataclass(frozen=True)
class Loading:
    """How batches are made.

    workers: 0: in the calling thread; else so many threads, or processes, each making a batch. Threads do as long as
    decoding, which runs beside Python, is most of the work. prefetch: batches made ahead for each worker.
    drop_last: leave out an epoch's last batch if it is smaller. pin_memory: for faster copies to a GPU.
    on_corrupt: stop: raise CorruptionError; skip: leave the sample out of its batch and count it.
    """

    batch_size: int = 8
    workers: int = 0
    processes: bool = False
    prefetch: int = 2
    drop_last: bool = False
    pin_memory: bool = False
    on_corrupt: OnCorrupt = "stop"

    def __post_init__(self) -> None:
        _at_least("batch_size", self.batch_size, 1)
        _at_least("workers", self.workers, 0)
        _at_least("prefetch", self.prefetch, 1)
        _one_of("on_corrupt", self.on_corrupt, OnCorrupt)
        if self.processes and not self.workers:
            raise ConfigurationError("processes=True needs workers of 1 or more, found 0")
