"""`headrace bench read`, small: real datasets, real loaders, and figures that come from them."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from deploy.bench import main as bench
from deploy.bench.frames import jpeg_frames
from deploy.bench.peers.plan import PeerError
from deploy.bench.read.turns import Turns, forget, program, remember
from protocol.dataset_view import DatasetView
from protocol.errors import ConfigurationError
from protocol.jpeg import decode

SMALL = ("--rounds", "1", "--episodes", "3", "--steps", "12", "--samples", "8", "--size", "48", "64")


def run(tmp_path: Path, *words: str, **environment: str) -> tuple[dict[str, dict[str, object]], dict[str, object], str]:
    """Figures by name, details, and what was printed."""
    written = tmp_path / "figures.json"
    small = [*SMALL, "--frame-bytes", "2000", "--out", str(tmp_path / "disk"), "--json", str(written)]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "deploy.main", "bench", "read", "--only", *words, *small],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert written.exists(), done.stderr
    found = json.loads(written.read_text())
    figures = {figure["name"]: figure for figure in found["figures"]}
    assert done.returncode == (0 if all(figure["holds"] is not False for figure in figures.values()) else 1)
    assert not list((tmp_path / "disk").iterdir()), "the bench leaves its data behind"
    return figures, found["details"], done.stdout


def test_loaders_are_compared_in_turns(tmp_path: Path) -> None:
    figures, details, _ = run(tmp_path, "decode", "act")
    assert set(figures) == {
        "read.vs_decode", "read.samples_per_s", "read.decode_per_s", "read.vs_act", "read.vs_act_float"
    }  # fmt: skip
    act = details["act"]
    assert isinstance(act, dict)
    assert figures["read.vs_act"]["value"] == pytest.approx(act["ours_per_s"][0] / act["theirs_per_s"][0])
    assert figures["read.vs_decode"]["bar"] == 0.85


def test_growth_is_measured(tmp_path: Path) -> None:
    words = ("refresh", "train", "--train-steps", "20", "--rate", "40")
    figures, details, _ = run(tmp_path, *words)
    assert set(figures) == {
        "read.refresh_idle_us", "read.refresh_1000_ms", "train.growing_vs_frozen", "train.growing_vs_frozen_cpu",
        "train.steps_per_s",
    }  # fmt: skip
    train = details["train"]
    assert isinstance(train, dict)
    assert train["new_episodes"][0] > 0


def test_loaders_that_cannot_be_installed_are_left_out_with_the_reason(tmp_path: Path) -> None:
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    figures, details, said = run(tmp_path, "robomimic", "lerobot", **offline)
    assert not figures
    left_out = details["left_out"]
    assert isinstance(left_out, dict)
    for name in ("read.vs_robomimic", "read.vs_lerobot"):
        assert "No matching distribution found" in left_out[name]
        assert f"{name} is left out:" in said


@pytest.mark.parametrize("words", [("--only", "speed"), ("--steps", "1"), ("--rate", "0")])
def test_what_cannot_be_measured_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match="--only takes decode, act"):
        bench.main(["read", *words])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two episodes of five steps, as the bench makes them."""
    frames = tmp_path / "frames"
    frames.mkdir()
    for number, frame in enumerate(jpeg_frames(4, 2000, 48, 64)):
        (frames / f"{number}.jpg").write_bytes(frame)
    words = ["--data", str(tmp_path / "data"), "--frames", str(frames), "--steps", "5"]
    for _ in range(2):
        subprocess.run([sys.executable, "-m", "sink.bench.episodes", *words, "--episodes", "1"], check=True)
    return tmp_path / "data"


def test_others_are_given_the_same_episodes(tmp_path: Path, data: Path) -> None:
    asked = {"data": str(data), "act": str(tmp_path / "act"), "robomimic": str(tmp_path / "robomimic" / "demo.hdf5")}
    subprocess.run([sys.executable, "-m", "trainer.bench.write_files", json.dumps(asked)], check=True)
    with DatasetView(data) as view, h5py.File(asked["robomimic"]) as demos:
        episodes = list(view.new_episodes())
        assert [episode.index for episode in episodes] == [0, 1]
        for number, episode in enumerate(episodes):
            episode.check()
            pixels = np.stack([decode(episode.frame("wrist", step)) for step in range(5)])
            with h5py.File(tmp_path / "act" / f"episode_{number}.hdf5") as file:
                assert (file["action"][:] == episode.column("action")).all()
                assert (file["observations/images/wrist"][:] == pixels).all()
                assert file["observations/images/wrist"].chunks == (1, 48, 64, 3)
                assert file["observations/images/wrist"].compression is None
            assert (demos[f"data/demo_{number}/obs/wrist"][:] == pixels).all()
            assert (demos[f"data/demo_{number}/actions"][:] == episode.column("action")).all()


def test_files_are_forgotten_and_remembered(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 20))
    remember(tmp_path)
    assert resident(path) == 1.0
    forget(tmp_path)
    assert resident(path) < 0.1


def resident(path: Path) -> float:
    """The share of a file that is in the page cache, by mincore."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    size = path.stat().st_size
    with path.open("r+b") as file, mmap.mmap(file.fileno(), size) as mapped:
        pages = (ctypes.c_ubyte * (size // mmap.PAGESIZE))()
        address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        assert libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), pages) == 0
        return sum(page & 1 for page in pages) / len(pages)


def test_a_program_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="nowhere"):
        Turns(program("trainer.bench.decode"), {"data": "/nowhere", "samples": 1, "core": None}, tmp_path / "log")
