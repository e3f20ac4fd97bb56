"""LeRobot's virtual environment: made by pip with a time limit, proved by an import, or left out with a reason.

`lerobot` and `torchvision` are installed without what they ask for: their own lists bring simulators' and CUDA's
packages, gigabytes that a writer of datasets does not need. 0.25 is the last torchvision with the video reader that
`lerobot` 0.4 imports. Its compiled operators are for another torch; datasets use none of them, but torchvision wants to
have one of them declared when it is imported, so programs begin with that.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.bench.peers.child import Child
from deploy.bench.peers.plan import PeerError

_TORCH = ("torch==2.13.0", "numpy<2.3", "pillow")
_TORCHVISION = ("--no-deps", "torchvision==0.25.0")
_LEROBOT = ("--no-deps", "lerobot>=0.4,<0.5")
# What `lerobot.datasets` imports, in the versions that lerobot 0.4 asks for.
_NEEDED = (
    "accelerate>=1.10,<2",
    "av>=15,<16",
    "datasets>=4,<5",
    "deepdiff>=7.0.1,<9",
    "draccus==0.10.0",
    "einops>=0.8,<0.9",
    "huggingface-hub>=0.34.2,<0.36",
    "imageio>=2.34,<3",
    "jsonlines>=4,<5",
    "packaging>=24.2,<26",
    "pandas",
    "pyarrow",
    "termcolor>=2.4,<4",
)
# For `pip install`, one after the other.
PACKAGES = (_TORCH, _TORCHVISION, _LEROBOT, _NEEDED)
_DATASET = "lerobot.datasets.lerobot_dataset"
_DECLARE = """\
import sys, torch
try:
    import torchvision
except RuntimeError:
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
    torch.library.define("torchvision::nms", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
_RUN = """\
import runpy
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
# It must never ask the network for anything, nor wait for it.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


@dataclass(frozen=True)
class Setup:
    """folder: where all of it goes. limit_s: for all of it. pip: words for each `pip install`."""

    folder: Path
    limit_s: float
    pip: Sequence[str] = ()

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.folder / "venv" / "bin" / "python"


def environment(home: Path) -> dict[str, str]:
    """The variables of a process in the virtual environment; home: where Hugging Face may keep its files."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return {**kept, **OFFLINE, "HF_HOME": str(home)}


def words(python: Path, program: Path) -> list[str]:
    """What runs a program of ours in the environment. -P: this folder's modules are none of the environment's."""
    return [str(python), "-P", "-c", _DECLARE + _RUN, str(program)]


def prepare(setup: Setup, say: Callable[[str], None]) -> Path:
    """Make the environment, or go on with one that is there; returns its Python. Raises PeerError with the reason.

    torchvision is tried as soon as it is there: without a build for the torch at hand the rest is of no use.
    """
    setup.folder.mkdir(parents=True, exist_ok=True)
    python, ends = setup.python, time.monotonic() + setup.limit_s
    if not python.exists() or _reason(setup, "pip", ends):  # pip comes last: without it the making was cut off
        say("making a virtual environment for LeRobot …")
        _run(setup, "python -m venv", [sys.executable, "-m", "venv", "--clear", str(setup.folder / "venv")], ends)
    if _reason(setup, _DATASET, ends) is None:
        return python
    for wanted, module in zip(PACKAGES, ("torch", "torchvision", "lerobot", _DATASET), strict=True):
        install = f"pip install {' '.join(wanted)}"
        say(f"{install} …")
        _run(setup, install, [str(python), "-m", "pip", "install", "--quiet", *setup.pip, *wanted], ends)
        if reason := _reason(setup, module, ends):
            raise PeerError(f"after {install}: {reason}")
    return python


def _reason(setup: Setup, module: str, ends: float) -> str | None:
    """Why a module cannot be imported; None if it can."""
    try:
        code = f"import {module}" if module in ("pip", "torch") else f"{_DECLARE}import {module}"
        _run(setup, f"import {module}", [str(setup.python), "-P", "-c", code], ends)
    except PeerError as error:
        return str(error)
    return None


def _run(setup: Setup, what: str, words: Sequence[str], ends: float) -> None:
    """Raises PeerError that begins with `what`."""
    with Child(words, setup.folder / "setup.log", environment(setup.folder / "home"), talks=False) as child:
        try:
            child.wait(max(ends - time.monotonic(), 0.0))
        except PeerError as error:
            raise PeerError(f"{what}: {error}") from error
