"""Datasets that several tests read and none changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.live.worlds import SEEN, grow


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 indices over two shards, without cameras."""
    root = tmp_path_factory.mktemp("small")
    grow(root, range(40))
    return root


@pytest.fixture(scope="session")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 indices with two cameras, over several shards."""
    root = tmp_path_factory.mktemp("seen")
    grow(root, range(12), SEEN)
    return root
