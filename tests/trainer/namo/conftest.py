"""Real searches, collected once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.processes import Process, SinkProcess, wait_until

SEARCHES = 16
LIMIT_S = 120.0


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine torch's threads wait for each other by spinning, a hundred times longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def produce(endpoint: str, *words: str) -> None:
    """Collect from easy scenes of one floor plan, to the end."""
    flags = ("--template", "two_rooms", "--difficulty", "easy", "--max-pushes", "60", "--search-timeout", "900")
    command = ("produce", "namo", "--sink", endpoint, *flags, "--algorithm", "tree_idfs", "--plain", *words)
    with Process("-m", "deploy.main", *command) as producers:
        wait_until(lambda: producers.child.poll() is not None, "the collection ends", LIMIT_S)
        assert producers.wait() == 0, producers.output


@pytest.fixture(scope="session")
def searches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset with SEARCHES searches of one stream."""
    data = tmp_path_factory.mktemp("searches") / "data"
    with SinkProcess(data).ready() as sink:
        produce(sink.endpoint, "--workers", "2", "--end-idx", str(SEARCHES))
        assert sink.terminate() == 0
    return data
