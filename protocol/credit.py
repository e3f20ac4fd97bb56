"""Byte credit: the sum of all that producers may have in flight never exceeds the sink's bound.

Theory of operation. A session gets one window when it opens and keeps it: unspent credit + bytes in flight = window,
always. Bytes are in flight from the moment they arrive until the writer has put them on disk (for the payload of an
`End`: committed them). Windows are fixed, because credit that an idle producer holds cannot be called back; so the
bound is kept by refusing a session for which no window is left, never by taking from the others.

A payload of one byte takes far more than a byte of memory. So the pool also counts a *burden* for each message and
frame in flight, against an eighth of the total. JPEG frames of usual sizes come nowhere near it, even if the disk
stands still; many tiny ones do. It is released in proportion to the bytes: all of it when nothing of a session is in
flight.
"""

from __future__ import annotations

from dataclasses import dataclass

MESSAGE_BURDEN = 1024
FRAME_BURDEN = 128
BURDEN_SHARE = 8


@dataclass
class _Account:
    window: int
    unspent: int
    in_flight: int = 0
    burden: int = 0
    open: bool = True


class CreditPool:
    """Accounts of all sessions, by session number."""

    def __init__(self, total_bytes: int, max_sessions: int) -> None:
        self.total_bytes = total_bytes
        self._share = total_bytes // max_sessions
        self._free = total_bytes
        self._burden = 0
        self._in_flight = 0
        self._accounts: dict[int, _Account] = {}

    @property
    def free_bytes(self) -> int:
        """What is left for new sessions."""
        return self._free

    @property
    def in_flight_bytes(self) -> int:
        """Bytes that have arrived and are not yet on disk."""
        return self._in_flight

    def unspent(self, session: int) -> int:
        """What an open session may still send."""
        return self._accounts[session].unspent

    def window(self, min_window_bytes: int) -> int:
        """The window that a session with this minimum gets: an equal share, or its minimum if that is more."""
        return max(self._share, min_window_bytes)

    def open(self, session: int, min_window_bytes: int) -> int:
        """Open an account and return its first credit, or 0 if no window is left (then no account is opened)."""
        window = self.window(min_window_bytes)
        if window > self._free:
            return 0
        self._free -= window
        self._accounts[session] = _Account(window, window)
        return window

    def knows(self, session: int) -> bool:
        """The number has an account, open or not yet run out."""
        return session in self._accounts

    def receive(self, session: int, size: int) -> bool:
        """Count arrived bytes. False: the credit did not allow them, and nothing was counted."""
        account = self._accounts[session]
        if size > account.unspent:
            return False
        account.unspent -= size
        account.in_flight += size
        self._in_flight += size
        return True

    def bear(self, session: int, frames: int) -> bool:
        """Count the burden of a message that was received with so many payload frames. False: there are too many."""
        burden = MESSAGE_BURDEN + FRAME_BURDEN * frames
        self._accounts[session].burden += burden
        self._burden += burden
        return self._burden <= self.total_bytes // BURDEN_SHARE

    @property
    def is_burdened(self) -> bool:
        """So many small payloads wait that new sessions would be ended at once."""
        return self._burden > self.total_bytes // BURDEN_SHARE // 2

    def consume(self, session: int, size: int) -> int:
        """Count bytes that left memory, and return the credit to send now (0: wait until more has gathered)."""
        if not size:
            return 0  # the account may be gone already
        account = self._accounts[session]
        relief = account.burden * size // account.in_flight if account.in_flight > size else account.burden
        account.burden -= relief
        self._burden -= relief
        account.in_flight -= size
        self._in_flight -= size
        assert account.in_flight >= 0, (session, size, account)
        if not account.open:
            self._free += size
            if account.in_flight == 0:
                del self._accounts[session]
            return 0
        owed = account.window - account.unspent - account.in_flight
        if owed >= account.window // 8 or (owed and account.in_flight == 0):
            account.unspent += owed
            return owed
        return 0

    def close(self, session: int) -> None:
        """Close an account; what is still in flight comes back when it is consumed."""
        account = self._accounts[session]
        account.open = False
        self._free += account.window - account.in_flight
        if account.in_flight == 0:
            del self._accounts[session]
