"""Two sinks that share one collection by index ranges, and one reader of both while they write."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np

from producers.publisher import Goal, Publisher
from tests.fakes import SUCCESS, CheckingReader, counted_episode, counting_spec, publish
from tests.live_sink import RunSink, run_sink
from tests.trainer.live.worlds import names_of
from trainer import Follow, LiveDataset, Loading, Order, Sample, Selection

__all__ = ["run_sink"]

RANGES = (range(12), range(12, 24))
SPEC = counting_spec()
SAMPLE = Sample(states=("observations/count",), cameras=("camera0",), chunk_size=5)


def produce(endpoint: str, indices: range) -> None:
    """What `--start-idx` and `--end-idx` make of a producer."""
    with Publisher(endpoint, SPEC, Goal(indices.start, indices.stop)) as publisher:
        for index in publisher.leases():
            publish(publisher, index)


def test_one_reader_sees_what_two_sinks_commit_each_sample_once(run_sink: RunSink, tmp_path: Path) -> None:
    roots = [tmp_path / "sink0", tmp_path / "sink1"]
    sinks = [run_sink(root) for root in roots]
    producers = [
        threading.Thread(target=produce, args=(sink.endpoint, indices))
        for sink, indices in zip(sinks, RANGES, strict=True)
        for _ in range(2)
    ]
    follow, loading = Follow(poll_s=0.01, timeout_s=120), Loading(4, workers=1)
    with LiveDataset(roots, SAMPLE, follow=follow, order=Order(seed=1), loading=loading) as data:
        for producer in producers:
            producer.start()
        epochs = 0
        while any(producer.is_alive() for producer in producers) or not epochs:
            names = [name for batch in data for name in names_of(batch)]
            assert len(set(names)) == len(names)
            epochs += 1
        for producer in producers:
            producer.join(60)
        last: dict[tuple[int, int], int] = {}  # (index, step) → number of its source
        for batch in data:
            for place, (source, index, step) in enumerate(names_of(batch)):
                assert last.setdefault((index, step), source) == source
                made = counted_episode(SPEC, index)
                action = made.columns["action"][step]
                np.testing.assert_array_equal(batch["action"][place, 0].numpy(), action)
                assert float(batch["qpos"][place]) == np.float32(made.columns["observations/count"][step])
        sources = data.sources
    for root, indices in zip(roots, RANGES, strict=True):
        assert CheckingReader(root).indices == list(indices)
        successes = [index for index in indices if counted_episode(SPEC, index).outcome == SUCCESS]
        number = sources.index((root, SPEC.name))
        expected = {(index, step) for index in successes for step in range(counted_episode(SPEC, index).steps)}
        assert {name for name, source in last.items() if source == number} == expected
        assert expected


def test_an_episode_is_on_the_same_side_of_the_split_whichever_sink_stored_it(
    run_sink: RunSink, tmp_path: Path
) -> None:
    """So a collection may be divided in another way without mixing validation into training."""
    for name, parts in (("one", (range(24),)), ("two", RANGES)):
        for number, indices in enumerate(parts):
            produce(run_sink(tmp_path / name / str(number)).endpoint, indices)
    held_out = Selection(part="validation", validation_share=0.5)
    sides = []
    for roots in ([tmp_path / "one" / "0"], [tmp_path / "two" / "0", tmp_path / "two" / "1"]):
        with LiveDataset(roots, SAMPLE, selection=held_out) as data:
            sides.append({(index, step) for batch in data for _, index, step in names_of(batch)})
    assert sides[0] == sides[1]
    assert sides[0]
