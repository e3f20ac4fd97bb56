"""A producer's connection: one DEALER socket after the other under one identity, and why it does not come about."""

from __future__ import annotations

import os
import shlex
import time
import uuid
from pathlib import Path

import zmq
from zmq.utils.monitor import parse_monitor_message

from producers.address import Address
from protocol.errors import ConfigurationError
from protocol.keys import ClientKey, read_client_key
from protocol.spec import MAX_FRAME_BYTES

KEY_VARIABLE = "HEADRACE_KEY"
# How often a file is read in which the sink says where it is, while it does not answer.
_LOOK_S = 2.0
# Smaller frames are copied: to hear that libzmq needs a buffer no more costs pyzmq as much as copying this [bytes].
COPY_BYTES = 256 * 1024
_FAILURES = zmq.Event.HANDSHAKE_FAILED_AUTH | zmq.Event.HANDSHAKE_FAILED_PROTOCOL | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL
# A sink that stops may hang up in the middle of a handshake, and one with keys may be first to see that we have none;
# one that cannot read our key always hangs up.
_HANG_UPS = 5


def chosen_key(path: Path | None) -> ClientKey | None:
    """The key in this file, or else in the one that HEADRACE_KEY names. Raises ConfigurationError."""
    if path is None and os.environ.get(KEY_VARIABLE):
        path = Path(os.environ[KEY_VARIABLE])
    if path is None:
        return None
    key = read_client_key(path)
    if zmq.curve_public(key.secret.encode()).decode() != key.public:
        raise ConfigurationError(f"{path}: the public key is not that of the secret key; have a new one made")
    return key


class Link:
    """Used by one thread, but for the constructor and `reason`. `socket` is the present one."""

    def __init__(self, address: Address, key: ClientKey | None, wake_fd: int) -> None:
        """Connects in the background. wake_fd: ends `wait`. Raises ConfigurationError for an address that is none."""
        self.address, self.key, self._wake_fd = address, key, wake_fd
        self.endpoint: str | None = None  # None: the sink has not said where it is
        self._failed = False  # a handshake, at the last look
        self._identity = b"h" + uuid.uuid4().bytes
        self._context = zmq.Context()
        self.reason = ""  # why we are not let in, a sentence; empty if we are, or do not know
        self._hang_ups = 0
        self._next_look = 0.0
        try:
            self._connect(address.find())
        except ConfigurationError:
            self._context.term()
            raise

    def wait(self, timeout_ms: int) -> bool:
        """Until something has come, or `wake_fd` can be read. True: a message is there."""
        ready = dict(self._poller.poll(timeout_ms))
        self._failed = self._monitor in ready
        return self.socket in ready

    def renew(self) -> None:
        """A new socket under the same identity, to where the sink is now; what the old one had not sent is dropped.

        Raises ConfigurationError for a sink that we must not go to.
        """
        endpoint = self.address.find()
        self._disconnect(0)
        self._connect(endpoint)

    def moved(self) -> bool:
        """The sink is said to be elsewhere. Looks now and then; raises ConfigurationError as `renew`."""
        if not self.address.is_file or time.monotonic() < self._next_look:
            return False
        self._next_look = time.monotonic() + _LOOK_S
        found = self.address.find()
        return found is not None and found != self.endpoint

    def close(self) -> None:
        """Send what was said last, and end."""
        self._disconnect(500)
        self._context.term()

    def note_welcome(self) -> None:
        """The sink has let us in."""
        self.reason, self._hang_ups = "", 0

    def new_reason(self) -> str | None:
        """The reason, if it was not known at the last call."""
        before = self.reason
        while self._failed and self._monitor.poll(0):
            event = parse_monitor_message(self._monitor.recv_multipart())
            self.reason = self._why(zmq.Event(event["event"]), event["value"]) or self.reason
        return self.reason if self.reason != before else None

    def _why(self, event: zmq.Event, value: int) -> str | None:
        self._hang_ups += 1
        if event == zmq.Event.HANDSHAKE_FAILED_AUTH and self.key is not None:
            why = _not_allowed(self.key)
        elif event == zmq.Event.HANDSHAKE_FAILED_PROTOCOL and value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
            self._hang_ups = 0  # those before were of the same cause: whoever is first sees it, the other a hang-up
            why = _only_one_has_keys(self.key)
        elif self._hang_ups % _HANG_UPS == 0:
            why = _hangs_up(self.key)
        else:
            return None
        return f"still trying: the sink at {self.endpoint} {why}"

    def _connect(self, endpoint: str | None) -> None:
        self.endpoint = endpoint
        self._next_look = time.monotonic() + _LOOK_S
        made = self._context.socket(zmq.DEALER)
        made.set(zmq.IDENTITY, self._identity)
        made.set(zmq.LINGER, 0)
        made.set(zmq.SNDHWM, 10_000)
        made.copy_threshold = COPY_BYTES
        made.set(zmq.MAXMSGSIZE, MAX_FRAME_BYTES)
        made.set(zmq.RECONNECT_IVL, 100)
        made.set(zmq.RECONNECT_IVL_MAX, 2_000)
        if self.key is not None:
            made.set(zmq.CURVE_PUBLICKEY, self.key.public.encode())
            made.set(zmq.CURVE_SECRETKEY, self.key.secret.encode())
            made.set(zmq.CURVE_SERVERKEY, self.key.sink.encode())
        monitor = made.get_monitor_socket(_FAILURES)
        try:
            if endpoint is not None:
                made.connect(endpoint)
        except zmq.ZMQError as error:
            made.disable_monitor()
            monitor.close(linger=0)
            made.close()
            raise ConfigurationError(
                f"cannot connect to {endpoint!r}: {error.strerror}; expected e.g. tcp://127.0.0.1:5555"
            ) from error
        self.socket, self._monitor = made, monitor
        self._poller = zmq.Poller()
        for source in (made, monitor, self._wake_fd):
            self._poller.register(source, zmq.POLLIN)

    def _disconnect(self, linger_ms: int) -> None:
        self.socket.disable_monitor()
        self._monitor.close(linger=0)
        self.socket.close(linger=linger_ms)


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


def _hangs_up(key: ClientKey | None) -> str:
    if key is None:
        return "hangs up before the connection is made. Is it a sink, and one without keys?"
    return (
        "hangs up before the connection is made. Its public key may not be the one in our key file, "
        f"{shlex.quote(key.sink)}; its own is shown by: headrace keys list KEYS"
    )
