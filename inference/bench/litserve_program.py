"""The small model behind LitServe; run in LitServe's virtual environment: `litserve_program.py PORT THREADS WAIT_MS`.

LitServe takes JSON, so the query travels as text (base64) there and back.
"""

from __future__ import annotations

import base64
import sys
from typing import Any

import torch
from litserve import LitAPI, LitServer

from inference.bench.small_model import SmallModel, answered, read
from protocol.namo.queries import Query


class SmallApi(LitAPI):  # type: ignore[misc]  # LitServe is not installed where this is checked
    """Reads the query, scores it with its batch, writes the answer: what Headrace's server does too."""

    def setup(self, device: str) -> None:
        """In the worker."""
        del device
        torch.set_num_threads(int(sys.argv[2]))
        self._model = SmallModel()

    def decode_request(self, request: dict[str, str]) -> Query:
        """One request."""
        return read(base64.b64decode(request["query"]))

    def batch(self, inputs: list[Query]) -> list[Query]:
        """No tensors yet."""
        return inputs

    def predict(self, x: list[Query]) -> list[Any]:
        """One batch."""
        return list(zip(x, self._model.rank(x), strict=True))

    def unbatch(self, output: list[Any]) -> list[Any]:
        """One for each query."""
        return output

    def encode_response(self, output: Any) -> dict[str, str]:
        """One answer."""
        return {"answer": base64.b64encode(answered(*output)).decode()}


if __name__ == "__main__":
    api = SmallApi(max_batch_size=32, batch_timeout=int(sys.argv[3]) / 1000)
    LitServer(api, accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=int(sys.argv[1]), log_level="error", generate_client_file=False
    )
