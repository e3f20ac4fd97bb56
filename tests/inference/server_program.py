"""A server with the small models as a program of its own: `python -m tests.inference.server_program ENDPOINT`.

With two more words, KEYS and FILE, it has keys, and announces itself in a file as 127.0.0.1.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from inference.__main__ import serve
from inference.server import ServerConfig
from serving.announce import Announce
from tests.inference.scenes import SmallSource


def main(bind: str, keys: str | None = None, file: str | None = None) -> None:
    """Serve until it is told to stop."""
    announce = None if file is None else Announce(Path(file), "127.0.0.1")
    config = ServerConfig(bind=bind, http=None, keys=None if keys is None else Path(keys), announce=announce)
    serve(SmallSource(), config)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    main(*sys.argv[1:])
