"""Kill everything, many times, and count: each index once, nothing acknowledged missing, nothing beyond the goal."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.fakes import SUCCESS, CheckingReader, counting_spec, first_successes
from tests.processes import Process, SinkProcess, wait_until

SPEC = counting_spec()
PRODUCERS = 3
STEP_S = 0.004
LEASE_S = 2.0
# Every fault waits for so many more acknowledgements; with fewer than that left to the goal, the rest is peace.
ACKS_BETWEEN_FAULTS = 14
FAULTS = (
    "kill producer", "kill sink", "stop producer", "kill producer", "kill sink", "kill both",
    "stop producer", "kill sink", "kill producer", "terminate sink", "kill both", "kill all producers",
)  # fmt: skip


class Collection:
    """One sink and several producers, and the means to hurt them."""

    def __init__(self, root: Path, goal: int) -> None:
        self.data, self.logs = root / "data", root / "logs"
        self.logs.mkdir()
        self.goal = goal
        self.started = 0
        self.faults: Counter[str] = Counter()
        self.sink = SinkProcess(self.data).ready()
        self.endpoint = self.sink.endpoint
        self.producers: list[Process] = []
        self.top_up()

    def top_up(self) -> None:
        """Start producers in place of the dead."""
        self.producers = [producer for producer in self.producers if producer.child.poll() is None]
        while len(self.producers) < PRODUCERS:
            log = self.logs / f"{self.started}.log"
            arguments = ("-m", "tests.system.counting_producer", self.endpoint, str(self.goal), log, str(STEP_S))
            self.producers.append(Process(*arguments))
            self.started += 1

    def close(self) -> None:
        for process in (*self.producers, self.sink):
            process.kill()

    def said(self, word: str) -> list[int]:
        """The indices of all lines `word INDEX` that producers wrote; a line may be cut off by a kill."""
        lines = [line for path in sorted(self.logs.iterdir()) for line in path.read_text().splitlines()]
        return [int(parts[1]) for line in lines if len(parts := line.split()) == 2 and parts[0] == word]

    @property
    def done(self) -> int:
        """How many producers have ended because the goal was met."""
        return sum("done" in path.read_text().split() for path in self.logs.iterdir())

    def acked(self) -> int:
        return len(set(self.said("committed")))

    def hurt(self, fault: str, rng: random.Random) -> None:
        """One fault."""
        victim = rng.choice(self.producers)
        if fault in ("kill producer", "kill both"):
            victim.kill()
        if fault == "kill all producers":
            for producer in self.producers:
                producer.kill()
        if fault in ("kill sink", "kill both"):
            self.sink.kill()
            self.check_disk()
            self.sink = SinkProcess(self.data, bind=self.endpoint).ready()
        if fault == "terminate sink":
            assert self.sink.terminate() == 0, self.sink.output
            self.check_disk()
            self.sink = SinkProcess(self.data, bind=self.endpoint).ready()
        if fault == "stop producer":
            victim.child.send_signal(signal.SIGSTOP)
            stopped = time.monotonic()
            before = self.acked()
            # Beyond its lease, the others go on with what it held.
            wait_until(
                lambda: time.monotonic() - stopped > LEASE_S + 1 and (self.acked() > before or self.done),
                "the others go on",
            )
            victim.child.send_signal(signal.SIGCONT)
        self.faults[fault] += 1
        self.top_up()

    def check_disk(self) -> None:
        """What is on disk now, with no sink running, has everything that was acknowledged so far."""
        acked = set(self.said("committed"))
        assert acked <= set(CheckingReader(self.data).indices)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [1])
def test_everything_is_killed_and_each_index_ends_on_disk_once(
    tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(seed)
    wanted = first_successes(SPEC, 180)
    collection = Collection(tmp_path, goal=len(wanted))
    began = time.monotonic()
    try:
        for fault in FAULTS:
            target = collection.acked() + rng.randrange(ACKS_BETWEEN_FAULTS // 2, ACKS_BETWEEN_FAULTS)
            wait_until(lambda target=target: collection.acked() >= target or collection.done, f"{target} acks")
            collection.hurt(fault, rng)
        wait_until(lambda: all(p.child.poll() is not None for p in collection.producers), "the goal is met", 90)
        assert [producer.child.returncode for producer in collection.producers] == [0] * PRODUCERS
        assert collection.sink.terminate() == 0, collection.sink.output
    finally:
        collection.close()
    reader = CheckingReader(collection.data)
    assert reader.successes == wanted
    assert reader.indices == list(range(wanted[-1] + 1)), "an index is missing, or there is one beyond the goal"
    acked = collection.said("committed")
    assert set(acked) <= set(reader.indices)
    assert sum(collection.faults.values()) == len(FAULTS) >= 10
    outcomes = Counter(found.outcome for found in reader.stored.values())
    assert outcomes[SUCCESS] == len(wanted)
    with capsys.disabled():
        faults = ", ".join(f"{count} × {fault}" for fault, count in sorted(collection.faults.items()))
        print(  # noqa: T201 -- the counts are the result
            f"\nseed {seed}: {sum(collection.faults.values())} faults ({faults}) in {time.monotonic() - began:.0f} s; "
            f"{collection.started} producers, {len(reader.indices)} indices on disk, {len(set(acked))} of them "
            f"acknowledged, {len(collection.said('lost'))} lost to others, {len(reader.paths())} shards"
        )
