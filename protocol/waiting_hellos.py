"""The producers that wait until the store has opened their stream."""

from __future__ import annotations

from collections.abc import Collection

from protocol.messages import Hello
from protocol.spec import StreamSpec

# Indices that all of them may name together.
MAX_WAITING_INDICES = 65_536


class WaitingHellos:
    """The last Hello of each peer that waits, by stream."""

    def __init__(self, max_producers: int) -> None:
        self._max_producers = max_producers
        self._streams: dict[str, dict[bytes, Hello]] = {}
        self._stream_of: dict[bytes, str] = {}
        self._indices = 0  # that they name

    def __contains__(self, stream: str) -> bool:
        """The stream is being opened."""
        return stream in self._streams

    def __len__(self) -> int:
        """How many streams are being opened."""
        return len(self._streams)

    @property
    def peers(self) -> Collection[bytes]:
        """Those that wait."""
        return self._stream_of.keys()

    def spec_of(self, stream: str) -> StreamSpec | None:
        """What its first Hello said, if somebody waits for it."""
        return next((hello.spec for hello in self._streams.get(stream, {}).values()), None)

    def why_full(self, peer: bytes, hello: Hello) -> str:
        """Why this peer cannot wait too; empty if it can. Its earlier Hello does not count, as this one replaces it."""
        earlier = self._hello_of(peer)
        others = len(self._stream_of) - (earlier is not None)
        indices = self._indices - (len(earlier.holding) if earlier else 0) + len(hello.holding)
        if others >= self._max_producers or (others and indices > MAX_WAITING_INDICES):
            return f"{others} producers wait for streams that are being opened; come again"
        return ""

    def add(self, peer: bytes, hello: Hello) -> None:
        """Keep it until its stream is open."""
        self._remove(peer)
        self._streams.setdefault(hello.spec.name, {})[peer] = hello
        self._stream_of[peer] = hello.spec.name
        self._indices += len(hello.holding)

    def take(self, stream: str) -> list[tuple[bytes, Hello]]:
        """Those that waited for this stream, in the order in which they came; it is not being opened any more."""
        taken = list(self._streams.pop(stream, {}).items())
        for peer, hello in taken:
            del self._stream_of[peer]
            self._indices -= len(hello.holding)
        return taken

    def _hello_of(self, peer: bytes) -> Hello | None:
        stream = self._stream_of.get(peer)
        return None if stream is None else self._streams[stream][peer]

    def _remove(self, peer: bytes) -> None:
        earlier = self._hello_of(peer)
        if earlier is not None:
            del self._streams[self._stream_of.pop(peer)][peer]
            self._indices -= len(earlier.holding)
