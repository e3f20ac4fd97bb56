"""The inference server as a planner sees it, with the device checked that `--ml-device` asks for."""

from __future__ import annotations

from pathlib import Path

from producers.link import key_file
from producers.namo.flags import NamoOptions
from producers.query_client import QueryClient, QueryClientConfig
from protocol.errors import ConfigurationError
from protocol.namo.queries import Answer, Query

# In place of a file: the inference servers have no keys, though the sink has.
_NO_KEY = Path("none")


def inference_key_file(options: NamoOptions) -> Path | None:
    """The key for the servers of `--inference`; None for none."""
    if options.inference_key == _NO_KEY:
        return None
    return key_file(options.inference_key or options.key)


class Models:
    """Asks the servers of `--inference`."""

    def __init__(self, options: NamoOptions) -> None:
        """Connects in the background. Raises ConfigurationError."""
        self._device = options.ml_device
        config = QueryClientConfig(deadline_s=options.ml_deadline, key=inference_key_file(options))
        self._client = QueryClient(options.inference, config)

    def ask(self, query: Query) -> Answer:
        """Raises NoAnswerError, and ConfigurationError if the models run on another device than was asked for."""
        answer = self._client.ask(query)
        if self._device is not None and not answer.device.startswith(self._device):
            raise ConfigurationError(
                f"--ml-device {self._device}: the inference server runs its models on {answer.device}; "
                f"start it with `headrace infer --device {self._device}`, or leave the flag out"
            )
        return answer

    def close(self) -> None:
        """Nothing is waited for."""
        self._client.close()
