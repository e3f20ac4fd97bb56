"""One real Slurm for all tests of this folder, and one collection for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import REPOSITORY
from tests.slurm.mini import MiniSlurm, missing_programs
from tests.slurm.submitted import Submitted


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MiniSlurm]:
    """munged, slurmctld and three slurmd; ended also when they do not come up."""
    if missing := missing_programs():
        pytest.skip(f"no Slurm here ({', '.join(missing)} missing); `make test-slurm` installs it, as root")
    cluster = MiniSlurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def submitted(slurm: MiniSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Submitted]:
    """A collection that can be submitted; afterwards nothing of it is left, and all nodes are well."""
    monkeypatch.chdir(REPOSITORY)
    for name in ("PATH", "SLURM_CONF"):
        monkeypatch.setenv(name, slurm.environment[name])
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))  # jobs get the environment of whoever submits
    root = tmp_path / "shared $(folder) #1"  # what sbatch and shells would take apart
    root.mkdir()
    collection = Submitted(slurm, root)
    try:
        yield collection
    finally:
        slurm.cancel_all()
        slurm.wait_for_nothing()
