"""What the writer tells the sink's thread: what became of each order."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.interval_set import IntervalSet
from protocol.messages import Outcome, RefusalCode
from protocol.orders import Attempt
from protocol.spec import StreamSpec


@dataclass(frozen=True)
class Opened:
    """The stream is ready; these indices are in the dataset."""

    spec: StreamSpec
    committed: IntervalSet
    successes: IntervalSet


@dataclass(frozen=True)
class OpenFailed:
    """The stream cannot be created."""

    stream: str
    why: str


@dataclass(frozen=True)
class CommittedEpisode:
    """Durable. `delay_s`: from the moment its End was handed to the writer."""

    attempt: Attempt
    outcome: Outcome
    steps: int
    delay_s: float


@dataclass(frozen=True)
class Rejected:
    """The data of an attempt are not what they should be."""

    attempt: Attempt
    code: RefusalCode
    why: str


@dataclass(frozen=True)
class Consumed:
    """Payload that is no longer in memory."""

    stream: str
    session: int
    size: int
    frames: int


@dataclass(frozen=True)
class Stalled:
    """Why a stream waits; empty when it goes on."""

    stream: str
    why: str


@dataclass(frozen=True)
class Short:
    """Why a stream will have to wait when its shard is full; empty when there is room again."""

    stream: str
    why: str


@dataclass(frozen=True)
class CommitDone:
    """One group became durable in this many seconds."""

    episodes: int
    seconds: float


@dataclass(frozen=True)
class Rolled:
    """A stream went on with its next shard; this held the writer up for so many seconds."""

    stream: str
    seconds: float


@dataclass(frozen=True)
class WriterFailed:
    """The disk failed; the sink has to stop."""

    error: BaseException


Report = (
    Opened | OpenFailed | CommittedEpisode | Rejected | Consumed | Stalled | Short | CommitDone | Rolled | WriterFailed
)
