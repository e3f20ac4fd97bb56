"""One real Ray for all tests of this folder, and one collection for each."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import wait_until
from tests.ray.mini import NODES, MiniRay
from tests.ray.submitted import Submitted


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[MiniRay]:
    """A head and two more nodes; ended also when they do not come up."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("no Ray here; deploy/setup.sh installs it, or pip install 'headrace[ray]'")
    cluster = MiniRay()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def submitted(ray_cluster: MiniRay, tmp_path: Path) -> Iterator[Submitted]:
    """A collection that can be submitted; afterwards nothing of it is left."""
    root = tmp_path / "shared $(folder) #1"  # what a shell would take apart
    root.mkdir()
    collection = Submitted(ray_cluster, root)
    yield collection
    if collection.report("conductor").get("state") == "RUNNING":  # a test has failed
        collection.headrace("cancel", str(collection.file), "--now")
    wait_until(lambda: not [line for name in NODES for line in ray_cluster.programs(name)], "no program is left")
