"""One real sshd for all tests of this folder, and one collection for each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import REPOSITORY
from tests.ssh.collected import Collected
from tests.ssh.machines import Machines, missing_programs


@pytest.fixture(scope="session")
def machines() -> Iterator[Machines]:
    """Several addresses of one sshd; ended also when it does not come up."""
    if missing := missing_programs():
        pytest.skip(f"no sshd here ({', '.join(missing)} missing); tests/ssh/install.sh installs it, as root")
    root = Path(tempfile.mkdtemp(prefix="ssh."))  # pytest's own folders are too long for sockets
    found = Machines(root)
    try:
        found.start()
        yield found
    finally:
        found.stop()
        shutil.rmtree(root)


@pytest.fixture
def collected(machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collected]:
    """A collection that can be submitted; afterwards nothing of it is left."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))  # for what is started here
    collection = Collected(machines, tmp_path)
    try:
        yield collection
    finally:
        machines.kill()
