"""One sink per dataset directory."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from pathlib import Path

from protocol.errors import DatasetError, LockedError
from sink.disk import Disk, make_directories

LOCK_NAME = "sink.lock"
DATASET_NAME = "dataset.json"


class DirectoryLock:
    """Holds `flock` on the directory's lock file for as long as it lives; the file says who holds it."""

    def __init__(self, root: Path, disk: Disk | None = None, name: str = LOCK_NAME) -> None:
        """Raises LockedError that names the holder; DatasetError if the directory cannot be written.

        name: of the file; another one for a lock that lets a sink go on.
        """
        path = root / name
        try:
            if not (root / DATASET_NAME).exists():  # its name is given after that of the directory is durable
                make_directories(disk or Disk(), root)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise DatasetError(
                f"cannot write to the dataset directory {root}: {error.strerror}; choose another --data or mend its "
                "permissions"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, 4096, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._fd)
            raise LockedError(
                f"another sink writes to {root} already: {holder}; stop it first, or choose another --data"
            ) from None
        self.say("starting")

    def say(self, endpoint: str) -> None:
        """Write down who holds the lock, and where it can be reached."""
        text = json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "endpoint": endpoint})
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, text.encode(), 0)

    def release(self) -> None:
        """Let others in."""
        os.ftruncate(self._fd, 0)
        # Closing is not enough while a child that another thread is just starting has inherited the descriptor.
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)
