"""The server with the small model: `python -m inference.bench.small_server ENDPOINT THREADS`."""

from __future__ import annotations

import logging
import sys

import torch

from inference.__main__ import serve
from inference.batcher import BatchLimits
from inference.bench.small_model import NAME, SmallModel
from inference.model import Model
from inference.server import ServerConfig


class _Source:
    def names(self) -> list[str]:
        return [NAME]

    def current(self, name: str) -> str:
        del name
        return "1"

    def load(self, name: str, version: str) -> Model:
        del name, version
        return SmallModel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    torch.set_num_threads(int(sys.argv[2]))
    serve(_Source(), ServerConfig(bind=sys.argv[1], limits=BatchLimits(max_batch=32)))
