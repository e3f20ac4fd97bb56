"""A producer's connection: one DEALER socket after the other under one identity, and why it does not come about."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

import zmq

from producers.address import Address
from producers.handshake import KEY_VARIABLE, HandshakeWatch, secure
from protocol.errors import ConfigurationError
from protocol.keys import ClientKey, read_client_key
from protocol.spec import MAX_FRAME_BYTES

# How often a file is read in which the sink says where it is, while it does not answer.
_LOOK_S = 2.0
# What starts many producers names each, by its place in the collection.
NAME_VARIABLE = "HEADRACE_NAME"
# Smaller frames are copied: to hear that libzmq needs a buffer no more costs pyzmq as much as copying this [bytes].
COPY_BYTES = 256 * 1024


def key_file(path: Path | None) -> Path | None:
    """This one, or else the one that HEADRACE_KEY names, if any."""
    named = os.environ.get(KEY_VARIABLE)
    return path if path is not None or not named else Path(named)


def chosen_key(path: Path | None) -> ClientKey | None:
    """The key in this file, or else in the one that HEADRACE_KEY names. Raises ConfigurationError."""
    path = key_file(path)
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
        self._handshake = HandshakeWatch("sink", key)
        self._next_look = 0.0
        try:
            self._connect(address.find())
        except ConfigurationError:
            self._context.term()
            raise

    def wait(self, timeout_ms: int) -> bool:
        """Until something has come, or `wake_fd` can be read. True: a message is there."""
        ready = dict(self._poller.poll(timeout_ms))
        self._failed = self._handshake.monitor in ready
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
        self._handshake.note_welcome()

    @property
    def reason(self) -> str:
        """Why we are not let in, a sentence; empty if we are, or do not know."""
        return self._handshake.reason

    def new_reason(self) -> str | None:
        """The reason, if it was not known at the last call."""
        before = self.reason
        if self._failed:
            self._handshake.look(self.endpoint)
        return self.reason if self.reason != before else None

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
        secure(made, self.key)
        self._handshake.watch(made)
        try:
            if endpoint is not None:
                made.connect(endpoint)
        except zmq.ZMQError as error:
            self._handshake.leave()
            made.close()
            raise ConfigurationError(
                f"cannot connect to {endpoint!r}: {error.strerror}; expected e.g. tcp://127.0.0.1:5555"
            ) from error
        self.socket = made
        self._poller = zmq.Poller()
        for source in (made, self._handshake.monitor, self._wake_fd):
            self._poller.register(source, zmq.POLLIN)

    def _disconnect(self, linger_ms: int) -> None:
        self._handshake.leave()
        self.socket.close(linger=linger_ms)
