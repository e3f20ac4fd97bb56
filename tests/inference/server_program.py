"""A server with the small models as a program of its own: `python -m tests.inference.server_program ENDPOINT`."""

from __future__ import annotations

import logging
import sys

from inference.__main__ import serve
from inference.server import ServerConfig
from tests.inference.scenes import SmallSource

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    serve(SmallSource(), ServerConfig(bind=sys.argv[1], http=None))
