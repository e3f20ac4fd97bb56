"""What every test gets: a run that leaves a thread, a process or a file descriptor behind has failed."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator

import pytest
import zmq


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fails if threads or file descriptors are left when the test ends."""
    zmq.Frame(bytes(1 << 17), copy=False)  # starts pyzmq's own thread and socket, which live as long as the process
    gc.collect()
    threads, descriptors = set(threading.enumerate()), set(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    left = [thread.name for thread in threading.enumerate() if thread not in threads]
    assert not left, f"threads left behind: {left}"
    opened = set(os.listdir("/proc/self/fd")) - descriptors
    names = [os.readlink(f"/proc/self/fd/{fd}") for fd in opened if os.path.lexists(f"/proc/self/fd/{fd}")]
    assert not names, f"file descriptors left behind: {names}"
