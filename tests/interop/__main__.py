"""`make interop`: small exports, read back by the libraries they are for, each in an environment of its own.

`python -m tests.interop FOLDER [READER …]`; FOLDER keeps the environments. Says what was checked, and what was not and
why; ends with 1 if a reader did not find what was stored.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.interop import truth
from tests.interop.environments import LEROBOT, REPOSITORY, RERUN, ROBOMIMIC, Environment, InteropError, run

_SCRIPTS = Path(__file__).parent
# Exports that go through our own environment: name of the folder → words of `headrace export`.
_EXPORTS = {
    "lerobot-av1": ("lerobot",),
    "lerobot-h264": ("lerobot", "--codec", "h264"),
    "lerobot-jpeg": ("lerobot", "--images", "jpeg"),
    "mcap": ("mcap",),
    "robomimic": ("robomimic", "--model", "model", "--split", "train=0.5", "valid=0.5"),
}


class Interop:
    """work: a folder for the dataset and its exports, made anew. environments: below root."""

    def __init__(self, root: Path) -> None:
        self._root, self._work = root, root / "work"
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        self._data, self._truth = truth.write(self._work)

    def lerobot(self) -> None:
        """LeRobot's own dataset class on three exports."""
        LEROBOT.make(self._root, _say)
        for name in ("lerobot-av1", "lerobot-h264", "lerobot-jpeg"):
            self._read(LEROBOT, "read_lerobot.py", name, self._export(name))

    def robomimic(self) -> None:
        """robomimic's dataset class and playback."""
        ROBOMIMIC.make(self._root, _say)
        words = [self._python(ROBOMIMIC), str(_SCRIPTS / "read_robomimic.py")]
        arguments = [self._export("robomimic") / "demo.hdf5", self._truth, self._work / "playback.mp4"]
        self._tell("robomimic", run([*words, *map(str, arguments)], self._root))

    def rerun(self) -> None:
        """Rerun on recordings, on a LeRobot dataset and on MCAP files."""
        RERUN.make(self._root, _say)
        # Rerun does not go with our packages, so its environment writes the recordings too.
        out = self._work / "rerun"
        words = ["-m", "sink.export", "rerun", "--data", str(self._data), "--out", str(out), "--workers", "1"]
        run([self._python(RERUN), *words], self._root, [REPOSITORY])
        folders = [out, self._export("lerobot-av1"), self._export("mcap")]
        self._read(RERUN, "read_rerun.py", "rerun", *folders)

    def _export(self, name: str) -> Path:
        out = self._work / name
        if not out.exists():
            flags = ("--data", str(self._data), "--out", str(out), "--workers", "1")
            run([sys.executable, "-m", "sink.export", *_EXPORTS[name], *flags], self._root, [REPOSITORY])
        return out

    def _read(self, environment: Environment, script: str, name: str, *folders: Path) -> None:
        words = [self._python(environment), str(_SCRIPTS / script), *map(str, folders), str(self._truth)]
        self._tell(name, run(words, self._root))

    def _python(self, environment: Environment) -> str:
        return str(environment.python(self._root))

    @staticmethod
    def _tell(name: str, said: str) -> None:
        for line in said.splitlines():
            if line.startswith("* "):
                _say(f"{name}: {line.removeprefix('* ')}")


def main(argv: Sequence[str]) -> int:
    """Run the readers that are named, or all."""
    interop = Interop(Path(argv[0]).resolve())
    readers: dict[str, Callable[[], None]] = {
        "lerobot": interop.lerobot,
        "robomimic": interop.robomimic,
        "rerun": interop.rerun,
    }
    failed = []
    for name in argv[1:] or readers:
        try:
            readers[name]()
        except InteropError as error:
            failed.append(name)
            _say(f"{name}: FAILED: {error}")
    _say("not here: the mcap package and ACT's reader are asked by `make test`")
    _say(f"FAILED: {', '.join(failed)}" if failed else "all readers found what was stored")
    return 1 if failed else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
