"""Who will ask again in a moment? Waiting for a fuller batch only pays while somebody is on the way."""

from __future__ import annotations

from dataclasses import dataclass

# How much later than usual somebody may be before nobody waits any more [s]; and by which factor.
_SLACK_S, _PATIENCE = 0.0005, 2.0
_NEWEST = 0.3
# Those that were not heard of for long are forgotten when there are more.
_MAX_CLIENTS = 4096


@dataclass(slots=True)
class _Client:
    outstanding: int = 0
    answered_at: float | None = None
    think_s: float | None = None


class Habits:
    """How long each client usually thinks between an answer and its next query. Times are seconds of any clock."""

    def __init__(self, horizon_s: float) -> None:
        """horizon_s: who thinks longer than this is never waited for."""
        self._horizon_s = horizon_s
        self._clients: dict[bytes, _Client] = {}
        self._soon: set[bytes] = set()  # those that think, and usually not for long

    def asked(self, now: float, peer: bytes) -> None:
        """A query has come."""
        client = self._clients.pop(peer, None) or _Client()
        self._clients[peer] = client  # the last of all
        client.outstanding += 1
        if client.answered_at is not None:
            thought_s, before = now - client.answered_at, client.think_s
            client.think_s = thought_s if before is None else before + _NEWEST * (thought_s - before)
            client.answered_at = None
        self._soon.discard(peer)
        if len(self._clients) > _MAX_CLIENTS:
            self.forget(next(iter(self._clients)))

    def answered(self, now: float, peer: bytes) -> None:
        """One of its queries is done with."""
        client = self._clients.get(peer)
        if client is None:
            return
        client.outstanding -= 1
        if client.outstanding <= 0:
            client.outstanding, client.answered_at = 0, now
            if client.think_s is not None and client.think_s <= self._horizon_s:
                self._soon.add(peer)

    def forget(self, peer: bytes) -> None:
        """It is gone."""
        self._clients.pop(peer, None)
        self._soon.discard(peer)

    def awaited_until(self, now: float, limit: float) -> float:
        """Until when somebody is worth waiting for who should come before `limit`; `now` if nobody is."""
        until = now
        for peer in list(self._soon):
            client = self._clients[peer]
            assert client.answered_at is not None
            assert client.think_s is not None
            patience_ends = client.answered_at + _PATIENCE * client.think_s + _SLACK_S
            if patience_ends <= now:
                self._soon.discard(peer)
            elif client.answered_at + client.think_s <= limit:
                until = max(until, patience_ends)
        return min(until, max(limit, now))
