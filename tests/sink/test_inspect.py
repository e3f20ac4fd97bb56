"""`headrace inspect`: the numbers, on live, sealed, empty and foreign directories."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from producers.publisher import Publisher
from protocol.errors import DatasetError
from protocol.messages import Goal, Outcome
from sink.daemon import Sink, SinkConfig
from sink.inspect import main, summarise
from sink.inspect_tables import megabytes, ranges
from tests.datasets import SPEC, Recorded, picture, write_dataset

SMALL_SHARD = 1 << 15
INDICES = (5, 6, 7, 10, 11, 20)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inspect") / "data"
    outcomes = {6: Outcome.FAILURE, 11: Outcome.VOID}
    write_dataset(root, [Recorded(i, 6, outcomes.get(i, Outcome.SUCCESS)) for i in INDICES], shard_bytes=SMALL_SHARD)
    return root


@pytest.mark.usefixtures("no_leaks")
def test_the_numbers(root: Path) -> None:
    (summary,) = summarise(root)
    assert summary.outcomes == {"success": 4, "failure": 1, "void": 1}
    assert (summary.episodes, summary.steps, summary.frames) == (6, 30, 60)
    assert summary.raw_bytes == 30 * (48 * 64 * 3 + 32 * 32 * 3 + 2 * 4 + 3 * 8)
    assert 0 < summary.stored_bytes < summary.raw_bytes
    assert summary.index_range == (5, 20)
    assert summary.missing == [(8, 9), (12, 19)]
    assert summary.success_rate == pytest.approx(4 / 6)
    assert summary.episodes_per_hour
    assert sum(shard.episodes for shard in summary.shards) == 6
    assert all(0 <= shard.fill <= 1 for shard in summary.shards)
    assert summary.shards[0].sealed
    assert not summary.shards[-1].sealed


def test_many_shards_and_streams(tmp_path: Path) -> None:
    write_dataset(tmp_path, [Recorded(i) for i in range(60)], shard_bytes=SMALL_SHARD)
    other = type(SPEC)("another", 20, 50)
    write_dataset(tmp_path, [Recorded(i) for i in range(2)], spec=other)
    another, count = summarise(tmp_path)
    assert (another.spec.name, another.episodes, another.frames) == ("another", 2, 0)
    assert len(count.shards) > 12
    assert sum(shard.sealed for shard in count.shards) == len(count.shards) - 1


@pytest.mark.parametrize(
    ("missing", "said"),
    [([], "none"), ([(3, 3), (8, 11)], "5: 3, 8–11"), ([(2 * i, 2 * i) for i in range(10)], "10: 0, 2")],
)
def test_ranges(missing: list[tuple[int, int]], said: str) -> None:
    assert ranges(missing).startswith(said)
    assert ("(10 ranges)" in ranges(missing)) == (len(missing) == 10)


def test_sizes() -> None:
    assert [megabytes(size) for size in (1500, 2.5e6, 3e9, 4.2e12)] == ["1.5 kB", "2.5 MB", "3.0 GB", "4.2 TB"]


def test_the_text(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(root), "--episodes"]) == 0
    said = capsys.readouterr().out
    assert "test/count" in said
    assert "action float32[2], observations/qpos float64[3]" in said
    assert "front 48×64, wrist 32×32" in said
    assert "6: 4 success, 1 failure, 1 void" in said
    assert "66.7 %, 95 % interval 30.0 to 90.3 % (Wilson)" in said
    assert "5 to 20; missing: 10: 8–9, 12–19" in said
    assert "000000.h5  sealed" in said
    rows = [line.split() for line in said.splitlines() if "tester" in line]
    assert [row[:4] for row in rows][3:5] == [["10", "success", "6", "1010"], ["11", "void", "0", "1011"]]


def test_the_json(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(root), "--json", "--episodes"]) == 0
    (stream,) = json.loads(capsys.readouterr().out)["streams"]
    assert (stream["name"], stream["episodes"], stream["missing"]) == ("test/count", 6, [[8, 9], [12, 19]])
    assert [row["index"] for row in stream["rows"]] == list(INDICES)
    assert stream["spec"]["cameras"][0] == {"name": "front", "height": 48, "width": 64}
    assert np.isclose(stream["compression"], stream["raw_bytes"] / stream["stored_bytes"])


def test_nothing_stored_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 0
    assert "no stream yet" in capsys.readouterr().out
    write_dataset(tmp_path, [])
    assert main([str(tmp_path)]) == 0
    assert "episodes   0" in capsys.readouterr().out


def test_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DatasetError, match=r"expected dataset\.json and shards like .*, found notes\.txt"):
        main([str(tmp_path)])
    with pytest.raises(DatasetError, match="is no directory"):
        main([str(tmp_path / "nowhere")])


def test_beside_a_running_sink(tmp_path: Path) -> None:
    sink = Sink(SinkConfig(tmp_path / "data", "tcp://127.0.0.1:0", shard_bytes=SMALL_SHARD))
    serving = threading.Thread(target=sink.run)
    serving.start()
    seen = []
    with Publisher(sink.endpoint, SPEC, Goal(end=20)) as publisher:
        for index in publisher.leases():
            with publisher.episode(index) as episode:
                for step in range(3):
                    columns = {"action": [index, step], "observations/qpos": [index, step, 0]}
                    episode.step(columns, {camera.name: picture(camera, index, step) for camera in SPEC.cameras})
                episode.finish(True)
            publisher.flush()
            seen += [summary.episodes for summary in summarise(tmp_path / "data")]
    sink.stop()
    serving.join()
    assert seen == list(range(1, 21))
