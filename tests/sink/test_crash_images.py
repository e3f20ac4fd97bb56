"""Cut the power at any moment of any history, in thousands of ways: what was acknowledged is there, and all is whole.

HEADRACE_SOAK_IMAGES sets the number of images. A failure names its image; HEADRACE_SOAK_IMAGE makes that one again.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import pytest

from sink.disk import Disk
from sink.verify import verify
from tests.fakes import CheckingReader
from tests.sink.crash_image import KINDS, History
from tests.sink.crash_scenarios import LARGE, SCENARIOS, SMALL, SPEC, World
from tests.sink.recording_disk import RecordingDisk, UnsyncedDisk

IMAGES = int(os.environ.get("HEADRACE_SOAK_IMAGES", "500"))
ONE_IMAGE = os.environ.get("HEADRACE_SOAK_IMAGE")
SEED = 1
# A history is recorded anew, with other choices, for so many images of it.
IMAGES_A_HISTORY = 12
# Share of the images that are cut again while the sink recovers them, are verified, go on into the next shard, and are
# of a moment just before something becomes durable or known.
RECOVERY_CUTS, VERIFIED, ROLLED, BUSY = 0.25, 0.1, 0.15, 0.6
NEW_INDEX = 1000  # above all that the scenarios use


@dataclass(frozen=True)
class Recorded:
    """One scenario, carried out."""

    disk: RecordingDisk
    uuid: str


def record(scenario: str, seed: int, root: Path) -> Recorded:
    """Carry it out below `root`."""
    root.mkdir(parents=True)
    disk = RecordingDisk(root)
    world = World(disk, root / "data", random.Random(f"{scenario} {seed}"))
    SCENARIOS[scenario](world)
    disk.die()
    return Recorded(disk, world.uuid)


def snapshot(root: Path) -> dict[Path, bytes]:
    """Every file below a directory but the lock, which says who holds it."""
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and path.name != "sink.lock"}


def recover(data: Path, disk: Disk, rng: random.Random) -> set[int]:
    """Start a sink, and kill it as soon as it has recovered; returns what it takes for committed."""
    world = World(disk, data, rng, SPEC)
    world.start()
    found = set(world.bench.store.committed)
    world.bench.abandon()
    return found


def check_identity(data: Path, uuid: str) -> None:
    """The dataset that episodes were acknowledged for is still the same one."""
    assert json.loads((data / "dataset.json").read_text())["uuid"] == uuid


@dataclass(frozen=True)
class Promised:
    """What was promised before the power was cut: acknowledged indices, final shards, and which dataset it is."""

    acked: set[int]
    sealed: set[Path]
    uuid: str


def check_image(root: Path, promised: Promised, rng: random.Random) -> None:
    """Readers, recovery, recovery again, and the sink that goes on: all of them agree, byte by byte."""
    data, acked, uuid = root / "data", promised.acked, promised.uuid
    seen = set(CheckingReader(data, SPEC).indices)
    assert seen >= acked, f"acknowledged and gone: {sorted(acked - seen)}"
    for path in promised.sealed:
        with h5py.File(root / path, "r", locking=False) as file:
            assert file["seal"][0]["row_checksum"] != 0, f"final and not sealed: {path}"
    if acked:
        check_identity(data, uuid)
        if rng.random() < VERIFIED:
            assert verify(data).faults == []
    assert recover(data, UnsyncedDisk(), rng) == seen
    once = snapshot(data)
    world = World(UnsyncedDisk(), data, rng)
    roll = rng.random() < ROLLED
    world.start(SMALL if roll else LARGE)
    assert set(world.bench.store.committed) == seen
    assert snapshot(data) == once, "a second recovery changed something"
    if acked:
        check_identity(data, uuid)
    expected = seen | go_on(world, roll)
    world.stop()
    assert set(CheckingReader(data, SPEC).indices) == expected


def go_on(world: World, roll: bool) -> set[int]:
    """Commit two more episodes, or enough for another shard; returns their indices."""
    first = world.bench.store.active.layout.number
    index = NEW_INDEX
    while index < NEW_INDEX + 2 or (roll and world.bench.store.active.layout.number == first):
        world.commit(index)
        index += 1
    return set(range(NEW_INDEX, index))


def check_recovery_cut(root: Path, again: Path, promised: Promised, rng: random.Random) -> str:
    """Cut the power again while the image below `root` is recovered and goes on; returns the kind of the second cut."""
    disk = RecordingDisk(root)
    world = World(disk, root / "data", rng)
    world.start()
    world.commit(NEW_INDEX + 100)
    disk.die()
    history = History(disk)
    history.go_to(rng.randrange(len(history)))
    kind = rng.choice(KINDS)
    history.image(kind, rng).write(again)
    # An image in which nothing was promised may have lost the identity, and is another dataset from here on.
    uuid = promised.uuid if promised.acked else world.uuid
    check_image(again, Promised(promised.acked | history.acked, promised.sealed | history.sealed, uuid), rng)
    return kind


@dataclass(frozen=True)
class Plan:
    """One image: `number` counts within the scenario."""

    scenario: str
    number: int

    def __str__(self) -> str:
        return f"{self.scenario}/{self.number}"

    @property
    def seed(self) -> int:
        """Which recording of the scenario."""
        return SEED * 1000 + self.number // IMAGES_A_HISTORY

    @property
    def kind(self) -> str:
        """One of KINDS."""
        return KINDS[self.number % len(KINDS)]

    def moment(self, history: History) -> int:
        """Any moment; more often one at which much is under way."""
        rng = random.Random(f"{self} moment {SEED}")
        return rng.choice(history.busy_moments()) if rng.random() < BUSY else rng.randrange(len(history))


def plans() -> Iterator[list[Plan]]:
    """The images, those of one recording together."""
    if ONE_IMAGE is not None:
        scenario, number = ONE_IMAGE.rsplit("/", 1)
        yield [Plan(scenario, int(number))]
        return
    for place, scenario in enumerate(SCENARIOS):
        count = IMAGES // len(SCENARIOS) + (place < IMAGES % len(SCENARIOS))
        for first in range(0, count, IMAGES_A_HISTORY):
            yield [Plan(scenario, number) for number in range(first, min(first + IMAGES_A_HISTORY, count))]


def check_plan(history: History, plan: Plan, uuid: str, folder: Path) -> str:
    """Make one image of the moment that the history has reached, below `folder`, and check it; returns its kind."""
    rng = random.Random(f"{plan} {SEED}")
    root = folder / "image"
    history.image(plan.kind, rng).write(root)
    promised = Promised(history.acked, history.sealed, uuid)
    if rng.random() < RECOVERY_CUTS:
        return f"{plan.kind}, recovery {check_recovery_cut(root, folder / 'again', promised, rng)}"
    check_image(root, promised, rng)
    return plan.kind


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is room: images are written and removed by the thousand, and nothing here needs a disk."""
    memory = Path("/dev/shm")
    if not (os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 1 << 30):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="headrace-images-") as path:
        yield Path(path)


@pytest.mark.timeout(0 if IMAGES > 1000 else 240)
def test_every_image_that_a_power_cut_can_leave(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kinds: Counter[str] = Counter()
    scenarios: Counter[str] = Counter()
    began = time.monotonic()
    for batch in plans():
        recorded = record(batch[0].scenario, batch[0].seed, folder / f"{batch[0]}")
        history = History(recorded.disk)
        moments = {plan: plan.moment(history) for plan in batch}
        for plan in sorted(batch, key=lambda plan: moments[plan]):
            history.go_to(moments[plan])
            try:
                kind = check_plan(history, plan, recorded.uuid, folder)
            except Exception as error:
                error.add_note(
                    f"image {plan}: {plan.kind}, after {moments[plan]} of {len(history) - 1} operations; "
                    f"HEADRACE_SOAK_IMAGE='{plan}' makes it again"
                )
                raise
            kinds[kind.split(", ")[0]] += 1
            kinds["recovery cut again"] += ", " in kind
            scenarios[plan.scenario] += 1
    if ONE_IMAGE is None:
        assert sum(scenarios.values()) == IMAGES
    with capsys.disabled():
        counts = "; ".join(", ".join(f"{n} × {what}" for what, n in found.items()) for found in (kinds, scenarios))
        print(f"\n{sum(scenarios.values())} images in {time.monotonic() - began:.0f} s: {counts}")  # noqa: T201
