"""What every test gets: a run that leaves a thread, a process or a file descriptor behind has failed."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator

import pytest
from zmq.utils.garbage import gc as zmq_collector


@pytest.fixture
def no_leaks() -> Iterator[None]:
    """Fails if threads or file descriptors are left when the test ends."""
    if not zmq_collector.is_alive():
        zmq_collector.start()  # pyzmq's own thread for zero-copy messages; one for the life of the process
    gc.collect()
    threads, descriptors = set(threading.enumerate()), set(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    left = [thread.name for thread in threading.enumerate() if thread not in threads]
    assert not left, f"threads left behind: {left}"
    opened = set(os.listdir("/proc/self/fd")) - descriptors
    names = [os.readlink(f"/proc/self/fd/{fd}") for fd in opened if os.path.lexists(f"/proc/self/fd/{fd}")]
    assert not names, f"file descriptors left behind: {names}"
