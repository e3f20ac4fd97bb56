"""A virtual environment for each reader, below build/interop: its packages do not go with ours, nor with each other."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.bench.peers.lerobot_setup import OFFLINE, PACKAGES

REPOSITORY = Path(__file__).parents[2]
_LIMIT_S = 1800.0


@dataclass(frozen=True)
class Environment:
    """name: of its folder. installs: the words of each `pip install`, in order."""

    name: str
    installs: tuple[tuple[str, ...], ...]

    def python(self, root: Path) -> Path:
        """Its interpreter."""
        return root / self.name / "bin" / "python"

    def make(self, root: Path, say: Callable[[str], None]) -> None:
        """Make it, unless it is there with the same packages. Raises InteropError."""
        words = hashlib.sha256(repr(self.installs).encode()).hexdigest()
        stamp = root / self.name / ".installed"
        if stamp.exists() and stamp.read_text() == words:
            return
        say(f"{self.name}: making a virtual environment …")
        run([sys.executable, "-m", "venv", "--clear", str(root / self.name)], root)
        for install in self.installs:
            say(f"{self.name}: pip install {' '.join(install)}")
            run([str(self.python(root)), "-m", "pip", "install", "--quiet", *install], root)
        stamp.write_text(words)


class InteropError(Exception):
    """A command failed; the text is its last lines."""


def run(words: Sequence[str], root: Path, paths: Sequence[Path] = ()) -> str:
    """Run a program and return what it printed. paths: its PYTHONPATH. Raises InteropError."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    variables = {**kept, **OFFLINE, "HF_HOME": str(root / "home"), "PYTHONPATH": ":".join(map(str, paths))}
    try:
        done = subprocess.run(
            words, env=variables, cwd=REPOSITORY, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InteropError(f"{' '.join(words[:4])} …: not done after {_LIMIT_S:.0f} s") from error
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-25:])
        raise InteropError(f"{' '.join(words[:4])} … ended with status {done.returncode}:\n{said}")
    return done.stdout


# read_lerobot.py says what it costs that torchvision and lerobot come without what they ask for.
LEROBOT = Environment("lerobot", PACKAGES)
# robomimic's own list brings simulators and a package that does not build with today's CMake.
_PLAYBACK = ("imageio", "imageio-ffmpeg", "matplotlib", "pillow", "psutil", "six", "tensorboard", "tensorboardX")
ROBOMIMIC = Environment(
    "robomimic",
    (
        ("torch==2.13.0", "numpy<2", "h5py", "tqdm", "termcolor", *_PLAYBACK),
        ("--no-deps", "robomimic==0.3.0", "torchvision==0.25.0"),
    ),
)
# Rerun writes here too: it needs numpy 2.
RERUN = Environment("rerun", (("--editable", f"{REPOSITORY}[rerun]"),))
