"""A reader beside a writer: each committed episode, whole, once an epoch; and several readers that agree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from producers.publisher import Goal, Publisher
from tests.fakes import SUCCESS, CheckingReader, CountedEpisode, counted_episode, counting_spec, publish
from tests.live_sink import RunSink, run_sink
from tests.trainer.live.worlds import grow, names_of
from trainer import Follow, LiveDataset, Loading, Order, Sample

__all__ = ["run_sink"]

EPISODES = 60
COUNTED = Sample(states=("observations/count", "observations/grid"), chunk_size=5)
ROOT = Path(__file__).parents[3]


def test_each_episode_is_seen_whole_while_a_sink_commits_it(run_sink: RunSink, tmp_path: Path) -> None:
    sink = run_sink()
    root, spec = tmp_path / "data", counting_spec()

    def produce() -> None:
        with Publisher(sink.endpoint, spec, Goal(successes=EPISODES)) as publisher:
            for index in publisher.leases():
                publish(publisher, index)

    producer = threading.Thread(target=produce)
    follow = Follow(poll_s=0.01, timeout_s=120)
    with LiveDataset(root, COUNTED, follow=follow, order=Order(seed=3), loading=Loading(4, workers=2)) as data:
        producer.start()
        epochs: dict[int, list[tuple[int, int]]] = {}
        while data.episodes < EPISODES or producer.is_alive():
            for batch in data:
                epochs.setdefault(data.epoch, []).extend((index, step) for _, index, step in names_of(batch))
                _check(batch, spec)
        last = [(index, step) for batch in data for _, index, step in names_of(batch)]
        producer.join(60)
    for found in (*epochs.values(), last):
        assert len(set(found)) == len(found)
    successes = CheckingReader(root).successes
    assert len(successes) == EPISODES
    assert set(last) == {(index, step) for index in successes for step in range(counted_episode(spec, index).steps)}
    assert len(epochs) > 2


def _check(batch: Any, spec: Any) -> None:
    for place, (_, index, step) in enumerate(names_of(batch)):
        made = counted_episode(spec, index)
        assert made.outcome == SUCCESS
        _check_sample(batch, place, made, step)


def _check_sample(batch: Any, place: int, made: CountedEpisode, step: int) -> None:
    state = [made.columns["observations/count"][step], *made.columns["observations/grid"][step].reshape(-1)]
    np.testing.assert_array_equal(batch["qpos"][place].numpy(), np.array(state, np.float32))
    left = min(5, made.steps - step)
    np.testing.assert_array_equal(batch["action"][place, :left].numpy(), made.columns["action"][step : step + left])
    assert batch["is_pad"][place].tolist() == [False] * left + [True] * (5 - left)
    for camera, shown in made.images.items():
        image = batch["images"][camera][place].permute(1, 2, 0).numpy().astype(int)
        # JPEG: every image is of random blocks, so another step's would differ by about 80.
        assert np.abs(image - shown[step]).mean() < 30, (made.index, step, camera)


RANK = """
import json, sys
from datetime import timedelta
import torch.distributed as dist
from tests.trainer.live.worlds import LOW, names_of
from trainer import Follow, LiveDataset, Loading

root, rank, store = sys.argv[1], int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=timedelta(seconds=60))
with LiveDataset(root, LOW, follow=Follow(poll_s=0.01), loading=Loading(3, workers=2)) as data:
    for batch in data.batches(60):
        print(json.dumps([data.epoch, names_of(batch)]), flush=True)
dist.destroy_process_group()
"""


def test_ranks_agree_on_what_there_is_while_it_grows(tmp_path: Path) -> None:
    """Each rank looks at another moment; rank 0 says what counts."""
    root = tmp_path / "data"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    words = [sys.executable, "-c", RANK, str(root)]
    options: dict[str, Any] = {"env": environment, "stdout": subprocess.PIPE, "text": True}
    ranks = [subprocess.Popen([*words, str(rank), str(tmp_path / "store")], **options) for rank in range(2)]
    for first in range(0, 30, 3):
        grow(root, range(first, first + 3))
    found = [[json.loads(line) for line in rank.communicate(timeout=120)[0].splitlines()] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert [len(lines) for lines in found] == [60, 60]
    epochs: dict[int, list[tuple[int, ...]]] = {}
    for (epoch, ours), (other_epoch, theirs) in zip(*found, strict=True):
        assert epoch == other_epoch
        assert len(ours) == len(theirs)
        epochs.setdefault(epoch, []).extend(map(tuple, ours + theirs))
    assert len(epochs) > 1
    for samples in epochs.values():
        assert len(set(samples)) == len(samples)
