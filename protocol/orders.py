"""What the sink's delivery machine asks of the store. The shell attaches the payload and hands them to the writer."""

from __future__ import annotations

from dataclasses import dataclass

from protocol.messages import End
from protocol.spec import StreamSpec


@dataclass(frozen=True)
class Attempt:
    """One try at the episode of one index by one session; `number` is unique in the life of a sink."""

    number: int
    stream: str
    index: int
    session: int
    producer: str


@dataclass(frozen=True)
class OpenStream:
    """Create the stream, or open it; answer with `stream_opened` or `stream_failed`."""

    spec: StreamSpec


@dataclass(frozen=True)
class Append:
    """Write frames of steps [first, first + count). sizes: of each JPEG in the payload; size: of all."""

    attempt: Attempt
    first: int
    count: int
    sizes: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class Finish:
    """Write the columns and commit; answer with `committed` or `rejected`."""

    attempt: Attempt
    end: End
    size: int


@dataclass(frozen=True)
class Forget:
    """Drop what is known of this attempt; it will not go on."""

    attempt: Attempt


@dataclass(frozen=True)
class Keep:
    """Remember a document of a stream until an episode refers to it."""

    stream: str
    session: int
    sha256: str
    size: int


Order = OpenStream | Append | Finish | Forget | Keep
