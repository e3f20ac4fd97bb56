"""The small model behind mosec; run in mosec's virtual environment, with `--port PORT` and mosec's other flags."""

from __future__ import annotations

import os
from typing import Any

import torch
from mosec import Server, Worker

from inference.bench.small_model import SmallModel, answered, read
from protocol.namo.queries import Query


class SmallWorker(Worker):  # type: ignore[misc]  # mosec is not installed where this is checked
    """Reads the query, scores it with its batch, writes the answer: what Headrace's server does too."""

    def __init__(self) -> None:
        super().__init__()
        torch.set_num_threads(int(os.environ["SMALL_THREADS"]))
        self._model = SmallModel()

    def deserialize(self, data: bytes) -> Query:
        """One request."""
        return read(data)

    def forward(self, data: list[Query]) -> list[Any]:
        """One batch."""
        return list(zip(data, self._model.rank(data), strict=True))

    def serialize(self, data: Any) -> bytes:
        """One answer."""
        return answered(*data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(SmallWorker, max_batch_size=32, max_wait_time=int(os.environ["SMALL_WAIT_MS"]))
    server.run()
