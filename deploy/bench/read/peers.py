"""robomimic's virtual environment; LeRobot's is made by `deploy.bench.peers.lerobot_setup`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.bench.peers.child import Child
from deploy.bench.peers.plan import PeerError

# What robomimic.utils.dataset imports; its own list brings simulators and a library that does not build any more.
_NEEDED = ("torch==2.13.0", "numpy", "h5py", "tqdm", "termcolor")
_ROBOMIMIC = ("--no-deps", "robomimic==0.3.0")
_LIMIT_S = 900.0


def environment() -> dict[str, str]:
    """The variables of a process in another virtual environment."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def robomimic_python(folder: Path, say: Callable[[str], None]) -> Path:
    """Make the environment, or take the one that is there; returns its Python. Raises PeerError with the reason."""
    folder.mkdir(parents=True, exist_ok=True)
    python, ends = folder / "venv" / "bin" / "python", time.monotonic() + _LIMIT_S
    imports = [str(python), "-P", "-c", "import robomimic.utils.dataset"]
    if python.exists() and _works(imports, folder):
        return python
    say("making a virtual environment for robomimic …")
    _run([sys.executable, "-m", "venv", "--clear", str(folder / "venv")], folder, ends)
    for words in (_NEEDED, _ROBOMIMIC):
        _run([str(python), "-m", "pip", "install", "--quiet", *words], folder, ends)
    _run(imports, folder, ends)
    return python


def _works(words: Sequence[str], folder: Path) -> bool:
    try:
        _run(words, folder, time.monotonic() + 60)
    except PeerError:
        return False
    return True


def _run(words: Sequence[str], folder: Path, ends: float) -> None:
    with Child(words, folder / "setup.log", environment(), talks=False) as child:
        child.wait(max(ends - time.monotonic(), 0.0))
