"""Why a connection with keys does not come about, in a sentence that says what to do."""

from __future__ import annotations

import shlex

import zmq
from zmq.utils.monitor import parse_monitor_message

from protocol.announcement import Role, name_of
from protocol.keys import ClientKey

KEY_VARIABLE = "HEADRACE_KEY"
_FAILURES = zmq.Event.HANDSHAKE_FAILED_AUTH | zmq.Event.HANDSHAKE_FAILED_PROTOCOL | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
# A server that stops may hang up in the middle of a handshake, and one with keys may be first to see that we have none;
# one that cannot read our key always hangs up.
_HANG_UPS = 5


class HandshakeWatch:
    """Of one client and one server, for one socket after the other."""

    def __init__(self, role: Role, key: ClientKey | None) -> None:
        self.reason = ""  # why we are not let in; empty if we are, or do not know
        self._name, self._key = name_of(role), key
        self._hang_ups = 0

    def watch(self, socket: zmq.Socket[bytes]) -> None:
        """Before it connects."""
        self._socket, self.monitor = socket, socket.get_monitor_socket(_FAILURES)

    def leave(self) -> None:
        """Before the socket is closed."""
        self._socket.disable_monitor()
        self.monitor.close(linger=0)

    def note_welcome(self) -> None:
        """The server has let us in."""
        self.reason, self._hang_ups = "", 0

    def look(self, endpoint: str | None) -> None:
        """Take what has happened since the last look."""
        while self.monitor.poll(0):
            event = parse_monitor_message(self.monitor.recv_multipart())
            why = self._why(zmq.Event(event["event"]), event["value"])
            if why is not None:
                self.reason = f"still trying: the {self._name} at {endpoint} {why}"

    def _why(self, event: zmq.Event, value: int) -> str | None:
        self._hang_ups += 1
        if event == zmq.Event.HANDSHAKE_FAILED_AUTH and self._key is not None:
            return _not_allowed(self._key)
        if event == zmq.Event.HANDSHAKE_FAILED_PROTOCOL and value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
            self._hang_ups = 0  # those before were of the same cause: whoever is first sees it, the other a hang-up
            return _only_one_has_keys(self._key)
        return _hangs_up(self._key, self._name) if self._hang_ups % _HANG_UPS == 0 else None


def secure(socket: zmq.Socket[bytes], key: ClientKey | None) -> None:
    """Set the socket's options, before it connects."""
    if key is not None:
        socket.set(zmq.CURVE_PUBLICKEY, key.public.encode())
        socket.set(zmq.CURVE_SECRETKEY, key.secret.encode())
        socket.set(zmq.CURVE_SERVERKEY, key.sink.encode())


def _not_allowed(key: ClientKey) -> str:
    command = f"headrace keys allow KEYS {key.name} {shlex.quote(key.public)}"
    return f"does not allow our key {key.name!r}. On its side: {command}"


def _only_one_has_keys(key: ClientKey | None) -> str:
    if key is not None:
        return f"has no keys, and we have the key {key.name!r}. Start it with --keys, or this without a key"
    return (
        "wants a key, and we have none. Have one made there, `headrace keys new KEYS --client NAME`, carry it here, "
        f"and name it with --key FILE or {KEY_VARIABLE}=FILE"
    )


def _hangs_up(key: ClientKey | None, name: str) -> str:
    if key is None:
        return f"hangs up before the connection is made. Is it {_a(name)}, and one without keys?"
    return (
        "hangs up before the connection is made. Its public key may not be the one in our key file, "
        f"{shlex.quote(key.sink)}; its own is shown by: headrace keys list KEYS"
    )


def _a(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
