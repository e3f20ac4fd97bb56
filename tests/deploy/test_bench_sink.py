"""`headrace bench sink`, small: real sinks, real producers, and figures that come from them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deploy.bench import main as bench
from deploy.bench.frames import jpeg_frames
from protocol.dataset_view import DatasetView
from protocol.errors import ConfigurationError
from protocol.layout import is_sound
from tests.processes import Process, SinkProcess

RATIOS = ("sink.ingest_vs_disk", "sink.curve_vs_transport", "sink.reader_cost")


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, frame in enumerate(jpeg_frames(4, 2_500, 64, 64)):
        (folder / f"{number}.jpg").write_bytes(frame)
    return folder


def test_ratios_come_from_runs_taken_in_turns(tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "deploy.main", "bench", "sink", "--only", "ingest", "curve", "reader",
         "--rounds", "2", "--gigabytes", "0.03", "--steps", "10", "--out", str(tmp_path / "disk"), "--json",
         str(written)],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert written.exists(), done.stderr
    found = {figure["name"]: figure for figure in json.loads(written.read_text())["figures"]}
    assert set(RATIOS) < set(found), done.stderr
    assert done.returncode == (0 if all(figure["holds"] is not False for figure in found.values()) else 1)
    for name in RATIOS:
        assert len(found[name]["runs"]) == 2
        assert found[name]["value"] == pytest.approx(np.median(found[name]["runs"]))
    assert found["sink.ingest_mb_per_s"]["value"] > 1
    assert len(found["sink.disk_mb_per_s"]["runs"]) == 4
    assert not list((tmp_path / "disk").iterdir()), "the bench leaves its data behind"


def test_a_part_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="--only takes ingest, curve"):
        bench.main(["sink", "--only", "speed"])


def test_a_swarm_is_as_many_producers(tmp_path: Path, frames: Path) -> None:
    with SinkProcess(tmp_path / "data", "--max-producers", "32", "--memory-mib", "256") as sink:
        sink.ready()
        words = ["--sink", sink.endpoint, "--frames", str(frames), "--producers", "25"]
        words += ["--episodes", "60", "--rate", "0"]
        done = subprocess.run(
            [sys.executable, "-m", "producers.bench.swarm", *words], capture_output=True, text=True, check=True
        )
        assert sink.terminate() == 0
    found = json.loads(done.stdout)
    assert sorted(map(int, found["acked"])) == sorted(map(int, found["ended"]))
    assert len(found["acked"]) == 60
    with DatasetView(tmp_path / "data") as view:
        episodes = list(view.new_episodes())
        assert sorted(str(episode.index) for episode in episodes) == sorted(found["acked"])
        assert len({episode.producer for episode in episodes}) > 20
        for episode in episodes:
            episode.check()


def test_generated_rows_are_a_dataset(tmp_path: Path) -> None:
    with Process("-m", "sink.bench.generate", "--data", tmp_path / "data", "--episodes", "5000") as process:
        assert process.wait() == 0
    with DatasetView(tmp_path / "data") as view:
        episodes = list(view.new_episodes())
        assert [episode.index for episode in episodes] == list(range(5000))
        assert all(is_sound(episode.row, episode.number) for episode in episodes)
        episodes[4321].check()
    with SinkProcess(tmp_path / "data") as sink:
        sink.ready()
        assert "recovered 5000 committed episodes of 1 streams" in sink.output
