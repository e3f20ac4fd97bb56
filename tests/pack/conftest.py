"""A small real dataset: two full shards and one that may grow, with successes, a failure and a VOID record."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from protocol.messages import Outcome
from tests.datasets import Recorded, write_dataset

STEPS = 19
OUTCOMES = {2: Outcome.FAILURE, 3: Outcome.VOID}


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("written") / "data"
    episodes = [Recorded(index, STEPS + index % 2, OUTCOMES.get(index, Outcome.SUCCESS)) for index in range(8)]
    write_dataset(root, episodes, shard_bytes=112 << 10)
    return root


@pytest.fixture
def data(written: Path, tmp_path: Path) -> Path:
    """A copy of its own."""
    return Path(shutil.copytree(written, tmp_path / "data"))
