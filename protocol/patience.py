"""How long a producer waits for a word of the sink before it takes the connection for dead.

Theory of operation. Three heartbeats are enough on a fast link. On a slow one the answer to a ping waits behind a whole
message of payload on its way up, which may take longer than that. Whoever gave up then would send everything again, and
give up again, for ever. So a silence that ended in giving up is allowed twice its length the next time, up to the
lease; and a silence that ended in a word is the measure of the next ones, until it fades.
"""

from __future__ import annotations

HEARTBEATS = 3
# Never shorter, however short the heartbeat is [s].
LEAST_S = 1.0
# A measured silence is half forgotten after this time, not after some words: many come at once after a silence [s].
_FADES_S = 30.0


class Patience:
    """Times are seconds of one clock."""

    def __init__(self, now: float) -> None:
        self._heard = now
        self._usual_s = self._most_s = HEARTBEATS * LEAST_S
        self._measured_s = 0.0
        self._given_up = 0

    @property
    def limit_s(self) -> float:
        """A longer silence is too long."""
        wanted = max(self._usual_s, 2 * self._measured_s) * 2.0**self._given_up
        return min(wanted, max(self._most_s, self._usual_s))

    def begin(self, now: float, heartbeat_s: float, lease_s: float) -> None:
        """A session is open."""
        self._usual_s, self._most_s = max(HEARTBEATS * heartbeat_s, LEAST_S), lease_s
        self._heard = now

    def hear(self, now: float) -> None:
        """A message of the session came."""
        silent_s = now - self._heard
        self._measured_s = max(silent_s, self._measured_s * 0.5 ** (silent_s / _FADES_S))
        self._heard = now

    def note_progress(self) -> None:
        """The sink has taken payload in this session: silences are measured, there is no need to guess."""
        self._given_up = 0

    def is_over(self, now: float) -> bool:
        """True: give up. Then the next limit is twice this one."""
        over = now - self._heard > self.limit_s
        if over and self.limit_s < self._most_s:
            self._given_up += 1
        return over
